-- How far the wells on the rim of a plate lie from those inside, for each feature, in robust standard deviations of the plate; then over plates.
-- param batch VARCHAR = NULL  only this batch; NULL is every batch
-- param wells INTEGER = 384  wells of the plate format
-- param features VARCHAR = '%'  only features whose names are LIKE this
-- grain feature
WITH placed AS (
    SELECT Metadata_Batch AS batch, Metadata_Plate AS plate, feature, value, is_edge(Metadata_Well, $wells) AS edge
    FROM wells_long
    WHERE ($batch IS NULL OR Metadata_Batch = $batch) AND feature LIKE $features
),
gathered AS ( -- each value is held once, since medians would hold it once an aggregate
    SELECT
        batch,
        plate,
        feature,
        list(value) FILTER (WHERE edge) AS rim,
        list(value) FILTER (WHERE NOT edge) AS inside,
        list(value) FILTER (WHERE edge IS NULL) AS nowhere
    FROM placed
    GROUP BY batch, plate, feature
),
of_plate AS (
    SELECT
        feature,
        (list_median(rim) - list_median(inside)) / nullif(1.4826 * list_mad(list_concat(rim, inside, nowhere)), 0) AS shift
    FROM gathered
)
SELECT feature, count(shift) AS plates, median(shift) AS median_shift, max(abs(shift)) AS largest_shift
FROM of_plate
GROUP BY feature
HAVING count(shift) > 0
ORDER BY abs(median_shift) DESC, feature
