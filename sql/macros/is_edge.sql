-- Whether a well lies on the rim of a plate with so many wells (96, 384, 1536, ...), whose sides are as 2 to 3.
CREATE OR REPLACE MACRO is_edge(well, wells) AS (
    well_row(well) IN (1, round(sqrt(wells * 2 / 3))::INTEGER) OR well_col(well) IN (1, round(sqrt(wells * 3 / 2))::INTEGER)
)
