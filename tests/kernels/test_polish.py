import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cytofast.kernels.polish import median_polish
from tests import oracle_wells


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 6), st.booleans())
def test_polish_is_the_definition(seed, n_rows, n_columns, gaps):
    rng = np.random.Generator(np.random.PCG64(seed))
    table = rng.integers(0, 20, size=(n_rows, n_columns)).astype(float)
    if gaps and table.size > 2:
        # Holes that leave a value in every row and column.
        table[0, 1:][rng.random(n_columns - 1) < 0.3] = np.nan if n_rows > 1 else 0.0
    left = table[None].copy()
    overall, rows, columns = median_polish(left, 3, 0.0)
    rebuilt = overall[:, None, None] + rows[:, :, None] + columns[:, None, :] + left
    np.testing.assert_allclose(rebuilt[0], table, atol=1e-9)
    expected = oracle_wells.median_polish(table, 3)
    if np.nansum(np.abs(oracle_wells.median_polish(table, 1))) and np.nansum(np.abs(expected)):
        same_as_some_round = [
            np.allclose(left[0], oracle_wells.median_polish(table, k), equal_nan=True) for k in (1, 2, 3)
        ]
        assert any(same_as_some_round)


def test_the_example_of_tukey_as_r_gives_it():
    """R's help page: deaths from sport parachuting (Velleman and Hoaglin), medpolish(deaths)."""
    deaths = np.array([[14, 15, 14], [7, 4, 7], [8, 2, 10], [15, 9, 10], [0, 2, 0]], dtype=float)
    overall, rows, columns = median_polish(deaths[None].copy(), 10, 0.01)
    assert overall[0] == 8
    np.testing.assert_array_equal(rows[0], [6, -1, 0, 2, -8])
    np.testing.assert_array_equal(columns[0], [0, -1, 0])


def test_a_row_without_values_has_no_effect():
    overall, rows, columns = median_polish(np.array([[[1.0, 2.0], [np.nan, np.nan]]]), 10, 0.01)
    assert np.isnan(rows[0, 1])
    assert overall[0] + rows[0, 0] + columns[0, 1] == 2.0
