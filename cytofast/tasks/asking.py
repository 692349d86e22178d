"""A retrieval question as tasks ask it: who has nothing to be told from does not ask, and few candidates are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import gammaln

from cytofast.kernels.chance import benjamini_hochberg
from cytofast.retrieval.rule import Retrieval
from cytofast.tasks.task import Task

Doubles = NDArray[np.float64]

ROW, ASKS = "Metadata_Task_Row", "Metadata_Task_Asks"
_PERFECT = 1 - 1e-10


def ask(
    task: Task, rule: Retrieval, table: pl.DataFrame, by: Sequence[str], idle: str
) -> tuple[pl.DataFrame, list[str]]:
    """Mean average precision by ``by``, with ``n_candidates`` and ``doubtful``; and what is to be said about it.

    A query without negatives has an average precision of 1 whatever it looks like (a well on a plate without controls, a
    guide among compounds that all aim at its gene). Nulls that count rankings strictly above the observed one would take
    it for the best there is, so it does not ask; ``idle`` says in words what such rows are.
    """
    numbered = table.with_row_index(ROW)
    scored = rule.average_precision(numbered).filter(pl.col("n_pos_pairs") > 0)
    alone = scored.filter(pl.col("n_total_pairs") == pl.col("n_pos_pairs"))[ROW].unique()
    notes = []
    if alone.len():
        notes.append(f"{alone.len():,} {idle} do not ask: there is nothing to tell them from")
        asks = ~pl.col(ROW).is_in(alone.implode())
        numbered, scored = numbered.with_columns(asks.cast(pl.Int8).alias(ASKS)), scored.filter(asks)
        rule = replace(rule, queries=f"{ASKS} = 1")
    found = rule.mean_average_precision(
        numbered, by, null=task.null, null_size=task.null_size, seed=task.seed, threshold=task.threshold
    )
    if alone.len():
        found = _with_untested(found, rule, numbered, by)
    fewest = scored.group_by(by).agg(pl.col("n_total_pairs").min().cast(pl.Int64).alias("n_candidates"))
    found = found.join(fewest, on=by, how="left", maintain_order="left")
    found = found.with_columns(_doubtful(task, found, scored, by))
    doubtful = found.filter(pl.col("doubtful"))
    if doubtful.height:
        least = int(doubtful["n_candidates"].to_numpy().min())
        notes.append(
            f"{doubtful.height:,} of {int(found['retrieved'].sum()):,} retrieved are doubtful: they rest on perfect rankings of "
            f'few candidates (from {least:,}) and would not be retrieved if rankings as good counted, as by null="labels"'
        )
    return found, notes


def _with_untested(found: pl.DataFrame, rule: Retrieval, table: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Names whose queries have all been left out stay in the table, with nulls."""
    everyone = replace(rule, queries=None).average_precision(table).select(by).unique()
    return (
        everyone.join(found, on=by, how="left")
        .sort(by, nulls_last=True)
        .with_columns(pl.col("n_profiles").fill_null(0))
    )


def _doubtful(task: Task, found: pl.DataFrame, scored: pl.DataFrame, by: Sequence[str]) -> pl.Series:
    """Which are retrieved only because no ranking is above a perfect one, however few there are to rank.

    In planted screens ``null="labels"`` retrieved 1,631 of 1,633 hits that are not doubtful, and 74 of 168 that are.

    The p of such a query is ``1 / (null_size + 1)`` by ``null="cpjump1"``. Here it gets the chance of a perfect ranking, one in
    ``comb(candidates, positives)``, if that is larger; the rest of the procedure is the same.
    """
    retrieved = found["retrieved"]
    if task.null != "cpjump1":
        return pl.Series("doubtful", np.zeros(found.height, dtype=np.bool_)).zip_with(
            retrieved.is_not_null(), pl.Series([None], dtype=pl.Boolean)
        )
    total, positive = (scored[name].cast(pl.Float64).to_numpy() for name in ("n_total_pairs", "n_pos_pairs"))
    rankings: Doubles = gammaln(total + 1) - gammaln(positive + 1) - gammaln(total - positive + 1)
    more = np.maximum(0.0, np.log(task.null_size + 1) - rankings)
    gain = np.where(scored["average_precision"].to_numpy() > _PERFECT, more, 0.0)
    means = scored.select(by).with_columns(pl.Series("gain", gain)).group_by(by).agg(pl.col("gain").mean())
    joined = found.join(means, on=by, how="left", maintain_order="left")
    p = joined["p_value"].fill_null(float("nan")).to_numpy() * np.exp(joined["gain"].fill_null(0.0).to_numpy())
    fair = benjamini_hochberg(np.minimum(p, 1.0))
    return (retrieved & pl.Series(~(fair < task.threshold))).alias("doubtful")
