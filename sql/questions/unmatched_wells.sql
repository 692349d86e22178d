-- Which wells an annotation did not match: profiles without a row in the platemap, and rows of the platemap without a profile.
-- param level VARCHAR = NULL  only this level; NULL is every level
-- grain level, number, batch, plate, well
SELECT level, number, batch, plate, well, status
FROM fits
WHERE step = 'annotate' AND status <> 'matched' AND ($level IS NULL OR level = $level)
ORDER BY level, number, batch, plate, well
