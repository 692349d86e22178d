"""Tables of other programs (IN Carta, Harmony, ...) by a small mapping file that says which column is what."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import polars as pl

from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.ingest.profiles import read_profiles
from cytofast.schema import OBJECT_NUMBER, PLATE, WELL, is_metadata, normalize_wells, require_columns

_KEYS = {"metadata", "objects", "channels", "features", "drop", "encoding"}
_ENCODINGS = ("utf-8", "latin-1", "either")
_COMPARTMENT = re.compile(r"(?!Metadata|Image)[A-Z][A-Za-z0-9]*")


@dataclass(frozen=True)
class Origin:
    """Where a column of metadata comes from: columns, a value for all rows, or the path of the file."""

    columns: tuple[str, ...] = ()
    joined_by: str = "_"
    value: str | int | float | None = None
    path: str | None = None


@dataclass(frozen=True)
class ColumnMapping:
    """What a mapping file says; made by :meth:`read`.

    Attributes
    ----------
    metadata
        Name of the column -> where it comes from.
    objects
        How columns of features begin -> what the compartment is called.
    channels
        How columns of features end -> what the channel is called.
    features
        More columns that are features, as they are called; names, or patterns such as ``*_at``.
    drop
        Columns that are left out; names or patterns.
    encoding
        Of text files.
    """

    where: str = field(repr=False, compare=False)
    metadata: MappingType[str, Origin]
    objects: MappingType[str, str] = field(default_factory=dict)
    channels: MappingType[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def __hash__(self) -> int:
        return hash(repr(self))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file.

        Raises
        ------
        RecipeError
            There is no such file, it is not TOML, or it says something that makes no sense.
        """
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{file}: cannot be read as TOML in UTF-8 ({error})") from error
        return cls.from_toml(text, str(file))

    @classmethod
    def from_toml(cls, text: str, where: str = "mapping") -> Self:
        """Read TOML: tables ``[metadata]``, ``[objects]``, ``[channels]``, lists ``features`` and ``drop``, ``encoding``."""
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{where}: not valid TOML: {error}") from error
        for key in content:
            if key not in _KEYS:
                raise RecipeError(f"{where}: {RecipeError.unknown('key', key, _KEYS)}")
        metadata = {name: _origin(name, said, where) for name, said in _table(content, "metadata", where).items()}
        if not metadata:
            raise RecipeError(f"{where}: no [metadata]. Hint: name the plate and the well at least.")
        objects, channels = (
            _names(_table(content, key, where), f"{where}: [{key}]") for key in ("objects", "channels")
        )
        wrong = [name for name in objects.values() if not _COMPARTMENT.fullmatch(name)]
        if wrong:
            raise RecipeError(
                f"{where}: [objects]: {listed(wrong)} cannot name a compartment; write for example 'Nuclei'"
            )
        encoding = content.get("encoding", "utf-8")
        if encoding not in _ENCODINGS:
            raise RecipeError(f"{where}: {RecipeError.unknown('encoding', str(encoding), _ENCODINGS)}")
        features, drop = (_list(content, key, where) for key in ("features", "drop"))
        return cls(where, metadata, objects, channels, features, drop, encoding)


def _table(content: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    found = content.get(key, {})
    if not isinstance(found, dict):
        raise RecipeError(f"{where}: {key!r} is a table; write [{key}] and lines below it")
    return found


def _names(table: dict[str, Any], where: str) -> dict[str, str]:
    wrong = [key for key, value in table.items() if not isinstance(value, str) or not value]
    if wrong:
        raise RecipeError(f"{where}: {listed(wrong)} must be text")
    return table


def _list(content: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise RecipeError(f'{where}: {key} is a list of names, as in {key} = ["Area"]')
    return tuple(found)


def _origin(name: str, said: Any, where: str) -> Origin:
    at = f"{where}: [metadata] {name}"
    if not is_metadata(name):
        raise RecipeError(f"{at}: names of metadata begin with Metadata_; write Metadata_{name}")
    if isinstance(said, str):
        return Origin((said,))
    if isinstance(said, list) and said and all(isinstance(column, str) for column in said):
        return Origin(tuple(said), "" if name == WELL else "_")
    if isinstance(said, dict) and len(said) == 1:
        key, value = next(iter(said.items()))
        if key == "value" and isinstance(value, str | int | float):
            return Origin(value=value)
        if key == "path" and isinstance(value, str):
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise RecipeError(f"{at}: {value!r} is no regular expression ({error})") from error
            if groups != 1:
                raise RecipeError(f"{at}: {value!r} must have one group in brackets, which is the value")
            return Origin(path=value)
    raise RecipeError(
        f'{at}: give the name of a column, a list of names to join, {{ value = "..." }}, or {{ path = "...(...)..." }}, a '
        "regular expression for the file's path whose group is the value"
    )


def read_mapped(path: str | Path, mapping: ColumnMapping | str | Path) -> pl.LazyFrame:
    r"""Read a table of another program: metadata first, then features, called as a mapping says.

    A column that begins like an object of the mapping and holds numbers is a feature: ``Primary Target Area wv1`` becomes
    ``Nuclei_Area_DNA`` with ``[objects] "Primary Target" = "Nuclei"`` and ``[channels] wv1 = "DNA"``. Every other column
    becomes metadata, unless ``drop`` names it; nothing is left out silently.

    Parameters
    ----------
    path
        A file: csv, tsv, txt (``.gz`` too) or parquet.
    mapping
        The mapping, or its file.

    Raises
    ------
    DataError
        The file is damaged, or a feature holds text; the message names line and column.
    SchemaError
        A column that the mapping names is not there, or two columns would have one name.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "plate.csv"
    >>> _ = file.write_text("Row,Column,Nucleus Area c1\nB,2,10.5\n")
    >>> text = '[metadata]\nMetadata_Plate = {value = "P1"}\nMetadata_Well = ["Row", "Column"]\n[objects]\nNucleus = "Nuclei"'
    >>> read_mapped(file, ColumnMapping.from_toml(text)).collect().to_dicts()
    [{'Metadata_Plate': 'P1', 'Metadata_Well': 'B02', 'Nuclei_Area_c1': 10.5}]
    """
    chosen = mapping if isinstance(mapping, ColumnMapping) else ColumnMapping.read(mapping)
    file = Path(path)
    table = read_profiles(file, encoding=chosen.encoding)
    schema = table.collect_schema()
    where = f"{file}, by {chosen.where}"
    used = {column for origin in chosen.metadata.values() for column in origin.columns}
    require_columns(schema, used, where)
    dropped = set(_matching(chosen.drop, schema, where)) - used
    features = _feature_names(schema, chosen, used | dropped, file)
    others = [name for name in schema if name not in features and name not in used | dropped]
    kept = {name: name if is_metadata(name) else "Metadata_" + _plain(name) for name in others}
    named = [*chosen.metadata, *kept.values(), *features.values()]
    if len(set(named)) < len(named):
        twice = list(dict.fromkeys(name for name in named if named.count(name) > 1))
        raise SchemaError(
            f"{file}: {listed(twice)} would be the name of several columns, by {chosen.where}. Hint: drop one."
        )
    sources = table.select(list(dict.fromkeys([*used, *others]))).collect()
    metadata = [_metadata(name, origin, sources, file, chosen.where) for name, origin in chosen.metadata.items()]
    metadata += [sources[name].alias(new) for name, new in kept.items()]
    values = _numbers(table, list(features), file, chosen.where).rename(features)
    return pl.concat([pl.DataFrame(metadata).lazy(), values], how="horizontal")


def _matching(patterns: tuple[str, ...], schema: pl.Schema, where: str) -> list[str]:
    """Columns by their names or by patterns (``*_at``); one that no column has is an error."""
    found = {pattern: [pattern] if pattern in schema else fnmatch.filter(schema, pattern) for pattern in patterns}
    missing = [pattern for pattern, names in found.items() if not names]
    if missing:
        raise SchemaError.missing_columns(missing, schema.names(), where)
    return list(dict.fromkeys(name for names in found.values() for name in names))


def _feature_names(schema: pl.Schema, mapping: ColumnMapping, used: set[str], path: Path) -> dict[str, str]:
    """Which columns are features, and what they are called here."""
    named = _matching(mapping.features, schema, f"{path}, by {mapping.where}")
    found = {name: name for name in named if name not in used}
    begins = sorted(mapping.objects, key=len, reverse=True)
    for name in schema:
        begin = next((b for b in begins if name.startswith(b) and not name[len(b) : len(b) + 1].isalnum()), None)
        if begin is None or name in used or name in found:
            continue
        *words, last = name[len(begin) :].split() or [""]
        found[name] = "_".join([mapping.objects[begin], *words, mapping.channels.get(last, last)])
    if not found:
        raise SchemaError(
            f"{path}: no column begins like the objects of {mapping.where} ({listed(mapping.objects)}), and it names no "
            f"features. Hint: the columns are {listed(schema.names(), 8)}."
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def _numbers(table: pl.LazyFrame, features: list[str], path: Path, where: str) -> pl.LazyFrame:
    """Features as floats; a column without any value is read as text, and is one of missing numbers."""
    schema = table.collect_schema()
    for name in features:
        if not schema[name].is_numeric():
            column = table.select(name).collect()[name]
            wrong = column.is_not_null() & column.cast(pl.Float64, strict=False).is_null()
            if wrong.any():
                row = int(wrong.arg_max() or 0)
                raise DataError(
                    f"{path}, line {row + 2:,}, column {name!r}: {column[row]!r} is not a number, but {where} makes this "
                    "column a feature. Hint: is the number written in another way? Else leave the column out (drop = [...])."
                )
    floats = {name: pl.Float64 for name in features if not schema[name].is_float()}
    values = table.select(features)
    return values.cast(floats) if floats else values  # type: ignore[arg-type]


def _metadata(name: str, origin: Origin, table: pl.DataFrame, path: Path, where: str) -> pl.Series:
    if origin.path is not None:
        match = re.search(origin.path, path.absolute().as_posix())
        if match is None:
            raise DataError(f"{path}: its path does not match {origin.path!r}, by which {where} finds {name}.")
        column = pl.Series(name, [match[1]]).new_from_index(0, table.height)
    elif not origin.columns:
        column = pl.Series(name, [origin.value]).new_from_index(0, table.height)
    elif len(origin.columns) == 1:
        column = table[origin.columns[0]].alias(name)
    else:
        first, *rest = (table[column].cast(pl.String) for column in origin.columns)
        for part in rest:
            first = first + origin.joined_by + part
        column = first.alias(name)
    if name == WELL:
        return _wells(column, path)
    if name == PLATE:
        return column.cast(pl.String)
    return column.cast(pl.Int64, strict=False) if name == OBJECT_NUMBER and column.dtype.is_float() else column


def _wells(column: pl.Series, path: Path) -> pl.Series:
    """Wells however they are spaced (``C - 3``)."""
    try:
        return normalize_wells(column.cast(pl.String).str.replace_all(r"\s", ""))
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error
