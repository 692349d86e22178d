"""Join a level of a store to a table: streamed, inside the memory budget, with both sides counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from cytofast import resources
from cytofast.errors import DataError, RecipeError, SchemaError, StoreError, listed
from cytofast.metadata_tables import read_metadata_table
from cytofast.parquet import ProfileWriter
from cytofast.store.answering import Limits, Prepared, answered, as_arrow, as_polars, refuse_inside, watched
from cytofast.store.catalog import quoted
from cytofast.store.layout import checked_level

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore

HOW = ("inner", "left", "right", "full", "semi", "anti")
NULLS = ("match", "never")
_TABLE = "joined_table"


@dataclass(frozen=True)
class Join:
    """A join that is counted and ready to be read, from one snapshot of the store.

    Attributes
    ----------
    counts
        ``profiles``: rows of the level; ``profiles_unmatched``; ``profiles_without_key``: those with a missing key, matched
        or not; ``table_rows``; ``table_rows_unmatched``; ``table_rows_without_key``; ``rows``: rows of the join.
    """

    counts: dict[str, int]
    _prepared: Prepared
    _how: Limits

    def collect(self) -> pl.DataFrame:
        """All rows at once."""
        frame: pl.DataFrame = self._read(lambda: as_polars(self._prepared.relation().to_arrow_table()))
        return frame

    def batches(self) -> Iterator[pl.DataFrame]:
        """The rows, some at a time, as few as the memory budget asks for."""
        width = max(1, 8 * len(self._prepared.relation().columns))
        rows = int(min(2**20, max(2048, resources.current().working_bytes // (8 * width))))
        reader = self._read(lambda: self._prepared.relation().to_arrow_reader(rows))
        while (batch := self._read(lambda: next(reader, None))) is not None:
            yield as_polars(batch)

    def write(self, path: str | Path) -> int:
        """Write the rows as Parquet, whole or not at all; gives their number."""
        refuse_inside(self._prepared.catalog.snapshot.store, Path(path))
        with ProfileWriter(Path(path)) as writer:
            for batch in self.batches():
                writer.write(batch)
            if writer.schema is None:
                writer.write(self.collect())
        return writer.rows

    def _read(self, work: Any) -> Any:
        try:
            return watched(self._prepared.connection, work, self._how)
        except (duckdb.Error, OSError) as error:
            raise StoreError(
                f"the join cannot be read ({error}). Hint: if the store was written to meanwhile, join again."
            ) from error

    def __repr__(self) -> str:
        return f"Join({', '.join(f'{name}: {count:,}' for name, count in self.counts.items())})"


def join(
    store: ProfileStore,
    level: str,
    table: Any,
    *,
    on: str | Sequence[str] | Mapping[str, str],
    how: str,
    nulls: str,
    multiply: bool,
    columns: Sequence[str] | None,
    suffix: str | None,
    seconds: float | None,
) -> Join:
    """Join; see :meth:`ProfileStore.join`."""
    for kind, given, known in (("how", how, HOW), ("nulls", nulls, NULLS)):
        if given not in known:
            raise RecipeError.unknown(kind, given, known)
    checked_level(level)
    keys = _keys(on)
    right = read_metadata_table(table) if isinstance(table, str | Path) else table
    limits = Limits(seconds, tables={_TABLE: as_arrow(right)})
    own = _schema(store, level, limits)
    other = _schema(store, _TABLE, limits)
    _check_keys(keys, own, other, f"{store.path}: level {level!r}")
    if not multiply:
        _refuse_repeats(store, keys, nulls, limits)
    text = _query(level, keys, how, nulls, own, other, columns, suffix, f"{store.path}: level {level!r}")

    def counted(ready: Prepared) -> tuple[dict[str, int], Prepared]:
        relation = ready.connection.sql(_counting(level, keys, nulls))
        row = relation.fetchall()[0]
        found = {name: int(value or 0) for name, value in zip(relation.columns, row, strict=True)}
        inner = found.pop("pairs")
        alone, left_over = found["profiles_unmatched"], found["table_rows_unmatched"]
        found["rows"] = {
            "inner": inner,
            "left": inner + alone,
            "right": inner + left_over,
            "full": inner + alone + left_over,
            "semi": found["profiles"] - alone,
            "anti": alone,
        }[how]
        return found, ready

    counts, prepared = answered(store, text, None, limits, counted)
    return Join(counts, prepared, limits)


def _keys(on: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(on, str):
        return {on: on}
    if not isinstance(on, Mapping | Sequence):
        raise RecipeError(f"on= is a column, a list of columns, or a mapping of columns, not {type(on).__name__}")
    keys = dict(on) if isinstance(on, Mapping) else {name: name for name in on}
    if not keys:
        raise RecipeError("on= names no column; a join needs at least one key")
    return keys


def _schema(store: ProfileStore, name: str, limits: Limits) -> dict[str, str]:
    rows = answered(store, f"DESCRIBE {quoted(name)}", None, limits, lambda ready: ready.relation().fetchall())
    return {row[0]: row[1] for row in rows}


def _check_keys(keys: dict[str, str], own: dict[str, str], other: dict[str, str], where: str) -> None:
    missing = [name for name in keys if name not in own]
    if missing:
        raise SchemaError.missing_columns(missing, list(own), where)
    missing = [name for name in keys.values() if name not in other]
    if missing:
        raise SchemaError.missing_columns(missing, list(other), "the table to join")
    for left, right in keys.items():
        if (own[left] == "VARCHAR") != (other[right] == "VARCHAR"):
            raise SchemaError(
                f"{where}: key {left!r} is {own[left]}, and {right!r} of the table is {other[right]}. "
                "Hint: cast the table's column first; text and numbers are never guessed to be equal."
            )


def _refuse_repeats(store: ProfileStore, keys: dict[str, str], nulls: str, limits: Limits) -> None:
    names = ", ".join(quoted(name) for name in keys.values())
    wanted = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in keys.values()) if nulls == "never" else "true"
    text = f"SELECT {names} FROM {_TABLE} WHERE {wanted} GROUP BY {names} HAVING count(*) > 1 ORDER BY count(*) DESC, {names}"
    rows = answered(store, text, None, limits, lambda ready: ready.relation().fetchall())
    if rows:
        raise DataError(
            f"the table to join has {len(rows):,} keys more than once: {listed(rows, 3)}. "
            "Profiles would be repeated. Hint: make the table unique, or say multiply=True."
        )


def _same(keys: dict[str, str], nulls: str) -> str:
    equal = "IS NOT DISTINCT FROM" if nulls == "match" else "="
    return " AND ".join(f"l.{quoted(left)} {equal} r.{quoted(right)}" for left, right in keys.items())


def _query(
    level: str,
    keys: dict[str, str],
    how: str,
    nulls: str,
    own: dict[str, str],
    other: dict[str, str],
    columns: Sequence[str] | None,
    suffix: str | None,
    where: str,
) -> str:
    wanted = list(own) if columns is None else list(dict.fromkeys([*keys, *columns]))
    missing = [name for name in wanted if name not in own]
    if missing:
        raise SchemaError.missing_columns(missing, list(own), where)
    chosen = [f"l.{quoted(name)}" for name in wanted]
    if how in {"right", "full"}:
        # A row of the table without a profile still has its key.
        chosen = [
            f"coalesce(l.{quoted(name)}, r.{quoted(keys[name])}) AS {quoted(name)}"
            if name in keys
            else f"l.{quoted(name)}"
            for name in wanted
        ]
    if how not in {"semi", "anti"}:
        added = [name for name in other if name not in keys.values()]
        clash = [name for name in added if name in wanted]
        if clash and suffix is None:
            raise SchemaError(
                f"{where} and the table both have {listed(clash)}. Hint: give suffix=, or leave columns out of one."
            )
        renamed = {name: f"{name}{suffix}" if name in clash else name for name in added}
        twice = [name for name in clash if renamed[name] in {*wanted, *(n for n in added if n not in clash)}]
        if twice:
            raise SchemaError(f"{where}: with suffix {suffix!r} the name of {listed(twice)} is still taken")
        chosen += [f"r.{quoted(name)} AS {quoted(new)}" for name, new in renamed.items()]
    same = _same(keys, nulls)
    return f"SELECT {', '.join(chosen)} FROM {quoted(level)} AS l {how.upper()} JOIN {_TABLE} AS r ON {same}"


def _counting(level: str, keys: dict[str, str], nulls: str) -> str:
    # Keys get names of their own: one may be called as what is counted.
    left, right = (
        ", ".join(f"{quoted(name)} AS k{i}" for i, name in enumerate(names)) for names in (keys, keys.values())
    )
    no_left, no_right = (" OR ".join(f"{side}.k{i} IS NULL" for i in range(len(keys))) for side in "lr")
    return f"""
        WITH l AS (SELECT {left}, count(*) AS n FROM {quoted(level)} GROUP BY ALL),
        r AS (SELECT {right}, count(*) AS n FROM {_TABLE} GROUP BY ALL)
        SELECT
            sum(l.n) AS profiles,
            sum(l.n) FILTER (WHERE r.n IS NULL) AS profiles_unmatched,
            sum(l.n) FILTER (WHERE {no_left}) AS profiles_without_key,
            sum(r.n) AS table_rows,
            sum(r.n) FILTER (WHERE l.n IS NULL) AS table_rows_unmatched,
            sum(r.n) FILTER (WHERE {no_right}) AS table_rows_without_key,
            sum(l.n * r.n) AS pairs
        FROM l FULL JOIN r ON {_same({f"k{i}": f"k{i}" for i in range(len(keys))}, nulls)}
    """
