-- Cosine similarity of two lists of numbers, over the places where both have one; NULL without any or without length.
CREATE OR REPLACE MACRO cosine(a, b) AS (
    nullif(
        list_cosine_similarity(
            CASE
                WHEN list_count(a) = len(a) AND list_count(b) = len(b) THEN a
                ELSE list_filter(a, lambda x, i: x IS NOT NULL AND b[i] IS NOT NULL)
            END::DOUBLE[],
            CASE
                WHEN list_count(a) = len(a) AND list_count(b) = len(b) THEN b
                ELSE list_filter(b, lambda x, i: x IS NOT NULL AND a[i] IS NOT NULL)
            END::DOUBLE[]
        ),
        'nan'::DOUBLE
    )
)
