"""One question answered: the tables it gives, its fraction with an interval, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy import stats

from cytofast.errors import DataError
from cytofast.tasks.detection import Detection
from cytofast.tasks.directionality import Pairs, PairTask
from cytofast.tasks.matching import CrossMatching, SisterMatching
from cytofast.tasks.neighbours import NearestNeighbourAccuracy
from cytofast.tasks.parts import Part
from cytofast.tasks.task import Wells

QUANTILES = np.linspace(0.0, 1.0, 101)

Side = tuple[Wells, pl.DataFrame | None]
"""Wells, and what was detected among them."""


def detection_part(task: Detection, wells: Wells) -> Part:
    """Detection in one condition."""
    found, notes = task.answer_wells(wells)
    return Part({"perturbations": found}, _fraction(found, task.threshold), [*wells.notes, *notes])


def sister_part(task: SisterMatching, side: Side) -> Part:
    """Sister matching in one condition."""
    found, notes = task.answer_wells(*side)
    return Part({"labels": found}, _fraction(found, task.threshold), notes)


def cross_part(task: CrossMatching, first: Side, second: Side) -> Part:
    """Matching of two conditions."""
    found, notes = task.answer_wells(first[0], second[0], (first[1], second[1]))
    return Part({"labels": found}, _fraction(found, task.threshold), notes)


def neighbour_part(task: NearestNeighbourAccuracy, wells: Wells) -> Part:
    """Nearest neighbours in one condition; found means right."""
    found, notes = task.answer_wells(wells)
    wrong = found.select((1 - found["correct"].cast(pl.Float64)).alias("q_value"))
    return Part({"neighbours": found}, _fraction(wrong, 0.5), notes)


def pair_part(task: PairTask, sides: Sequence[tuple[Side, Side, pl.DataFrame]]) -> Part:
    """Pairs of two conditions, or of several pairs of conditions together; the frame says which, in one row."""
    whole: list[Pairs] = []
    notes: list[str] = []
    refused: list[str] = []
    for first, second, keys in sides:
        try:
            pairs, left_out = task.pairs(first[0], second[0], (first[1], second[1]))
        except DataError as error:
            if len(sides) == 1:
                raise
            refused.append(str(error))
            continue
        notes += [note for note in left_out if note not in notes]
        marks = [pl.lit(keys[name].item(), keys.schema[name]).alias(name) for name in keys.columns]
        whole.append(Pairs(pairs.same.select([*marks, pl.all()]), pairs.different))
    if not whole:
        raise DataError(refused[0])
    pooled = Pairs(pl.concat([p.same for p in whole]), np.concatenate([p.different for p in whole]))
    if len(pooled.different) * task.tails < 1:
        notes.append(
            f"the thresholds rest on {len(pooled.different):,} pairs that share no label, too few for such quantiles"
        )
    judged = task.judged(pooled)
    counted = pl.DataFrame({"q_value": (~task.retrieved(judged)).cast(pl.Float64)})
    quantiles = pl.DataFrame(
        {
            "quantile": QUANTILES,
            "same": np.quantile(pooled.same["similarity"].to_numpy(), QUANTILES),
            "different": np.quantile(pooled.different, QUANTILES),
        }
    )
    tables = {"directions": task.directions(pooled), "pairs": judged, "quantiles": quantiles}
    return Part(tables, _fraction(counted, 0.5), [*refused, *notes])


def _fraction(found: pl.DataFrame, threshold: float) -> dict[str, float | int | None]:
    """The share retrieved of what could be tested, with an exact interval: that of a bootstrap has no width at 0 and 1."""
    tested = found.filter(pl.col("q_value").is_not_null())
    hits, n = int((tested["q_value"] < threshold).sum()), tested.height
    mean = tested["mean_average_precision"].mean() if "mean_average_precision" in found.columns else None
    interval = stats.binomtest(hits, n).proportion_ci(0.95, method="exact") if n else None
    return {
        "n": n,
        "fraction_retrieved": hits / n if n else None,
        "low": None if interval is None else float(interval.low),
        "high": None if interval is None else float(interval.high),
        "n_retrieved": hits,
        "n_untested": found.height - n,
        "mean_average_precision": float(mean) if isinstance(mean, int | float) else None,
    }
