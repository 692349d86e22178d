-- Plates with what each level holds of them; a plate that only has a platemap is there, too.
-- grain batch, plate
WITH named AS (
    SELECT batch, plate FROM stored.partitions WHERE plate IS NOT NULL
    UNION
    SELECT Metadata_Batch, Metadata_Plate FROM stored.annotations
),
counted AS (
    SELECT
        batch,
        plate,
        list(level ORDER BY level) AS levels,
        sum(rows) FILTER (WHERE level = 'cells')::BIGINT AS cells,
        sum(rows) FILTER (WHERE level = 'wells')::BIGINT AS wells,
        sum(rows) FILTER (WHERE level = 'profiles')::BIGINT AS profiles,
        max(features) FILTER (WHERE level = 'cells') AS features
    FROM stored.partitions
    GROUP BY batch, plate
),
mapped AS (
    SELECT Metadata_Batch AS batch, Metadata_Plate AS plate, count(DISTINCT Metadata_Well) AS platemap_wells
    FROM stored.annotations
    GROUP BY Metadata_Batch, Metadata_Plate
)
SELECT
    named.batch,
    named.plate,
    coalesce(counted.levels, []) AS levels,
    counted.cells,
    counted.wells,
    counted.profiles,
    counted.features,
    mapped.platemap_wells
FROM named
LEFT JOIN counted
    ON named.batch IS NOT DISTINCT FROM counted.batch AND named.plate IS NOT DISTINCT FROM counted.plate
LEFT JOIN mapped
    ON named.batch IS NOT DISTINCT FROM mapped.batch AND named.plate IS NOT DISTINCT FROM mapped.plate
ORDER BY named.batch, named.plate
