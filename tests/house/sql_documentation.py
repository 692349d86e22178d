"""Writes docs/sql.md: `python -m tests.house.sql_documentation`. What is said of a query is its header."""

from pathlib import Path

from cytofast.store.queries import queries

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
BEGIN, END = "<!-- generated from sql/ -->", "<!-- end -->"


def _part(kind: str) -> str:
    lines = []
    for name, query in queries(kind).items():
        lines.append(f"### `{name}`\n\n{query.doc}\n")
        if query.grain:
            lines.append(f"One row for each {', '.join(query.grain)}.\n")
        for parameter in query.parameters:
            default = "required" if parameter.required else f"default {parameter.shown.split('=', 1)[1]}"
            lines.append(f"- `{parameter.name}` ({parameter.type}, {default}): {parameter.doc}")
        if query.parameters:
            lines.append("")
    return "\n".join(lines)


def document() -> str:
    """The page as it should be: its written part as it is, its generated part made anew."""
    written = PAGE.read_text().split(BEGIN)[0]
    parts = [f"## {title}\n\n{_part(kind)}" for title, kind in
             (("Named questions", "questions"), ("Views", "views"), ("Macros", "macros"))]  # fmt: skip
    return f"{written}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}\n"


if __name__ == "__main__":
    PAGE.write_text(document())
