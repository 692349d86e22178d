-- Features that a selection dropped, with what was measured, against what, and because of whom.
-- grain level, number, batch, plate, step, feature
SELECT level, number, batch, plate, step, feature, measure, value, threshold, partner, r
FROM fits
WHERE kept = FALSE
ORDER BY level, number, batch, plate, feature
