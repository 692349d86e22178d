"""Guides of a gene resemble each other: permuted labels treat those that bear the same labels as one."""

from itertools import product

import numpy as np
import polars as pl
import pytest

from cytofast.tasks.matching import CrossMatching
from tests import oracle_retrieval as retrieval
from tests import oracle_tasks as oracle
from tests.tasks.screens import FEATURES, F, screen

TASK = CrossMatching(
    label=("Metadata_target_list", "Metadata_gene"), detected_only=False, null="labels", null_size=2_000
)


def clustered(genes, seed, guides=2, compounds=1):
    """Guides of a gene share what they do, and so do compounds of a target; guides and compounds share nothing."""
    rng = np.random.default_rng(seed)
    sides = []
    for each in (compounds, guides):
        common = rng.normal(size=(genes, F)).repeat(each, axis=0)
        sides.append(
            (2.5 * common + 1.5 * rng.normal(size=common.shape), [f"G{i // each:02d}" for i in range(genes * each)])
        )
    return (
        screen(*sides[0], "c", noise=0.1, seed=seed),
        screen(*sides[1], "g", noise=0.1, seed=seed + 1, column="Metadata_gene"),
    )


def test_the_null_is_that_of_every_way_to_choose_a_gene_and_a_compound():
    sides = clustered(4, 3)
    found = TASK.answer(*sides)
    assert found["p_method"].to_list() == ["labels, exact, 16 labelings"] * 4
    profiles = oracle.across(
        oracle.labelled(sides[0].to_pandas(), FEATURES, "Metadata_target_list", None),
        oracle.labelled(sides[1].to_pandas(), FEATURES, "Metadata_gene", None),
    )
    near = np.abs(oracle.cosine(profiles[FEATURES].to_numpy(), profiles[FEATURES].to_numpy()))[:4, 4:]

    def score(gene, compound):
        mine = [2 * gene, 2 * gene + 1]
        others = [g for g in range(8) if g not in mine]
        aps = [retrieval.precision_of(list(near[compound, mine]), list(near[compound, others]), optimistic=False)]
        rivals = [c for c in range(4) if c != compound]
        aps += [retrieval.precision_of([near[compound, g]], list(near[rivals, g]), optimistic=False) for g in mine]
        return np.mean(aps)

    null = np.array([score(*chosen) for chosen in product(range(4), range(4))])
    wanted = [np.mean(null >= score(i, i) - 1e-12) for i in range(4)]
    assert found["p_value"].to_list() == pytest.approx(wanted)


def test_what_matches_by_chance_together_is_not_called_a_match():
    p = pl.concat([TASK.answer(*clustered(24, seed, compounds=2)) for seed in range(12)])["p_value"]
    # Of 288 labels without a match. With guides and compounds permuted one by one it was 9.0 % and 4.5 %.
    assert (p <= 0.05).mean() <= 0.075
    assert (p <= 0.01).mean() <= 0.025
