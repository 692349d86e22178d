-- How often each perturbation stands on the plates: wells, plates and batches.
-- param by VARCHAR = 'Metadata_broad_sample'  the metadata column that names the perturbation
-- grain perturbation
SELECT
    value AS perturbation,
    count(*) AS wells,
    count(DISTINCT (batch, plate)) AS plates,
    count(DISTINCT batch) AS batches
FROM well_metadata
WHERE name = $by
GROUP BY value
ORDER BY wells DESC, perturbation
