"""Hits that rest on few candidates are told, and shown with how many there were."""

import polars as pl

from cytofast.report.parts import Listed, Prose
from cytofast.report.sections_retrieval import found_parts
from tests.report.pages import results


def parts_of(doubtful):
    found = results().labels
    news = []
    table = found.with_columns(n_candidates=7, doubtful=pl.Series([doubtful, False]))
    return found_parts(table, ["Metadata_Time"], "sisters", "Task sisters.", news, "label"), news


def test_doubtful_hits_are_warned_of_at_the_top_and_beside_the_table():
    parts, news = parts_of(True)
    warned = [part for part in parts if isinstance(part, Prose) and "1 of 1 retrieved is doubtful" in part.text]
    assert [part.tone for part in warned] == ["warning"]
    assert "null=labels" in warned[0].text
    assert warned[0] in news
    (hits,) = [part for part in parts if isinstance(part, Listed)]
    assert hits.table.select("n_candidates", "doubtful").row(0) == (7, True)


def test_nothing_is_said_where_nothing_is_doubtful():
    parts, news = parts_of(False)
    assert not [part for part in [*parts, *news] if isinstance(part, Prose) and "doubtful" in part.text]
    # Results of older runs, and of cytofast map, lack the column.
    assert found_parts(results().labels, ["Metadata_Time"], "sisters", "Task sisters.", [], "label")
