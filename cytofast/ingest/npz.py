"""One ``.npz`` file of DeepProfiler: shapes without reading values, values without loading pickles."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cytofast.errors import DataError
from cytofast.ingest.file_state import FileState, require_unchanged, state_of
from cytofast.ingest.literals import NotPlainError, plain_object

_MEMBERS = ("features", "locations", "metadata")
_HEADER = (ValueError, SyntaxError, TokenError, TypeError)
"""What NumPy raises where the header of an array is damaged: it is a literal of Python."""
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, NotImplementedError, RuntimeError, MemoryError),
    *(OverflowError, struct.error, *_HEADER),
)
"""What a damaged file of arrays raises."""


@dataclass(frozen=True)
class SiteFile:
    """What a file holds, by its headers."""

    path: Path
    rows: int
    width: int
    dtype: np.dtype[Any]
    located: bool
    members: tuple[str, ...]
    state: FileState

    def features(self) -> NDArray[np.floating[Any]]:
        """``float[n_cells, n_features]``."""
        return np.asarray(self._array("features", (self.rows, self.width)))

    def locations(self) -> NDArray[np.float64]:
        """``float64[n_cells, 2]``: x and y of each cell's centre, in pixels."""
        return np.asarray(self._array("locations", (self.rows, 2)), dtype=np.float64)

    def _array(self, name: str, shape: tuple[int, int]) -> NDArray[Any]:
        require_unchanged(self.path, self.state)
        values = _array(self.path, name)
        if values.size != shape[0] * shape[1]:
            raise DataError(f"{self.path}: {name!r} has the shape {values.shape} now. Hint: was it changed just now?")
        return values.reshape(shape)

    def metadata(self) -> dict[str, Any]:
        """What the file says of its image, read without running anything; empty where it says nothing.

        Raises
        ------
        DataError
            The metadata hold more than plain data.
        """
        if "metadata" not in self.members:
            return {}
        try:
            with zipfile.ZipFile(self.path) as packed, packed.open("metadata.npy") as member:
                shape, dtype = _header(member)
                content = member.read()
            found = (
                plain_object(content) if dtype.hasobject else np.frombuffer(content, dtype=dtype).reshape(shape).item()
            )
        except NotPlainError as error:
            raise DataError(
                f"{self.path}: its metadata hold {error}. Pickled objects are never loaded. Hint: give an index= table with "
                "the plate, well and site of each file; then the metadata in the files are not looked at."
            ) from error
        except DAMAGE as error:
            raise damaged(self.path, error) from error
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise DataError(
                f"{self.path}: its metadata are {type(found).__name__}, not a dictionary of text. Hint: give index=."
            )
        return found


def look_at(path: Path) -> SiteFile:
    """Read the headers of a file.

    Raises
    ------
    DataError
        The file is cut off or damaged, has no ``features``, holds pickled objects for them, or its parts differ in length.
    """
    state = state_of(path)
    try:
        with zipfile.ZipFile(path) as packed:
            members = tuple(name.removesuffix(".npy") for name in packed.namelist())
            if "features" not in members:
                raise DataError(
                    f"{path}: no array 'features' in it, only {', '.join(members) or 'nothing'}; not of DeepProfiler."
                )
            headers = {}
            for name in _MEMBERS[:2]:
                if name in members:
                    with packed.open(f"{name}.npy") as member:
                        headers[name] = _header(member)
    except DAMAGE as error:
        raise damaged(path, error) from error
    for name, (_, dtype) in headers.items():
        if dtype.hasobject:
            raise DataError(
                f"{path}: {name!r} is an array of pickled objects. They are never loaded, because loading runs what is in "
                "them. Hint: save it again as an array of numbers."
            )
        if dtype.kind not in "fiu":
            raise DataError(f"{path}: {name!r} holds {dtype}, not numbers.")
    shape, dtype = headers["features"]
    if len(shape) == 1 and shape[0] == 0:
        shape = (0, 0)
    if len(shape) != 2:
        raise DataError(f"{path}: 'features' has the shape {shape}, but cells x features is needed.")
    located = "locations" in headers and shape[0] > 0
    if located and headers["locations"][0] != (shape[0], 2):
        raise DataError(
            f"{path}: {shape[0]:,} cells, but 'locations' has the shape {headers['locations'][0]}; x and y are needed."
        )
    return SiteFile(path, shape[0], shape[1], dtype, located, members, state)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    return shape, dtype


def _array(path: Path, name: str) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as packed:
            return np.asarray(packed[name])
    except DAMAGE as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DataError:
    """Say that a file cannot be read."""
    return DataError(
        f"{path}: cut off or damaged ({str(error).strip() or type(error).__name__}). Hint: copy or make it again."
    )
