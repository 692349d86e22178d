-- How many cells a control well has, by plate, and how far its plate's median lies from the batch's, in robust standard deviations; a control well without cells counts as 0.
-- param batch VARCHAR = NULL  only this batch; NULL is every batch, each by itself
-- param control VARCHAR = 'negcon'  the control type
-- param column VARCHAR = 'Metadata_control_type'  the metadata column that holds it
-- grain batch, plate
WITH counted AS (
    SELECT Metadata_Batch AS batch, Metadata_Plate AS plate, Metadata_Well AS well, count(*) AS cells
    FROM cells
    GROUP BY ALL
),
control_counts AS (
    SELECT controls.batch, controls.plate, controls.well, coalesce(counted.cells, 0) AS cells
    FROM well_metadata AS controls
    SEMI JOIN counted ON controls.batch IS NOT DISTINCT FROM counted.batch AND controls.plate IS NOT DISTINCT FROM counted.plate
    LEFT JOIN counted
        ON controls.batch IS NOT DISTINCT FROM counted.batch
        AND controls.plate IS NOT DISTINCT FROM counted.plate
        AND controls.well IS NOT DISTINCT FROM counted.well
    WHERE controls.name = $column AND controls.value = $control AND ($batch IS NULL OR controls.batch = $batch)
),
of_batch AS (
    SELECT batch, median(cells) AS centre, nullif(1.4826 * mad(cells), 0) AS spread
    FROM control_counts
    GROUP BY batch
)
SELECT
    c.batch,
    c.plate,
    count(*) AS control_wells,
    median(c.cells) AS median_cells,
    min(c.cells) AS fewest_cells,
    max(c.cells) AS most_cells,
    (median(c.cells) - any_value(b.centre)) / any_value(b.spread) AS drift
FROM control_counts AS c
INNER JOIN of_batch AS b ON c.batch IS NOT DISTINCT FROM b.batch
GROUP BY c.batch, c.plate
ORDER BY abs(drift) DESC NULLS LAST, c.batch, c.plate
