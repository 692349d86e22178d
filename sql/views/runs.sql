-- Partitions with the steps, parameters and versions that made them; equal keys, equal content.
-- grain level, batch, plate
SELECT level, batch, plate, rows, features, key, steps, parameters::JSON AS parameters, inputs::JSON AS inputs, cytofast, file
FROM stored.partitions
ORDER BY level, batch, plate
