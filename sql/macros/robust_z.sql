-- A number in robust standard deviations from a list of reference numbers: (x - median) / (1.4826 * MAD); NULL without spread.
CREATE OR REPLACE MACRO robust_z(x, ref) AS (
    (x - list_aggregate(ref, 'median')) / nullif(1.4826 * list_aggregate(ref, 'mad'), 0)
)
