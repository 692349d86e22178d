-- How often the nearest other perturbation shares a mechanism (or target, or any label), by mechanism, from cosine similarities of mean profiles.
-- param mechanism VARCHAR = 'Metadata_moa'  the metadata column with the label
-- param by VARCHAR = 'Metadata_broad_sample'  the metadata column that names the perturbation
-- grain mechanism
WITH labelled AS (
    SELECT p.batch, p.plate, p.well, p.value AS perturbation, m.value AS mechanism
    FROM well_metadata AS p
    INNER JOIN well_metadata AS m
        ON p.batch IS NOT DISTINCT FROM m.batch
        AND p.plate IS NOT DISTINCT FROM m.plate
        AND p.well IS NOT DISTINCT FROM m.well
    WHERE p.name = $by AND m.name = $mechanism
),
means AS (
    SELECT l.perturbation, any_value(l.mechanism ORDER BY l.mechanism) AS mechanism, p.feature, avg(p.value) AS value
    FROM profiles_long AS p
    INNER JOIN labelled AS l
        ON p.Metadata_Batch IS NOT DISTINCT FROM l.batch
        AND p.Metadata_Plate IS NOT DISTINCT FROM l.plate
        AND p.Metadata_Well IS NOT DISTINCT FROM l.well
    GROUP BY l.perturbation, p.feature
),
every AS (
    SELECT DISTINCT feature FROM means
),
members AS (
    SELECT perturbation, any_value(mechanism) AS mechanism FROM means GROUP BY perturbation
),
vectors AS (
    SELECT members.perturbation, members.mechanism, list(means.value ORDER BY every.feature) AS vector
    FROM members
    CROSS JOIN every
    LEFT JOIN means ON members.perturbation = means.perturbation AND every.feature = means.feature
    GROUP BY members.perturbation, members.mechanism
),
nearest AS (
    SELECT
        a.perturbation,
        a.mechanism,
        max(cosine(a.vector, b.vector)) AS similarity,
        arg_max(b.mechanism, (cosine(a.vector, b.vector), b.perturbation)) AS found
    FROM vectors AS a
    INNER JOIN vectors AS b ON a.perturbation <> b.perturbation
    GROUP BY a.perturbation, a.mechanism
)
SELECT
    mechanism,
    count(*) AS perturbations,
    count(*) FILTER (WHERE found = mechanism) AS hits,
    avg((found = mechanism)::INTEGER) AS fraction,
    avg(similarity) AS mean_similarity
FROM nearest
GROUP BY mechanism
HAVING count(*) > 1
ORDER BY fraction DESC, perturbations DESC, mechanism
