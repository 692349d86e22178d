"""What readers of tables say of a damaged file, as an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from cytofast.errors import DataError

# Of some damaged pages Polars says that it should never have come there, which is no PolarsError.
DAMAGE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise a :class:`DataError` where what is read inside is damaged."""
    try:
        yield
    except DAMAGE as error:
        said = str(error).strip().split("\n", 1)[0]
        raise DataError(
            f"{path}: cannot be read, it is damaged or not what its name says ({said}). Hint: copy or make it again."
        ) from error
