-- Control wells: a control type is given, or the perturbation type is "control".
-- grain batch, plate, well
SELECT
    batch,
    plate,
    well,
    max(value) FILTER (WHERE name = 'Metadata_control_type') AS control_type,
    max(value) FILTER (WHERE name = 'Metadata_pert_type') AS pert_type
FROM well_metadata
WHERE name IN ('Metadata_control_type', 'Metadata_pert_type')
GROUP BY batch, plate, well
HAVING control_type IS NOT NULL OR lower(pert_type) = 'control'
ORDER BY batch, plate, well
