"""Fixtures that every room shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The first call of a compiled kernel takes seconds.
settings.register_profile("cytofast", deadline=None)
settings.load_profile("cytofast")

REAL_DATA = Path(os.environ.get("CYTOFAST_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it skip, by name, where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data not found at {REAL_DATA}; set CYTOFAST_REAL_DATA to its folder")
    return REAL_DATA
