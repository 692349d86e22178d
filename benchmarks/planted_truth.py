"""What the paper's rule finds in a planted screen, told from the effects alone by a plain twin of matching.

A pair that nobody planted may rank first by chance, and where few are ranked the paper's p calls that significant: of nine ORFs,
one query in nine is perfect. So the share to expect is not the share that was planted, and where none was planted it is not 0.
Here it is counted: perturbations are drawn anew from their effects and the noise of a well, as often as asked, and judged
in plain numpy. Plates, positions and the scale by controls are left out: they are small beside the noise, or undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy import stats

if TYPE_CHECKING:
    from benchmarks.planted import Planted

DRAWS = 25_000
WELLS = 4
"""Of each perturbation in a condition: four plates, or two plates with two wells."""

Labels = Sequence[Sequence[str]]
Found = dict[str, list[float]]


class Chance:
    """The paper's p of an average precision: the share of random rankings strictly above it, and one added to ``null_size``."""

    def __init__(self, null_size: int) -> None:
        self.null_size = null_size
        self.rng = np.random.Generator(np.random.PCG64(0))
        self.drawn: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, precision: float, positives: int, total: int) -> float:
        if (positives, total) not in self.drawn:
            self.drawn[positives, total] = self._draw(positives, total)
        null = self.drawn[positives, total]
        above = len(null) - np.searchsorted(null, precision * (1 + 1e-10), side="right")
        return float((above / len(null) * self.null_size + 1) / (self.null_size + 1))

    def _draw(self, positives: int, total: int) -> np.ndarray:
        if positives == 1:  # every ranking there is
            return np.sort(1 / np.arange(1.0, total + 1))
        if positives**2 < total:  # few are drawn twice, and left out
            ranks = np.sort(self.rng.integers(1, total + 1, (DRAWS, positives)), axis=1)
            ranks = ranks[(np.diff(ranks, axis=1) > 0).all(axis=1)]
        else:
            ranks = np.sort(np.argsort(self.rng.random((DRAWS, total)), axis=1)[:, :positives], axis=1) + 1
        return np.sort((np.arange(1.0, positives + 1) / ranks).mean(axis=1))


def retrieved(near: np.ndarray, ours: Labels, theirs: Labels, chance: Chance) -> Found:
    """Queries (rows of ``near``) among others (its columns): the logarithms of p of each label."""
    found: Found = {}
    bears = {label: np.array([label in own for own in theirs]) for own in ours for label in own}
    for row, own in zip(near, ours, strict=True):
        if not own:
            continue
        other = row[~np.logical_or.reduce([bears[label] for label in own])]
        other = other[np.isfinite(other)]
        for label in own:
            mine = row[bears[label]]
            mine = np.sort(mine[np.isfinite(mine)])[::-1]
            if len(mine) and len(other):
                ranks = np.arange(1, len(mine) + 1) + (other[None, :] > mine[:, None]).sum(axis=1)
                precision = float((np.arange(1.0, len(mine) + 1) / ranks).mean())
                found.setdefault(label, []).append(np.log(chance(precision, len(mine), len(mine) + len(other))))
    return found


def share(*found: Found, threshold: float = 0.05) -> float:
    """The share of labels that is retrieved: geometric mean of p over queries, then Benjamini and Hochberg."""
    labels = sorted({label for side in found for label in side})
    p = np.exp([np.mean([log for side in found for log in side.get(label, [])]) for label in labels])
    return float((stats.false_discovery_control(np.minimum(p, 1.0)) < threshold).mean()) if labels else 0.0


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T


def sisters(x: np.ndarray, labels: Labels, kind: str, chance: Chance) -> float:
    """The share of labels of one kind; guides of a gene of which one is left take no part."""
    if kind != "compound":
        counts = pl.Series([label for own in labels for label in own]).value_counts(name="n").filter(pl.col("n") > 1)
        known = set(counts[counts.columns[0]])
        keep = np.array([bool(known & set(own)) for own in labels])
        x, labels = x[keep], [own for own, kept in zip(labels, keep, strict=True) if kept]
    near = cosines(x, x)
    near = np.abs(near) if kind == "compound" else near
    np.fill_diagonal(near, np.nan)
    return share(retrieved(near, labels, labels, chance))


def across(x: np.ndarray, ours: Labels, y: np.ndarray, theirs: Labels, chance: Chance) -> float:
    """The share of labels that both sides bear; the labels of the first are restricted to those of the second."""
    borne = {label for own in theirs for label in own}
    within = [[label for label in own if label in borne] for own in ours]
    keep = [i for i, own in enumerate(within) if own]
    near, within = np.abs(cosines(x[keep], y)), [within[i] for i in keep]
    return share(retrieved(near, within, theirs, chance), retrieved(near.T, theirs, within, chance))


def medians(effects: np.ndarray, loadings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A profile of each perturbation: the median of its wells."""
    n, f = effects.shape
    noise = rng.normal(size=(WELLS, n, f)) + rng.normal(size=(WELLS, n, len(loadings))) @ loadings
    return effects + np.median(noise, axis=0)


def expected_shares(planted: Planted, screens: int = 20, null_size: int = 100_000) -> pl.Series:
    """For each row of ``planted.truth`` the share to expect, as a mean over screens; of detection, what was planted."""
    chance, truth, named = Chance(null_size), planted.truth, planted.shape.labels
    rng = np.random.Generator(np.random.PCG64([planted.seed, 4]))
    sums = np.zeros(truth.height)
    for _ in range(screens):
        x, labels = {}, {}
        for condition, effects in planted.effects.items():
            x[condition] = medians(np.stack(list(effects.values())), planted.loadings(), rng)
            labels[condition] = [named[condition[0]][name] for name in effects]
        for i, (task, kind, cell, hour, other, time, n, count) in enumerate(truth.iter_rows()):
            first, second = (kind, cell, hour), (other, cell, time)
            if task == "detection":
                sums[i] += count / n
            elif task == "sister_matching":
                sums[i] += sisters(x[first], labels[first], kind, chance)
            else:
                sums[i] += across(x[first], labels[first], x[second], labels[second], chance)
    return pl.Series("expected", sums / screens)
