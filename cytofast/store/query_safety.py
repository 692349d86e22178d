"""What SQL may do: read the store, and nothing else.

Two locks, each enough for most attempts: DuckDB is told which files it may open and that its settings are final, and before
that the query's syntax tree is looked through, which may hold only what reads. The second also refuses what would write to
the very files that the first must allow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from cytofast.errors import RecipeError, listed

Connection = duckdb.DuckDBPyConnection

SETTINGS = {
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
"""No extension comes by itself, and the name of a Python variable is not a table."""

_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {
    "range",
    "generate_series",
    "unnest",
    "repeat",
    "repeat_row",
    "query_table",
    "json_each",
    "json_tree",
}
"""Functions after FROM that open no file. ``duckdb_columns()`` and its like are allowed by their prefix."""
_CATALOG_FUNCTIONS = {"duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_settings", "duckdb_tables"}
_CATALOG_FUNCTIONS |= {"duckdb_types", "duckdb_views", "pragma_table_info", "pragma_version"}
_REFUSED_FUNCTIONS = {"write_log", "sleep_ms", "pg_sleep", "getenv", "setval", "nextval", "setseed", "query"}
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(\(\s*FORMAT\s+\w+\s*\)\s*)?", re.IGNORECASE)
_WHY = "SQL over a store may read the store and nothing else (--unrestricted, or unrestricted=True, lifts this)"


def _refusal(what: str) -> RecipeError:
    return RecipeError(f"refused: {what} is not allowed. {_WHY}.")


def checked(connection: Connection, text: str) -> set[str]:
    """Look through a query; give the names of the parameters it wants.

    Raises
    ------
    RecipeError
        It is not one query that only reads.
    """
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise RecipeError(f"the SQL cannot be read: {error}") from error
    kinds = [statement.type.name for statement in statements]
    for kind in kinds:
        if kind == "MULTI":
            raise RecipeError(
                "PIVOT needs its values here, because without them it must write a type first. "
                "Hint: PIVOT table ON column IN ('a', 'b') USING count(*)."
            )
        if kind not in {"SELECT", "EXPLAIN"}:
            raise _refusal(kind)
    if len(kinds) != 1:
        raise RecipeError(f"one query at a time, and this is {len(kinds) or 'none'}")
    inner = _EXPLAIN.sub("", text, count=1) if kinds == ["EXPLAIN"] else text
    row = connection.execute("SELECT json_serialize_sql($text::VARCHAR)", {"text": inner}).fetchall()
    tree: dict[str, Any] = json.loads(row[0][0]) if row else {"error": True}
    if tree.get("error") or len(tree["statements"]) != 1:
        raise _refusal("EXPLAIN of anything but a query" if kinds == ["EXPLAIN"] else "this statement")
    statement = tree["statements"][0]
    for node in nodes(statement):
        _judge(node)
    return {str(entry["key"]) for entry in statement.get("named_param_map", [])}


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node of a syntax tree."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _judge(node: dict[str, Any]) -> None:
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise _refusal(kind.removesuffix("_QUERY_NODE").removesuffix("_NODE"))
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS | _CATALOG_FUNCTIONS:
            raise _refusal(f"the table function {name}()")
    elif node.get("class") == "FUNCTION":
        name = str(node.get("function_name", "")).lower()
        if name in _REFUSED_FUNCTIONS:
            raise _refusal(f"the function {name}()")


def close_doors(connection: Connection, files: Iterable[Path]) -> None:
    """From now on the connection can open these files and no others."""
    connection.execute("SET allowed_paths = $paths", {"paths": sorted({str(path.absolute()) for path in files})})
    connection.execute("SET enable_external_access = false")


def lock(connection: Connection) -> None:
    """From now on no setting can be changed."""
    connection.execute("SET lock_configuration = true")


def bound(wanted: set[str], given: dict[str, Any]) -> dict[str, Any]:
    """The parameters a query wants.

    Raises
    ------
    RecipeError
        One is missing, or one is given that the query does not use.
    """
    missing = sorted(wanted - given.keys())
    if missing:
        raise RecipeError(f"the query wants {listed('$' + name for name in missing)}. Hint: give it as a parameter.")
    unused = sorted(given.keys() - wanted)
    if unused:
        raise RecipeError(
            f"the query has no {listed('$' + name for name in unused)}. "
            f"Hint: {'it wants ' + listed('$' + name for name in sorted(wanted)) if wanted else 'it takes no parameters'}."
        )
    return {name: given[name] for name in wanted}
