"""Platemaps: what was in each well of each plate, from the files in which laboratories keep it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from cytofast.errors import DataError, SchemaError, listed
from cytofast.ingest.jump_metadata import jump_tables, read_jump_metadata
from cytofast.metadata_tables import WELL_NAMES, name_plates_and_wells, read_metadata_table
from cytofast.schema import BATCH, PLATE, WELL, as_columns, normalize_wells, require_columns

__all__ = ["read_metadata_table", "read_platemaps"]

_BARCODES = "barcode_platemap.csv"
_MAP_NAME = "Metadata_Plate_Map_Name"
_ENDINGS = (".txt", ".tsv", ".csv", ".txt.gz", ".tsv.gz", ".csv.gz", ".parquet")


def read_platemaps(
    path: str | Path,
    plates: Sequence[str] | None = None,
    *,
    external: str | Path | None = None,
    on: str | Sequence[str] | None = None,
) -> pl.DataFrame:
    """Read what was in each well.

    Parameters
    ----------
    path
        A folder with ``barcode_platemap.csv`` and the platemaps that it names (beside it or in ``platemap/``; also a
        folder above it, such as ``metadata/`` of the Cell Painting Gallery); or one platemap, which holds for every
        plate if it names none; or one table that names plates and wells; or a folder with JUMP's ``well.csv.gz``,
        ``plate.csv.gz``, ``compound.csv.gz``, ...
    plates
        The plates that are needed: others are left out, and one that is absent is an error. ``None``: all that the
        files name.
    external
        A table about samples, joined to the platemaps; a column that both have is the key, null matching null.
        (JUMP's negative controls have no sample name: a join that drops nulls finds none of them.) ``None``: the table
        in the Gallery's folder ``external_metadata``, if ``path`` has one with a single table of these samples.
    on
        Key columns of ``external``, where they are not to be guessed.

    Returns
    -------
    polars.DataFrame
        One row a ``Metadata_Plate`` and ``Metadata_Well`` (first, and normalized: ``A01``); ``Metadata_Batch`` as well
        where the folders of the platemaps name it. Other columns as in the files, with the prefix ``Metadata_``.

    Raises
    ------
    DataError
        A file is missing or damaged, a well stands twice, a plate has no platemap, or a key of ``external`` has two
        rows.
    SchemaError
        There is no column of wells, or none to join by.
    """
    source = Path(path)
    table = _from_folder(source, plates) if source.is_dir() else _with_plates(_one_map(source), plates, source)
    if external is None and source.is_dir():
        external = _external_beside(source, table)
    if external is not None:
        table = _joined(table, Path(external), as_columns(on), source)
    first = [name for name in (BATCH, PLATE, WELL) if name in table.columns]
    return table.select(*first, *(name for name in table.columns if name not in first))


def _one_map(path: Path) -> pl.DataFrame:
    """Read one platemap: wells normalized, none of them twice."""
    table = name_plates_and_wells(read_metadata_table(path), str(path))
    if WELL not in table.columns:
        raise SchemaError(
            f"{path}: no column of wells; the columns are {listed(table.columns)}. Hint: call it "
            f"{' or '.join(name.removeprefix('Metadata_') for name in WELL_NAMES[:2])}."
        )
    if PLATE in table.columns:
        table = table.with_columns(table[PLATE].cast(pl.String))
    for what in (name for name in (PLATE, WELL) if name in table.columns):
        if table[what].null_count():
            raise DataError(
                f"{path}, line {_line(table[what].is_null())}: no {what.removeprefix('Metadata_').lower()}."
            )
    try:
        table = table.with_columns(normalize_wells(table[WELL]))
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error
    _require_one_row(table, [name for name in (BATCH, PLATE, WELL) if name in table.columns], path)
    return table


def _line(chosen: pl.Series) -> int:
    """Give the line of the first chosen row; line 1 is the header."""
    return int(chosen.arg_max() or 0) + 2


def _require_one_row(table: pl.DataFrame, keys: list[str], path: Path) -> None:
    doubled = table.select(keys).is_duplicated()
    if doubled.any():
        row = table.select(keys).row(int(doubled.arg_max() or 0), named=True)
        same = pl.Series([tuple(other) == tuple(row.values()) for other in table.select(keys).iter_rows()])
        lines = [int(at) + 2 for at in same.arg_true().to_list()]
        named = ", ".join(f"{key.removeprefix('Metadata_').lower()} {value}" for key, value in row.items())
        raise DataError(
            f"{path}: {named} stands more than once (lines {' and '.join(map(str, lines[:2]))}). "
            f"Hint: a well holds one thing; delete one line, or join names of a mixture in one."
        )


def _with_plates(table: pl.DataFrame, plates: Sequence[str] | None, path: Path) -> pl.DataFrame:
    """Take the plates that are needed; a platemap that names none holds for each."""
    if PLATE not in table.columns:
        if not plates:
            raise DataError(
                f"{path}: names no plate. Hint: say which plates it is for, or add a column Metadata_Plate, "
                f"or give the folder with {_BARCODES}."
            )
        wanted = pl.DataFrame({PLATE: list(dict.fromkeys(plates))}, schema={PLATE: pl.String})
        return wanted.join(table, how="cross", maintain_order="left_right")
    if plates is None:
        return table
    absent = [plate for plate in dict.fromkeys(plates) if plate not in set(table[PLATE].to_list())]
    if absent:
        raise DataError(
            f"{path}: no rows for plate {listed(absent)}; it has {listed(table[PLATE].unique(maintain_order=True))}. "
            f"Hint: is this the platemap of these plates?"
        )
    return table.filter(table[PLATE].is_in(list(plates)))


def _from_folder(folder: Path, plates: Sequence[str] | None) -> pl.DataFrame:
    barcodes = sorted(path for path in folder.rglob("*.csv") if path.name.lower() == _BARCODES)
    if not barcodes and (tables := jump_tables(folder)):
        return read_jump_metadata(tables, plates)
    if not barcodes:
        alone = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(_ENDINGS)]
        if len(alone) == 1:
            return _with_plates(_one_map(alone[0]), plates, alone[0])
        raise DataError(
            f"{folder}: no {_BARCODES} here or below"
            + (f", and {len(alone):,} tables ({listed(path.name for path in alone)})" if alone else "")
            + ". Hint: it has the columns Assay_Plate_Barcode and Plate_Map_Name; or give one platemap file."
        )
    parts: list[pl.DataFrame] = []
    for path in barcodes:
        # In the Gallery's metadata/platemaps/<batch>/ the folder's name is the batch.
        batch = path.parent.name if path.parent.parent.name == "platemaps" else None
        parts += _from_barcodes(path, batch, plates)
    named = ", ".join(map(str, barcodes))
    if plates is not None:
        found = {plate for part in parts for plate in part[PLATE].unique().to_list()}
        absent = [plate for plate in dict.fromkeys(plates) if plate not in found]
        if absent:
            raise DataError(
                f"{named}: no line for plate {listed(absent)}. "
                f"Hint: add Assay_Plate_Barcode,Plate_Map_Name of these plates."
            )
    if not parts:
        raise DataError(f"{named}: names no plate.")
    table = pl.concat(parts, how="diagonal_relaxed")
    if len({part[PLATE][0] for part in parts}) == len(parts):
        # Every plate has one platemap, so nothing hangs on how its batch is spelt.
        table = table.drop(BATCH, strict=False)
    _require_one_row(table, [name for name in (BATCH, PLATE, WELL) if name in table.columns], folder)
    return table


def _from_barcodes(path: Path, batch: str | None, plates: Sequence[str] | None) -> list[pl.DataFrame]:
    barcodes = name_plates_and_wells(read_metadata_table(path), str(path))
    require_columns(barcodes.schema, [PLATE, _MAP_NAME], str(path))
    for name in (PLATE, _MAP_NAME):
        if barcodes[name].null_count():
            raise DataError(
                f"{path}, line {_line(barcodes[name].is_null())}: {name.removeprefix('Metadata_')} is empty."
            )
    _require_one_row(barcodes, [PLATE], path)
    maps: dict[str, pl.DataFrame] = {}
    found = []
    for row in barcodes.iter_rows(named=True):
        plate, named = row[PLATE], row[_MAP_NAME]
        if plates is not None and plate not in plates:
            continue
        if named not in maps:
            maps[named] = _one_map(_map_file(path, named, plate))
            if PLATE in maps[named].columns:
                raise DataError(f"{path}: platemap {named!r} names plates itself. Hint: give that file alone.")
        keys = {PLATE: plate} if batch is None else {BATCH: batch, PLATE: plate}
        told = {k: v for k, v in row.items() if k not in (PLATE, _MAP_NAME) and k not in maps[named].columns}
        constant = pl.DataFrame(
            {**keys, _MAP_NAME: named, **told}, schema=dict.fromkeys([*keys, _MAP_NAME, *told], pl.String)
        )
        found.append(constant.join(maps[named].drop(_MAP_NAME, strict=False), how="cross", maintain_order="left_right"))
    return found


def _map_file(barcodes: Path, name: str, plate: str) -> Path:
    places = [
        barcodes.parent,
        barcodes.parent / "platemap",
        barcodes.parent / "platemaps",
        barcodes.parent.parent / "platemap",
    ]
    if Path(name).name != name:
        raise DataError(f"{barcodes}: platemap {name!r} of plate {plate} is a path. Hint: give the file's name alone.")
    for place in places:
        for ending in ("", *_ENDINGS):
            if (place / f"{name}{ending}").is_file():
                return place / f"{name}{ending}"
    raise DataError(
        f"{barcodes}: platemap {name!r} of plate {plate} was not found as {name}.txt, .tsv or .csv in "
        f"{', '.join(str(place) for place in places[:2])}. Hint: copy it there."
    )


def _external_beside(folder: Path, table: pl.DataFrame) -> Path | None:
    """Find the one table in ``external_metadata/`` that shares one column with the platemaps."""
    found = [path for path in sorted(folder.rglob("external_metadata/*")) if path.name.lower().endswith(_ENDINGS)]
    if len(found) != 1:
        return None
    shared = [name for name in read_metadata_table(found[0]).columns if name in table.columns]
    return found[0] if len(shared) == 1 else None


def _joined(table: pl.DataFrame, path: Path, on: list[str], source: Path) -> pl.DataFrame:
    """Add a table about samples; every well stays."""
    other = read_metadata_table(path)
    keys = on or [name for name in table.columns if name in other.columns]
    if not keys:
        raise SchemaError(
            f"{path}: no column in common with the platemap {source}: it has {listed(other.columns)}, the platemap "
            f"{listed(table.columns)}. Hint: rename the key column, for example to broad_sample."
        )
    require_columns(other.schema, keys, str(path))
    require_columns(table.schema, keys, str(source))
    if len(keys) > 1 and not on:
        raise SchemaError(
            f"{path}: {listed(keys)} stand in the platemap too; which is the key? Hint: keep one of them in one of the "
            f"files, or name the key."
        )
    _require_one_row(other, keys, path)
    clashes = [name for name in other.columns if name in table.columns and name not in keys]
    if clashes:
        raise SchemaError(f"{path}: the platemap has {listed(clashes)} too. Hint: rename them in one of the files.")
    other = other.with_columns(other[key].cast(table.schema[key]) for key in keys)
    if table.join(other, on=keys, how="semi").is_empty():
        raise DataError(
            f"{path}: none of its {' and '.join(keys)} ({listed(other[keys[0]].drop_nulls())}) is in {source} "
            f"({listed(table[keys[0]].drop_nulls().unique(maintain_order=True))}). "
            f"Hint: is this the table of these samples?"
        )
    return table.join(other, on=keys, how="left", nulls_equal=True, maintain_order="left")
