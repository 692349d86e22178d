"""Two synthetic modalities that share a subspace."""

import numpy as np
import polars as pl

from cytofast.modalities.align import align


def pair(n=80, p=30, shared=6, alone=14, rank=3, noise=0.3, doses=1, seed=0):
    """``shared`` targets are functions of what the source sees, ``alone`` ones of something else.

    The source shows ``rank`` hidden axes almost without noise, so the ceiling of a shared target's R^2 is
    ``1 / (1 + noise**2)``.
    """
    rng = np.random.default_rng(seed)
    compound = np.repeat(np.arange(n // doses), doses)
    hidden = rng.normal(size=(n, rank))
    nuisance = rng.normal(size=(n, 4))
    x = hidden @ rng.normal(size=(rank, p)) + 0.3 * nuisance @ rng.normal(size=(4, p)) + 0.05 * rng.normal(size=(n, p))
    weights = rng.normal(size=(rank, shared))
    y = hidden @ (weights / np.linalg.norm(weights, axis=0)) + noise * rng.normal(size=(n, shared))
    y = np.hstack([y, rng.normal(size=(n, alone))])
    keys = {"Metadata_pert": [f"c{i:03d}" for i in compound], "Metadata_dose": np.arange(n) % doses}
    a = pl.DataFrame(keys).hstack(pl.DataFrame({f"Cells_A_f{i}": x[:, i] for i in range(p)}))
    b = pl.DataFrame(keys).hstack(pl.DataFrame({f"g_{i}": y[:, i] for i in range(shared + alone)}))
    return align(
        a, b, ["Metadata_pert", "Metadata_dose"], b_features="g_", names=("morphology", "expression"), level="replicate"
    )
