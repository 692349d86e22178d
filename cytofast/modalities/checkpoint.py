"""What a long computation has finished, kept in a folder, so that it can be stopped and go on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import StoreError
from cytofast.ingest.profiles import read_profiles
from cytofast.modalities.linear import FoldFit
from cytofast.parquet import ProfileWriter
from cytofast.store.partition import write_text

_ABOUT = "about.json"


def digest(*parts: NDArray[np.generic] | str) -> str:
    """What tells one computation from another: its arrays and parameters."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(
            part.encode() if isinstance(part, str) else repr(part.shape).encode() + np.ascontiguousarray(part).tobytes()
        )
    return found.hexdigest()


class Checkpoint:
    """Finished parts of one computation; without a folder, nothing is kept.

    Raises
    ------
    StoreError
        The folder holds parts of another computation: other data, parameters or version.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder = folder
        if folder is None:
            return
        about = folder / _ABOUT
        if about.is_file():
            try:
                found = json.loads(about.read_text(encoding="utf-8"))["key"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{about}: cannot be read ({error}). Hint: remove the folder.") from error
            if found != key:
                raise StoreError(
                    f"{folder}: holds parts of another computation (other data or parameters). "
                    "Hint: give a new folder, or remove this one."
                )
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StoreError(f"{folder}: is not an empty folder. Hint: give a new one for the checkpoint.")
        else:
            write_text(about, json.dumps({"key": key}) + "\n")

    def _path(self, part: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{part}.parquet"

    def read(self, part: str) -> FoldFit | None:
        """A finished part, or ``None``."""
        path = self._path(part)
        if path is None or not path.is_file():
            return None
        table = read_profiles(path).collect()
        head = table.select(pl.col("r2").fill_null(float("nan")), "penalty", "unsettled")
        rest = table.drop("r2", "penalty", "unsettled")
        return FoldFit(
            head["r2"].to_numpy(),
            head["penalty"].to_numpy(),
            np.ascontiguousarray(rest.to_numpy()) if rest.width else np.zeros((table.height, 0)),
            head["unsettled"].to_numpy(),
        )

    def write(self, part: str, fit: FoldFit) -> None:
        """Keep a part; it is there whole or not at all."""
        path = self._path(part)
        if path is None:
            return
        table = pl.DataFrame(
            {
                "r2": pl.Series(fit.r2).fill_nan(None),
                "penalty": fit.penalty,
                "unsettled": fit.unsettled,
                **{f"feature_{j}": fit.coefficients[:, j] for j in range(fit.coefficients.shape[1])},
            }
        )
        with ProfileWriter(path) as writer:
            writer.write(table)
