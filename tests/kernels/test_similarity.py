import numpy as np
import pytest

from cytofast.kernels.similarity import (
    METRICS,
    NO_DIRECTION,
    NOT_FINITE,
    USABLE,
    centred_rows,
    products,
    similarity_of,
    slack_of,
    unit_rows,
)
from tests import oracle_retrieval as oracle


def scaled(x, metric):
    units = x.copy()
    if metric == "euclidean":
        return units, units, centred_rows(units), np.zeros(len(x), dtype=np.int8)
    rough, states = np.empty(x.shape, dtype=np.float32), np.zeros(len(x), dtype=np.int8)
    unit_rows(x, METRICS[metric], units, rough, states)
    return units, rough, 1.0, states


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("features", [3, 50, 900])
def test_products_are_within_their_slack_of_the_plain_twin(metric, features):
    rng = np.random.default_rng(features)
    x = rng.normal(size=(40, features)) * 10.0 ** rng.integers(-3, 4, size=(40, 1))
    code = METRICS[metric]
    units, rough, scale, states = scaled(x, metric)
    assert not states.any()
    wanted = np.array([[oracle.similarity(a / scale, b / scale, metric) for b in x] for a in x])
    tolerance = 1e-12 * np.abs(wanted).max()
    assert np.abs(products(rough, rough, code) - wanted).max() <= slack_of(units, code) + tolerance
    exact = np.array([[similarity_of(a, b, code) for b in units] for a in units])
    assert np.abs(exact - wanted).max() <= tolerance
    assert (exact == exact.T).all()


def test_rows_that_cannot_be_scaled_are_marked():
    x = np.array([[0.0, 0, 0], [0.1, 0.1, 0.1], [1e-300, 0, 2e-300], [1e200, 2e200, 0], [1, np.nan, 0], [np.inf, 1, 0]])
    broken = [NOT_FINITE, NOT_FINITE]
    assert scaled(x, "cosine")[3].tolist() == [NO_DIRECTION, USABLE, USABLE, USABLE, *broken]
    assert scaled(x, "correlation")[3].tolist() == [NO_DIRECTION, NO_DIRECTION, USABLE, USABLE, *broken]
    assert scaled(x, "cosine")[0][2].tolist() == pytest.approx([1 / 5**0.5, 0, 2 / 5**0.5])
