-- What ingest set aside: objects without a partner, images without cells, and columns that single files lack, by plate and compartment.
-- param batch VARCHAR = NULL  only this batch; NULL is every batch
-- grain batch, plate, compartment
SELECT
    batch,
    plate,
    compartment,
    count(*) AS images,
    sum(rows_read)::BIGINT AS rows_read,
    sum(rows_joined)::BIGINT AS rows_joined,
    sum(orphans)::BIGINT AS orphans,
    count(*) FILTER (WHERE rows_read = 0) AS images_without_rows,
    max(columns_missing) AS columns_missing
FROM audits
WHERE $batch IS NULL OR batch = $batch
GROUP BY batch, plate, compartment
ORDER BY batch, plate, compartment
