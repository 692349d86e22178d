-- Metadata of wells as name and value, so that a question can take the name of a column as a value; platemaps come first, then the files of wells and profiles.
-- grain batch, plate, well, name
SELECT batch, plate, well, name, value FROM stored.well_metadata
