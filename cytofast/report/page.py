"""One HTML file that needs nothing else: no server, no network, no second file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib.resources import files

import polars as pl
from plotly.offline import get_plotlyjs

from cytofast.report.packing import embedded, figure_content, slug, table_content
from cytofast.report.parts import Drawn, Listed, Part, Prose, Section, counted

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
    tables: dict[int, str] = {}
    body = "".join(_section(section, tables) for section in sections)
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


def _section(section: Section, tables: dict[int, str]) -> str:
    parts = "".join(_part(part, tables) for part in section.parts)
    return f'<section id="{section.key}">\n<h2>{_text(section.title)}</h2>\n{parts}</section>\n'


def _part(part: Part, tables: dict[int, str]) -> str:
    if isinstance(part, Prose):
        return f'<p class="{part.tone}">{_text(part.text)}</p>\n'
    name = slug(part.name)
    if isinstance(part, Listed):
        table = _table(name, part.title, part.table, tables, opened=part.opened)
        return f'<h3>{_text(part.title)}</h3>\n<p class="soft">{_text(part.caption)}</p>\n{table}'
    meta = part.figure.layout.meta or {}
    height = part.figure.layout.height or 400
    return (
        f'<h3>{_text(part.title)}</h3>\n<figure>\n<div class="wide"><div class="plot" data-name="{name}" role="img" '
        f'aria-label="{_text(meta.get("alt", part.title))}" style="min-height:{height}px"></div></div>\n'
        f"<figcaption>{_text(meta.get('caption', ''))}</figcaption>\n"
        f"{embedded(f'figure-{name}', figure_content(part.figure))}"
        f"{_table(name, part.title, part.table, tables, opened=False)}</figure>\n"
    )


def _table(name: str, title: str, table: pl.DataFrame, tables: dict[int, str], *, opened: bool) -> str:
    """A table's place, and its content unless the page has it already."""
    source = tables.setdefault(id(table), name)
    content = embedded(f"table-{name}", table_content(table)) if source == name else ""
    box = f'<div data-table="{source}" data-title="{_text(title)}"></div>'
    folded = f"<details><summary>Table: {counted(table.height, 'row')}</summary>{box}</details>"
    return f"{content}{box if opened else folded}\n"
