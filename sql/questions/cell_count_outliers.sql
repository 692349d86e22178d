-- Which wells have far fewer or more cells than their plate's median, in robust standard deviations of the plate. Wells without any cell are in missing_wells.
-- param cutoff DOUBLE = 3.0  how many robust standard deviations are far
-- param batch VARCHAR = NULL  only this batch; NULL is every batch
-- grain batch, plate, well
WITH counted AS (
    SELECT Metadata_Batch AS batch, Metadata_Plate AS plate, Metadata_Well AS well, count(*) AS cells
    FROM cells
    WHERE $batch IS NULL OR Metadata_Batch = $batch
    GROUP BY ALL
),
scaled AS (
    SELECT batch, plate, median(cells) AS centre, nullif(1.4826 * mad(cells), 0) AS spread
    FROM counted
    GROUP BY batch, plate
)
SELECT
    counted.batch,
    counted.plate,
    counted.well,
    counted.cells,
    scaled.centre AS plate_median,
    (counted.cells - scaled.centre) / scaled.spread AS z,
    controls.control_type
FROM counted
INNER JOIN scaled ON counted.batch IS NOT DISTINCT FROM scaled.batch AND counted.plate IS NOT DISTINCT FROM scaled.plate
LEFT JOIN controls
    ON counted.batch IS NOT DISTINCT FROM controls.batch
    AND counted.plate IS NOT DISTINCT FROM controls.plate
    AND counted.well IS NOT DISTINCT FROM controls.well
WHERE abs(counted.cells - scaled.centre) >= $cutoff * scaled.spread
ORDER BY abs(z) DESC, counted.batch, counted.plate, counted.well
