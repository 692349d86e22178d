"""One HTML file that needs nothing else: no server, no network, no second file."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import polars as pl
from plotly.offline import get_plotlyjs

from cytofast.report.parts import Drawn, Listed, Part, Prose, Section

_DIGITS = 6
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'"
)
"""What a browser lets the page do: nothing from outside, not even by mistake."""


def page(title: str, about: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], made: str) -> str:
    """The whole page.

    Parameters
    ----------
    title, about
        What stands at the top.
    facts
        Short answers, each with what it answers.
    sections
        In order.
    made
        By what the page was made, and when.
    """
    links = "".join(f'<li><a href="#{section.key}">{_text(section.title)}</a></li>' for section in sections)
    told = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    news = [(section.key, line) for section in sections for line in section.headlines]
    summary = "".join(
        f'<li class="{line.tone}">{_text(line.text)} <a href="#{key}">more</a></li>' for key, line in news
    )
    body = "".join(_section(section) for section in sections)
    drawn = any(isinstance(part, Drawn) for section in sections for part in section.parts)
    library = get_plotlyjs().replace("</script", "<\\/script") if drawn else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<title>{_text(title)}</title>\n<style>\n{_own("page.css")}</style>\n</head>\n<body>\n'
        f'<header><h1>{_text(title)}</h1><p class="soft">{_text(about)}</p><dl class="facts">{told}</dl>'
        f'<ul class="news">{summary}</ul></header>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n'
        f'<noscript><p class="warning">Figures and tables need JavaScript; everything they need is in this file.</p></noscript>\n'
        f"{body}</main>\n<footer>{_text(made)}</footer>\n"
        f"<script>{library}</script>\n<script>\n{_own('page.js')}</script>\n</body>\n</html>\n"
    )


def _own(name: str) -> str:
    return (files("cytofast.report") / name).read_text(encoding="utf-8")


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _section(section: Section) -> str:
    parts = "".join(_part(part) for part in section.parts)
    return f'<section id="{section.key}">\n<h2>{_text(section.title)}</h2>\n{parts}</section>\n'


def _part(part: Part) -> str:
    if isinstance(part, Prose):
        return f'<p class="{part.tone}">{_text(part.text)}</p>\n'
    if isinstance(part, Listed):
        return (
            f'<h3>{_text(part.title)}</h3>\n<p class="soft">{_text(part.caption)}</p>\n'
            f"{_table(part.name, part.title, part.table, opened=part.opened)}"
        )
    meta = part.figure.layout.meta or {}
    return (
        f'<h3>{_text(part.title)}</h3>\n<figure>\n<div class="wide"><div class="plot" data-name="{part.name}" role="img" '
        f'aria-label="{_text(meta.get("alt", part.title))}" style="min-height:{part.figure.layout.height or 400}px">'
        f"</div></div>\n"
        f"<figcaption>{_text(meta.get('caption', ''))}</figcaption>\n"
        f"{_json(f'figure-{part.name}', figure_content(part))}"
        f"{_table(part.name, part.title, part.table, opened=False)}</figure>\n"
    )


def figure_content(part: Drawn) -> dict[str, Any]:
    """Data and layout as Plotly's script takes them."""
    content: dict[str, Any] = json.loads(part.figure.to_json(validate=False))
    return {"data": content["data"], "layout": content["layout"]}


def _table(name: str, title: str, table: pl.DataFrame, *, opened: bool) -> str:
    rows = f"{table.height:,} row{'' if table.height == 1 else 's'}"
    box = f'<div data-table="{name}"></div>'
    return _json(f"table-{name}", table_content(table, title)) + (
        f"{box}\n" if opened else f"<details><summary>Table: {rows}</summary>{box}</details>\n"
    )


def table_content(table: pl.DataFrame, title: str) -> dict[str, Any]:
    """A table column by column; text that repeats is numbered, since plates have many wells."""
    return {"title": title, "rows": table.height, "columns": [_column(series) for series in table.get_columns()]}


def _column(series: pl.Series) -> dict[str, Any]:
    name = series.name.removeprefix("Metadata_")
    kind = series.dtype
    if kind == pl.Boolean:
        series, kind = (
            series.replace_strict({True: "yes", False: "no"}, default=None, return_dtype=pl.String),
            pl.String(),
        )
    if kind.is_integer():
        return {"name": name, "number": True, "values": series.to_list()}
    if kind.is_numeric():
        return {"name": name, "number": True, "values": [_rounded(value) for value in series.cast(pl.Float64)]}
    if isinstance(kind, pl.List):
        series = series.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    texts = series.cast(pl.String)
    words = texts.drop_nulls().unique(maintain_order=True)
    if words.len() > 0.5 * series.len():
        return {"name": name, "number": False, "values": texts.to_list()}
    codes = {word: code for code, word in enumerate(words)}
    return {"name": name, "number": False, "words": words.to_list(), "values": [codes.get(text) for text in texts]}


def _rounded(value: float | None) -> float | int | None:
    """Six digits, which is what float32 holds; what is not finite has no place in JSON."""
    if value is None or not math.isfinite(value):
        return None
    shown = float(f"{value:.{_DIGITS}g}")
    return int(shown) if shown.is_integer() and abs(shown) < 2**53 else shown


def _json(key: str, content: dict[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f'<script type="application/json" id="{key}">{text.replace("<", chr(92) + "u003c")}</script>\n'
