"""What cytofast costs, measured beside its peers."""
