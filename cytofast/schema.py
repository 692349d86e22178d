"""What a profile table is: levels, keys, metadata against features, the CellProfiler feature grammar, well names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import polars as pl

from cytofast.errors import RecipeError, SchemaError, listed

PLATE = "Metadata_Plate"
WELL = "Metadata_Well"
SITE = "Metadata_Site"
BATCH = "Metadata_Batch"
TABLE_NUMBER = "Metadata_TableNumber"
IMAGE_NUMBER = "Metadata_ImageNumber"
OBJECT_NUMBER = "Metadata_ObjectNumber"
OBJECT_COUNT = "Metadata_Object_Count"

KEYS = (PLATE, WELL, SITE, TABLE_NUMBER, IMAGE_NUMBER, OBJECT_NUMBER)
"""What tells one cell from another, in the order that a cells table is sorted by."""

LEVELS: dict[str, tuple[str, ...]] = {
    "cells": KEYS,
    "wells": (PLATE, WELL),
    "profiles": (PLATE, WELL),
    "consensus": (),
}
"""The usual levels of a store and their keys; a recipe may name others."""

MISSING_TEXT = ("", "NA", "N/A", "n/a", "na", "NaN", "nan", "None", "null", "NULL")
"""What stands for "missing" in metadata files. Without it the controls of JUMP-Target-1 are lost: their sample is "NA"."""

Features = Sequence[str] | str | None
"""``None``: CellProfiler features, inferred. A string: every column with this prefix. A list: these columns."""

_FEATURE_NAME = re.compile(r"(?!Metadata_|Image_)[A-Z][A-Za-z0-9]*_.+", re.DOTALL)
_KEY_NAMES = frozenset(name.removeprefix("Metadata_") for name in KEYS)


def is_metadata(name: str) -> bool:
    """Metadata columns start with ``Metadata_``.

    >>> is_metadata("Metadata_Well"), is_metadata("Cells_AreaShape_Area")
    (True, False)
    """
    return name.startswith("Metadata_")


def infer_features(schema: pl.Schema) -> list[str]:
    """Numeric columns named as CellProfiler features: ``Compartment_...`` with a capital, neither ``Metadata_`` nor ``Image_``.

    >>> infer_features(pl.Schema({"Metadata_Well": pl.String, "Cells_AreaShape_Area": pl.Float32, "Image_Count": pl.Int64}))
    ['Cells_AreaShape_Area']
    """
    return [name for name, dtype in schema.items() if dtype.is_numeric() and _FEATURE_NAME.fullmatch(name)]


def resolve_features(
    schema: pl.Schema, features: Features, where: str = "the table", by: Sequence[str] = ()
) -> list[str]:
    """Turn the ``features=`` of a step into column names, or say why that cannot be done.

    A column that makes the groups (``by``) is never inferred as a feature.

    Raises
    ------
    RecipeError
        A feature is named twice, or makes the groups.
    SchemaError
        No feature is found, a named column is absent, or a feature column is not numeric.
    """
    names = schema.names()
    if features is None:
        found = [name for name in infer_features(schema) if name not in by]
        if not found:
            text = [n for n in names if _FEATURE_NAME.fullmatch(n) and not schema[n].is_numeric()]
            other = [n for n in names if schema[n].is_numeric() and not is_metadata(n) and n not in _KEY_NAMES]
            hint = (
                f"columns {listed(text)} are named like features but hold text"
                if text
                else f"name yours with features=[...] or a prefix, for example features={other[0]!r}"
                if other
                else f"the columns are {listed(names, 8)}"
            )
            raise SchemaError(
                f"{where}: no CellProfiler feature (Cells_..., Cytoplasm_..., Nuclei_...) found. Hint: {hint}."
            )
        return found
    if isinstance(features, str):
        found = [name for name in names if name.startswith(features) and name not in by]
        if not found:
            raise SchemaError(f"{where}: no column starts with {features!r}. Hint: the columns are {listed(names, 8)}.")
    else:
        found = list(features)
        both = [name for name in by if name in found]
        if both:
            raise RecipeError(f"{where}: {listed(both)} cannot make the groups (by=) and be a feature (features=).")
        missing = [name for name in found if name not in schema]
        if missing:
            raise SchemaError.missing_columns(missing, names, where)
        repeated = (
            [name for name in dict.fromkeys(found) if found.count(name) > 1] if len(set(found)) < len(found) else []
        )
        if repeated:
            raise RecipeError(f"features= names {listed(repeated)} more than once")
    text = [name for name in found if not schema[name].is_numeric()]
    if text:
        raise SchemaError(f"{where}: feature columns must be numbers, but {listed(text)} hold {schema[text[0]]}.")
    return found


def as_columns(by: str | Sequence[str] | None) -> list[str]:
    """A ``by=`` that is one column, several or none, as a list.

    >>> as_columns("Metadata_Plate"), as_columns(None)
    (['Metadata_Plate'], [])
    """
    if by is None:
        return []
    columns = [by] if isinstance(by, str) else list(by)
    if len(set(columns)) < len(columns):
        repeated = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
        raise RecipeError(f"columns {listed(repeated)} are named more than once in {listed(columns)}")
    return columns


def require_columns(schema: pl.Schema, columns: Iterable[str], where: str) -> None:
    """Raise a :class:`SchemaError` with hints unless every column is there."""
    missing = [name for name in columns if name not in schema]
    if missing:
        raise SchemaError.missing_columns(missing, schema.names(), where)


# --- well names ------------------------------------------------------------------------------------------------------

_PLATE_SHAPES = {6: (2, 3), 12: (3, 4), 24: (4, 6), 48: (6, 8), 96: (8, 12), 384: (16, 24), 1536: (32, 48)}
_WELL_NAME = r"^\s*([A-Za-z]{1,2})[\s_-]?0*([1-9][0-9]?)\s*$"


def _row_letters(count: int) -> list[str]:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [alphabet[i] if i < 26 else "A" + alphabet[i - 26] for i in range(count)]


def normalize_wells(wells: pl.Series, plate_format: Literal[6, 12, 24, 48, 96, 384, 1536] = 1536) -> pl.Series:
    """Write every well name as row letters and a column of two digits: ``a1``, ``A1`` and ``A001`` become ``A01``.

    Parameters
    ----------
    wells
        Well names as text; nulls stay null.
    plate_format
        Wells on the plate; names outside it are an error. The default accepts every plate up to 1536 wells (``AF48``).

    Raises
    ------
    SchemaError
        A name is not a well of such a plate; the message lists them.

    Examples
    --------
    >>> normalize_wells(pl.Series(["a1", "A001", "P24", None])).to_list()
    ['A01', 'A01', 'P24', None]
    """
    if plate_format not in _PLATE_SHAPES:
        raise RecipeError.unknown("plate format", str(plate_format), map(str, _PLATE_SHAPES))
    rows, columns = _PLATE_SHAPES[plate_format]
    text = wells.cast(pl.String)
    distinct = text.drop_nulls().unique(maintain_order=True)
    letters = set(_row_letters(rows))
    known: dict[str, str] = {}
    wrong: list[str] = []
    for name in distinct.to_list():
        match = re.match(_WELL_NAME, name)
        if match and match[1].upper() in letters and int(match[2]) <= columns:
            known[name] = f"{match[1].upper()}{int(match[2]):02d}"
        else:
            wrong.append(name)
    if wrong:
        raise SchemaError(
            f"column {wells.name or 'of wells'!r}: {listed(wrong)} not wells of a {plate_format}-well plate. "
            f"Hint: write A01 to {_row_letters(rows)[-1]}{columns:02d}."
        )
    if not known:
        return text
    return text.replace_strict(known, default=None, return_dtype=pl.String)


# --- feature names ---------------------------------------------------------------------------------------------------

_PARAMETER = re.compile(r"[0-9]+(of[0-9]+)?|[0-9]+\.[0-9]+|Adjacent|Expanded|X|Y|Z")
_ONE_CHANNEL = {"Intensity", "Texture", "RadialDistribution", "Granularity", "ImageQuality", "ObjectSkeleton"}
_NO_CHANNEL = {"AreaShape", "Neighbors", "Number", "Parent", "Children", "Count"}


def _channels_of(tokens: list[str], vocabulary: set[str], how_many: int) -> tuple[list[str], list[str]]:
    """Split leading channel names off; a channel's own name may hold underscores, which the vocabulary knows."""
    channels: list[str] = []
    rest = list(tokens)
    while rest and len(channels) < how_many:
        if not channels and how_many == 1 and _PARAMETER.fullmatch(rest[0]) and "_".join(rest) not in vocabulary:
            break
        for width in range(len(rest), 0, -1):
            name = "_".join(rest[:width])
            if name in vocabulary:
                break
        else:
            width, name = 1, rest[0]
        channels.append(name)
        rest = rest[width:]
    return channels, rest


def _parse_one(name: str, vocabulary: set[str]) -> tuple[str | None, str | None, str | None, list[str], list[str]]:
    if is_metadata(name) or not re.fullmatch(r"[A-Z][A-Za-z0-9]*_.+", name, re.DOTALL):
        return None, None, None, [], []
    compartment, *tokens = name.split("_")
    if len(tokens) < 2:
        return compartment, None, "_".join(tokens), [], []
    group, *tokens = tokens
    if group == "Granularity":
        channels, rest = _channels_of(tokens[1:], vocabulary, 1)
        return compartment, group, "Granularity", channels, [tokens[0], *rest]
    measure, *tokens = tokens
    if group in _NO_CHANNEL:
        if group in {"Number", "Parent", "Children", "Count"}:
            return compartment, group, "_".join([measure, *tokens]), [], []
        return compartment, group, measure, [], tokens
    if group == "Correlation":
        channels, rest = _channels_of(tokens, vocabulary, 2)
        return compartment, group, measure, channels, rest
    if group == "Location":
        parameters = [t for t in tokens[:1] if t in {"X", "Y", "Z"}]
        channels, rest = _channels_of(tokens[len(parameters) :], vocabulary, 1)
        return compartment, group, measure, channels, parameters + rest
    if group in _ONE_CHANNEL:
        channels, rest = _channels_of(tokens, vocabulary, 1)
        return compartment, group, measure, channels, rest
    return compartment, group, measure, [], tokens


def parse_features(names: Iterable[str] | str) -> pl.DataFrame:
    """Take CellProfiler feature names apart: ``Compartment_Group_Measure[_Channel[_Channel]][_parameters]``.

    A channel's name may hold underscores itself; such names are learned from the intensity features among ``names``,
    where nothing follows the channel.

    Parameters
    ----------
    names
        Feature names, or a single one; a name outside the grammar gets nulls, never an error.

    Returns
    -------
    polars.DataFrame
        One row a name, in order: ``feature, compartment, group, measure`` (text), ``channels, parameters`` (lists of text).

    Examples
    --------
    >>> table = parse_features(["Cells_Texture_Contrast_Mito_10_03_256", "Nuclei_Correlation_K_ER_RNA", "DP_1"])
    >>> table["group"].to_list(), table["channels"].to_list(), table["parameters"].to_list()
    (['Texture', 'Correlation', None], [['Mito'], ['ER', 'RNA'], []], [['10', '03', '256'], [], []])
    """
    every = [names] if isinstance(names, str) else list(names)
    wrong = [name for name in every if not isinstance(name, str)]
    if wrong:
        raise SchemaError(f"names of features are text, not {listed(wrong)}")
    vocabulary: set[str] = set()
    for name in every:
        match = re.fullmatch(r"[A-Z][A-Za-z0-9]*_Intensity_[A-Za-z0-9]+_(.+)", name)
        if match:
            vocabulary.add(match[1])
    rows = [(name, *_parse_one(name, vocabulary)) for name in every]
    return pl.DataFrame(
        rows,
        orient="row",
        schema={
            "feature": pl.String,
            "compartment": pl.String,
            "group": pl.String,
            "measure": pl.String,
            "channels": pl.List(pl.String),
            "parameters": pl.List(pl.String),
        },
    )
