-- The column of a well from its name, counted from 1; NULL where it is not a well.
CREATE OR REPLACE MACRO well_col(well) AS (
    TRY_CAST(regexp_extract(well, '^[A-Z]{1,2}([0-9]{1,2})$', 1) AS INTEGER)
)
