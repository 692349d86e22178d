"""What is in a store, as numbers, from its manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cytofast.schema import infer_features
from cytofast.store.layout import FORMAT_VERSION
from cytofast.store.manifest import Manifest

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore


def describe(store: ProfileStore) -> dict[str, Any]:
    """See :meth:`ProfileStore.describe`."""
    partitions = {level: store.partitions(level) for level in store.levels()}
    keys = {f"{level}/{p.name}": p.manifest.key for level, found in partitions.items() for p in found}
    levels = {}
    for level, found in partitions.items():
        features: set[str] = set()
        for partition in {p.manifest.schema: p for p in found}.values():
            features.update(infer_features(partition.lazy().collect_schema()))
        levels[level] = {
            "rows": sum(p.manifest.rows for p in found),
            "features": max(len(features), *(p.manifest.features for p in found)),
            "plates": len(found),
            "outdated": sum(_outdated(p.manifest, keys) for p in found),
        }
    annotated = len(list((store.path / "annotations").glob("batch=*/plate=*.parquet")))
    return {"format_version": FORMAT_VERSION, "levels": levels, "annotated_plates": annotated}


def _outdated(manifest: Manifest, keys: dict[str, str]) -> bool:
    """Whether a source of this partition is gone or was made anew; ``keys`` are those of all partitions now."""
    sources = {source: key for source, key in manifest.inputs.items() if "/" in source}
    return any(keys.get(source) != key for source, key in sources.items())
