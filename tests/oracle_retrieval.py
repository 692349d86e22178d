"""Plain, slow twins of retrieval: every pair looked at, every order written out."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import combinations
from math import comb

import numpy as np

GRID = 2.0**32


def similarity(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    if metric == "euclidean":
        return -float(np.sum((a - b) ** 2))
    if metric == "correlation":
        a, b = a - a.mean(), b - b.mean()
    value = float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    return abs(value) if metric == "abs_cosine" else value


def pairs(rows: list[dict], i: int, sameby, diffby, multilabel=None, label=None) -> list[int]:
    """Partners of row ``i``; ``label``: partners must bear this label; a multilabel in diffby must share none."""
    found = []
    for j, other in enumerate(rows):
        if j == i:
            continue
        same = all(other[c] == rows[i][c] for c in sameby if c != multilabel)
        different = all(other[c] != rows[i][c] for c in diffby if c != multilabel)
        if multilabel in sameby:
            same = same and label in other[multilabel]
        if multilabel in diffby:
            different = different and not set(other[multilabel]) & set(rows[i][multilabel])
        if same and different:
            found.append(j)
    return found


def precision_of(positives: list[float], negatives: list[float], optimistic: bool) -> float:
    """Expected average precision over every order of tied candidates, in fractions."""
    values = sorted({*positives, *negatives}, reverse=True)
    total, above, rank = Fraction(0), 0, 0
    for value in values:
        p, n = positives.count(value), negatives.count(value)
        if p:
            orders = (
                [tuple(range(p))] if optimistic else combinations(range(p + n), p) if comb(p + n, p) <= 30 else None
            )
            if orders is None:
                total += tied(above, rank, p, n)
            else:
                orders = list(orders)
                gain = sum(
                    sum(Fraction(above + k + 1, rank + place + 1) for k, place in enumerate(order)) for order in orders
                )
                total += Fraction(gain, len(orders))
        above, rank = above + p, rank + p + n
    return float(total / len(positives))


def tied(above: int, rank: int, p: int, n: int) -> Fraction:
    """The same expectation for blocks too large to write out."""
    size = p + n
    return sum(
        (
            Fraction(p, size) * (above + 1 + Fraction((i - 1) * (p - 1), size - 1 if size > 1 else 1)) / (rank + i)
            for i in range(1, size + 1)
        ),
        Fraction(0),
    )


def average_precision(
    rows: list[dict],
    x: np.ndarray,
    pos_sameby,
    pos_diffby,
    neg_sameby,
    neg_diffby,
    metric="cosine",
    optimistic=False,
    multilabel=None,
) -> list[tuple[int, str | None, float | None, int, int]]:
    """``(row, label, AP, positives, candidates)`` of each query instance."""
    x = np.asarray(x, dtype=np.float64)
    scale = 1.0
    if metric == "euclidean":
        scale = float(np.median(np.linalg.norm(x - x.mean(axis=0), axis=1))) or 1.0
    out = []
    for i, row in enumerate(rows):
        near = [
            round(similarity(x[i] / scale, x[j] / scale, metric) * GRID) if i != j else None for j in range(len(rows))
        ]
        for label in row[multilabel] if multilabel in pos_sameby else [None]:
            positives = pairs(rows, i, pos_sameby, pos_diffby, multilabel, label)
            negatives = pairs(rows, i, neg_sameby, neg_diffby, multilabel)
            ap = (
                precision_of([near[j] for j in positives], [near[j] for j in negatives], optimistic)
                if positives
                else None
            )
            out.append((i, label, ap, len(positives), len(positives) + len(negatives)))
    return out


@cache
def expected_precision(m: int, n: int) -> float:
    """Mean average precision over every ranking of ``m`` positives among ``n``."""
    return float(np.mean(precisions(m, n)))


def precisions(m: int, n: int) -> list[float]:
    """Average precision of each possible set of positions."""
    return [sum((k + 1) / (r + 1) for k, r in enumerate(places)) / m for places in combinations(range(n), m)]


def dense_average_precision(similarities: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """AP of each row by full matrices: for tables that are too large to write every order of."""
    cells = np.rint(similarities * GRID)
    out = np.full(len(cells), np.nan)
    for i, row in enumerate(cells):
        wanted, others = row[positive[i]], row[negative[i]]
        if not len(wanted):
            continue
        total, seen = 0.0, 0
        for value in np.unique(wanted)[::-1]:
            p, above, level = int((wanted == value).sum()), int((others > value).sum()), int((others == value).sum())
            if level:
                total += float(tied(seen, seen + above, p, level))
            else:
                total += sum((seen + k) / (seen + above + k) for k in range(1, p + 1))
            seen += p
        out[i] = total / len(wanted)
    return out
