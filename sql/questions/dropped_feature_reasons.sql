-- Which features a selection dropped and why: what was measured, against what threshold, and which other feature it repeats.
-- param level VARCHAR = NULL  only this level; NULL is every level
-- param features VARCHAR = '%'  only features whose names are LIKE this
-- grain level, number, batch, plate, step, feature
SELECT level, number, batch, plate, step, feature, measure, value, threshold, partner, r
FROM dropped_features
WHERE ($level IS NULL OR level = $level) AND feature LIKE $features
ORDER BY level, number, batch, plate, feature
