-- Which perturbations look alike in two groups of wells, such as two cell lines or batches: cosine similarity of their mean profiles, and its rank among all perturbations of the second group.
-- param column VARCHAR  the metadata column that tells the groups apart
-- param first VARCHAR  its value for the first group
-- param second VARCHAR  its value for the second group
-- param by VARCHAR = 'Metadata_broad_sample'  the metadata column that names the perturbation
-- grain perturbation
WITH places AS (
    SELECT DISTINCT Metadata_Batch AS batch, Metadata_Plate AS plate, Metadata_Well AS well FROM profiles_long
),
grouped AS (
    SELECT places.batch, places.plate, places.well, p.value AS perturbation, g.value AS grp
    FROM places
    INNER JOIN well_metadata AS p
        ON places.batch IS NOT DISTINCT FROM p.batch
        AND places.plate IS NOT DISTINCT FROM p.plate
        AND places.well IS NOT DISTINCT FROM p.well
    INNER JOIN (
        SELECT batch, plate, well, value FROM well_metadata WHERE name = $column
        UNION ALL
        SELECT batch, plate, well, batch FROM places WHERE $column = 'Metadata_Batch'
        UNION ALL
        SELECT batch, plate, well, plate FROM places WHERE $column = 'Metadata_Plate'
    ) AS g
        ON places.batch IS NOT DISTINCT FROM g.batch
        AND places.plate IS NOT DISTINCT FROM g.plate
        AND places.well IS NOT DISTINCT FROM g.well
    WHERE p.name = $by AND g.value IN ($first, $second)
),
means AS (
    SELECT grouped.grp, grouped.perturbation, p.feature, avg(p.value) AS value
    FROM profiles_long AS p
    INNER JOIN grouped
        ON p.Metadata_Batch IS NOT DISTINCT FROM grouped.batch
        AND p.Metadata_Plate IS NOT DISTINCT FROM grouped.plate
        AND p.Metadata_Well IS NOT DISTINCT FROM grouped.well
    GROUP BY ALL
),
compared AS (
    SELECT
        a.perturbation,
        b.perturbation AS other,
        sum(a.value * b.value) / nullif(sqrt(sum(a.value ^ 2) * sum(b.value ^ 2)), 0) AS similarity,
        count(*) AS features
    FROM means AS a
    INNER JOIN means AS b ON a.feature = b.feature
    WHERE a.grp = $first AND b.grp = $second
    GROUP BY ALL
),
ranked AS (
    SELECT *, rank() OVER (PARTITION BY perturbation ORDER BY similarity DESC NULLS LAST) AS place FROM compared
)
SELECT perturbation, similarity, place AS rank_in_second, features
FROM ranked
WHERE perturbation = other
ORDER BY similarity DESC NULLS LAST, perturbation
