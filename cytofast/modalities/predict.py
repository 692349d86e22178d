"""How much of one modality the other predicts: nested, grouped cross-validation against a shuffled null."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from cytofast import resources
from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.kernels.jit import over_items
from cytofast.modalities import published
from cytofast.modalities.align import Aligned, Modality, require_values
from cytofast.modalities.checkpoint import Checkpoint, digest
from cytofast.modalities.folds import Integers, given_folds, group_codes, grouped_folds, joint_codes, shuffled_rows
from cytofast.modalities.linear import Doubles, Fit, Penalties, lasso_fold, ridge_fold
from cytofast.modalities.network import network_fold
from cytofast.modalities.result import CrossModalResult
from cytofast.modalities.settings import require_between, require_numbers, set_whole

Model = Literal["lasso", "ridge", "mlp"]
Compat = Literal["rosetta", "rosetta-unleaked"]
Progress = Callable[[str, float, int], None]

_BLOCK = 12_800, 16, 128
"""Lasso targets times features that a thread takes at once, and how few and many targets that may be.

A few seconds of work, so that progress moves and little is lost; fewer targets would not pay for their Gram matrices.
"""
_SHUFFLE, _OUTER, _INNER = 1, 2, 3


@dataclass(frozen=True)
class _Work:
    """One fit to be made: a split, the columns of the targets, and whether they are shuffled."""

    part: str
    fold: int
    first: int
    last: int
    round: int


@dataclass(frozen=True)
class CrossModalPrediction:
    """Predict every feature of one modality from all features of the other, perturbations held out.

    The folds of the outer cross-validation score; within the training rows of each, inner folds choose the penalty. All
    rows of a group (the doses and replicates of a perturbation) lie in one fold, outer and inner. Features are centred and
    scaled by training rows alone. The null is the same procedure on shuffled rows.

    Parameters
    ----------
    model
        ``"lasso"`` (exact paths over a Gram matrix that all targets share), ``"ridge"`` (one decomposition a fold) or
        ``"mlp"`` (one network for all targets).
    folds, inner_folds
        A number, or for ``folds`` the fold of each row.
    groups
        Columns of the pair's metadata that name what is held out together. Default: the first column that was matched on.
    seed
        Of folds and shuffles. The result does not depend on the number of threads.
    null_rounds
        Shuffles; each gives as many null values as there are targets.
    standardize
        Scale features to a standard deviation of 1 in the training rows.
    penalties, n_penalties, smallest
        What is tried: given values, or a grid of ``n_penalties`` from the largest useful one to ``smallest`` of it.
    margin, quantile
        A target is predictable if its median R^2 over the folds is above this quantile of the null, plus the margin.
    compat
        ``"rosetta"``: the procedure behind the published numbers of Haghighi et al. 2022, to compare with them. Inner folds
        ignore groups, the null has a fixed penalty instead of a chosen one, and, the leak, the chosen model is fitted to all
        rows before the test fold is scored. The leak was in their MLP; ``"rosetta-unleaked"`` leaves it out, as their lasso
        did. Results say so in their notes; do not draw conclusions from them.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> from cytofast.modalities.align import align
    >>> x = np.sin(np.outer(np.arange(40), [1.0, 2.3, 3.1]))
    >>> names = {"Metadata_pert": [f"p{i:02d}" for i in range(40)]}
    >>> a = pl.DataFrame({**names, "Cells_A_a": x[:, 0], "Cells_A_b": x[:, 1]})
    >>> b = pl.DataFrame({**names, "g_1": 2 * x[:, 0] - x[:, 1], "g_2": x[:, 2]})
    >>> pair = align(a, b, "Metadata_pert", b_features="g_", names=("morphology", "expression"))
    >>> result = CrossModalPrediction(folds=4, inner_folds=3).predict(pair, "morphology")
    >>> result.summary().select("target", "predictable").rows()
    [('g_1', True), ('g_2', False)]
    """

    model: Model = "lasso"
    folds: int | Sequence[int] = 5
    groups: str | Sequence[str] | None = None
    inner_folds: int = 5
    seed: int = 0
    null_rounds: int = 1
    standardize: bool = True
    penalties: Sequence[float] | None = None
    n_penalties: int = 100
    smallest: float = 1e-3
    margin: float = 0.2
    quantile: float = 0.99
    compat: Compat | None = None

    def __post_init__(self) -> None:
        if self.model not in get_args(Model):
            raise RecipeError.unknown("model", str(self.model), get_args(Model))
        if self.compat is not None and self.compat not in get_args(Compat):
            raise RecipeError.unknown("compat", str(self.compat), get_args(Compat))
        least = {"inner_folds": 2, "seed": 0, "null_rounds": 1, "n_penalties": 1}
        if isinstance(self.folds, str) or not isinstance(self.folds, Sequence | np.ndarray):
            least["folds"] = 2
        set_whole(self, least)
        require_between(self, "margin", -np.inf, np.inf)
        require_between(self, "smallest", 0, 1)
        require_between(self, "quantile", 0, 1)
        if self.penalties is not None:
            require_numbers(self, "penalties")

    # --- questions -------------------------------------------------------------------------------------------------

    def predict(
        self,
        pair: Aligned,
        source: str | None = None,
        *,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> CrossModalResult:
        """Predict the other modality from ``source`` (a side's name; by default the first).

        Parameters
        ----------
        checkpoint
            A folder to keep finished parts in: the same call goes on where it was stopped.
        progress
            Called with what was done, how many parts are finished, and how many there are.

        Raises
        ------
        DataError
            Fewer groups than folds, every target constant, or missing values.
        """
        x, y, notes = self._sides(pair, source)
        groups = self._groups(pair)
        fold = self._folds(groups)
        if np.bincount(fold).max() < 2:
            raise DataError(
                f"{len(groups):,} folds of {len(groups):,} rows: a score needs at least two rows. Hint: take fewer folds."
            )
        splits = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(int(fold.max()) + 1)]
        values = [y.values, *(y.values[self._shuffle(groups, r)] for r in range(self.null_rounds))]
        return self._run(x, y, values, groups, splits, notes, checkpoint, progress)

    def transfer(
        self,
        train: Aligned,
        test: Aligned,
        source: str | None = None,
        *,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> CrossModalResult:
        """Learn on one data set and score on another: one R^2 a target, over features and targets that both have.

        Inner folds of the training set choose the penalty. The null learns from shuffled rows of the training set.
        Groups that are in both data sets are taken out of the training set, and counted in the notes.
        """
        x, y, notes = self._sides(train, source)
        other_x, other_y, more = self._sides(test, x.name)
        shared = [[n for n in one.features if n in set(two.features)] for one, two in ((x, other_x), (y, other_y))]
        for names, one, two in ((shared[0], x, other_x), (shared[1], y, other_y)):
            if not names:
                raise DataError(
                    f"transfer: no feature of {one.name} is in both data sets: {listed(one.features, 3)} "
                    f"against {listed(two.features, 3)}."
                )
            if len(names) < len(one.features) or len(names) < len(two.features):
                notes.append(
                    f"{one.name}: {len(names):,} features are in both data sets, of {len(one.features):,} and "
                    f"{len(two.features):,}"
                )
        x, y, other_x, other_y = (
            _chosen(m, names)
            for m, names in ((x, shared[0]), (y, shared[1]), (other_x, shared[0]), (other_y, shared[1]))
        )
        columns = train.keys.columns[:1] if self.groups is None else self.groups
        codes, others = joint_codes(train.metadata, test.metadata, columns, "transfer")
        n = len(train)
        kept = np.flatnonzero(~np.isin(codes, others))
        if not len(kept):
            raise DataError(
                f"transfer: all {n:,} rows of the training set belong to groups of the test set; nothing is left to "
                "learn from. Hint: predict() holds groups of one data set out."
            )
        if len(kept) < n:
            notes.append(f"{n - len(kept):,} rows of the training set are left out: their groups are in the test set")
        groups = codes[kept]
        rounds = [np.arange(len(kept)), *(self._shuffle(groups, r) for r in range(self.null_rounds))]
        joint = Modality(x.name, x.features, np.vstack([x.values[kept], other_x.values]))
        values = [np.vstack([y.values[kept][order], other_y.values]) for order in rounds]
        split = (np.arange(len(kept)), np.arange(len(kept), len(kept) + len(test)))
        target = Modality(y.name, y.features, values[0])
        return self._run(joint, target, values, groups, [split], notes + more, checkpoint, progress)

    # --- parts -----------------------------------------------------------------------------------------------------

    def _sides(self, pair: Aligned, source: str | None) -> tuple[Modality, Modality, list[str]]:
        x = pair.a if source is None else pair.side(source)
        y = pair.other(x.name)
        require_values(x, y)
        flat = np.ptp(y.values, axis=0) == 0
        if flat.all():
            raise DataError(
                f"{y.name}: every target has the same value in all {len(pair):,} rows; nothing can be predicted."
            )
        notes = []
        if flat.any():
            gone = [y.features[i] for i in np.flatnonzero(flat)]
            notes.append(f"{len(gone):,} constant targets are left out: {listed(gone)}")
            warnings.warn(f"{y.name}: {notes[-1]}.", ProfileWarning, stacklevel=3)
            y = _chosen(y, [name for name in y.features if name not in set(gone)])
        return x, y, notes

    def _groups(self, pair: Aligned) -> Integers:
        columns = pair.keys.columns[:1] if self.groups is None else self.groups
        return group_codes(pair.metadata, columns, "CrossModalPrediction")

    def _folds(self, groups: Integers) -> Integers:
        if isinstance(self.folds, int):
            if self.compat is not None:
                return published.unshuffled_folds(groups, self.folds)
            return grouped_folds(groups, self.folds, self.seed, _OUTER)
        return given_folds(self.folds, groups)

    def _shuffle(self, groups: Integers, number: int) -> Integers:
        rows = np.arange(len(groups)) if self.compat is not None else groups
        return shuffled_rows(rows, self.seed, _SHUFFLE, number)

    def _inner(self, groups: Integers, fold: int) -> list[tuple[Integers, Integers]]:
        if self.compat is not None:
            inner = np.arange(len(groups)) * self.inner_folds // len(groups)
        else:
            inner = grouped_folds(groups, self.inner_folds, self.seed, _INNER, fold)
        return [(np.flatnonzero(inner != i), np.flatnonzero(inner == i)) for i in range(self.inner_folds)]

    def _fit(self) -> Fit:
        if self.model == "mlp":
            return partial(network_fold, seed=self.seed)
        return lasso_fold if self.model == "lasso" else ridge_fold

    def _penalties(self, *, null: bool) -> Penalties:
        if self.compat is not None and self.penalties is None and self.model != "mlp":
            chosen = published.LASSO if self.model == "lasso" else published.RIDGE
            return Penalties((published.NULL,) if null else chosen)
        given = None if self.penalties is None else tuple(float(p) for p in self.penalties)
        return Penalties(given, self.n_penalties, self.smallest)

    def _run(
        self,
        x: Modality,
        y: Modality,
        values: list[Doubles],
        groups: Integers,
        splits: list[tuple[Integers, Integers]],
        notes: list[str],
        checkpoint: str | Path | None,
        progress: Progress | None,
    ) -> CrossModalResult:
        inner = [self._inner(groups[train], fold) for fold, (train, _) in enumerate(splits)]
        width = len(y.features)
        share, fewest, most = _BLOCK
        block = min(max(share // len(x.features), fewest), most) if self.model == "lasso" else width
        works = [
            _Work(f"fold-{fold:03d}-round-{r:02d}-block-{i // block:04d}", fold, i, min(i + block, width), r)
            for r in range(len(values))
            for fold in range(len(splits))
            for i in range(0, width, block)
        ]
        key = digest(
            x.values,
            *values,
            groups,
            *(test for _, test in splits),
            repr(asdict(self)),
            repr((x.features, y.features, version("cytofast"), block)),
        )
        kept = Checkpoint(None if checkpoint is None else Path(checkpoint), key)
        lock, finished = threading.Lock(), [0]
        fit = self._fit()
        shape = (len(values), width, len(splits))
        r2, penalty = np.full(shape, np.nan), np.full(shape, np.nan)
        coefficients = np.zeros((len(splits), width, 0 if self.model == "mlp" else len(x.features)))

        def work(item: _Work) -> int:
            found, null = kept.read(item.part), item.round > 0
            if found is None:
                train, test = splits[item.fold]
                found = fit(
                    x.values,
                    np.ascontiguousarray(values[item.round][:, item.first : item.last]),
                    train,
                    test,
                    inner[item.fold],
                    self._penalties(null=null),
                    standardize=self.standardize,
                    leak=self.compat == "rosetta" and not null,
                )
                if null:
                    found = replace(found, coefficients=np.zeros((len(found.r2), 0)))
                kept.write(item.part, found)
            place = item.round, slice(item.first, item.last), item.fold
            r2[place], penalty[place] = found.r2, found.penalty
            if not null:
                coefficients[item.fold, item.first : item.last] = found.coefficients
            with lock:
                finished[0] += 1
                if progress is not None:
                    progress(item.part, finished[0], len(works))
            return int(found.unsettled.sum())

        # Threads go to whole fits: those of a BLAS below them would only wait for each other.
        with threadpool_limits(1, user_api="blas"):
            unsettled = sum(over_items(work, works, self._threads(len(x.features))))
        return CrossModalResult(
            model=self.model,
            source=x.name,
            target=y.name,
            features=x.features,
            targets=y.features,
            r2=r2[0],
            penalty=penalty[0],
            null_r2=r2[1:],
            coefficients=coefficients,
            compat=self.compat,
            n_rows=(np.array([len(a) for a, _ in splits]), np.array([len(b) for _, b in splits])),
            margin=self.margin,
            quantile=self.quantile,
            notes=(*notes, *self._notes(unsettled, int(np.isnan(r2[0]).sum()))),
        )

    def _threads(self, width: int) -> int:
        """As many as there are, but for networks, and where the Gram matrices of each would not fit."""
        limits = resources.current()
        if self.model == "mlp":
            # scikit-learn's warnings are silenced in a way that threads would share.
            return 1
        return max(1, min(limits.threads, limits.working_bytes // (3 * 8 * width * width)))

    def _notes(self, unsettled: int, undefined: int) -> list[str]:
        notes = []
        if unsettled:
            notes.append(f"{unsettled:,} fits did not reach their tolerance")
        if undefined:
            notes.append(f"{undefined:,} scores are undefined: the target is constant among the test rows")
        if self.compat is not None:
            notes.append(published.NOTES[self.compat])
            if self.model == "mlp":
                notes.append(published.NETWORK)
        return notes


def _chosen(modality: Modality, names: list[str]) -> Modality:
    place = {name: i for i, name in enumerate(modality.features)}
    return Modality(modality.name, names, np.ascontiguousarray(modality.values[:, [place[n] for n in names]]))
