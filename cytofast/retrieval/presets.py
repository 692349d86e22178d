"""The two questions that are asked most, as rules: does it do anything, and do those agree that should."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cytofast.errors import RecipeError, SchemaError, listed
from cytofast.retrieval.rule import Retrieval
from cytofast.schema import PLATE, as_columns

PERTURBATIONS = (
    "Metadata_JCP2022",
    "Metadata_broad_sample",
    "Metadata_pert_id",
    "Metadata_pert",
    "Metadata_pert_iname",
    "Metadata_Compound",
    "Metadata_gene",
)
"""Columns that usually name a perturbation, the most exact first."""
LABELS = ("Metadata_target", "Metadata_target_list", "Metadata_moa", "Metadata_gene")
"""Columns that usually say what perturbations have in common."""
CONTROLS = {"Metadata_control_type": "negcon", "Metadata_pert_type": "negcon"}
"""Columns that usually mark negative controls, and how."""


def _first(known: Iterable[str], columns: Sequence[str], what: str) -> str:
    for name in known:
        if name in columns:
            return name
    raise SchemaError(
        f"no column that usually holds {what}: none of {listed(known, 9)}. Hint: name yours; the table has {listed(columns, 9)}."
    )


def activity(
    columns: Sequence[str],
    perturbation: str | Sequence[str] | None = None,
    controls: str | None = None,
    block: str | Sequence[str] | None = PLATE,
    **options: Any,
) -> Retrieval:
    """The rule for "does it do anything": replicates should find each other among the negative controls of their plate.

    Parameters
    ----------
    columns
        Column names of the table, to look for what is not given.
    perturbation
        What replicates share; ``None`` takes the first of the usual columns.
    controls
        SQL predicate for negative controls; ``None`` takes ``Metadata_control_type = 'negcon'`` or the like.
    block
        Where a replicate's controls lie.
    options
        Further fields of :class:`cytofast.Retrieval`.

    Examples
    --------
    >>> rule = activity(["Metadata_Plate", "Metadata_broad_sample", "Metadata_control_type"])
    >>> rule.pos_sameby, rule.neg_sameby, rule.controls
    (('Metadata_broad_sample',), ('Metadata_Plate',), "Metadata_control_type = 'negcon'")
    """
    chosen = as_columns(perturbation) or [_first(PERTURBATIONS, columns, "perturbations")]
    if controls is None:
        marker = _first(CONTROLS, columns, "control types")
        controls = f"{marker} = '{CONTROLS[marker]}'"
    return Retrieval(pos_sameby=chosen, neg_sameby=as_columns(block), controls=controls, **options)


def consistency(
    columns: Sequence[str],
    label: str | Sequence[str] | None = None,
    perturbation: str | Sequence[str] | None = None,
    **options: Any,
) -> Retrieval:
    """The rule for "do those agree that should": profiles with the same label should find each other among all the rest.

    Parameters
    ----------
    columns
        Column names of the table, to look for what is not given.
    label
        What matching perturbations share: a target, a mechanism. May be a multilabel (name it in ``multilabel=``).
    perturbation
        In what they must differ, if the table holds replicates: a compound is no evidence for its own target.
    options
        Further fields of :class:`cytofast.Retrieval`.

    Examples
    --------
    >>> rule = consistency(["Metadata_moa"], perturbation="Metadata_Compound")
    >>> rule.pos_sameby, rule.pos_diffby, rule.neg_diffby
    (('Metadata_moa',), ('Metadata_Compound',), ('Metadata_moa',))
    """
    chosen = as_columns(label) or [_first(LABELS, columns, "labels")]
    different = as_columns(perturbation)
    if set(chosen) & set(different):
        raise RecipeError(
            f"consistency: label and perturbation are both {chosen}; a profile would have to differ from its own kind"
        )
    return Retrieval(pos_sameby=chosen, pos_diffby=different, neg_diffby=chosen, **options)
