import numpy as np
import pytest

from cytofast.kernels.similarity import METRICS, products, rough_rows, similarity_of, slack_of, unit_rows
from tests import oracle_retrieval as oracle


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("features", [3, 50, 900])
def test_products_are_within_their_slack_of_the_plain_twin(metric, features):
    rng = np.random.default_rng(features)
    x = rng.normal(size=(40, features)) * 10.0 ** rng.integers(-3, 4, size=(40, 1))
    units = x.copy()
    code = METRICS[metric]
    assert not unit_rows(units, code)[0].any()
    scale = np.median(np.linalg.norm(x - x.mean(axis=0), axis=1)) if metric == "euclidean" else 1.0
    wanted = np.array([[oracle.similarity(a / scale, b / scale, metric) for b in x] for a in x])
    rough = rough_rows(units, code)
    tolerance = 1e-12 * np.abs(wanted).max()
    assert np.abs(products(rough, rough, code) - wanted).max() <= slack_of(units, code) + tolerance
    exact = np.array([[similarity_of(a, b, code) for b in units] for a in units])
    assert np.abs(exact - wanted).max() <= tolerance
    assert (exact == exact.T).all()


def test_rows_without_direction_are_marked():
    x = np.array([[0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [1e-300, 0.0, 2e-300], [1e200, 2e200, 0.0]])
    assert unit_rows(x.copy(), METRICS["cosine"])[0].tolist() == [True, False, False, False]
    assert unit_rows(x.copy(), METRICS["correlation"])[0].tolist() == [True, True, False, False]
