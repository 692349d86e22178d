-- How complete is each plate: wells of the platemap, wells with cells, wells without, and cells.
-- param batch VARCHAR = NULL  only this batch; NULL is every batch
-- grain batch, plate
WITH seen AS (
    SELECT Metadata_Batch AS batch, Metadata_Plate AS plate, Metadata_Well AS well, count(*) AS cells
    FROM cells
    GROUP BY ALL
),
counted AS (
    SELECT batch, plate, count(*) AS wells_with_cells, sum(cells)::BIGINT AS cells, median(cells) AS median_cells_per_well
    FROM seen
    GROUP BY batch, plate
),
missing AS (
    SELECT Metadata_Batch AS batch, Metadata_Plate AS plate, count(*) AS wells_missing
    FROM platemaps
    ANTI JOIN seen
        ON platemaps.Metadata_Batch IS NOT DISTINCT FROM seen.batch
        AND platemaps.Metadata_Plate IS NOT DISTINCT FROM seen.plate
        AND platemaps.Metadata_Well IS NOT DISTINCT FROM seen.well
    GROUP BY ALL
)
SELECT
    plates.batch,
    plates.plate,
    plates.platemap_wells,
    coalesce(counted.wells_with_cells, plates.wells, plates.profiles, 0) AS wells_present,
    CASE WHEN counted.cells IS NOT NULL OR plates.levels = [] THEN coalesce(missing.wells_missing, 0) END AS wells_missing,
    counted.cells,
    counted.median_cells_per_well
FROM plates
LEFT JOIN counted ON plates.batch IS NOT DISTINCT FROM counted.batch AND plates.plate IS NOT DISTINCT FROM counted.plate
LEFT JOIN missing ON plates.batch IS NOT DISTINCT FROM missing.batch AND plates.plate IS NOT DISTINCT FROM missing.plate
WHERE $batch IS NULL OR plates.batch = $batch
ORDER BY plates.batch, plates.plate
