"""Which wells are the negative controls: as the user says, as is usual, or as the store's own recipe has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import predicate_columns, reference_mask
from cytofast.errors import DataError
from cytofast.report.parts import attempt
from cytofast.retrieval.presets import CONTROLS


@dataclass(frozen=True)
class Controls:
    """The negative controls of a store.

    Attributes
    ----------
    predicate
        In SQL; ``None`` where nobody knows.
    source
        Who says so, in words.
    marker
        The column and its value, where one value of one column marks them: the store's questions take these.
    """

    predicate: str | None = None
    source: str = ""
    marker: tuple[str, str] | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """What a question about control wells is asked with."""
        return {} if self.marker is None else {"column": self.marker[0], "control": self.marker[1]}

    @property
    def several(self) -> bool:
        """Whether they are known, but not by one value of one column."""
        return self.predicate is not None and self.marker is None


def find_controls(metadata: pl.DataFrame, given: str | None, steps: Iterable[Mapping[str, Any]]) -> Controls:
    """The predicate that is given; or a usual column; or what a step of the recipe scaled plates by, the last one first.

    Raises
    ------
    SchemaError
        The given predicate asks for a column that is not there.
    DataError
        No well satisfies the given predicate, or all do.
    """
    if given is not None:
        mask = reference_mask(metadata, given, "controls")
        if mask is None or not mask.any() or mask.all():
            raise DataError(
                f"controls: {'every' if mask is None or mask.all() else 'no'} well satisfies {given!r}. Hint: is the value "
                "written as in the table?"
            )
        return Controls(given, "as was asked for", _marker(metadata, given, mask))
    for name, value in CONTROLS.items():
        predicate = f"{name} = '{value}'"
        if name in metadata.columns:
            mask = attempt(reference_mask, metadata, predicate, "controls").value
            if mask is not None and mask.any():
                return Controls(predicate, "as is usual", (name, value))
    for step in reversed(list(steps)):
        reference = step.get("parameters", {}).get("reference")
        mask = attempt(reference_mask, metadata, reference, "controls").value if isinstance(reference, str) else None
        if isinstance(reference, str) and mask is not None and mask.any() and not mask.all():
            source = f"the reference of {step.get('step')} in the store's recipe"
            return Controls(reference, source, _marker(metadata, reference, mask))
    return Controls()


def _marker(metadata: pl.DataFrame, predicate: str, mask: NDArray[np.bool_]) -> tuple[str, str] | None:
    columns = predicate_columns(predicate)
    if len(columns) != 1:
        return None
    column = metadata[columns[0]]
    values = column.filter(pl.Series(mask)).unique()
    if values.len() != 1 or values.null_count() or int((column == values[0]).sum()) != int(mask.sum()):
        return None
    return columns[0], str(values.cast(pl.String)[0])
