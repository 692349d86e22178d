-- Every well of every plate: where it lies, its cells, and what is in it. A well of the platemap without cells has 0; where the plate has no cells in the store, the count is what the well's profile says, or NULL.
-- param batch VARCHAR = NULL  only this batch; NULL is every batch
-- param by VARCHAR = 'Metadata_broad_sample'  the metadata column that names the perturbation
-- grain batch, plate, well
WITH seen AS (
    SELECT Metadata_Batch AS batch, Metadata_Plate AS plate, Metadata_Well AS well, count(*) AS cells
    FROM cells
    GROUP BY ALL
),
imaged AS (
    SELECT DISTINCT batch, plate FROM seen
),
named AS (
    SELECT
        batch,
        plate,
        well,
        max(value) FILTER (WHERE name = $by) AS perturbation,
        max(value) FILTER (WHERE name = 'Metadata_control_type') AS control_type,
        max(TRY_CAST(value AS BIGINT)) FILTER (WHERE name = 'Metadata_Object_Count') AS object_count
    FROM well_metadata
    GROUP BY batch, plate, well
),
known AS (
    SELECT batch, plate, well FROM seen
    UNION
    SELECT batch, plate, well FROM named
    UNION
    SELECT Metadata_Batch, Metadata_Plate, Metadata_Well FROM platemaps
)
SELECT
    known.batch,
    known.plate,
    known.well,
    well_row(known.well) AS plate_row,
    well_col(known.well) AS plate_column,
    CASE WHEN imaged.plate IS NOT NULL THEN coalesce(seen.cells, 0) ELSE named.object_count END AS cells,
    named.control_type,
    named.perturbation
FROM known
LEFT JOIN seen
    ON known.batch IS NOT DISTINCT FROM seen.batch
    AND known.plate IS NOT DISTINCT FROM seen.plate
    AND known.well IS NOT DISTINCT FROM seen.well
LEFT JOIN imaged ON known.batch IS NOT DISTINCT FROM imaged.batch AND known.plate IS NOT DISTINCT FROM imaged.plate
LEFT JOIN named
    ON known.batch IS NOT DISTINCT FROM named.batch
    AND known.plate IS NOT DISTINCT FROM named.plate
    AND known.well IS NOT DISTINCT FROM named.well
WHERE $batch IS NULL OR known.batch = $batch
ORDER BY known.batch, known.plate, known.well
