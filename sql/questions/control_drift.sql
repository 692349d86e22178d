-- How far the control wells of each plate lie from those of the whole batch, in robust standard deviations of the batch's control wells: over all features, and the feature that drifted most.
-- param batch VARCHAR = NULL  only this batch; NULL is every batch, each by itself
-- param control VARCHAR = 'negcon'  the control type
-- param column VARCHAR = 'Metadata_control_type'  the metadata column that holds it
-- grain batch, plate
WITH control_wells AS (
    SELECT batch, plate, well
    FROM well_metadata
    WHERE name = $column AND value = $control AND ($batch IS NULL OR batch = $batch)
),
gathered AS ( -- each value is held once, since medians would hold it once an aggregate
    SELECT w.Metadata_Batch AS batch, w.Metadata_Plate AS plate, w.feature, list(w.value) AS control_values
    FROM wells_long AS w
    INNER JOIN control_wells AS c
        ON w.Metadata_Batch IS NOT DISTINCT FROM c.batch
        AND w.Metadata_Plate IS NOT DISTINCT FROM c.plate
        AND w.Metadata_Well IS NOT DISTINCT FROM c.well
    GROUP BY w.Metadata_Batch, w.Metadata_Plate, w.feature
),
of_batch AS (
    SELECT batch, feature, flatten(list(control_values)) AS control_values
    FROM gathered
    GROUP BY batch, feature
),
spreads AS (
    SELECT batch, feature, list_median(control_values) AS centre, nullif(1.4826 * list_mad(control_values), 0) AS spread
    FROM of_batch
),
drift AS (
    SELECT p.batch, p.plate, p.feature, (list_median(p.control_values) - b.centre) / b.spread AS z
    FROM gathered AS p
    INNER JOIN spreads AS b ON p.batch IS NOT DISTINCT FROM b.batch AND p.feature = b.feature
),
sized AS (
    SELECT c.batch, c.plate, count(*) AS control_wells
    FROM control_wells AS c
    SEMI JOIN (SELECT DISTINCT Metadata_Batch, Metadata_Plate, Metadata_Well FROM wells_long) AS w
        ON w.Metadata_Batch IS NOT DISTINCT FROM c.batch
        AND w.Metadata_Plate IS NOT DISTINCT FROM c.plate
        AND w.Metadata_Well IS NOT DISTINCT FROM c.well
    GROUP BY c.batch, c.plate
)
SELECT
    drift.batch,
    drift.plate,
    any_value(sized.control_wells) AS control_wells,
    count(drift.z) AS features,
    median(abs(drift.z)) AS median_drift,
    max(abs(drift.z)) AS largest_drift,
    arg_max(drift.feature, (abs(drift.z), drift.feature)) FILTER (WHERE drift.z IS NOT NULL) AS most_drifted_feature
FROM drift
INNER JOIN sized ON drift.batch IS NOT DISTINCT FROM sized.batch AND drift.plate IS NOT DISTINCT FROM sized.plate
GROUP BY drift.batch, drift.plate
ORDER BY median_drift DESC NULLS LAST, drift.batch, drift.plate
