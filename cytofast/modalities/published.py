"""The published procedure of Haghighi et al. 2022, as far as its numbers depend on it: folds, penalties, and what to say."""

from __future__ import annotations

import numpy as np

from cytofast.modalities.folds import Integers, grouped_folds

LASSO = tuple(sorted({*np.linspace(0, 0.2, 20).tolist(), *np.linspace(0.2, 0.5, 10).tolist()}))
RIDGE = tuple(sorted({*np.linspace(0.1, 0.2, 10).tolist(), *np.linspace(0.2, 0.5, 10).tolist()}))
NULL = 0.1
"""The penalty of every null model, whatever the inner folds chose for the others."""

NOTES = {
    "rosetta": "compat='rosetta': LEAKED. The model was fitted to all rows, the test fold among them, before it was scored, "
    "and the null was not; inner folds ignore groups. These scores are not estimates of anything on new perturbations.",
    "rosetta-unleaked": "compat='rosetta-unleaked': the published procedure without its leak; inner folds ignore groups, and "
    "the null of linear models has a fixed penalty.",
}
NETWORK = "the network is this package's, over all targets at once; the published one was searched for each target"


def unshuffled_folds(groups: Integers, folds: int) -> Integers:
    """The folds of scikit-learn's GroupKFold, which does not shuffle."""
    from sklearn.model_selection import GroupKFold

    if len(np.unique(groups)) < folds:
        return grouped_folds(groups, folds, 0)  # says what is wrong
    out = np.zeros(len(groups), dtype=np.int64)
    for fold, (_, test) in enumerate(GroupKFold(folds).split(groups, groups=groups)):
        out[test] = fold
    return out
