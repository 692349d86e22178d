"""What each null finds of planted effects: the share retrieved at q < 0.05 of 300 perturbations, a third of which do something.

    python -m benchmarks.power [--null-size N]

Four plates with 64 controls each, 40 correlated features, plate effects, robust z-scores against the controls. Prints one JSON
line: for each null and size of effect, the share of those with an effect that is found, and of those without.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import polars as pl

import cytofast
from benchmarks.contenders import ACTIVITY
from benchmarks.well_shapes import features

SIZES = (0.0, 1.0, 1.5, 2.5)
NULLS = ("labels", "ranks", "copairs", "cpjump1")
PERTURBATIONS, ACTIVE, CONTROLS, PLATES, FEATURES = 300, 100, 64, 4, 40


def screen(size: float) -> pl.DataFrame:
    rng = np.random.Generator(np.random.PCG64(7))
    mixing = rng.normal(size=(FEATURES, FEATURES)) * np.exp(-np.arange(FEATURES) / 8)[:, None]
    effects = size * rng.normal(size=(PERTURBATIONS, FEATURES)) * (np.arange(PERTURBATIONS) < ACTIVE)[:, None]
    frames = []
    for plate in range(PLATES):
        noise = rng.normal(size=(PERTURBATIONS + CONTROLS, FEATURES)) @ mixing
        x = np.vstack([effects, np.zeros((CONTROLS, FEATURES))]) + noise + 0.3 * rng.normal(size=FEATURES)
        middle = np.median(x[PERTURBATIONS:], axis=0)
        x = (x - middle) / (1.4826 * np.median(np.abs(x[PERTURBATIONS:] - middle), axis=0))
        head = {
            "Metadata_Plate": [plate] * len(x),
            "Metadata_pert": [*range(PERTURBATIONS), *[-1] * CONTROLS],
            "Metadata_neg": [0] * PERTURBATIONS + [1] * CONTROLS,
        }
        frames.append(pl.DataFrame(head).hstack(features(x.astype(np.float32))))
    return pl.concat(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--null-size", type=int, default=100_000)
    given = parser.parse_args()
    rule = cytofast.Retrieval(**ACTIVITY, queries="Metadata_neg = 0")
    found: dict[str, dict[str, list[float]]] = {null: {} for null in NULLS}
    for size in SIZES:
        table = screen(size)
        for null in NULLS:
            m = rule.mean_average_precision(table, null=null, null_size=given.null_size)
            hit, active = m["retrieved"].to_numpy(), m["Metadata_pert"].to_numpy() < ACTIVE
            found[null][str(size)] = [round(float(hit[active].mean()), 3), round(float(hit[~active].mean()), 3)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
