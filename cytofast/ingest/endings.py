"""What kind of table a file is, by the ending of its name."""

from __future__ import annotations

from pathlib import Path

from cytofast.errors import RecipeError

_SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t", ".txt": "\t", ".txt.gz": "\t"}


def separator_of(path: Path) -> str | None:
    """Tell how fields are separated; ``None`` is Parquet."""
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        return None
    for ending, separator in _SEPARATORS.items():
        if name.endswith(ending):
            return separator
    raise RecipeError(f"{path}: what kind of file? Hint: the name must end in .parquet, {', '.join(_SEPARATORS)}.")
