-- Cosine similarity of two lists of numbers, over the places where both have one; NULL without any or without length.
CREATE OR REPLACE MACRO cosine(a, b) AS (
    CASE
        WHEN a IS NULL OR b IS NULL THEN NULL
        WHEN list_contains(list_transform(a, lambda x: x IS NULL), TRUE)
            OR list_contains(list_transform(b, lambda x: x IS NULL), TRUE)
            THEN list_cosine_similarity(
                list_filter(a, lambda x, i: x IS NOT NULL AND b[i] IS NOT NULL)::DOUBLE[],
                list_filter(b, lambda x, i: x IS NOT NULL AND a[i] IS NOT NULL)::DOUBLE[]
            )
        ELSE list_cosine_similarity(a::DOUBLE[], b::DOUBLE[])
    END
)
