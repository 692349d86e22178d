"""Selection and sphering do not depend on how the rows were cut or ordered."""

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytofast.steps import accumulate
from cytofast.steps.select import DropCorrelated


def wells(seed: int, gaps: bool) -> pl.DataFrame:
    rng = np.random.Generator(np.random.PCG64(seed))
    shared = rng.normal(size=(900, 4))
    x = shared @ rng.normal(size=(4, 30)) + rng.normal(size=(900, 30)) * rng.uniform(0.1, 3, size=30)
    x[:, 7] = x[:, 3]
    x = x * 10.0 ** rng.integers(-3, 4, size=30) + rng.normal(size=30) * 50
    if gaps:
        x[:, :4] = np.where(rng.random((900, 4)) < 0.05, np.nan, x[:, :4])
    return pl.DataFrame(x, schema=[f"Cells_A_f{i}" for i in range(30)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_any_chunking_and_order_select_the_same(monkeypatch, seed, gaps, lazy):
    frame = wells(seed, gaps)
    step = DropCorrelated(0.8)
    whole = step.fit(frame)
    monkeypatch.setattr(accumulate, "_CHUNK_ROWS", 50)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    cut = step.fit(shuffled.lazy() if lazy else shuffled)
    assert cut.select("feature", "kept", "partner").equals(whole.select("feature", "kept", "partner"))
    assert cut["r"].to_list() == pytest.approx(whole["r"].to_list(), abs=1e-8)
