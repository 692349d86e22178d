-- The row of a well from its name, counted from 1: A01 is 1, P24 is 16, AF48 is 32; NULL where it is not a well.
CREATE OR REPLACE MACRO well_row(well) AS (
    CASE length(regexp_extract(well, '^([A-Z]{1,2})[0-9]{1,2}$', 1))
        WHEN 1 THEN ascii(well) - 64
        WHEN 2 THEN (ascii(well) - 64) * 26 + ascii(well[2]) - 64
    END
)
