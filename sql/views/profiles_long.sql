-- Profiles in long form for BI tools: one row a well and feature; missing values have no row.
-- grain Metadata_Batch, Metadata_Plate, Metadata_Well, feature
SELECT * FROM stored.profiles_long
