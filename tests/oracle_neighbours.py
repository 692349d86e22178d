"""Plain twin of the accuracy of nearest neighbours: numpy, one treatment after the other."""

from __future__ import annotations

import numpy as np
import pandas as pd


def nearest(
    wells: pd.DataFrame, features: list[str], statistic: str = "mean", metric: str = "cosine", batch: str | None = None
) -> pd.DataFrame:
    """The nearest neighbour of each treatment of BBBC021, another compound's (and no batch's of its own)."""
    wells = wells[(wells["Metadata_Compound"] != "DMSO") & wells["Metadata_moa"].notna()]
    keys = ["Metadata_Compound", "Metadata_Concentration"]
    groups = [part for _, part in wells.groupby(keys, sort=True, dropna=False)]
    profiles = np.stack([getattr(np, statistic)(part[features].to_numpy(), axis=0) for part in groups])
    compounds = [part["Metadata_Compound"].iloc[0] for part in groups]
    labels = [part["Metadata_moa"].iloc[0] for part in groups]
    batches = [set(part[batch]) if batch else {i} for i, part in enumerate(groups)]
    rows = []
    for i, profile in enumerate(profiles):
        near = []
        for j, other in enumerate(profiles):
            if compounds[j] != compounds[i] and not (batch and batches[i] & batches[j]):
                a, b = (profile, other) if metric == "cosine" else (profile - profile.mean(), other - other.mean())
                near.append((a @ b / np.sqrt((a @ a) * (b @ b)), j))
        same = [j for _, j in near if labels[j] == labels[i]]
        best = max(near, key=lambda pair: pair[0]) if near else None
        right = None if not same else labels[best[1]] == labels[i]
        rows.append((compounds[i], labels[i], None if best is None else labels[best[1]], len(near), len(same), right))
    return pd.DataFrame(rows, columns=["compound", "label", "neighbour_label", "n_allowed", "n_same", "correct"])
