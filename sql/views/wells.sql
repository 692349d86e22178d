-- Profiles of wells, as a recipe aggregated them.
-- grain Metadata_Batch, Metadata_Plate, Metadata_Well
SELECT * FROM stored.wells
