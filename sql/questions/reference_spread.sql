-- What each plate was scaled by: how many reference wells, how many features had a spread among them and how many none, and the middle of their spreads as shares of the same feature's median spread over all plates.
-- param level VARCHAR = NULL  only this level; NULL is every level
-- grain level, number, batch, plate, step
WITH learned AS (
    SELECT level, number, batch, plate, step, feature, status, spread, n_reference
    FROM fits
    WHERE spread IS NOT NULL AND feature IS NOT NULL AND plate IS NOT NULL AND ($level IS NULL OR level = $level)
),
usual AS (
    SELECT level, number, step, feature, nullif(median(spread), 0) AS spread
    FROM learned
    GROUP BY level, number, step, feature
)
SELECT
    l.level,
    l.number,
    l.batch,
    l.plate,
    l.step,
    max(l.n_reference) AS reference_wells,
    count(*) FILTER (WHERE l.spread > 0) AS features_with_spread,
    count(*) FILTER (WHERE l.status = 'zero spread') AS features_without_spread,
    quantile_cont(l.spread / u.spread, 0.25) AS lower_quartile,
    median(l.spread / u.spread) AS median_spread,
    quantile_cont(l.spread / u.spread, 0.75) AS upper_quartile
FROM learned AS l
INNER JOIN usual AS u ON l.level = u.level AND l.number = u.number AND l.step = u.step AND l.feature = u.feature
GROUP BY l.level, l.number, l.batch, l.plate, l.step
ORDER BY l.level, l.number, l.batch, l.plate
