-- How far the control wells of each plate lie from those of the whole batch, in robust standard deviations of the batch's control wells: over all features, and the feature that drifted most.
-- param batch VARCHAR = NULL  only this batch; NULL is every batch, each by itself
-- param control VARCHAR = 'negcon'  the control type
-- grain batch, plate
WITH control_values AS (
    SELECT w.Metadata_Batch AS batch, w.Metadata_Plate AS plate, w.Metadata_Well AS well, w.feature, w.value
    FROM wells_long AS w
    INNER JOIN controls
        ON w.Metadata_Batch IS NOT DISTINCT FROM controls.batch
        AND w.Metadata_Plate IS NOT DISTINCT FROM controls.plate
        AND w.Metadata_Well IS NOT DISTINCT FROM controls.well
    WHERE controls.control_type = $control AND ($batch IS NULL OR w.Metadata_Batch = $batch)
),
of_batch AS (
    SELECT batch, feature, median(value) AS centre, nullif(1.4826 * mad(value), 0) AS spread
    FROM control_values
    GROUP BY batch, feature
),
of_plate AS (
    SELECT batch, plate, feature, median(value) AS centre
    FROM control_values
    GROUP BY batch, plate, feature
),
drift AS (
    SELECT p.batch, p.plate, p.feature, (p.centre - b.centre) / b.spread AS z
    FROM of_plate AS p
    INNER JOIN of_batch AS b ON p.batch IS NOT DISTINCT FROM b.batch AND p.feature = b.feature
),
sized AS (
    SELECT batch, plate, count(DISTINCT well) AS control_wells
    FROM control_values
    GROUP BY batch, plate
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
