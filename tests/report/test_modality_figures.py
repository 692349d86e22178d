"""What two modalities gave is drawn from its tables, and stands in the report."""

import html
import re

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast import SchemaError, figures
from cytofast.modalities.mechanism import Mechanism
from cytofast.modalities.predict import CrossModalPrediction
from cytofast.modalities.tables import classification_tables, clustering_tables, prediction_tables
from tests.modalities.planted import pair
from tests.report.pages import embedded


@pytest.fixture(scope="module")
def prediction():
    """Genes from CellProfiler features."""
    result = CrossModalPrediction(model="ridge", inner_folds=3).predict(pair(n=50), "morphology")
    return prediction_tables(result)


@pytest.fixture(scope="module")
def backwards():
    """CellProfiler features from genes."""
    result = CrossModalPrediction(model="ridge", inner_folds=3, compat="rosetta").predict(pair(n=50), "expression")
    return prediction_tables(result)


@pytest.fixture(scope="module")
def mechanism():
    """Classes of no meaning, told by a logistic regression."""
    planted = pair(n=40)
    moa = [f"<b>{'AB'[i % 2]}" for i in range(40)]
    planted = cytofast.modalities.align.Aligned(
        planted.keys,
        planted.metadata.with_columns(pl.Series("Metadata_moa", moa)),
        planted.a,
        planted.b,
        planted.audit,
    )
    question = Mechanism("Metadata_moa", classifiers=["logistic"], fusions=["early", "late"], folds=3, inner_folds=2)
    found = question.classify(planted)
    return classification_tables(found), clustering_tables(
        question.cluster(planted), question.label, found.classes.notes
    )


def test_scores_stand_against_chance_and_the_threshold(prediction):
    tables = prediction.tables
    drawn = figures.score_distribution(tables["targets"], tables["null"], tables["percent"])
    assert [trace.name for trace in drawn.data] == ["targets (20)", "shuffled (20)"]
    assert sum(drawn.data[0].customdata) == 20, "scores below the axis stand in the first bar"
    assert drawn.layout.shapes[0].x0 == tables["percent"]["threshold"][0]
    assert "6 targets exceed" in drawn.layout.meta["alt"]
    low = pl.DataFrame({"median_r2": [-30.0, 0.5, None]})
    assert "1 targets below -1 stand in the first bar" in figures.score_distribution(low, low).layout.meta["caption"]


def test_percentages_have_their_intervals():
    table = pl.DataFrame(
        {
            "name": ["lasso", "mlp"],
            "percent": [10.0, 30.0],
            "lower": [5.0, 20.0],
            "upper": [20.0, 35.0],
            "n_targets": [9, 9],
        }
    )
    points = figures.percent_predictable(table).data[0]
    assert points.y == ("lasso", "mlp")
    assert points.error_x.array == (10.0, 5.0)
    assert points.error_x.arrayminus == (5.0, 10.0)


def test_alike_groups_stand_side_by_side_and_gaps_stay_gaps():
    table = pl.DataFrame(
        {
            "group": ["a", "a", "b", "b", "c"],
            "channel": ["DNA", "ER", "DNA", "ER", "DNA"],
            "n_targets": [3, 3, 3, 3, 1],
            "percent_predictable": [90.0, 80.0, 0.0, 10.0, 90.0],
        }
    )
    drawn = figures.score_heatmap(table).data[0]
    values = {(group, channel): drawn.z[i][j] for i, group in enumerate(drawn.y) for j, channel in enumerate(drawn.x)}
    assert values["b", "ER"] == 10.0
    assert np.isnan(values["c", "ER"])
    assert drawn.customdata[list(drawn.y).index("c")][list(drawn.x).index("DNA")] == 1
    assert sorted(drawn.y) == ["a", "b", "c"]


def test_contributions_are_drawn_in_the_order_of_their_table(prediction):
    table = prediction.tables["contributions"]
    drawn = figures.contribution_heatmap(table).data[0]
    assert list(drawn.y) == table["target"].to_list()
    np.testing.assert_allclose(np.asarray(drawn.z).sum(axis=1), 1.0, rtol=1e-5)


def test_mechanisms_have_chance_beside_them(mechanism):
    classes, clusters = mechanism
    drawn = figures.mechanism_scores(classes.tables["summary"])
    assert [trace.name for trace in drawn.data] == ["logistic", "chance (95 %)"]
    assert drawn.data[0].y == ("morphology", "expression", "early", "late")
    assert drawn.data[1].x == tuple(classes.tables["summary"]["chance_p95"])
    assert figures.mechanism_differences(classes.tables["comparisons"]).data[0].y[0] == "morphology \u2212 expression"
    shown = figures.class_scores(classes.tables["classes"])
    assert {trace.name for trace in shown.data} == {"morphology", "expression", "early", "late"}
    assert set(shown.data[0].y) == {"<b>A (20)", "<b>B (20)"}
    assert figures.cluster_jaccard(clusters.tables["clusters"]).data[-1].name == "chance"


def test_several_classifiers_have_a_menu_and_lines_of_their_own():
    rows = [
        {"classifier": c, "space": s, "class": k, "n_groups": 5, "f1": 0.5} for c in "xy" for s in "ab" for k in "pq"
    ]
    drawn = figures.class_scores(pl.DataFrame(rows))
    assert [trace.visible for trace in drawn.data] == [True, True, False, False]
    assert drawn.layout.updatemenus[0].buttons[1].args[0] == {"visible": [False, False, True, True]}
    row = {"space": "a", "weighted_f1": 0.5, "lower": 0.4, "upper": 0.6, "chance_p95": 0.3}
    lines = figures.mechanism_scores(pl.DataFrame([{"classifier": "y", **row}, {"classifier": "x", **row}]))
    assert lines.data[-1].y == ("y: a", "x: a")
    assert lines.data[0].y == ("y: a",)


NUMBERS = {"lower", "upper", "percent", "n_targets", "n_groups", "n_rows"}


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("percent_predictable", ["name", "percent", "lower", "upper", "n_targets"]),
        ("score_heatmap", ["group", "channel", "n_targets", "percent_predictable"]),
        ("contribution_heatmap", ["target"]),
        ("mechanism_scores", ["classifier", "space", "weighted_f1", "lower", "upper", "chance_p95"]),
        ("mechanism_differences", ["classifier", "one", "other", "difference", "lower", "upper", "p_value"]),
        ("class_scores", ["classifier", "space", "class", "n_groups", "f1"]),
        ("cluster_jaccard", ["space", "class", "n_rows", "jaccard", "chance_jaccard"]),
    ],
)
def test_an_empty_table_gives_a_figure_that_says_so(name, columns):
    words = {"name", "group", "channel", "target", "classifier", "space", "one", "other", "class"}
    empty = pl.DataFrame(schema={column: pl.String if column in words else pl.Float64 for column in columns})
    drawn = getattr(figures, name)(empty)
    assert not drawn.data
    assert drawn.layout.annotations[0].text.startswith("No ")
    with pytest.raises(SchemaError, match=f"figures.{name}: no column"):
        getattr(figures, name)(empty.drop(columns[0]))


def test_no_score_is_said():
    empty = pl.DataFrame(schema={"median_r2": pl.Float64})
    assert figures.score_distribution(empty, empty).layout.annotations[0].text == "No target has a score."


def test_the_report_draws_what_lies_in_the_store_and_what_is_given(
    prediction, backwards, mechanism, small_folder, tmp_path
):
    store = cytofast.open_store(tmp_path / "store", create=True)
    prediction.write(store.path / "modalities" / "forth")
    backwards.write(tmp_path / "more" / "back")
    for name, tables in zip(("classes", "clusters"), mechanism, strict=True):
        tables.write(tmp_path / "more" / name)
    made = cytofast.write_report(store, tmp_path / "r.html", tables=[tmp_path / "more"])
    assert made.sections["Two modalities"]
    source = made.path.read_text()
    content, text = embedded(source), html.unescape(re.sub(r"<script.*?</script>", "", source, flags=re.DOTALL))
    drawn = {name.removeprefix("figure-") for name in content if name.startswith("figure-")}
    assert drawn >= {
        "percent-predictable", "scores-forth", "contributions-forth", "scores-back", "score-map-back",
        "mechanism-classes", "differences-classes", "classes-classes", "clusters-clusters",
    }  # fmt: skip
    assert "score-map-forth" not in drawn, "genes have no channel"
    assert "table-strongest-forth" in content
    assert any("ridge predicts 6 of 20 targets of expression from morphology" in line for line in made.headlines)
    assert "whose scores are LEAKED" in text
    assert "not beyond chance" in text
    assert "<b>A" not in re.sub(r"<script.*?</script>", "", source, flags=re.DOTALL)


def test_an_interrupted_analysis_is_no_result(prediction, tmp_path):
    store = cytofast.open_store(tmp_path / "store", create=True)
    folder = store.path / "modalities" / "forth"
    prediction.write(folder)
    pl.DataFrame({"name": ["kind"], "value": ["unfinished"]}).write_parquet(folder / "about.parquet")
    text = cytofast.write_report(store, tmp_path / "r.html").path.read_text()
    assert "writing this analysis was interrupted" in html.unescape(text)
    assert "figure-scores-forth" not in text
