-- Single cells with the platemap that was given at ingest, the columns of store.scan("cells").
-- grain Metadata_Batch, Metadata_Plate, Metadata_Well, Metadata_Site, Metadata_TableNumber, Metadata_ImageNumber, Metadata_ObjectNumber
SELECT * FROM stored.annotated_cells
