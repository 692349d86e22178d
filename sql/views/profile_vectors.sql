-- Profiles with all features as one list, in the order of their names, for cosine() and its like.
-- grain Metadata_Batch, Metadata_Plate, Metadata_Well
SELECT * FROM stored.profiles_vectors
