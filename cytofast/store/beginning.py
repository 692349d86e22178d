"""Whether a folder is a store, and how a new one begins."""

from __future__ import annotations

import json
from pathlib import Path

from cytofast.durable import make_folder
from cytofast.errors import StoreError
from cytofast.store.layout import FORMAT, FORMAT_VERSION, README
from cytofast.store.locking import LOCK, locked
from cytofast.store.partition import write_text

_ABOUT = "store.json"
_OF_A_BEGINNING = {LOCK, f".{_ABOUT}.tmp", "README.txt", ".README.txt.tmp"}
"""What a writer leaves that was killed before the store was one."""


def is_store(root: Path) -> bool:
    """Whether there is a store that this version reads; a :class:`StoreError` where there is one that it cannot."""
    about = root / _ABOUT
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root} is a file, not a profile store. Hint: give a directory.")
    if not about.is_file():
        return False
    try:
        content = json.loads(about.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{about} cannot be read ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StoreError(f"{about} does not describe a {FORMAT}")
    if not isinstance(content.get("version"), int):
        raise StoreError(f"{about}: version {content.get('version')!r} is no number. Hint: was the file edited?")
    if content["version"] > FORMAT_VERSION:
        raise StoreError(
            f"{root}: a store of format {content['version']}, written by a newer cytofast; "
            f"this one reads up to {FORMAT_VERSION}. Update cytofast."
        )
    return True


def begin(root: Path) -> None:
    """Make an empty store."""
    try:
        if root.exists() and any(child.name not in _OF_A_BEGINNING for child in root.iterdir()):
            raise StoreError(f"{root} is not empty and not a profile store. Hint: give a new directory.")
        make_folder(root)
    except OSError as error:
        raise StoreError(f"{root}: a store cannot be made there ({error.strerror or error})") from error
    # Two processes may begin the same store.
    with locked(root):
        if not is_store(root):
            write_text(root / "README.txt", README.format(version=FORMAT_VERSION))
            write_text(root / _ABOUT, json.dumps({"format": FORMAT, "version": FORMAT_VERSION}) + "\n")
