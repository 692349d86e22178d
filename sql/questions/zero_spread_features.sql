-- Which features had no spread among the reference wells, on which plates, so that they could not be scaled.
-- param level VARCHAR = NULL  only this level; NULL is every level
-- grain level, step, feature
SELECT level, step, feature, count(*) AS plates, list(plate ORDER BY plate) AS on_plates, any_value(centre) AS constant
FROM fits
WHERE status = 'zero spread' AND ($level IS NULL OR level = $level)
GROUP BY level, step, feature
ORDER BY plates DESC, level, step, feature
