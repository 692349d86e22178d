"""The page says what it should, fetches nothing, and opens whatever the store is like."""

import html
import re

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast import DataError, StoreError
from tests import toy
from tests.report.pages import embedded

SECTIONS = ["store", "plates", "normalization", "selection", "retrieval", "matching", "modalities", "map", "provenance"]


def body(path) -> str:
    """What people read: the page without scripts and styles."""
    text = path.read_text()
    return html.unescape(re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.DOTALL))


def test_every_section_stands_in_the_page(small_page):
    text = body(small_page.path)
    for key in SECTIONS:
        assert f'<section id="{key}">' in text
        assert f'href="#{key}"' in text
    assert small_page.sections["Retrieval"]
    assert not small_page.sections["Matching and directionality"]
    assert "cytofast benchmark" in text
    assert repr(small_page).startswith("Report('")


def test_the_page_fetches_nothing(small_page):
    text = small_page.path.read_text()
    assert 50_000 < small_page.size == small_page.path.stat().st_size < 8_000_000
    assert not re.search(r'(src|href)="https?://[^"]*\.(js|css|woff2?|png)', text)
    own = re.sub(r"<script>.*?</script>", "", text, count=1, flags=re.DOTALL)  # Plotly's has links in texts
    assert not re.search(r'(src|href)="(https?:)?//', own)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", own)
    assert "default-src 'none'" in text
    assert text.count("plotly.js v") == 1, "the script once"
    assert 'plotlyServerURL: ""' in text


def test_every_figure_has_its_table_caption_and_description(small_page):
    text = small_page.path.read_text()
    content = embedded(text)
    figures = [name.removeprefix("figure-") for name in content if name.startswith("figure-")]
    assert {"plates", "drift", "edge", "boxes-activity", "against_p-activity", "dropped_rules"} <= set(figures)
    for figure in re.findall(r"<figure>.*?</figure>", text, re.DOTALL):
        shown = re.search(r'data-table="([^"]+)"', figure)[1]
        assert f"table-{shown}" in content
        assert len(re.search(r'aria-label="([^"]*)"', figure)[1]) > 20
        assert len(re.search(r"<figcaption>(.*?)</figcaption>", figure, re.DOTALL)[1]) > 60
    for name in figures:
        layout = content[f"figure-{name}"]["layout"]
        assert layout["meta"]["caption"]


def test_tables_are_whole(small_page, small_folder):
    content = embedded(small_page.path.read_text())
    drift = cytofast.open_store(small_folder / "store").ask("control_drift")
    columns = {column["name"]: column for column in content["table-drift"]["columns"]}
    assert content["table-drift"]["rows"] == drift.height == 2
    np.testing.assert_allclose(columns["median_drift"]["values"], drift["median_drift"], rtol=1e-5)
    wells = content["table-plates"]["columns"][2]
    assert wells["words"][:2] == ["A01", "A02"]
    assert len(wells["values"]) == 192


def test_retrieval_is_that_of_retrieval(small_page, small_folder):
    content = embedded(small_page.path.read_text())
    hits = {column["name"]: column["values"] for column in content["table-against_p-activity"]["columns"]}
    store = cytofast.open_store(small_folder / "store")
    profiles = store.scan("profiles").collect()
    rule = cytofast.activity(profiles.columns, nulls="drop", on_invalid="drop")
    found = rule.mean_average_precision(profiles, null="ranks").sort("Metadata_broad_sample")
    values = [float(value) for value in hits["mean_average_precision"]]
    mine = pl.DataFrame({"name": hits["broad_sample"], "map": values}).sort("name")
    np.testing.assert_allclose(mine["map"], found["mean_average_precision"], rtol=1e-5)
    assert "retrieved at q < 0.05" in body(small_page.path)


def test_an_empty_store(tmp_path):
    store = cytofast.open_store(tmp_path / "empty", create=True)
    made = cytofast.write_report(store, tmp_path / "r.html", title="<i>nothing</i>")
    text = body(made.path)
    assert "The store is empty" in text
    assert "<i>nothing</i>" not in made.path.read_text().replace("&lt;i&gt;", "")
    assert len(made.sections) == len(SECTIONS)
    assert all(f'<section id="{key}">' in text for key in SECTIONS)


def test_cells_alone(tmp_path):
    toy.make_store(tmp_path / "s")
    text = body(cytofast.write_report(tmp_path / "s", tmp_path / "r.html").path)
    assert "only single cells" in text
    assert "Retrieval was not possible" in text
    assert "No drift can be told" in text


def test_no_controls(tmp_path):
    toy.make_store(tmp_path / "s", annotated=False)
    recipe = tmp_path / "r.toml"
    recipe.write_text('source = "cells"\n[[wells]]\nstep = "aggregate"\nby = ["Metadata_Plate", "Metadata_Well"]\n')
    cytofast.run(recipe, tmp_path / "s")
    text = body(cytofast.write_report(tmp_path / "s", tmp_path / "r.html").path)
    assert "no column that usually holds perturbations" in text
    assert "missing wells cannot be told" in text
    assert '<section id="map">' in text


def test_one_replicate(tmp_path):
    toy.make_store(tmp_path / "s", plates=("P1",))
    cytofast.run("default", tmp_path / "s")
    text = body(cytofast.write_report(tmp_path / "s", tmp_path / "r.html").path)
    assert "no query has a positive" in text
    assert "single well" in text
    assert "drift between plates cannot be told" in text


def test_hardly_any_signal_is_said_plainly(tmp_path, small_folder):
    table = pl.DataFrame(
        {
            "Metadata_broad_sample": [f"BRD-{i}" for i in range(50)],
            "mean_average_precision": [0.1] * 50,
            "p_value": [0.5] * 50,
            "q_value": [0.9] * 50,
            "n_profiles": [4] * 50,
            "retrieved": [False] * 50,
        }
    )
    table.write_parquet(tmp_path / "map.parquet")
    made = cytofast.write_report(small_folder / "store", tmp_path / "r.html", tables=[tmp_path / "map.parquet"])
    assert any("Hardly any signal" in line and "0 of 50 perturbations" in line for line in made.headlines)
    assert "boxes-map" in made.path.read_text()


def test_a_benchmark_is_drawn(tmp_path, benchmark, small_folder):
    made = cytofast.write_report(small_folder / "store", tmp_path / "r.html", tables=[benchmark])
    text, content = body(made.path), embedded(made.path.read_text())
    for name in ("summary-cpjump1-detection", "directions-cpjump1", "similarities-cpjump1"):
        assert f"figure-{name}" in content
    assert "each perturbation has one replicate" in str(content["table-failed-cpjump1"])
    assert made.sections["Matching and directionality"]
    assert "<b>&TP53" not in made.path.read_text()
    assert "1 could not be done" in text


def test_what_is_no_result_is_named(tmp_path, small_folder):
    (tmp_path / "other.csv").write_text("Metadata_Plate,x\nP1,1\n")
    text = body(cytofast.write_report(small_folder / "store", tmp_path / "r.html", tables=[tmp_path]).path)
    assert "other.csv is no result that a report draws" in text


def test_wrong_requests(tmp_path, small_folder):
    store = small_folder / "store"
    with pytest.raises(DataError, match=r"end its name in \.html"):
        cytofast.write_report(store, tmp_path / "r.pdf")
    with pytest.raises(DataError, match="no such file or folder"):
        cytofast.write_report(store, tmp_path / "r.html", tables=[tmp_path / "absent"])
    with pytest.raises(StoreError, match="no level 'nowhere'"):
        cytofast.write_report(store, tmp_path / "r.html", level="nowhere")
    with pytest.raises(StoreError, match="does not exist"):
        cytofast.write_report(tmp_path / "none", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
