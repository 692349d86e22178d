"""Results that were computed before: benchmarks and modalities in the store, and files that are given to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from cytofast.errors import DataError, listed
from cytofast.ingest.profiles import read_profiles
from cytofast.modalities.tables import ModalityTables, has_tables, read_tables
from cytofast.report.parts import attempt
from cytofast.store.profile_store import ProfileStore
from cytofast.tasks.results import TABLES, TaskResults, read_results

_MAP = {"mean_average_precision", "q_value", "p_value"}
_ENDINGS = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass
class Given:
    """What was computed before.

    Attributes
    ----------
    maps
        Tables of mean average precision, by name.
    benchmarks
        Results of tasks, by name.
    modalities
        Predictions across two modalities and mechanisms from both, by name.
    files
        Each file or folder with what it was taken as.
    failed
        What could not be read, in words.
    """

    maps: dict[str, pl.DataFrame] = field(default_factory=dict)
    benchmarks: dict[str, TaskResults] = field(default_factory=dict)
    modalities: dict[str, ModalityTables] = field(default_factory=dict)
    files: list[tuple[str, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def given_results(store: ProfileStore, paths: Sequence[str | Path]) -> Given:
    """The store's own benchmarks and modalities, and the files and folders that are given.

    Raises
    ------
    DataError
        A path is not there, or a folder holds no table. A table of another kind is no error; ``files`` says so.
    """
    given = Given()
    for kind in ("benchmarks", "modalities"):
        for folder in sorted((store.path / kind).glob("*")):
            _folder(given, folder)
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(
                f"{path}: no such file or folder. Hint: give what `cytofast map -o`, `benchmark`, `crossmodal` or "
                "`mechanism` wrote."
            )
        if path.is_file():
            _file(given, path)
        elif not _folder(given, path):
            files = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(_ENDINGS))
            found = [_folder(given, folder) for folder in sorted(path.iterdir())]
            if not files and not any(found):
                raise DataError(f"{path}: no table in this folder. Hint: tables end in {listed(_ENDINGS)}.")
            for file in files:
                _file(given, file)
    return given


def _folder(given: Given, folder: Path) -> bool:
    """Take a folder for what it is; whether it is a result at all."""
    if has_tables(folder):
        _modalities(given, folder)
    elif (folder / "summary.parquet").is_file():
        _benchmark(given, folder)
    else:
        return False
    return True


def _benchmark(given: Given, folder: Path) -> None:
    read = attempt(read_results, folder)
    if read.why:
        given.failed.append(read.why)
        given.files.append((str(folder), "not read"))
        return
    given.benchmarks[_free(folder.name, given.benchmarks)] = read.value
    given.files.append((str(folder), f"a benchmark: {', '.join(TABLES)}"))


def _modalities(given: Given, folder: Path) -> None:
    read = attempt(read_tables, folder)
    if read.why:
        given.failed.append(read.why)
        given.files.append((str(folder), "not read"))
        return
    given.modalities[_free(folder.name, given.modalities)] = read.value
    given.files.append((str(folder), f"two modalities: {', '.join(read.value.tables)}"))


def _file(given: Given, path: Path) -> None:
    read = attempt(lambda: read_profiles(path).collect())
    if read.why:
        given.failed.append(read.why)
        given.files.append((str(path), "not read"))
    elif set(read.table.columns) >= _MAP:
        name = path.name.split(".")[0]
        given.maps[_free(name, given.maps)] = read.table
        given.files.append((str(path), "mean average precision"))
    else:
        given.failed.append(f"{path} is no result that a report draws: it has {listed(read.table.columns, 6)}.")
        given.files.append((str(path), "not understood"))


def _free(name: str, taken: Mapping[str, object]) -> str:
    """A name that is not taken."""
    return name if name not in taken else f"{name}-{sum(key.startswith(name) for key in taken) + 1}"
