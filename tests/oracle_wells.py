"""Plain slow twins of the well-level kernels: the definitions, value by value."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Rows = Sequence[Sequence[float]]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    """r over the positions where both are finite; NaN where it is not defined."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(pairs) < 2:
        return math.nan
    xs, ys = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(xs)) == 1 or len(set(ys)) == 1:
        return math.nan
    mx, my = mean(xs), mean(ys)
    xy = math.fsum((a - mx) * (b - my) for a, b in pairs)
    xx, yy = math.fsum((a - mx) ** 2 for a in xs), math.fsum((b - my) ** 2 for b in ys)
    return max(-1.0, min(1.0, xy / math.sqrt(xx * yy)))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; ties share the mean of their ranks."""
    return [sum(b < a for b in values) + (sum(b == a for b in values) + 1) / 2 for a in values]


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    return pearson(ranks([a for a, _ in pairs]), ranks([b for _, b in pairs])) if pairs else math.nan


def correlation_matrix(columns: Rows, measure=pearson) -> list[list[float]]:
    return [[1.0 if i == j else measure(x, y) for j, y in enumerate(columns)] for i, x in enumerate(columns)]


def drop_by_pairs(r: Rows, threshold: float, absolute: bool = False) -> set[int]:
    """Of each pair over the threshold the one with the larger sum of |r| goes; at equal sums the later one."""
    sums = [math.fsum(abs(v) for v in row if not math.isnan(v)) for row in r]
    gone = set()
    for i in range(len(r)):
        for j in range(i):
            value = abs(r[i][j]) if absolute else r[i][j]
            if value > threshold:
                gone.add(i if sums[i] > sums[j] - 1e-9 else j)
    return gone


def drop_in_turn(r: Rows, threshold: float) -> set[int]:
    sums = [round(math.fsum(abs(v) for v in row if not math.isnan(v)), 8) for row in r]
    kept: list[int] = []
    for i in sorted(range(len(r)), key=lambda k: (sums[k], k)):
        if all(not r[i][j] > threshold for j in kept):
            kept.append(i)
    return set(range(len(r))) - set(kept)


def modz(rows: Rows, min_weight: float = 0.01, precision: int | None = 4) -> list[float]:
    """The weighted sum of replicates; a missing value counts as 0, one that all lack is missing."""
    n = len(rows)
    if n == 1:
        return list(rows[0])
    raw = []
    for i in range(n):
        others = [spearman(rows[i], rows[j]) for j in range(n) if j != i]
        positive = [max(r, 0.0) for r in others if not math.isnan(r)]
        raw.append(max(mean(positive) if positive else 0.0, min_weight))
    total = math.fsum(raw)
    weights = [w / total if total else 1 / n for w in raw]
    if precision is not None:
        weights = [float(np.round(w, precision)) for w in weights]
    out = []
    for column in zip(*rows, strict=True):
        if all(math.isnan(v) for v in column):
            out.append(math.nan)
        else:
            out.append(math.fsum(w * v for w, v in zip(weights, column, strict=True) if not math.isnan(v)))
    return out


def frequencies(values: Sequence[float]) -> tuple[float, float]:
    """Second most common / most common, and distinct / rows."""
    present = [v for v in values if not math.isnan(v)]
    counts = sorted((present.count(v) for v in set(present)), reverse=True)
    return (counts[1] / counts[0] if len(counts) > 1 else 0.0), len(counts) / len(values)


def median_polish(table: np.ndarray, iterations: int) -> np.ndarray:
    """Residuals after taking row medians and column medians away in turn."""
    left = np.array(table, dtype=float)
    for _ in range(iterations):
        left = left - np.nanmedian(left, axis=1, keepdims=True)
        left = left - np.nanmedian(left, axis=0, keepdims=True)
    return left
