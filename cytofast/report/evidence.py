"""What the report asks: the store's questions, retrieval and steps. Each is asked once; a refusal is an answer, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from cytofast.errors import StoreError, listed
from cytofast.report.controls import Controls, find_controls
from cytofast.report.parts import Answer, attempt
from cytofast.report.plate_maps import plate_format
from cytofast.retrieval.presets import LABELS, PERTURBATIONS, activity
from cytofast.retrieval.replication import replicate_correlation
from cytofast.retrieval.rule import Retrieval
from cytofast.schema import BATCH, PLATE, WELL, infer_features, is_metadata
from cytofast.steps.consensus import Consensus
from cytofast.steps.select_rules import DropMissing
from cytofast.store.profile_store import ProfileStore
from cytofast.tasks.maps import map_profiles

CONDITIONS = (
    "modality",
    "perturbation",
    "perturbation_type",
    "treatment_type",
    "model_type",
    "cell_type",
    "cell_line",
    "time",
    "timepoint",
)
"""Metadata that usually name a condition, without prefix and in small letters; they must be the same all over a plate."""
_MOST_CONDITIONS = 24
_NAMES = ("Metadata_pert_iname", "Metadata_Compound", "Metadata_gene", *LABELS)
_DRAWS = 10_000
_MOST_COMPARED = 50_000
_MOST_POINTS = 6_000


@dataclass(frozen=True)
class Activity:
    """One condition: its name and profiles, mAP of its perturbations, AP of its wells, correlation of its replicates."""

    condition: dict[str, Any]
    profiles: pl.DataFrame
    found: Answer
    of_wells: Answer
    replicates: Answer


@dataclass
class Evidence:
    """A store, and what it answers.

    Attributes
    ----------
    level
        The profiles that are compared; ``None``: ``profiles``, or else the last level that has wells.
    by
        Condition columns; ``None``: those of the usual ones that differ between plates.
    given_controls
        SQL predicate of the negative controls; ``None``: see :func:`cytofast.report.controls.find_controls`.
    """

    store: ProfileStore
    level: str | None = None
    by: Sequence[str] | None = None
    given_controls: str | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the store says of itself."""
        return self.store.describe()

    def ask(self, name: str, **parameters: Any) -> Answer:
        """Ask a named question."""
        return attempt(self.store.ask, name, **parameters)

    # --- plates ----------------------------------------------------------------------------------------------------

    @cached_property
    def perturbation(self) -> str | None:
        """The column that names perturbations."""
        columns = set(self.metadata)
        return next((name for name in PERTURBATIONS if name in columns), None)

    @cached_property
    def metadata(self) -> list[str]:
        """Metadata columns of the profiles and platemaps."""
        found: dict[str, None] = {}
        if self.chosen is not None:
            found.update(dict.fromkeys(self.store.scan(self.chosen).collect_schema().names()))
        platemaps = self.store.annotations()
        if platemaps is not None:
            found.update(dict.fromkeys(platemaps.columns))
        return [name for name in found if is_metadata(name)]

    @cached_property
    def wells(self) -> Answer:
        """Every well with its place and its cells."""
        return self.ask("well_counts", **({"by": self.perturbation} if self.perturbation else {}))

    @cached_property
    def edge(self) -> Answer:
        """Edge effects, feature by feature."""
        wells = plate_format(self.wells.table) if self.wells.table.height else None
        return self.ask("edge_effect", **({"wells": wells} if wells else {}))

    @cached_property
    def drift(self) -> Answer:
        """Drift of control wells, plate by plate."""
        if self.controls.several:
            return Answer(
                why=f"No drift is told: the controls ({self.controls.predicate}) are not those with one value of one column, "
                "which is what the question control_drift can ask for."
            )
        return self.ask("control_drift", **self.controls.parameters)

    @cached_property
    def control_cells(self) -> Answer:
        """Cells of control wells, plate by plate."""
        return Answer() if self.controls.several else self.ask("control_cell_counts", **self.controls.parameters)

    def well_values(self, features: Sequence[str]) -> Answer:
        """Values of some features in every well, with ``batch``, ``plate``, ``well``."""
        keys = {BATCH: "batch", PLATE: "plate", WELL: "well"}
        return attempt(
            lambda: (
                self.store.scan("wells", columns=[*keys, *features]).collect().rename(keys).unique(list(keys.values()))
            )
        )

    # --- profiles --------------------------------------------------------------------------------------------------

    @cached_property
    def chosen(self) -> str | None:
        """The level whose profiles are compared; ``None`` where there is none."""
        levels = self.store.levels()
        if self.level is not None:
            if self.level not in levels:
                hint = f"it has {listed(levels)}" if levels else "it is empty"
                raise StoreError(f"{self.store.path}: no level {self.level!r} in this store. Hint: {hint}.")
            return self.level
        usable = [name for name in levels if name not in {"cells", "consensus"}]
        return "profiles" if "profiles" in usable else usable[-1] if usable else None

    @cached_property
    def profiles(self) -> Answer:
        """The profiles to compare, without features that have many gaps."""
        if self.chosen is None:
            has = "only single cells" if self.store.levels() else "nothing"
            return Answer(
                why=f"The store holds {has}, so there are no profiles to compare. Run a recipe: cytofast run default --store DIR."
            )
        return attempt(self._read, self.chosen)

    def _read(self, level: str) -> pl.DataFrame:
        lazy = self.store.scan(level)
        judged = DropMissing(0.05, infinite=True).fit(lazy)
        kept = judged.filter(judged["kept"])["feature"].to_list()
        names = lazy.collect_schema().names()
        return lazy.select([*(name for name in names if is_metadata(name)), *kept]).collect()

    @cached_property
    def features(self) -> list[str]:
        """Features that are compared."""
        return infer_features(self.profiles.table.schema)

    @cached_property
    def conditions(self) -> list[str]:
        """Metadata columns that tell conditions apart."""
        frame = self.profiles.table
        if self.by is not None or not frame.height or PLATE not in frame.columns:
            return list(self.by or [])
        plates = [name for name in (BATCH, PLATE) if name in frame.columns]
        found = []
        for known in CONDITIONS:
            for name in frame.columns:
                if is_metadata(name) and name.removeprefix("Metadata_").lower() == known:
                    pairs = frame.select(*plates, name).unique()
                    if (
                        not pairs.select(plates).is_duplicated().any()
                        and 1 < pairs[name].n_unique() <= _MOST_CONDITIONS
                    ):
                        found.append(name)
        many = found and frame.select(found).unique().height > _MOST_CONDITIONS
        return [] if many else found

    def by_condition(self) -> list[tuple[dict[str, Any], pl.DataFrame]]:
        """Profiles of each condition, with its name."""
        frame, by = self.profiles.table, self.conditions
        if not by:
            return [({}, frame)]
        parts = frame.sort(by, maintain_order=True, nulls_last=True).partition_by(by, maintain_order=True)
        return [(dict(zip(by, part.select(by).row(0), strict=True)), part) for part in parts]

    @cached_property
    def controls(self) -> Controls:
        """The negative controls."""
        if self.chosen is None:
            return Controls()
        names = [name for name in self.store.scan(self.chosen).collect_schema().names() if is_metadata(name)]
        metadata = self.store.scan(self.chosen, columns=names).collect()
        levels = [level for level in self.store.levels() if level != self.chosen]
        made = [p.manifest for level in [*levels, self.chosen] for p in self.store.partitions(level)[:1]]
        return find_controls(metadata, self.given_controls, [step for manifest in made for step in manifest.steps])

    def rule(self) -> Retrieval:
        """Whether replicates find each other among the negative controls of their plate, as a rule."""
        columns, known = self.profiles.table.columns, self.controls.predicate
        return activity(columns, controls=known, nulls="drop", on_invalid="drop", features=self.features)

    @cached_property
    def activity(self) -> list[Activity]:
        """What retrieval says of each condition."""
        if self.profiles.why:
            return [Activity({}, pl.DataFrame(), self.profiles, self.profiles, self.profiles)]
        rule = attempt(self.rule)
        if rule.why:
            return [Activity({}, pl.DataFrame(), rule, rule, rule)]
        found = []
        for condition, part in self.by_condition():
            if part.height > _MOST_COMPARED:
                many = Answer(
                    why=f"{part.height:,} profiles are too many to be compared on the way. Ask cytofast map, and give its "
                    "answer with --tables."
                )
                found.append(Activity(condition, part, many, many, many))
                continue
            found.append(
                Activity(
                    condition,
                    part,
                    attempt(rule.value.mean_average_precision, part, null_size=self.draws(part)),
                    attempt(rule.value.average_precision, part),
                    attempt(replicate_correlation, part, rule.value.pos_sameby, self.features, on_invalid="drop"),
                )
            )
        return found

    def draws(self, part: pl.DataFrame) -> int:
        """Permutations for each perturbation of a condition: so many that the smallest p-value can be retrieved alone."""
        names = part[self.perturbation].n_unique() if self.perturbation in part.columns else 0
        return max(_DRAWS, 40 * names)

    def named(self, table: pl.DataFrame, key: str) -> pl.DataFrame:
        """Names and labels of perturbations, beside their numbers."""
        frame = self.profiles.table
        names = [name for name in dict.fromkeys(_NAMES) if name in frame.columns and name not in table.columns]
        if key not in table.columns or not names:
            return table
        told = frame.select(key, *names).unique(subset=key, keep="first", maintain_order=True)
        return table.join(told, on=key, how="left", nulls_equal=True, maintain_order="left")

    @cached_property
    def map(self) -> Answer:
        """Profiles, or where they are many the medians of perturbations, by their first principal components."""
        return self.profiles if self.profiles.why else attempt(self._placed)

    def _placed(self) -> pl.DataFrame:
        frame = self.profiles.table
        if frame.height > _MOST_POINTS and self.perturbation in frame.columns:
            by = [self.perturbation, *self.conditions]
            frame = Consensus(by=by, method="median", features=self.features)(frame.drop_nulls(self.perturbation))
        return map_profiles(frame, features=self.features, on_invalid="drop")
