-- Features of each level, taken apart by the CellProfiler grammar, and on how many of its plates they are.
-- grain level, feature
SELECT
    p.level,
    c.name AS feature,
    any_value(c.compartment) AS compartment,
    any_value(c."group") AS "group",
    any_value(c.measure) AS measure,
    any_value(c.channels) AS channels,
    any_value(c.parameters) AS parameters,
    min(c.position) AS position,
    count(*) AS plates,
    (SELECT count(*) FROM stored.partitions AS q WHERE q.level = p.level) AS plates_of_level
FROM stored.partitions AS p
INNER JOIN stored.columns AS c ON p.schema = c.schema
WHERE c.is_feature
GROUP BY p.level, c.name
ORDER BY p.level, position, feature
