-- Single cells in long form: one row a cell and feature; missing values have no row. Name the features you want.
-- grain Metadata_Batch, Metadata_Plate, Metadata_Well, Metadata_Site, Metadata_TableNumber, Metadata_ImageNumber, Metadata_ObjectNumber, feature
SELECT * FROM stored.cells_long
