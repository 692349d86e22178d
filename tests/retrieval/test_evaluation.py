import numpy as np
import polars as pl
import pytest

from cytofast.errors import DataError, RecipeError
from cytofast.retrieval.evaluation import enrichment, grit, hit_at_k, mp_value, precision_recall
from cytofast.retrieval.neighbors import neighbors, similarity
from cytofast.retrieval.presets import activity, consistency
from cytofast.retrieval.replication import percent_replicating, replicate_correlation
from cytofast.retrieval.significance import fraction_retrieved


def table(x, **metadata):
    return pl.DataFrame(metadata).hstack(pl.DataFrame({f"Cells_f{i}": x[:, i] for i in range(x.shape[1])}))


@pytest.fixture
def grouped():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 3)
    x = rng.normal(size=(8, 10))[group] + rng.normal(size=(24, 10))
    return x, group


def ranked(x):
    r = np.corrcoef(x)
    np.fill_diagonal(r, -np.inf)
    return r, np.argsort(-r, axis=1)


def test_precision_recall_and_hits_are_those_of_sorted_lists(grouped):
    x, group = grouped
    _, order = ranked(x)
    hits = group[order[:, :5]] == group[:, None]
    found = precision_recall(table(x, Metadata_g=group), "Metadata_g", k=5)
    assert found["precision"].to_list() == pytest.approx(hits.mean(axis=1).tolist())
    assert found["recall"].to_list() == pytest.approx((hits.sum(axis=1) / 2).tolist())
    at = hit_at_k(table(x, Metadata_g=group), "Metadata_g", k=[1, 5])
    assert at["hit_rate"].to_list() == pytest.approx([hits[:, 0].mean(), hits.any(axis=1).mean()])
    assert at["n_hits"].to_list() == [hits[:, 0].sum(), hits.sum()]
    assert at["expected"][0] == pytest.approx(2 / 23)


def test_chance_hits_are_expected_by_chance():
    x = np.random.default_rng(1).normal(size=(400, 10))
    found = hit_at_k(table(x, Metadata_g=np.arange(400) // 4), "Metadata_g", k=40)
    assert found["hit_rate"].item() == pytest.approx(found["expected"].item(), abs=0.08)


def test_grit_is_the_mean_z_score_against_controls(grouped):
    x, group = grouped
    frame = table(x, Metadata_g=group, Metadata_p=np.arange(24) // 1)
    found = grit(frame, "Metadata_g", "Metadata_p", "Metadata_g >= 6")
    r, _ = ranked(x)
    controls = group >= 6
    assert found.height == 18
    for i in range(18):
        z = (r[i] - r[i, controls].mean()) / r[i, controls].std()
        partners = (group == group[i]) & (np.arange(24) != i)
        assert found["grit"][i] == pytest.approx(z[partners].mean())
    assert found["n_partners"].to_list() == [2] * 18


def test_enrichment_is_fishers_test(grouped):
    from scipy.stats import fisher_exact

    x, group = grouped
    found = enrichment(table(x, Metadata_g=group), "Metadata_g", percentile=0.9).row(0, named=True)
    r = np.corrcoef(x)[np.triu_indices(24, 1)]
    same = (group[:, None] == group)[np.triu_indices(24, 1)]
    top = r > np.quantile(r, 0.9)
    counts = [[(top & same).sum(), (top & ~same).sum()], [(~top & same).sum(), (~top & ~same).sum()]]
    odds, p = fisher_exact(counts, alternative="greater")
    assert found["odds_ratio"] == pytest.approx(odds)
    assert found["p_value"] == pytest.approx(p)


def test_mp_value_is_exact_where_it_can_be_and_uniform_without_effect():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(11, 4))
    x[:2] += 9
    small = mp_value(table(x, Metadata_p=["a"] * 2 + ["DMSO"] * 9), "Metadata_p", "Metadata_p = 'DMSO'")
    assert small["p_method"].item() == "labels, exact, 55 labelings"
    assert small["p_value"].item() == pytest.approx(1 / 55)
    n = 60
    x = rng.normal(size=(2 * n + 30, 5))
    frame = table(x, Metadata_p=[f"p{i // 2}" for i in range(2 * n)] + ["DMSO"] * 30)
    p = mp_value(frame, "Metadata_p", "Metadata_p = 'DMSO'", null_size=199, seed=1)
    assert set(p["p_method"]) == {"labels, sampled 199"}
    assert 0.3 < p["p_value"].mean() < 0.7
    assert p.equals(mp_value(frame, "Metadata_p", "Metadata_p = 'DMSO'", null_size=199, seed=1))


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "correlation"])
def test_neighbors_are_those_of_the_similarity_matrix(metric, grouped):
    x, group = grouped
    frame = table(x, Metadata_g=group, Metadata_id=[f"w{i}" for i in range(24)])
    matrix = similarity(frame, names="Metadata_id", metric=metric)
    assert matrix.columns[:2] == ["Metadata_g", "Metadata_id"]
    values = matrix.select(pl.exclude("Metadata_g", "Metadata_id")).to_numpy().astype(float)
    if metric == "euclidean":
        distances = np.linalg.norm(x[:, None] - x[None], axis=2)
        assert values == pytest.approx(1 / (1 + distances), abs=1e-4)
    np.fill_diagonal(values, -np.inf)
    order = np.argsort(-values, axis=1)[:, :4]
    found = neighbors(frame, k=4, metric=metric, queries="Metadata_g = 2")
    assert found["Metadata_id_neighbor"].to_list() == [f"w{j}" for i in (6, 7, 8) for j in order[i]]
    assert found["rank"].to_list() == [1, 2, 3, 4] * 3
    assert found["similarity"].to_list() == pytest.approx([values[i, j] for i in (6, 7, 8) for j in order[i]], abs=1e-6)


def test_presets_find_the_usual_columns_and_run():
    rng = np.random.default_rng(3)
    frame = table(
        rng.normal(size=(20, 5)),
        Metadata_Plate=["P"] * 20,
        Metadata_broad_sample=[f"B{i // 2}" for i in range(10)] + [None] * 10,
        Metadata_control_type=["trt"] * 10 + ["negcon"] * 10,
        Metadata_moa=[f"M{i // 4}" for i in range(20)],
    )
    rule = activity(frame.columns)
    found = rule.mean_average_precision(frame)
    assert found["Metadata_broad_sample"].to_list() == [f"B{i}" for i in range(5)]
    assert rule.average_precision(frame)["n_total_pairs"].to_list() == [11] * 10
    plain = activity(frame.columns, controls=None)
    assert plain == rule
    match = consistency(frame.columns, perturbation="Metadata_broad_sample", where="Metadata_control_type = 'trt'")
    assert match.average_precision(frame)["n_pos_pairs"].to_list() == [2] * 8 + [0] * 2


def test_bad_input(grouped):
    x, group = grouped
    frame = table(x, Metadata_g=group)
    with pytest.raises(RecipeError, match="k must lie between 1 and 23"):
        neighbors(frame, k=24)
    with pytest.raises(RecipeError, match="k must lie"):
        hit_at_k(frame, "Metadata_g", k=0)
    with pytest.raises(DataError, match="no two profiles"):
        precision_recall(table(x, Metadata_g=np.arange(24)), "Metadata_g")
    with pytest.raises(DataError, match="controls="):
        grit(frame, "Metadata_g", "Metadata_g", "Metadata_g = 99")
    with pytest.raises(DataError, match="do not tell"):
        similarity(frame, names="Metadata_g")
    with pytest.raises(RecipeError, match="percentile"):
        enrichment(frame, "Metadata_g", percentile=1.5)
    with pytest.raises(Exception, match="no column that usually holds perturbations"):
        activity(["a"])


@pytest.mark.parametrize("value", [2.5, "3", None, True, float("nan")])
def test_numbers_of_a_wrong_kind_are_said(grouped, value):
    x, group = grouped
    frame = table(x, Metadata_gene=group)
    calls = {
        "k": [
            lambda: neighbors(frame, k=value),
            lambda: hit_at_k(frame, "Metadata_gene", k=value),
            lambda: precision_recall(frame, "Metadata_gene", k=value),
        ],
        "null_size": [
            lambda: replicate_correlation(frame, "Metadata_gene", null_size=value),
            lambda: mp_value(frame, "Metadata_gene", "Metadata_gene = 0", null_size=value),
        ],
        "seed": [
            lambda: percent_replicating(frame, "Metadata_gene", seed=value),
            lambda: fraction_retrieved(pl.DataFrame({"q_value": [0.1]}), seed=value),
        ],
        "n_bootstrap": [lambda: fraction_retrieved(pl.DataFrame({"q_value": [0.1]}), n_bootstrap=value)],
    }
    for name, several in calls.items():
        for call in several:
            with pytest.raises(RecipeError, match=f"{name} must be a whole number"):
                call()


def test_numbers_of_numpy_are_numbers(grouped):
    x, group = grouped
    frame = table(x, Metadata_gene=group)
    assert hit_at_k(frame, "Metadata_gene", k=np.int64(2)).equals(hit_at_k(frame, "Metadata_gene", k=2))
    with pytest.raises(RecipeError, match="seed must not be negative"):
        replicate_correlation(frame, "Metadata_gene", seed=-1)
    tested = pl.DataFrame({"q_value": [0.01, 0.2]})
    assert fraction_retrieved(tested.lazy()).equals(fraction_retrieved(tested))
