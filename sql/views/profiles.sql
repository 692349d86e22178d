-- Profiles of wells after normalization and selection.
-- grain Metadata_Batch, Metadata_Plate, Metadata_Well
SELECT * FROM stored.profiles
