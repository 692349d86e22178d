"""The SQL of the profile store, one file a query; installed as ``cytofast.sql``."""
