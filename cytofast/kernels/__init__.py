"""Arrays in, arrays out: numpy and numba only; pure, without validation, without strings."""
