from dataclasses import replace

import polars as pl
import pytest

from cytofast.errors import DataError, ProfileWarning
from cytofast.retrieval.rule import Retrieval


def test_features_without_any_value_are_left_out_with_a_word():
    wells = pl.DataFrame(
        {
            "Metadata_pert": ["a", "a", "b", "b"],
            "Cells_x": [1.0, 1.1, -1.0, 0.2],
            "Cells_y": [0.1, 0.0, 1.0, 2.0],
            "Cells_z": pl.Series([None] * 4, dtype=pl.Float64),
        }
    )
    rule = Retrieval(pos_sameby=["Metadata_pert"], neg_diffby=["Metadata_pert"])
    with pytest.warns(ProfileWarning, match="1 of 3 features have no value in any profile and are left out: 'Cells_z'"):
        found = rule.average_precision(wells)
    assert found["average_precision"].equals(rule.average_precision(wells.drop("Cells_z"))["average_precision"])
    listed = replace(rule, features=["Cells_x", "Cells_y", "Cells_z"])
    with pytest.raises(DataError, match="'Cells_z'"):
        listed.average_precision(wells)
