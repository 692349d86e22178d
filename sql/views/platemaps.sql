-- Platemaps as given at ingest.
-- grain Metadata_Batch, Metadata_Plate, Metadata_Well
SELECT * FROM stored.annotations
