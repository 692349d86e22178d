"""Profiles in, profiles out: each step learns a small table, then changes profiles row by row."""
