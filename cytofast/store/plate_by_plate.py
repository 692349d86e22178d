"""Exact medians of more cells than fit into memory: a query that groups by plate is asked plate by plate.

A median keeps every value of its group until the last row was read. Where a query's groups lie inside one plate, and each
plate inside one file, a few files at a time give the same answer and need the memory of those files alone. Whether that is so
is read off the query's syntax tree and the files' bounds; in any doubt the query runs as it is.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from cytofast import resources
from cytofast.schema import BATCH, PLATE
from cytofast.store.catalog import Catalog
from cytofast.store.query_safety import nodes

Connection = duckdb.DuckDBPyConnection

KEEPS_ALL = {
    "median",
    "mad",
    "mode",
    "quantile",
    "quantile_cont",
    "quantile_disc",
    "approx_quantile",
    "list",
    "array_agg",
    "histogram",
    "entropy",
}
"""Aggregates whose state grows with the rows of a group."""
_LEVELS = {"cells", "wells", "profiles"}
_LAST = {"ORDER_MODIFIER", "LIMIT_MODIFIER"}


@dataclass(frozen=True)
class Split:
    """A query in two: what each plate is asked, and what is done with the answers."""

    level: str
    each: str
    last: str


def split(catalog: Catalog, text: str) -> Split | None:
    """The query in two, if its answer is the union of the answers plate by plate; else ``None``."""
    tree = _tree(catalog.connection, text)
    if tree is None:
        return None
    node = tree["statements"][0]["node"]
    found = list(nodes(node))
    tables = [n for n in found if n.get("type") == "BASE_TABLE"]
    named = {str(n.get("function_name", "")).lower() for n in found if n.get("class") == "FUNCTION"}
    alone = (
        node.get("type") == "SELECT_NODE"
        and node["from_table"]["type"] == "BASE_TABLE"
        and len(tables) == 1
        and not tables[0]["sample"]
        and not tables[0]["column_name_alias"]
        and not node["cte_map"]["map"]
        and not node["qualify"]
        and not node["sample"]
        and len(node["group_sets"]) <= 1
        and not any(n.get("class") in {"SUBQUERY", "WINDOW"} for n in found)
        and {m["type"] for m in node["modifiers"]} <= _LAST
    )
    level = str(tables[0]["table_name"]).lower() if tables else ""
    if not alone or level not in _LEVELS or not named & KEEPS_ALL or not _inside_plates(catalog, level, _keys(node)):
        return None
    names = {_name(item).lower() for item in node["select_list"]}
    if not all(_in_answer(order["expression"], names) for m in node["modifiers"] for order in m.get("orders", [])):
        return None
    each, last = copy.deepcopy(tree), _tree(catalog.connection, "SELECT * FROM answers")
    if last is None:
        return None
    each["statements"][0]["node"]["modifiers"] = []
    last["statements"][0]["node"]["modifiers"] = node["modifiers"]
    if "PARAMETER" in json.dumps(node["modifiers"]):
        return None
    return Split(level, _text(catalog.connection, each), _text(catalog.connection, last))


def _tree(connection: Connection, text: str) -> Any:
    row = connection.execute("SELECT json_serialize_sql($text::VARCHAR)", {"text": text}).fetchall()
    tree = json.loads(row[0][0]) if row else {"error": True}
    return None if tree["error"] else tree


def _text(connection: Connection, tree: Any) -> str:
    row = connection.execute("SELECT json_deserialize_sql($tree::JSON)", {"tree": json.dumps(tree)}).fetchall()
    return str(row[0][0]) if row else ""


def _keys(node: dict[str, Any]) -> set[str]:
    """Plain columns that the query groups by; with GROUP BY ALL, those that stand by themselves in its list."""
    groups = node["group_expressions"]
    if not groups and node["aggregate_handling"] == "FORCE_AGGREGATES":
        groups = node["select_list"]
    chosen = node["select_list"]
    by_place = [
        chosen[int(g["literal"]["text"]) - 1]
        for g in groups
        if g.get("class") == "CONSTANT"
        and str(g.get("literal", {}).get("text", "")).isdigit()
        and 0 < int(g["literal"]["text"]) <= len(chosen)
    ]
    return {str(g["column_names"][-1]).lower() for g in [*groups, *by_place] if g.get("class") == "COLUMN_REF"}


def _name(item: dict[str, Any]) -> str:
    """What a column of the answer is called; nothing where only the engine knows."""
    if item.get("alias"):
        return str(item["alias"])
    return str(item["column_names"][-1]) if item.get("class") == "COLUMN_REF" else ""


def _in_answer(expression: dict[str, Any], names: set[str]) -> bool:
    if expression.get("class") == "COLUMN_REF":
        return len(expression["column_names"]) == 1 and str(expression["column_names"][0]).lower() in names
    return expression.get("class") == "CONSTANT" or expression.get("type") == "STAR"


def _inside_plates(catalog: Catalog, level: str, keys: set[str]) -> bool:
    """Whether every group lies inside one file of the level."""
    partitions = catalog.snapshot.levels.get(level, [])
    wanted = [PLATE, BATCH] if BATCH.lower() in keys else [PLATE]
    if PLATE.lower() not in keys or len(partitions) < 2 or not catalog.snapshot.uniform(level):
        return False
    rows = catalog.connection.execute(
        "SELECT file_name, path_in_schema, min(stats_min_value), max(stats_max_value), bool_and(stats_max_value IS NOT NULL), "
        "sum(stats_null_count) FROM parquet_metadata($files) WHERE path_in_schema IN ($plate, $batch) GROUP BY ALL",
        {"files": [str(p.path.absolute()) for p in partitions], "plate": PLATE, "batch": BATCH},
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for file, name, least, most, known, missing in rows:
        if known and least == most and not missing:
            found.setdefault(file, {})[name] = least
    values = [tuple(columns.get(name) for name in wanted) for columns in found.values()]
    return len(values) == len(partitions) == len(set(values)) and not any(None in value for value in values)


def answers(catalog: Catalog, plan: Split, values: dict[str, Any]) -> Iterator[pa.Table]:
    """What the plates answer, as many at a time as there are threads."""
    connection = catalog.connection
    files = [partition.path for partition in catalog.snapshot.levels[plan.level]]
    step = resources.current().threads
    for start in range(0, len(files), step):
        catalog.only(plan.level, files[start : start + step])
        yield connection.sql(plan.each, params=values or None).to_arrow_table()


def run(catalog: Catalog, plan: Split, values: dict[str, Any]) -> duckdb.DuckDBPyRelation | None:
    """Ask plate by plate, then order and cut what they answer; ``None`` where names of columns do not tell them apart."""
    found: list[pa.Table] = []
    for answer in answers(catalog, plan, values):
        if len({name.lower() for name in answer.column_names}) < answer.num_columns:
            catalog.only(plan.level, [partition.path for partition in catalog.snapshot.levels[plan.level]])
            return None
        found.append(answer)
    table = pa.concat_tables(found, promote_options="permissive")
    catalog.connection.register("answers", table)
    return catalog.connection.sql(plan.last)
