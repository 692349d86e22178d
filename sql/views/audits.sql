-- What ingest read from each image and compartment, joined, and set aside: rows_read = rows_joined + orphans.
-- grain batch, plate, file, table_number, image_number, compartment
SELECT * FROM stored.audits
