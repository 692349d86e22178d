"""Harmony: batches are moved together inside soft clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import polars as pl

from cytofast import resources
from cytofast.blocks import Profiles, float_type, require_polars, require_rows, require_unique
from cytofast.errors import DataError, RecipeError, listed
from cytofast.schema import BATCH, PLATE, WELL, Features, as_columns, require_columns, resolve_features
from cytofast.steps.accumulate import require_finite
from cytofast.steps.step import Scope, Step


@dataclass(frozen=True)
class Harmonize(Step):
    """Batch correction by Harmony (Korsunsky et al. 2019), through the package harmonypy.

    Iterative and in memory: run it last, on selected features. The defaults are those of the JUMP recipe. The fit holds
    the corrected profiles themselves, so it can be applied plate by plate, but to no other wells. harmonypy (GPL-3) is
    optional: ``pip install "cytofast[harmony]"``.

    Parameters
    ----------
    batch
        Column or columns of batches.
    clusters
        Number of soft clusters; ``None`` leaves it to harmonypy (rows / 30, at most 100).
    max_iterations
        Rounds of clustering and correction.
    theta
        Penalty for clusters of few batches; ``None`` is harmonypy's 2.
    seed
        Of the first clustering.
    keys
        Columns that tell one well from another.
    features
        Columns to correct: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> Harmonize(batch="Metadata_Source").columns()
    ['Metadata_Plate', 'Metadata_Well', 'Metadata_Source']
    """

    name: ClassVar[str] = "harmonize"
    separable: ClassVar[bool] = False

    batch: str | Sequence[str] = BATCH
    clusters: int | None = 300
    max_iterations: int = 20
    theta: float | None = None
    seed: int = 0
    keys: str | Sequence[str] = (PLATE, WELL)
    features: Features = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not as_columns(self.batch) or not as_columns(self.keys):
            raise RecipeError("Harmonize: batch= and keys= need at least one column each")
        if self.max_iterations < 1 or (self.clusters is not None and self.clusters < 2):
            raise RecipeError("Harmonize: max_iterations must be at least 1, clusters at least 2")

    @property
    def scope(self) -> Scope:
        """Everything in memory."""
        return Scope.WHOLE

    def columns(self) -> list[str]:
        """Keys and batches."""
        return list(dict.fromkeys([*as_columns(self.keys), *as_columns(self.batch)]))

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Run Harmony.

        Returns
        -------
        polars.DataFrame
            The key columns and the corrected features, one row a well.

        Raises
        ------
        DataError
            The table has no rows, a well twice, a null batch, or missing or infinite values; or it does not fit in
            memory.
        RecipeError
            harmonypy is not installed.
        """
        require_polars(profiles, "Harmonize")
        schema = profiles.collect_schema()
        require_columns(schema, self.columns(), "Harmonize")
        features = resolve_features(schema, self.features, "Harmonize")
        require_rows(profiles, "Harmonize")
        run_harmony = _harmony()
        n_rows = profiles.lazy().select(pl.len()).collect().item()
        room = resources.current().working_bytes
        if 8 * n_rows * (4 * len(features) + (self.clusters or 100)) > room:
            raise DataError(
                f"Harmonize: {n_rows:,} wells x {len(features):,} features do not fit into {room:,} bytes several times over. "
                "Hint: select features first, or raise the memory limit."
            )
        table = profiles.lazy().select([*self.columns(), *features]).collect()
        keys, batches = as_columns(self.keys), as_columns(self.batch)
        require_unique(table, keys, "Harmonize")
        nameless = [name for name in batches if table[name].null_count()]
        if nameless:
            raise DataError(
                f"Harmonize: batch column {listed(nameless)} has nulls. Hint: annotate them or filter these wells."
            )
        require_finite(table, features, "Harmonize")
        labels = {name: table[name].cast(pl.String).to_numpy() for name in batches}
        values = table.select(features).to_numpy().astype(np.float64)
        done = run_harmony(
            values,
            _Table(labels, table.height),
            batches,
            theta=self.theta,
            nclust=None if self.clusters is None else min(self.clusters, table.height),
            max_iter_harmony=self.max_iterations,
            random_state=self.seed,
            verbose=False,
        )
        corrected = np.asarray(done.Z_corr, dtype=np.float64)
        # harmonypy 2 gives wells x features; before it was the other way round.
        corrected = corrected if corrected.shape == values.shape else corrected.T
        found = pl.from_numpy(np.ascontiguousarray(corrected.T), schema=features, orient="col")
        return table.select(keys).hstack(found.cast({name: float_type(schema[name]) for name in features}))

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Put the corrected features in place. A LazyFrame stays lazy.

        Raises
        ------
        DataError
            A well of the profiles is not in the fit.
        """
        keys = as_columns(self.keys)
        features = [name for name in fit.columns if name not in keys]
        require_polars(profiles, "Harmonize")
        schema = profiles.collect_schema()
        require_columns(schema, keys, "Harmonize")
        require_columns(fit.schema, keys, "Harmonize: the fit")
        resolve_features(schema, features, "Harmonize")
        marked = fit.with_columns(pl.lit(value=True).alias("in the fit"))

        def replaced(frame: pl.DataFrame) -> pl.DataFrame:
            names = frame.columns
            joined = frame.drop(features).join(marked, on=keys, how="left", nulls_equal=True, maintain_order="left")
            lacking = joined.filter(pl.col("in the fit").is_null())
            if lacking.height:
                wells = listed([" ".join(map(str, row)) for row in lacking.select(keys).rows()])
                raise DataError(
                    f"Harmonize: {lacking.height:,} wells are not in the fit: {wells}. Hint: fit all wells together."
                )
            return joined.select(names)

        if isinstance(profiles, pl.DataFrame):
            return replaced(profiles)
        dtypes = {name: fit.schema[name] for name in features}
        return profiles.map_batches(replaced, schema=pl.Schema({**schema, **dtypes}), streamable=True)


class _Table(dict[str, Any]):
    """Columns by name and a shape: what harmonypy asks of a table."""

    def __init__(self, columns: dict[str, Any], height: int) -> None:
        super().__init__(columns)
        self.shape = (height, len(columns))


def _harmony() -> Any:
    if find_spec("harmonypy") is None:
        raise RecipeError("Harmonize needs the package harmonypy. Hint: pip install 'cytofast[harmony]'.")
    return import_module("harmonypy").run_harmony
