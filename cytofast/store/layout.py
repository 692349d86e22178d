"""Where everything lies in a store.

    store.json                                          what this folder is, and its format version
    README.txt                                          the same for people
    level=<level>/batch=<batch>/plate=<plate>/          one partition: <level>-<key>.parquet and manifest.json
                                                        (of cells also inputs.json: which files were read, to spare reading)
    annotations/batch=<batch>/plate=<plate>.parquet     the platemap of a plate, as given at ingest
    audits/batch=<batch>/plate=<plate>.parquet          what was read from each file, joined, and set aside
                                                        (of tables that are no cells: audits/level=<level>/batch=...)
    fits/level=<level>/[batch=<batch>/plate=<plate>/]<n>-<step>.parquet   what each step learned

Names are percent-encoded: a plate called ``../../x`` or ``a/b`` is just a name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cytofast.errors import RecipeError, StoreError

FORMAT = "cytofast profile store"
FORMAT_VERSION = 1
ALL = "__all__"
"""Batch and plate of a partition that holds every plate (a consensus)."""
_LONGEST_NAME = 180

README = """This folder is a cytofast profile store (format version {version}).

level=<level>/batch=<batch>/plate=<plate>/ holds one Parquet file and its manifest.json.
(Beside cells, inputs.json tells which files were read: it only spares reading them again.)
A Parquet file without a manifest beside it is unfinished: do not read it.
Names are percent-encoded. Missing values are null. Rows are sorted by well, site, image and object.
annotations/ holds the platemaps, audits/ what ingest read and set aside, fits/ what each step learned.
"""


def encoded(name: str) -> str:
    """A name as one safe path component; very long names end in a digest.

    >>> encoded("a/b"), encoded("..")
    ('a%2Fb', '%2E%2E')
    """
    text = quote(name, safe="")
    if text.startswith("."):
        text = text.replace(".", "%2E")
    if len(text) > _LONGEST_NAME:
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        text = f"{text[: _LONGEST_NAME - 17].rstrip('%')}-{digest}"
    return text


def checked_level(level: str) -> str:
    """A level's name: lower-case letters, digits and underscores."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", level):
        raise RecipeError(
            f"{level!r} cannot name a level; use lower-case letters, digits and underscores, as in 'wells' or 'profiles'"
        )
    return level


@dataclass(frozen=True, order=True)
class PlateName:
    """A plate is told by its batch and its barcode; two batches may use one barcode."""

    batch: str
    plate: str

    def __str__(self) -> str:
        return f"{self.batch}/{self.plate}"

    @property
    def path(self) -> Path:
        """``batch=<batch>/plate=<plate>``, percent-encoded."""
        if not self.plate or not self.batch:
            raise StoreError("a plate and a batch must have names; one is empty")
        return Path(f"batch={encoded(self.batch)}") / f"plate={encoded(self.plate)}"


EVERY_PLATE = PlateName(ALL, ALL)
