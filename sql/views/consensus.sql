-- Consensus profiles, one for each perturbation as the recipe grouped them.
-- grain Metadata_broad_sample
SELECT * FROM stored.consensus
