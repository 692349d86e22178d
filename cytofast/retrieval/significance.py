"""Mean average precision of perturbations, what chance would give, and how many perturbations are retrieved."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import group_rows, require_polars
from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.kernels.chance import benjamini_hochberg
from cytofast.kernels.rng import generator
from cytofast.retrieval.nulls import TABLE_NULLS, Groups, table_p_values
from cytofast.retrieval.profiles import rows_shown, whole_number
from cytofast.schema import as_columns, require_columns

if TYPE_CHECKING:
    from cytofast.retrieval.rule import Retrieval

Doubles = NDArray[np.float64]

_AP = ("average_precision", "n_pos_pairs", "n_total_pairs")
_WHERE = "mean_average_precision"
_ALONE = "labels, exact, 1 labelings"


def mean_average_precision(
    ap: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    null: Literal["ranks", "copairs", "cpjump1", "labels"] = "ranks",
    null_size: int = 100_000,
    seed: int = 0,
    threshold: float = 0.05,
) -> pl.DataFrame:
    """Mean average precision (mAP) of each perturbation from a table of AP, with a p-value under random rankings.

    Parameters
    ----------
    ap
        What :func:`cytofast.average_precision` gives: ``average_precision``, ``n_pos_pairs``, ``n_total_pairs``, metadata.
    sameby
        Columns that name a perturbation; its queries are averaged.
    null
        - ``"ranks"``: every query ranks its candidates at random, independently of the others. Exact where the
          outcomes can be written out, or where few of them reach the observed mAP; else ``null_size`` draws.
        - ``"copairs"``: the convention of copairs 0.5.5. Queries with the same numbers of candidates share one null
          ranking, and a null mAP must be *above* the observed one to count.
        - ``"cpjump1"``: the convention of the CPJUMP1 paper. A p-value for each profile (null AP above the observed
          one), and their geometric mean for the perturbation, which is not a valid p-value in general.

        All three take queries for independent or identical, which replicates are not: they share controls, plates and
        each other. On 1,500 simulated perturbations without effect, of 4 replicates, the share of p <= 0.05 and p <= 0.01 was
        0.101 and 0.040 for independent rankings (false positives), 0.011 and 0.000 for the shared one (power lost), 0.017
        and 0.001 for the geometric mean, and 0.055 and 0.010 for permuted labels. The latter, ``null="labels"``, need the
        profiles: :meth:`cytofast.Retrieval.mean_average_precision`.
    null_size
        Draws.
    seed
        The same seed gives the same p for a perturbation whatever else is in the table.
    threshold
        ``retrieved`` says ``q_value < threshold``.

    Returns
    -------
    polars.DataFrame
        One row a perturbation, sorted: the ``sameby`` columns, ``mean_average_precision``,
        ``mean_normalized_average_precision``, ``p_value``, ``p_method`` (which distribution, and whether exact or sampled),
        ``q_value`` (Benjamini-Hochberg), ``n_profiles`` (queries that have positives) and ``retrieved``.
        Perturbations whose queries have no positives stay in the table, with nulls.

    Examples
    --------
    >>> import polars as pl
    >>> ap = pl.DataFrame({"Metadata_pert": ["a"], "average_precision": [1.0], "n_pos_pairs": [1], "n_total_pairs": [10]})
    >>> mean_average_precision(ap, "Metadata_pert").select("mean_average_precision", "p_value", "p_method").row(0)
    (1.0, 0.1, 'ranks, exact')
    """
    if null not in TABLE_NULLS:
        if null == "labels":
            raise RecipeError(
                'null="labels" permutes labels among profiles, so a table of average precision is not enough. Hint: use '
                "Retrieval(...).mean_average_precision(profiles, sameby=...)."
            )
        raise RecipeError.unknown("null", null, [*TABLE_NULLS, "labels"])
    require_polars(ap, "mean_average_precision")
    table = ap.collect() if isinstance(ap, pl.LazyFrame) else ap
    null_size = whole_number("null_size", null_size, 1, _WHERE)
    seed = whole_number("seed", seed, 0, _WHERE)
    columns = checked(table, as_columns(sameby), threshold)
    groups, keys = grouped(table, columns)
    p, method = table_p_values(groups, null, null_size, seed)
    return summary(table, keys, groups, p, method, threshold)


def checked(table: pl.DataFrame, columns: list[str], threshold: float, *, nulls: bool = False) -> list[str]:
    """Refuse a table or a threshold that cannot give p-values; ``nulls``: null may name a perturbation."""
    where = _WHERE
    if not columns:
        raise RecipeError(f"{where}: sameby names no column; give those that name a perturbation")
    require_columns(table.schema, [*columns, *_AP], where)
    if not isinstance(threshold, numbers.Real) or not 0 < threshold <= 1:
        raise RecipeError(f"{where}: threshold must lie in (0, 1], not {threshold!r}")
    absent = table.select(pl.any_horizontal(pl.col(name).is_null() for name in columns)).to_series().to_numpy()
    if absent.any() and not nulls:
        raise DataError(
            f"{where}: nulls in sameby columns: {rows_shown(table, np.flatnonzero(absent))}. "
            "Hint: fill them, or filter these rows out."
        )
    known = (
        table["average_precision"].is_not_null() & table["average_precision"].is_not_nan() & (table["n_pos_pairs"] > 0)
    )
    if not known.any():
        raise DataError(f"{where}: no row has an average precision. Hint: has each perturbation one profile only?")
    ap = pl.col("average_precision")
    wrong = (ap < 0) | (ap > 1 + 1e-6) | (pl.col("n_pos_pairs") > pl.col("n_total_pairs"))
    bad = table.filter(known).select(wrong.sum()).item()
    if bad:
        raise DataError(f"{where}: {bad:,} rows have a precision outside [0, 1], or more positives than candidates")
    return columns


def grouped(table: pl.DataFrame, columns: list[str]) -> tuple[Groups, pl.DataFrame]:
    """Queries of each perturbation, and the perturbations' names."""
    codes, keys = group_rows(table, columns)
    precision = table["average_precision"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    positives = table["n_pos_pairs"].cast(pl.Int64).fill_null(0).to_numpy()
    single = table.schema["average_precision"] == pl.Float32
    groups = Groups(
        codes=np.where(np.isnan(precision) | (positives == 0), -1, codes),
        size=keys.height,
        precision=precision,
        n_positives=positives,
        n_total=table["n_total_pairs"].cast(pl.Int64).fill_null(0).to_numpy(),
        # A table that went through float32 no longer equals the fractions that it stands for.
        tolerance=2.0**-22 if single else 1e-10,
    )
    return groups, keys


def summary(
    table: pl.DataFrame, keys: pl.DataFrame, groups: Groups, p: Doubles, method: list[str | None], threshold: float
) -> pl.DataFrame:
    """The result table of a test."""
    q = benjamini_hochberg(p)
    out = keys.with_columns(pl.Series("mean_average_precision", groups.means).fill_nan(None))
    if "normalized_average_precision" in table.columns:
        normalized = table["normalized_average_precision"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        out = out.with_columns(
            pl.Series("mean_normalized_average_precision", groups.mean_of(normalized)).fill_nan(None)
        )
    q_value = pl.Series("q_value", q).fill_nan(None)
    return out.with_columns(
        pl.Series("p_value", p).fill_nan(None),
        pl.Series("p_method", method, dtype=pl.String),
        q_value,
        pl.Series("n_profiles", groups.counts),
        (q_value < threshold).alias("retrieved"),
    )


def mean_average_precision_of(
    rule: Retrieval,
    profiles: pl.DataFrame | pl.LazyFrame,
    columns: list[str],
    null: str,
    null_size: int,
    seed: int,
    threshold: float,
) -> pl.DataFrame:
    """What :meth:`cytofast.Retrieval.mean_average_precision` gives."""
    if null not in (*TABLE_NULLS, "labels"):
        raise RecipeError.unknown("null", null, [*TABLE_NULLS, "labels"])
    null_size = whole_number("null_size", null_size, 1, _WHERE)
    seed = whole_number("seed", seed, 0, _WHERE)
    ready, pairing, table = rule.scored(profiles, also=columns)
    checked(table, columns, threshold, nulls=rule.nulls == "value")
    groups, keys = grouped(table, columns)
    if null == "labels":
        from cytofast.retrieval.labels import label_p_values

        p, method = label_p_values(rule, ready, pairing, groups, null_size, seed)
        _report_stuck(rule, method, int(np.count_nonzero(groups.counts)))
    else:
        p, method = table_p_values(groups, null, null_size, seed)
    return summary(table, keys, groups, p, method, threshold)


def _report_stuck(rule: Retrieval, method: list[str | None], tested: int) -> None:
    """Say where a p-value of 1 means that there is nothing to exchange labels with, which the p-value does not tell."""
    stuck = method.count(_ALONE)
    if stuck:
        kept = [*rule.neg_sameby, *rule.pos_diffby, *(name for name in rule.neg_diffby if name not in rule.pos_sameby)]
        warnings.warn(
            f"{stuck:,} of {tested:,} perturbations have no profile to exchange labels with, so their p is 1 whatever they "
            f"look like: a profile keeps its values of {listed(kept, 9)}. Hint: where a column of neg_diffby tells "
            'controls from all others, say controls= instead; name fewer columns in pos_diffby; or take null="ranks".',
            ProfileWarning,
            stacklevel=4,
        )


def fraction_retrieved(
    table: pl.DataFrame,
    by: str | Sequence[str] | None = None,
    threshold: float = 0.05,
    n_bootstrap: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pl.DataFrame:
    """Share of perturbations with ``q_value < threshold``, with a bootstrap interval over perturbations.

    Parameters
    ----------
    table
        What a ``mean_average_precision`` gives. Perturbations without a p-value are counted in ``n_untested`` only.
    by
        Columns to report separately by, a time point for example; q-values stay as they are in the table.
    threshold
        On ``q_value``.
    n_bootstrap, confidence, seed
        Perturbations are drawn with replacement so many times; the interval holds this share of the fractions. It says how
        much the fraction hangs on the perturbations that were chosen; it does not correct q-values again. Where none or all
        are retrieved every draw is alike, so the interval is the exact one of a share (Clopper and Pearson 1934).

    Returns
    -------
    polars.DataFrame
        ``by`` columns, ``fraction_retrieved``, ``lower``, ``upper``, ``n_retrieved``, ``n_perturbations``, ``n_untested``.

    Examples
    --------
    >>> import polars as pl
    >>> fraction_retrieved(pl.DataFrame({"q_value": [0.01, 0.2, 0.03, None]}))["fraction_retrieved"].round(3).to_list()
    [0.667]
    """
    columns = as_columns(by)
    require_polars(table, "fraction_retrieved")
    require_columns(table.collect_schema(), [*columns, "q_value"], "fraction_retrieved")
    n_bootstrap = whole_number("n_bootstrap", n_bootstrap, 1, "fraction_retrieved")
    seed = whole_number("seed", seed, 0, "fraction_retrieved")
    if not 0 < confidence < 1:
        raise RecipeError(f"fraction_retrieved: confidence must lie in (0, 1), not {confidence}")
    table = table.lazy().select(*columns, "q_value").collect()
    codes, keys = group_rows(table, columns)
    q = table["q_value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    rows = []
    for group in range(keys.height if columns else 1):
        values = q[codes == group]
        tested = values[~np.isnan(values)]
        hits, n = int((tested < threshold).sum()), len(tested)
        # The fraction of a resample is a binomial share: no need to draw the perturbations themselves.
        shares = generator(seed).binomial(n, hits / n, size=n_bootstrap) / n if n else np.full(1, np.nan)
        tail = (1 - confidence) / 2
        lower, upper = np.quantile(shares, [tail, 1 - tail]).tolist()
        if n and hits == 0:
            upper = 1 - tail ** (1 / n)
        elif n and hits == n:
            lower = tail ** (1 / n)
        rows.append((hits / n if n else None, lower, upper, hits, n, len(values) - n))
    names = ["fraction_retrieved", "lower", "upper", "n_retrieved", "n_perturbations", "n_untested"]
    found = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("lower", "upper").cast(pl.Float64).fill_nan(None)
    )
    return keys.hstack(found) if columns else found
