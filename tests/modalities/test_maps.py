import numpy as np
import polars as pl
import pytest
from scipy.stats import hypergeom

from cytofast.errors import DataError, RecipeError
from cytofast.modalities.maps import associate, clustered, contribution_map, score_map
from cytofast.modalities.result import CrossModalResult

FEATURES = ["Cells_Intensity_Mean_Mito", "Cells_Correlation_K_Mito_RNA", "Cells_AreaShape_Area", "odd"]


def result(r2, targets, features=FEATURES, coefficients=None):
    n = len(targets)
    null = np.random.default_rng(0).normal(-0.1, 0.05, size=(1, 200, 3))
    return CrossModalResult(
        model="lasso", source="morphology", target="expression", features=features, targets=targets,
        r2=np.tile(np.array(r2, dtype=float)[:, None], 3), penalty=np.ones((n, 3)), null_r2=null,
        coefficients=np.zeros((3, n, len(features))) if coefficients is None else coefficients,
        n_rows=(np.full(3, 20), np.full(3, 10)), margin=0.2, quantile=0.99, compat=None, notes=(),
    )  # fmt: skip


def test_scores_by_group_and_channel():
    table = score_map(result([0.9, 0.8, 0.0, np.nan], FEATURES))
    assert table.select("group", "channel", "n_targets", "percent_predictable", "best_r2").rows() == [
        ("AreaShape", "none", 1, 0.0, 0.0),
        ("Correlation", "Mito", 1, 100.0, 0.8),
        ("Correlation", "RNA", 1, 100.0, 0.8),
        ("Intensity", "Mito", 1, 100.0, 0.9),
    ]


def test_contributions_are_shares_in_the_order_of_a_tree():
    coefficients = np.zeros((3, 2, 4))
    coefficients[:, 0] = [-1.0, 2.0, 0.0, 1.0]
    table = contribution_map(result([0.9, 0.9], ["g", "unused"], coefficients=coefficients))
    row = table.row(0, named=True)
    assert table["target"].to_list() == ["g"]
    assert row["Intensity Mito"] == pytest.approx(0.25)
    assert row["Correlation Mito"] == row["Correlation RNA"] == pytest.approx(0.25)
    assert row["other none"] == pytest.approx(0.25)
    with pytest.raises(DataError, match="predictable_only=False"):
        contribution_map(result([0.0, 0.0], ["g", "h"], coefficients=coefficients))
    with pytest.raises(RecipeError, match="no coefficients"):
        contribution_map(result([0.9], ["g"], coefficients=np.zeros((3, 1, 0))))
    assert sorted(clustered(np.random.default_rng(0).normal(size=(7, 3)))) == list(range(7))


def test_gene_sets_by_fishers_exact_test():
    targets = [f"g{i}" for i in range(20)]
    found = result([0.9] * 6 + [0.0] * 14, targets)
    sets = pl.DataFrame(
        {"set": ["hit"] * 6 + ["miss"] * 3 + ["gone"], "gene": [*targets[:5], targets[10], *targets[12:15], "unknown"]}
    )
    table = associate(found, sets)
    assert table.select("set", "n_genes", "n_tested", "n_predictable").rows() == [("hit", 6, 6, 5), ("miss", 3, 3, 0)]
    assert table["p_value"][0] == pytest.approx(hypergeom.sf(4, 20, 6, 6))
    assert table["odds_ratio"][0] == pytest.approx(5 * 13 / (1 * 1))
    assert table["q_value"][0] == pytest.approx(2 * table["p_value"][0])
    with pytest.raises(DataError, match="'unknown' against 'g0'"):
        associate(found, sets.filter(pl.col("set") == "gone"))
