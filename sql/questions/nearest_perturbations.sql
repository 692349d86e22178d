-- Which perturbations look most like a given one: cosine similarity of mean profiles, over the features that both have.
-- param perturbation VARCHAR  the perturbation to start from
-- param by VARCHAR = 'Metadata_broad_sample'  the metadata column that names the perturbation
-- param n INTEGER = 10  how many to give
-- grain perturbation
WITH named AS (
    SELECT batch, plate, well, value AS perturbation FROM well_metadata WHERE name = $by
),
means AS (
    SELECT named.perturbation, p.feature, avg(p.value) AS value, count(DISTINCT (p.Metadata_Batch, p.Metadata_Plate, p.Metadata_Well)) AS wells
    FROM profiles_long AS p
    INNER JOIN named
        ON p.Metadata_Batch IS NOT DISTINCT FROM named.batch
        AND p.Metadata_Plate IS NOT DISTINCT FROM named.plate
        AND p.Metadata_Well IS NOT DISTINCT FROM named.well
    GROUP BY named.perturbation, p.feature
),
given AS (
    SELECT feature, value FROM means WHERE perturbation = $perturbation
)
SELECT
    means.perturbation,
    sum(means.value * given.value) / nullif(sqrt(sum(means.value ^ 2) * sum(given.value ^ 2)), 0) AS similarity,
    count(*) AS features,
    max(means.wells) AS wells
FROM means
INNER JOIN given ON means.feature = given.feature
WHERE means.perturbation <> $perturbation
GROUP BY means.perturbation
ORDER BY similarity DESC NULLS LAST, means.perturbation
LIMIT $n
