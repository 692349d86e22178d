-- Which wells stand in the platemap but have no cells.
-- param batch VARCHAR = NULL  only this batch; NULL is every batch
-- param plate VARCHAR = NULL  only this plate; NULL is every plate
-- grain batch, plate, well
WITH seen AS (
    SELECT DISTINCT Metadata_Batch, Metadata_Plate, Metadata_Well FROM cells
)
SELECT
    platemaps.Metadata_Batch AS batch,
    platemaps.Metadata_Plate AS plate,
    platemaps.Metadata_Well AS well,
    controls.control_type
FROM platemaps
ANTI JOIN seen
    ON platemaps.Metadata_Batch IS NOT DISTINCT FROM seen.Metadata_Batch
    AND platemaps.Metadata_Plate IS NOT DISTINCT FROM seen.Metadata_Plate
    AND platemaps.Metadata_Well IS NOT DISTINCT FROM seen.Metadata_Well
LEFT JOIN controls
    ON platemaps.Metadata_Batch IS NOT DISTINCT FROM controls.batch
    AND platemaps.Metadata_Plate IS NOT DISTINCT FROM controls.plate
    AND platemaps.Metadata_Well IS NOT DISTINCT FROM controls.well
WHERE ($batch IS NULL OR platemaps.Metadata_Batch = $batch) AND ($plate IS NULL OR platemaps.Metadata_Plate = $plate)
ORDER BY batch, plate, well
