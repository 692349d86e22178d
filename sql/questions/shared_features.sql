-- Which features all batches share, and which are only in some: where profiles of several batches can be compared.
-- param level VARCHAR = 'profiles'  the level to look at
-- param shared BOOLEAN = NULL  TRUE: only those in every plate; FALSE: only those that are not; NULL: all
-- grain feature
WITH present AS (
    SELECT c.name AS feature, p.batch, count(*) AS plates
    FROM stored.partitions AS p
    INNER JOIN stored.columns AS c ON p.schema = c.schema
    WHERE p.level = $level AND c.is_feature
    GROUP BY ALL
),
whole AS (
    SELECT count(*) AS plates, count(DISTINCT batch) AS batches FROM stored.partitions WHERE level = $level
)
SELECT
    present.feature,
    count(DISTINCT present.batch) AS batches,
    any_value(whole.batches) AS of_batches,
    sum(present.plates)::BIGINT AS plates,
    any_value(whole.plates) AS of_plates,
    sum(present.plates) = any_value(whole.plates) AS in_every_plate
FROM present
CROSS JOIN whole
GROUP BY present.feature
HAVING $shared IS NULL OR in_every_plate = $shared
ORDER BY plates, present.feature
