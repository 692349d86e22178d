"""A manifest says what a partition holds and how it came about; it is written last, so a partition without one does not exist."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import polars as pl

from cytofast.errors import StoreError
from cytofast.store.layout import FORMAT_VERSION

NAME = "manifest.json"
_TYPES: dict[type, tuple[str, ...]] = {
    str: ("level", "batch", "plate", "file", "schema", "key"),
    int: ("rows", "features"),
    dict: ("inputs", "versions"),
    list: ("steps", "fits"),
}


def digest_of(content: object) -> str:
    """A short digest of anything that JSON can write; keys are sorted, so it depends on content alone."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def schema_digest(schema: Mapping[str, pl.DataType]) -> str:
    """A digest of column names and types, in order."""
    return digest_of([[name, str(dtype)] for name, dtype in schema.items()])


def library_versions() -> dict[str, str]:
    """Versions of what computed and wrote a partition."""
    return {name: version(name) for name in ("cytofast", "numpy", "polars", "pyarrow")}


@dataclass(frozen=True)
class Manifest:
    """What one partition holds.

    Attributes
    ----------
    key
        Digest of inputs, steps, their parameters and the version of cytofast: equal keys, equal content.
    inputs
        What it was made of: name -> digest.
    steps
        The steps applied to the input, in order: name, version and parameters.
    fits
        Paths of the fits, from the store's root.
    """

    level: str
    batch: str
    plate: str
    file: str
    rows: int
    features: int
    schema: str
    key: str
    inputs: dict[str, str]
    steps: list[dict[str, Any]] = field(default_factory=list)
    fits: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=library_versions)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """As text, the same for the same content."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The manifest of a partition's folder, or ``None`` where the partition does not exist (yet)."""
        path = folder / NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path}: the manifest cannot be read ({error}). Hint: delete this folder and run again."
            ) from error
        if not isinstance(content, dict) or not isinstance(content.get("format_version"), int):
            raise StoreError(f"{path}: not a manifest of a profile store. Hint: delete this folder and run again.")
        if content["format_version"] > FORMAT_VERSION:
            raise StoreError(
                f"{path}: written by a newer cytofast (format {content['format_version']}, this one reads "
                f"{FORMAT_VERSION}). Update cytofast."
            )
        try:
            manifest = cls(**content)
        except TypeError as error:
            raise StoreError(
                f"{path}: not a manifest of a profile store ({error}). Hint: delete this folder and run again."
            ) from error
        for kind, names in _TYPES.items():
            for name in names:
                if not isinstance(getattr(manifest, name), kind):
                    raise StoreError(
                        f"{path}: {name!r} is {getattr(manifest, name)!r}, which no manifest holds. "
                        "Hint: delete this folder and run again."
                    )
        return manifest
