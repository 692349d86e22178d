"""A feature's fate: which steps saw it, what they measured, and why it was dropped."""

from __future__ import annotations

import polars as pl

from cytofast.errors import SchemaError, listed
from cytofast.schema import is_metadata
from cytofast.steps.selection import REPORT
from cytofast.store.profile_store import ProfileStore

_OF_A_RULE = {"order", *REPORT.names()}


def explain_feature(store: ProfileStore, feature: str) -> pl.DataFrame:
    """What became of a feature in each level of a store.

    Returns
    -------
    polars.DataFrame
        ``level, present, fate``: one row a level and step that has something to say, in the order of the levels.

    Raises
    ------
    SchemaError
        No level and no fit knows the feature; the message names near ones.
    """
    rows: list[dict[str, object]] = []
    known: set[str] = set()
    for level in store.levels():
        distinct = {p.manifest.schema: p for p in store.partitions(level)}
        columns = {name for p in distinct.values() for name in p.lazy().collect_schema().names()}
        known |= {name for name in columns if not is_metadata(name)}
        for step, fit in store.fits(level).items():
            if "feature" in fit.columns:
                known |= set(fit["feature"].to_list())
                mine = fit.filter(fit["feature"] == feature)
                rows.extend(
                    {"level": level, "present": feature in columns, "fate": fate} for fate in _fates(step, mine)
                )
        fate = "present" if feature in columns else "not there"
        rows.append({"level": level, "present": feature in columns, "fate": fate})
    if feature not in known:
        raise SchemaError.missing_columns([feature], sorted(known), str(store.path))
    return pl.DataFrame(rows, schema={"level": pl.String, "present": pl.Boolean, "fate": pl.String})


def _fates(step: str, rows: pl.DataFrame) -> list[str]:
    if rows.height == 0:
        return []
    if "kept" in rows.columns:
        return [_judgement(row) for row in rows.iter_rows(named=True)]
    if "status" in rows.columns:
        counts = rows["status"].value_counts().sort("status").rows()
        return [f"{step}: {', '.join(f'{status} in {count}' for status, count in counts)} of {rows.height} groups"]
    return [f"{step}: {rows.height} rows in its fit"]


def _judgement(row: dict[str, object]) -> str:
    """One rule's word on the feature."""
    measured = ""
    if row.get("value") is not None:
        limit = f" against {row['threshold']:.6g}" if isinstance(row.get("threshold"), float) else ""
        measured = f": {row.get('measure') or 'value'} {row['value']:.6g}{limit}"
    elif row.get("measure") and not row["kept"]:
        measured = f": {row['measure']}"
    partner = f", with {row['partner']} (r = {row['r']:.4f})" if row.get("partner") is not None else ""
    # A rule without groups has nothing in the columns of those of other rules.
    groups = [value for name, value in row.items() if name not in _OF_A_RULE and value is not None]
    where = f" in {listed(groups)}" if groups else ""
    return f"{row['step']}: {'kept' if row['kept'] else 'dropped'}{where}{measured}{partner}"
