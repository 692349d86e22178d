"""What the tasks of a benchmark found: eight tidy tables, in memory or in a folder."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import polars as pl

from cytofast.errors import StoreError, listed
from cytofast.store.partition import read_frame, write_frame

AGAINST = "_against"
"""Added to a condition column for the second side of a task across conditions."""


@dataclass(frozen=True)
class TaskResults:
    """Every task over every condition, as :func:`cytofast.answer_conditions` gives it.

    All tables begin with ``task`` (text) and the condition columns, under the names that they have in the profiles. Tasks
    across conditions (compounds against genes) have a second condition: its columns end in ``_against``, and are null
    elsewhere. Only columns in which the two sides may differ have such a twin.

    Attributes
    ----------
    summary
        One row a task and condition: ``task``, conditions, conditions ``_against``, ``n`` (perturbations, labels or pairs
        that could be tested), ``fraction_retrieved``, ``low``, ``high`` (exact 95 % interval of a share, after Clopper and
        Pearson), ``published`` (from the paper, null where there is none), ``n_retrieved``, ``n_untested``,
        ``mean_average_precision`` (mean over what was tested; null for pairs), ``status`` (``"done"`` or
        ``"impossible"``) and ``note`` (why it is impossible, or what was left out; null where there is nothing to say).
    plates
        One row a condition and plate (``task`` is ``"plates"``): ``plate``, ``n_wells``, ``n_controls``, ``n_empty``
        (wells without a perturbation), ``n_invalid`` (wells left out, their features being incomplete).
    perturbations
        One row a perturbation and detection task: ``name``, ``about`` (its targets or gene), ``position`` (the well, where
        only replicates in the same well count), ``mean_average_precision``, ``mean_normalized_average_precision``, ``p_value``,
        ``p_method``, ``q_value``, ``n_profiles``, ``n_candidates`` (the fewest profiles that one of its queries ranked),
        ``retrieved`` (null where it could not be tested), ``doubtful`` (retrieved only because ``null="cpjump1"`` gives a
        perfect ranking the smallest p there is, however few were ranked; by ``null="labels"`` about half of these hold).
    labels
        One row a label (target, gene) and matching task: ``name``, ``about`` (the perturbations that bear it), and the same
        columns as ``perturbations`` from ``mean_average_precision`` on.
    directions
        One row a directionality or percent-matching task and condition: ``n_same``, ``n_different`` (pairs), ``low_threshold``,
        ``high_threshold`` (5th and 95th percentile of different pairs), ``n_below``, ``n_above``, ``share_below``,
        ``share_above``, ``odds_ratio`` and ``p_value`` (Fisher's exact test: above against below, same against different
        pairs), ``p_below``, ``p_above`` (Fisher's exact test of each tail: more same than different pairs).
    pairs
        One row a true pair: ``first``, ``second`` (perturbation or gene), ``shared`` (labels), ``similarity``, ``beyond``
        (``"below"``, ``"between"``, ``"above"``).
    quantiles
        For drawing the distributions: ``quantile`` (0 to 1, 101 rows a condition), ``same``, ``different`` (similarities).
    neighbours
        One row a treatment and nearest-neighbour task: ``name``, ``label``, ``neighbour``, ``neighbour_label``, ``similarity``,
        ``n_allowed``, ``n_same``, ``correct`` (see :meth:`cytofast.NearestNeighbourAccuracy.answer`).
    conditions
        Names of the condition columns.
    apart
        Those of them that have a twin ending in ``_against``.
    """

    summary: pl.DataFrame
    plates: pl.DataFrame
    perturbations: pl.DataFrame
    labels: pl.DataFrame
    directions: pl.DataFrame
    pairs: pl.DataFrame
    quantiles: pl.DataFrame
    neighbours: pl.DataFrame = field(default_factory=pl.DataFrame)
    conditions: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    def __repr__(self) -> str:
        done = self.summary.filter(self.summary["status"] == "done").height
        return f"TaskResults({self.summary.height} tasks and conditions, {done} done, by {', '.join(self.conditions)})"

    def write(self, folder: Path) -> None:
        """Write every table into a folder, as Parquet files with its name.

        The summary goes first and comes last: while it is not there, the tables may be of two runs.
        """
        (folder / f"{TABLES[0]}.parquet").unlink(missing_ok=True)
        for name in reversed(TABLES):
            write_frame(folder / f"{name}.parquet", getattr(self, name))


TABLES = tuple(field.name for field in fields(TaskResults))[:8]

_RETRIEVED: dict[str, pl.DataType] = {
    "mean_average_precision": pl.Float64(),
    "mean_normalized_average_precision": pl.Float64(),
    "p_value": pl.Float64(),
    "p_method": pl.String(),
    "q_value": pl.Float64(),
    "n_profiles": pl.Int64(),
    "n_candidates": pl.Int64(),
    "retrieved": pl.Boolean(),
    "doubtful": pl.Boolean(),
}
COLUMNS: dict[str, dict[str, pl.DataType]] = {
    "summary": {
        "n": pl.Int64(),
        "fraction_retrieved": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "published": pl.Float64(),
        "n_retrieved": pl.Int64(),
        "n_untested": pl.Int64(),
        "mean_average_precision": pl.Float64(),
        "status": pl.String(),
        "note": pl.String(),
    },
    "plates": {
        "plate": pl.String(),
        "n_wells": pl.Int64(),
        "n_controls": pl.Int64(),
        "n_empty": pl.Int64(),
        "n_invalid": pl.Int64(),
    },
    "perturbations": {"name": pl.String(), "about": pl.String(), "position": pl.String(), **_RETRIEVED},
    "labels": {"name": pl.String(), "about": pl.String(), **_RETRIEVED},
    "directions": {
        **dict.fromkeys(("n_same", "n_different"), pl.Int64()),
        **dict.fromkeys(("low_threshold", "high_threshold"), pl.Float64()),
        **dict.fromkeys(("n_below", "n_above"), pl.Int64()),
        **dict.fromkeys(("share_below", "share_above", "odds_ratio", "p_value", "p_below", "p_above"), pl.Float64()),
    },
    "pairs": {
        "first": pl.String(),
        "second": pl.String(),
        "shared": pl.String(),
        "similarity": pl.Float64(),
        "beyond": pl.String(),
    },
    "quantiles": {"quantile": pl.Float64(), "same": pl.Float64(), "different": pl.Float64()},
    "neighbours": {
        **dict.fromkeys(("name", "label", "neighbour", "neighbour_label"), pl.String()),
        "similarity": pl.Float64(),
        **dict.fromkeys(("n_allowed", "n_same"), pl.Int64()),
        "correct": pl.Boolean(),
    },
}
"""Columns of each table behind ``task`` and the conditions."""


def read_results(folder: str | Path) -> TaskResults:
    """Read the tables that a benchmark has written: ``STORE/benchmarks/cpjump1``, say.

    Raises
    ------
    StoreError
        The folder has no finished benchmark, or a file is damaged.
    """
    folder = Path(folder)
    missing = [name for name in TABLES if not (folder / f"{name}.parquet").is_file()]
    if missing:
        raise StoreError(
            f"{folder}: no finished benchmark here; {listed(missing, 8)} missing. Hint: run `cytofast benchmark cpjump1`."
        )
    tables = {name: read_frame(folder / f"{name}.parquet") for name in TABLES}
    names = tables["summary"].columns
    keys = names[1 : names.index("n")]
    apart = tuple(name.removesuffix(AGAINST) for name in keys if name.endswith(AGAINST))
    return TaskResults(**tables, conditions=tuple(n for n in keys if not n.endswith(AGAINST)), apart=apart)
