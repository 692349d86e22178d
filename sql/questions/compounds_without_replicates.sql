-- Which perturbations stand in fewer wells than a replicate needs; nothing can be said about how well they repeat.
-- param by VARCHAR = 'Metadata_broad_sample'  the metadata column that names the perturbation
-- param wells INTEGER = 2  fewest wells to have
-- grain perturbation
SELECT
    value AS perturbation,
    count(*) AS wells,
    min(concat_ws('/', batch, plate, well)) AS a_well
FROM well_metadata
WHERE name = $by
GROUP BY value
HAVING count(*) < $wells
ORDER BY perturbation
