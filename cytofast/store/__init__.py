"""The profile store: partitioned Parquet that explains itself."""
