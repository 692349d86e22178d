-- What each step learned, feature by feature or well by well; number is the step's place in its level.
-- grain level, number, batch, plate, well, step, feature
SELECT
    f.level,
    f.number,
    coalesce(f.batch, r.Metadata_Batch) AS batch,
    coalesce(f.plate, r.Metadata_Plate) AS plate,
    r.Metadata_Well AS well,
    coalesce(r.step, f.step) AS step,
    r.feature,
    r.status,
    r.kept,
    r.measure,
    r.value,
    r.threshold,
    r.partner,
    r.r,
    r.centre,
    r.spread,
    r.scale,
    r.n_reference
FROM stored.fits AS r
INNER JOIN stored.fit_files AS f ON regexp_replace(r.filename, '^.*(fits/level=)', '\1') = f.file
