"""The methods of a store that ask it in SQL. The engine is loaded when the first question comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

if TYPE_CHECKING:
    from cytofast.store.joining import Join
    from cytofast.store.profile_store import ProfileStore

As = Literal["polars", "arrow", "relation"]
How = Literal["inner", "left", "right", "full", "semi", "anti"]


def sql(
    self: ProfileStore,
    query: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
    as_: As = "polars",
    *,
    tables: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    unrestricted: bool = False,
) -> Any:
    """Ask the store in SQL (DuckDB's). Views: ``cells, wells, profiles, consensus, plates, features, ...``.

    The query sees the manifests as they are when it begins, stays inside the memory budget of :func:`cytofast.limits`,
    spilling to the scratch directory, and can read the store and nothing else.

    Parameters
    ----------
    query
        One query that reads.
    parameters
        Values for ``$name`` (a mapping) or ``?`` (a list); they are bound, not pasted.
    as_
        ``"polars"``: a DataFrame. ``"arrow"``: a ``pyarrow.Table``. ``"relation"``: DuckDB's lazy relation, which streams.
    tables
        Tables of your own to join with: name -> DataFrame, LazyFrame, pandas DataFrame or ``pyarrow.Table``.
    seconds
        Stop the query after so long.
    unrestricted
        Let the query open other files, write, and change settings.

    Raises
    ------
    RecipeError
        The query is wrong, or not allowed.
    StoreError
        The store cannot be read, the query took too long or too much memory.

    Examples
    --------
    >>> import tempfile, cytofast
    >>> store = cytofast.open_store(tempfile.mkdtemp() + "/store", create=True)
    >>> store.sql("SELECT count(*) AS n FROM cells WHERE Metadata_Plate = $plate", {"plate": "P1"})["n"][0]
    0
    """
    from cytofast.store.answering import Limits
    from cytofast.store.answering import sql as answer

    return answer(self, query, parameters, as_, Limits(seconds, unrestricted, tables or {}))


def ask(self: ProfileStore, name: str, *, as_: As = "polars", seconds: float | None = None, **parameters: Any) -> Any:
    """Answer one of the named questions, see :meth:`questions`; parameters are checked and bound.

    Raises
    ------
    RecipeError
        There is no such question or parameter, or a value has the wrong type.

    Examples
    --------
    >>> import tempfile, cytofast
    >>> store = cytofast.open_store(tempfile.mkdtemp() + "/store", create=True)
    >>> store.ask("plate_coverage").height
    0
    """
    from cytofast.store.answering import Limits
    from cytofast.store.answering import ask as answer

    return answer(self, name, parameters, as_, Limits(seconds))


def questions(self: ProfileStore) -> pl.DataFrame:  # noqa: ARG001  (the same for every store)
    """What :meth:`ask` can answer: one row a question, ``question, answer, parameters, grain``."""
    from cytofast.store.queries import described

    return described("questions")


def join(
    self: ProfileStore,
    level: str,
    table: Any,
    *,
    on: str | Sequence[str] | Mapping[str, str],
    how: How = "left",
    nulls: Literal["match", "never"] = "match",
    multiply: bool = False,
    columns: Sequence[str] | None = None,
    suffix: str | None = None,
    seconds: float | None = None,
) -> Join:
    """Join a level of any size to a table, by streaming; nothing is lost or multiplied without being told.

    Parameters
    ----------
    level
        ``"cells"``, ``"wells"``, ``"profiles"`` or another level; the left side.
    table
        A DataFrame, LazyFrame, pandas DataFrame, ``pyarrow.Table``, or a file (csv, tsv, parquet); the right side.
    on
        Key columns; a mapping where the names differ: ``{"Metadata_broad_sample": "broad_id"}``.
    how
        ``"left"``, ``"inner"``, ``"right"``, ``"full"``, ``"semi"`` (rows that match) or ``"anti"`` (rows that do not).
    nulls
        Whether a missing key matches a missing key (as platemaps want it: the controls' compound is missing), or nothing
        (as SQL has it).
    multiply
        Allow keys that occur more than once in the table, which repeats the profiles.
    columns
        Only these columns of the level, besides the keys.
    suffix
        For columns of the table whose names the level has, too.

    Returns
    -------
    Join
        ``counts`` says how many rows of each side match; ``collect()``, ``batches()`` and ``write(path)`` give the rows.

    Raises
    ------
    SchemaError
        A key or column is missing, types differ, or a name would stand for two columns.
    DataError
        A key occurs more than once in the table.

    Examples
    --------
    >>> import tempfile, cytofast, polars as pl
    >>> store = cytofast.open_store(tempfile.mkdtemp() + "/store", create=True)
    >>> targets = pl.DataFrame({"Metadata_Well": ["A01"], "Metadata_target": ["TP53"]})
    >>> store.join("wells", targets, on="Metadata_Well").counts["table_rows_unmatched"]
    1
    """
    from cytofast.store.joining import join as joined

    return joined(
        self,
        level,
        table,
        on=on,
        how=how,
        nulls=nulls,
        multiply=multiply,
        columns=columns,
        suffix=suffix,
        seconds=seconds,
    )


def catalog(self: ProfileStore, path: str | Path | None = None, *, absolute: bool = False) -> Path:
    """Write the views as a ``.duckdb`` file, for the DuckDB command line, BI tools and notebooks without cytofast.

    It is a copy of what the manifests say now, never the truth: delete it, and write it again after the store has changed.
    cytofast itself never reads it.

    Parameters
    ----------
    path
        Where to write; by default ``catalog.duckdb`` in the store.
    absolute
        File names in full, for tools that cannot be started in the store's directory. Otherwise they are relative to it,
        and the store can be moved with its catalog.
    """
    from cytofast.store.catalog import write_catalog

    return write_catalog(self, Path(path) if path is not None else None, absolute=absolute)
