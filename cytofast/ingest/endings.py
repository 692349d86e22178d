"""What kind of table a file is, by the ending of its name."""

from __future__ import annotations

from pathlib import Path

from cytofast.errors import RecipeError

_SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t", ".txt": "\t", ".txt.gz": "\t"}
_OTHERS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".gct": "gct",
    ".gct.gz": "gct",
    ".gctx": "gctx",
    ".h5ad": "h5ad",
    ".npz": "npz",
    ".npy": "npy",
}
WRITTEN = ("parquet", "text", "gct", "h5ad")
"""Kinds that can be written."""


def kind_of(path: Path) -> str:
    """``text`` (CSV and TSV), ``parquet``, ``gct``, ``gctx``, ``h5ad``, ``npz`` or ``npy``."""
    name = path.name.lower()
    for ending in sorted([*_OTHERS, *_SEPARATORS], key=len, reverse=True):
        if name.endswith(ending):
            return _OTHERS.get(ending, "text")
    known = ", ".join([".parquet", *_SEPARATORS, ".gct", ".gctx", ".h5ad", ".npz", ".npy"])
    raise RecipeError(f"{path}: what kind of file? Hint: the name must end in {known}.")


def separator_of(path: Path) -> str | None:
    """Tell how the fields of a table are separated; ``None`` where it is no text."""
    name = path.name.lower()
    found = [separator for ending, separator in _SEPARATORS.items() if name.endswith(ending)]
    return found[0] if found and kind_of(path) == "text" else None
