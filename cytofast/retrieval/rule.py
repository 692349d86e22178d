"""A retrieval question as an object: which profiles should find each other, and among which others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import predicate_columns, reference_mask
from cytofast.errors import DataError, RecipeError
from cytofast.kernels.ranking import normalized_precision
from cytofast.retrieval.pairing import Pairing, compile_rule, split_labels
from cytofast.retrieval.profiles import Comparable, Policy, collect, comparable, metric_code, report_dropped, rows_shown
from cytofast.retrieval.scoring import score
from cytofast.schema import Features, as_columns

Nulls = Literal["error", "drop", "value"]


@dataclass(frozen=True)
class Retrieval:
    """Who should find whom: a rule that says which pairs are positive and which negative.

    A query ranks its positives and negatives by similarity; its average precision (AP) says how far up the positives
    stand. Two profiles are a *positive* pair if they are equal in every column of ``pos_sameby`` and different in every
    column of ``pos_diffby``, and a *negative* pair likewise by ``neg_sameby`` and ``neg_diffby``.

    Parameters
    ----------
    pos_sameby, pos_diffby, neg_sameby, neg_diffby
        Metadata columns.
    controls
        SQL predicate: negatives are controls, and only profiles that are none ask. A control may lack a perturbation's name.
        Use it where no column tells controls from all others.
    queries
        SQL predicate: whose AP is wanted. Others, controls for example, are still candidates. ``None``: everyone's.
    metric
        ``"cosine"``, ``"abs_cosine"`` (opposite profiles match too), ``"correlation"`` or ``"euclidean"``.
    features
        As everywhere: ``None`` for CellProfiler features, a prefix, or a list.
    tie
        ``"average"``: tied candidates get the AP expected over all their orders, so identical profiles score chance.
        ``"optimistic"``: positives come first, as in copairs 0.5.5, where ten identical profiles score 1.
        Similarities closer than 2.3e-10 are tied.
    multilabel
        A column in which a profile has several labels: lists, or text separated by ``|``. It may stand in
        ``pos_sameby`` (one result row a profile and label) and in ``neg_diffby`` (negatives share no label). A column of
        lists is taken as multilabel without being named.
    where
        SQL predicate: rows that take part at all.
    nulls
        Nulls in a key column: ``"error"`` names the rows, ``"drop"`` leaves them out with a warning, ``"value"`` takes
        null as a value like any other. A profile without labels has an empty multilabel, which counts as null.
    on_invalid
        Profiles with NaN, nulls or infinities, or without direction: ``"error"`` names them, ``"drop"`` leaves them
        out with a warning.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> rng = np.random.default_rng(0)
    >>> wells = pl.DataFrame({"Metadata_pert": ["a", "a", "b", "b"], "Cells_x": [1.0, 1.1, -1.0, 0.2], "Cells_y": [0.1, 0, 1, 2]})
    >>> rule = Retrieval(pos_sameby=["Metadata_pert"], neg_diffby=["Metadata_pert"])
    >>> rule.average_precision(wells)["average_precision"].to_list()
    [1.0, 1.0, 1.0, 1.0]
    """

    pos_sameby: Sequence[str]
    pos_diffby: Sequence[str] = ()
    neg_sameby: Sequence[str] = ()
    neg_diffby: Sequence[str] = ()
    controls: str | None = None
    queries: str | None = None
    metric: Literal["cosine", "abs_cosine", "correlation", "euclidean"] = "cosine"
    features: Features = None
    tie: Literal["average", "optimistic"] = "average"
    multilabel: str | None = None
    where: str | None = None
    nulls: Nulls = "error"
    on_invalid: Policy = "error"

    def __post_init__(self) -> None:
        """Check that the rule can mean something."""
        for name in ("pos_sameby", "pos_diffby", "neg_sameby", "neg_diffby"):
            object.__setattr__(self, name, tuple(dict.fromkeys(as_columns(getattr(self, name)))))
        if self.features is not None and not isinstance(self.features, str):
            object.__setattr__(self, "features", tuple(self.features))
        metric_code(self.metric)
        _one_of("tie", self.tie, ("average", "optimistic"))
        _one_of("nulls", self.nulls, ("error", "drop", "value"))
        _one_of("on_invalid", self.on_invalid, ("error", "drop"))
        for kind, same, different in (
            ("pos", self.pos_sameby, self.pos_diffby),
            ("neg", self.neg_sameby, self.neg_diffby),
        ):
            both = sorted(set(same) & set(different))
            if both:
                raise RecipeError(
                    f"{kind}_sameby and {kind}_diffby both name {both}: a pair cannot be equal and different in it"
                )
            if not same and not different and not (kind == "neg" and self.controls is not None):
                raise RecipeError(
                    f"{kind}_sameby and {kind}_diffby are both empty, so the rule would take every pair. Hint: name columns."
                )
        if self.multilabel is not None:
            self._check_multilabel(self.multilabel)

    def _check_multilabel(self, column: str) -> None:
        if column in (*self.pos_diffby, *self.neg_sameby):
            raise RecipeError(f"multilabel column {column!r} may stand in pos_sameby and neg_diffby only")
        if column not in (*self.pos_sameby, *self.neg_diffby):
            raise RecipeError(
                f"multilabel column {column!r} is in no part of the rule; name it in pos_sameby or neg_diffby"
            )

    @property
    def columns(self) -> list[str]:
        """Metadata columns that the rule compares."""
        return list(dict.fromkeys([*self.pos_sameby, *self.pos_diffby, *self.neg_sameby, *self.neg_diffby]))

    def average_precision(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Average precision of each query profile.

        Parameters
        ----------
        profiles
            A DataFrame, a LazyFrame or a level of a store.

        Returns
        -------
        polars.DataFrame
            One row a query profile (with a multilabel in ``pos_sameby``: a profile and label), in the order of the
            table: the metadata, ``average_precision``, ``n_pos_pairs``, ``n_total_pairs`` and
            ``normalized_average_precision`` (0 is chance, 1 is perfect). A query without positives has null; one
            without negatives has AP 1, which is its chance level, so normalized 0.

        Raises
        ------
        SchemaError
            A column is missing.
        DataError
            Nulls in a key, profiles that cannot be compared, or no query with positives and negatives.
        """
        return self.scored(profiles)[2]

    def mean_average_precision(
        self,
        profiles: pl.DataFrame | pl.LazyFrame,
        sameby: str | Sequence[str] | None = None,
        null: Literal["labels", "ranks", "copairs", "cpjump1"] = "labels",
        null_size: int = 100_000,
        seed: int = 0,
        threshold: float = 0.05,
    ) -> pl.DataFrame:
        """Mean average precision of each perturbation, and how often chance does as well.

        See :func:`cytofast.mean_average_precision` for the result and the nulls. ``null="labels"``, the default, permutes
        labels among the profiles that the rule compares, inside each block (a plate, say), and scores them again on
        the same similarity ranks, so that replicates that resemble each other for another reason do not count.
        ``sameby=None`` is ``pos_sameby``.
        """
        from cytofast.retrieval.significance import mean_average_precision_of

        chosen = list(self.pos_sameby) if sameby is None else as_columns(sameby)
        return mean_average_precision_of(self, profiles, chosen, null, null_size, seed, threshold)

    # --- used by the null of labels ------------------------------------------------------------------------------------

    def scored(
        self, profiles: pl.DataFrame | pl.LazyFrame, also: Sequence[str] = ()
    ) -> tuple[Comparable, Pairing, pl.DataFrame]:
        """Profiles, compiled rule and table of AP; ``also`` names columns that must be there besides."""
        ready, pairing = self.prepared(profiles, also)
        precision, n_positives, n_negatives = score(ready, pairing, self.tie == "optimistic")
        self._require_pairs(n_positives, n_negatives)
        totals = n_positives + n_negatives
        table = ready.metadata[pairing.instance_rows]
        if pairing.instance_labels is not None:
            table = table.with_columns(pairing.instance_labels)
        return (
            ready,
            pairing,
            table.with_columns(
                pl.Series("average_precision", precision).fill_nan(None),
                pl.Series("n_pos_pairs", n_positives),
                pl.Series("n_total_pairs", totals),
                pl.Series(
                    "normalized_average_precision", normalized_precision(precision, n_positives, totals)
                ).fill_nan(None),
            ),
        )

    def prepared(self, profiles: pl.DataFrame | pl.LazyFrame, also: Sequence[str] = ()) -> tuple[Comparable, Pairing]:
        """Read, check and number; similarities are not computed yet."""
        keys = list(dict.fromkeys([*self.columns, *also]))
        looked_at = [*predicate_columns(self.queries), *predicate_columns(self.controls)]
        table, features = collect(profiles, self.features, keys, "retrieval", self.where, looked_at)
        multilabel = self._multilabel(table)
        if multilabel is not None:
            table = table.with_columns(split_labels(table[multilabel]))
        table = self._without_nulls(table, keys, multilabel)
        ready = comparable(table, features, metric_code(self.metric), "retrieval", self.on_invalid, looked_at)
        queries, controls = self._mask(ready.metadata, "queries"), self._mask(ready.metadata, "controls")
        if controls is not None:
            queries = ~controls if queries is None else queries & ~controls
            if not queries.any():
                raise DataError(
                    f"every profile that asks satisfies controls={self.controls!r}: nothing is left to compare."
                )
        rules = (self.pos_sameby, self.pos_diffby, self.neg_sameby, self.neg_diffby)
        return ready, compile_rule(ready.metadata, *rules, multilabel, queries, controls)

    def _mask(self, metadata: pl.DataFrame, name: Literal["queries", "controls"]) -> NDArray[np.bool_] | None:
        predicate = getattr(self, name)
        mask = reference_mask(metadata, predicate, f"retrieval: {name}")
        if mask is not None and not mask.any():
            raise DataError(f"no profile satisfies {name}={predicate!r}. Hint: is the value written as in the table?")
        return mask

    def _multilabel(self, table: pl.DataFrame) -> str | None:
        lists = [name for name in self.columns if isinstance(table.schema[name], pl.List)]
        found = list(dict.fromkeys([*([self.multilabel] if self.multilabel else []), *lists]))
        if len(found) > 1:
            raise RecipeError(f"a rule has at most one multilabel column, not {found}")
        if found:
            self._check_multilabel(found[0])
        return found[0] if found else None

    def _without_nulls(self, table: pl.DataFrame, keys: list[str], multilabel: str | None) -> pl.DataFrame:
        if self.nulls == "value":
            return table
        missing = np.zeros(table.height, dtype=np.bool_)
        controls = self._mask(table, "controls")
        guilty = []
        for name in keys:
            column = table[name]
            absent = column.list.len() == 0 if name == multilabel else column.is_null()
            if column.dtype.is_float():
                absent = absent | column.is_nan()
            gap = absent.fill_null(value=True).to_numpy()
            if controls is not None and name not in (*self.neg_sameby, *self.neg_diffby):
                # A control is nobody's positive: it needs no name.
                gap = gap & ~controls
            if gap.any():
                guilty.append(f"{name} ({gap.sum():,})")
                missing |= gap
        if not guilty:
            return table
        rows = np.flatnonzero(missing)
        if self.nulls == "drop":
            report_dropped(len(rows), table.height, f"nulls in key columns {', '.join(guilty)}")
            if len(rows) == table.height:
                raise DataError(f"every profile has a null in {', '.join(guilty)}")
            return table.filter(pl.Series(~missing))
        raise DataError(
            f"retrieval: nulls in key columns {', '.join(guilty)}: {rows_shown(table, rows)}. Hint: fill them (controls often "
            'lack a sample name), filter with where=..., or say nulls="drop" to leave such profiles out or nulls="value" to '
            "take null as a value."
        )

    def _require_pairs(self, n_positives: NDArray[np.int64], n_negatives: NDArray[np.int64]) -> None:
        said = ", ".join(f"{f.name}={list(getattr(self, f.name))}" for f in fields(self)[:4])
        if not n_positives.any():
            raise DataError(
                f"no query has a positive under {said}. Hint: does every perturbation have one profile only, or is pos_sameby "
                "(with pos_diffby) too narrow?"
            )
        if not n_negatives[n_positives > 0].any():
            raise DataError(
                f"no query with positives has a negative under {said}. Hint: are there controls in each neg_sameby block?"
            )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError.unknown(name, value, known)
