"""Who finds whom: average precision and what it is worth, replicate correlations, nearest neighbours."""
