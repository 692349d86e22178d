"""Cross-modal prediction against scikit-learn: one LassoCV a gene, on the same folds and the same cores.

    python -m benchmarks.modalities TASK [--rows N] [--features F] [--targets Q] [--folds K] [--sample G] [--alone]

Tasks: ``lasso`` (300 perturbations x 600 features -> 978 genes, nested 5 x 5), ``lincs`` (1,140 x 119 -> 978, 25 x 5).
scikit-learn fits a sample of genes spread over all, each through every outer fold; its time for all genes is the mean of
the sample times their number. Both sides run on one thread a fit and are compared in seconds of a core (which other
programs on the machine do not change); ``core_seconds`` is ours without the null, ``seconds_with_null`` what a user waits
for. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
import warnings
from dataclasses import replace

# One thread for each library's BLAS: the cores go to whole fits on both sides.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

SHAPES = {"lasso": (300, 600, 978, 5), "lincs": (1140, 119, 978, 25)}


def modalities(n: int, p: int, q: int):
    """Features that are correlated as those of cells are, and genes of which some follow them."""
    from cytofast.modalities.align import align

    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, 30)) * np.geomspace(3, 0.3, 30)
    x = factors @ rng.normal(size=(30, p)) + 0.7 * rng.normal(size=(n, p))
    strength = np.where(np.arange(q) % 4 == 0, 1.0, 0.2)
    y = strength * (factors[:, :8] @ rng.normal(size=(8, q))) / 4 + rng.normal(size=(n, q))
    key = pl.DataFrame({"Metadata_pert": np.arange(n)})
    a = key.hstack(pl.DataFrame(x, schema=[f"Cells_A_f{i}" for i in range(p)]))
    b = key.hstack(pl.DataFrame(y, schema=[f"gene_{i}" for i in range(q)]))
    return align(a, b, "Metadata_pert", b_features="gene_", names=("morphology", "expression"), level="replicate")


def peer(pair, question, genes, folds, fold, **settings) -> tuple[float, np.ndarray]:
    """Seconds of one LassoCV a gene and outer fold (of those asked for), and R^2."""
    from sklearn.linear_model import LassoCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = pair.a.values, pair.b.values
    groups = np.arange(len(pair))
    r2 = np.zeros((len(genes), folds))
    begin = time.process_time()
    for f in range(folds):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        inner = question._inner(groups[train], f)
        for i, gene in enumerate(genes):
            model = make_pipeline(StandardScaler(), LassoCV(cv=inner, **settings))
            model.fit(x[train], y[train, gene])
            r2[i, f] = model.score(x[test], y[test, gene])
    return time.process_time() - begin, r2


def main() -> None:
    from cytofast.modalities.predict import CrossModalPrediction

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=SHAPES)
    for name in ("rows", "features", "targets", "folds"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--sample", type=int, default=6, help="genes that scikit-learn fits")
    parser.add_argument("--alone", action="store_true", help="leave scikit-learn out")
    given = parser.parse_args()
    shape = [
        getattr(given, name) or usual
        for name, usual in zip(("rows", "features", "targets", "folds"), SHAPES[given.task], strict=True)
    ]
    rows, features, targets, folds = shape
    pair = modalities(rows, features, targets)
    question = CrossModalPrediction(folds=folds)
    replace(question, folds=2, inner_folds=2, n_penalties=5).predict(modalities(20, 5, 3))  # compiles

    fold = question._folds(np.arange(rows))
    begin, worked = time.perf_counter(), time.process_time()
    found = question.predict(pair, "morphology")
    whole, worked = time.perf_counter() - begin, time.process_time() - worked
    cores = len(os.sched_getaffinity(0))
    out = {
        "task": given.task,
        "rows": rows,
        "features": features,
        "targets": targets,
        "folds": folds,
        "seconds_with_null": round(whole, 2),
        # The null is the same work again, once.
        "core_seconds": round(worked / 2, 2),
        "cores": cores,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "percent_predictable": round(found.percent_predictable(100)["percent"].item(), 1),
    }
    if not given.alone:
        warnings.filterwarnings("ignore")
        genes = np.linspace(0, targets - 1, min(given.sample, targets)).astype(int)
        seconds, r2 = peer(pair, question, genes, folds, fold)
        _, finer = peer(pair, question, genes[:1], 1, fold, tol=1e-6, max_iter=100_000)
        out |= {
            "sample": len(genes),
            "sklearn_core_seconds_estimated": round(seconds / len(genes) * targets, 1),
            "ratio": round(seconds / len(genes) * targets / (worked / 2), 1),
            "r2_largest_difference": float(np.abs(r2 - found.r2[genes]).max()),
            "r2_median_difference": float(np.median(np.abs(r2 - found.r2[genes]))),
            "r2_first_difference": abs(float(r2[0, 0] - found.r2[genes[0], 0])),
            "r2_first_difference_finer": abs(float(finer[0, 0] - found.r2[genes[0], 0])),
        }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
