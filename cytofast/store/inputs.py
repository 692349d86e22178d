"""Whether the files of a plate are those that its partition was made of."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cytofast import resources
from cytofast.errors import DataError
from cytofast.ingest.csv_text import digest_of_file
from cytofast.ingest.file_state import FileState, require_unchanged, state_of
from cytofast.ingest.sources import PlateSource
from cytofast.store.manifest import Manifest, digest_of, library_versions
from cytofast.store.partition import Partition, write_text

SIDECAR = "inputs.json"
_SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was looked at could change again without a new time: clocks of files tick."""


@dataclass(frozen=True)
class Inputs:
    """The files of a plate, as they were when they were looked at, which is before they are read."""

    listing: str
    """Digest of names, sizes and compartments: the same wherever the files lie."""
    state: str | None
    """Digest of what the file system says of these very files; ``None`` where a file changed a moment ago."""
    files: dict[str, Path]
    states: dict[str, FileState]

    @classmethod
    def of(cls, export: PlateSource) -> Inputs:
        """Look at the files of a plate."""
        files = export.named_files
        states = {name: state_of(path) for name, path in files.items()}
        sizes = {name: state.size for name, state in states.items()}
        known = {name: (s.inode, s.changed, s.modified, s.size) for name, s in states.items()}
        newest = max(state.changed for state in states.values())
        settled = newest < time.time_ns() - _SETTLED_NS
        asked = {"chosen": export.choice.key} if export.choice.key else {}
        listing = digest_of({"files": sizes, "compartments": export.compartments, **asked})
        return cls(listing, digest_of(known) if settled else None, files, states)

    def changed(self) -> DataError | None:
        """Say that a file is not as it was when it was looked at."""
        try:
            for name, path in self.files.items():
                require_unchanged(path, self.states[name])
        except DataError as error:
            return error
        return None

    def of_manifest(self, audit: pl.DataFrame, compartments: tuple[str, ...]) -> dict[str, str]:
        """What a manifest keeps of them: the same for the same content, in any folder."""
        return {"files": self.listing, "content": content_of(audit), "compartments": digest_of(compartments)}

    def made(self, present: Partition, kept: pl.DataFrame) -> bool:
        """Whether a finished partition, whose audit is ``kept``, was made of these very files.

        Names and sizes must be the same. If the file system says that these are the files that were read, they need not
        be read again; otherwise their content decides.
        """
        manifest, folder = present.manifest, present.path.parent
        versions = library_versions()["cytofast"]
        if manifest.inputs.get("files") != self.listing or manifest.versions.get("cytofast") != versions:
            return False
        if self.state is not None and _remembered(folder) == {"key": manifest.key, "state": self.state}:
            return True
        # Of files that were not asked for no content was read.
        read = {name: self.files[name] for name in _digested(kept)["file"].to_list() if name in self.files}
        with ThreadPoolExecutor(resources.current().threads) as pool:
            digests = dict(zip(read, pool.map(digest_of_file, read.values()), strict=True))
        if manifest.inputs.get("content") != digest_of(digests):
            return False
        self.remember(manifest, folder)
        return True

    def remember(self, manifest: Manifest, folder: Path) -> None:
        """Keep what the file system says beside the manifest, not in it: manifests are the same for the same content."""
        if self.state is not None:
            write_text(folder / SIDECAR, json.dumps({"key": manifest.key, "state": self.state}) + "\n")


def content_of(audit: pl.DataFrame) -> str:
    """A digest of the content of all files that an audit tells of."""
    return digest_of(dict(_digested(audit).rows()))


def _digested(audit: pl.DataFrame) -> pl.DataFrame:
    """Files that were read, and their digests."""
    return audit.select("file", "digest").drop_nulls().unique()


def _remembered(folder: Path) -> object:
    try:
        return json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # It only spares reading: without it, or with a damaged one, the content decides.
        return None
