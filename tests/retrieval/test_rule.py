import tracemalloc
from dataclasses import replace

import numpy as np
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


@pytest.mark.parametrize("far", [1e150, 1e200, 1.7e308])
def test_distances_that_overflow_are_refused(far):
    rng = np.random.default_rng(0)
    wells = pl.DataFrame(
        {"Metadata_pert": np.arange(60) // 3, "Cells_a": rng.normal(size=60), "Cells_b": rng.normal(size=60)}
    )
    rule = Retrieval(["Metadata_pert"], neg_diffby=["Metadata_pert"], metric="euclidean")
    assert rule.average_precision(wells.with_columns(Cells_a=pl.col("Cells_a") * 1e100)).height == 60
    outlier = pl.when(pl.int_range(pl.len()) == 7).then(far).otherwise("Cells_a").alias("Cells_a")
    with pytest.raises(DataError, match=r"overflow: row 7 \(Metadata_pert=2\)"):
        rule.average_precision(wells.with_columns(outlier))


def test_many_small_blocks_take_memory_in_proportion():
    """Plates of four wells: what is kept of a plate must not grow with the number of plates."""

    def peak(n):
        rng = np.random.default_rng(0)
        wells = pl.DataFrame({"Metadata_Plate": np.arange(n) // 4, "Metadata_pert": np.arange(n) % 4 // 2})
        wells = wells.with_columns(Cells_a=rng.normal(size=n), Cells_b=rng.normal(size=n), Cells_c=rng.normal(size=n))
        wells = wells.with_columns(Metadata_target=pl.col("Metadata_pert").cast(pl.String))
        rule = Retrieval(
            ["Metadata_Plate", "Metadata_target"],
            neg_sameby=["Metadata_Plate"],
            neg_diffby=["Metadata_target"],
            multilabel="Metadata_target",
        )
        tracemalloc.start()
        try:
            rule.average_precision(wells)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(400)
    assert peak(4_000) < 20 * peak(400)
