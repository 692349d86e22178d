"""Retrieval against copairs: both on the same profiles, medians of the ratios of paired runs.

    python benchmarks/retrieval.py TASK [--rows N] [--features F] [--repeats R] [--null ranks|labels] [--whole] [--alone]

Tasks: ``activity`` (compounds on four plates each against 64 controls a plate), ``consistency`` (all against all, labels of
2 to 29), both average precision and mAP with 100,000 draws; ``product`` (average precision against one bare float32 matrix
product and one pass over its result), ``null`` (the null of 7 among 3,000), ``configurations`` (2,000 distinct ones),
``power`` (fraction retrieved by each null for planted effects). Prints one JSON line: seconds, ratios, peak memory in GiB.
``--whole`` times whole processes, ``--alone`` leaves copairs out, where it would take minutes or does not fit.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial

import numpy as np
import polars as pl

warnings.filterwarnings("ignore")
ROWS = {"activity": 14_800, "consistency": 6_000, "product": 6_000}
ACTIVITY = {
    "pos_sameby": ["Metadata_pert"],
    "pos_diffby": [],
    "neg_sameby": ["Metadata_Plate"],
    "neg_diffby": ["Metadata_neg"],
}
CONSISTENCY = {
    "pos_sameby": ["Metadata_target"],
    "pos_diffby": [],
    "neg_sameby": [],
    "neg_diffby": ["Metadata_target"],
}


def features(x: np.ndarray) -> pl.DataFrame:
    return pl.from_numpy(x, schema=[f"Cells_f{i}" for i in range(x.shape[1])])


def activity(n: int, f: int) -> pl.DataFrame:
    """Plates of 306 compounds and 64 controls; each compound is on four plates."""
    rng = np.random.Generator(np.random.PCG64(1))
    plates = n // 370
    plate = np.repeat(np.arange(plates), 370)
    well = np.tile(np.arange(370), plates)
    pert = np.where(well < 306, plate // 4 * 306 + well, -1)
    effects = 0.3 * rng.standard_normal((pert.max() + 2, f), np.float32)
    effects[-1] = 0
    x = effects[pert] + rng.standard_normal((len(pert), f), np.float32)
    head = {"Metadata_Plate": plate, "Metadata_pert": pert, "Metadata_neg": (pert < 0).astype(int)}
    return pl.DataFrame(head).hstack(features(x))


def consistency(n: int, f: int) -> pl.DataFrame:
    rng = np.random.Generator(np.random.PCG64(0))
    label = np.repeat(np.arange(n), rng.integers(2, 30, size=n))[:n]
    x = rng.standard_normal((n, f), np.float32) + 0.2 * rng.standard_normal((n, f), np.float32)[label]
    return pl.DataFrame({"Metadata_target": label}).hstack(features(x))


def ours(task: str, table: pl.DataFrame, null: str, draws: int) -> None:
    import cytofast as cf

    rule = ACTIVITY if task == "activity" else CONSISTENCY
    options = {"queries": "Metadata_neg = 0"} if task == "activity" else {}
    cf.Retrieval(**rule, **options).mean_average_precision(table, null=null, null_size=draws)


def theirs(task: str, table: pl.DataFrame, draws: int) -> None:
    from copairs import map as copairs

    rule = ACTIVITY if task == "activity" else CONSISTENCY
    names = [name for name in table.columns if name.startswith("Cells")]
    meta, x = table.drop(names).to_pandas(), table.select(names).to_numpy()
    if task == "activity":
        # Its way of keeping controls from being queries: each is alone with its index.
        meta["Metadata_index"] = np.where(meta["Metadata_neg"] == 1, meta.index, -1)
        rule = {**rule, "pos_sameby": ["Metadata_pert", "Metadata_index"]}
    ap = copairs.average_precision(meta, x, **rule, progress_bar=False)
    if task == "activity":
        ap = ap[ap["Metadata_neg"] == 0]
    options = {"null_size": draws, "threshold": 0.05, "seed": 0, "progress_bar": False}
    copairs.mean_average_precision(ap, rule["pos_sameby"][:1], cache_dir=tempfile.mkdtemp(), **options)


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def paired(arguments) -> dict:
    table = (activity if arguments.task == "activity" else consistency)(arguments.rows, arguments.features)
    if arguments.side == "ours":
        ours(arguments.task, table, arguments.null, 100_000)
        return {}
    if arguments.side == "copairs":
        theirs(arguments.task, table, 100_000)
        return {}
    ours(arguments.task, table.head(740), arguments.null, 1_000)
    a, b = [], []
    for _ in range(arguments.repeats):
        a.append(timed(lambda: ours(arguments.task, table, arguments.null, 100_000)))
        memory = peak()
        if not arguments.alone:
            b.append(timed(lambda: theirs(arguments.task, table, 100_000)))
    return {"cytofast": a, "copairs": b, "peak_gib": round(memory, 2)}


def whole(arguments) -> dict:
    command = [
        sys.executable,
        __file__,
        arguments.task,
        "--rows",
        arguments.rows,
        "--features",
        arguments.features,
        "--null",
        arguments.null,
    ]
    found = {"cytofast": [], "copairs": []}
    for _ in range(arguments.repeats):
        for name, side in (("cytofast", "ours"), ("copairs", "copairs")):
            if not (arguments.alone and side == "copairs"):
                call = [str(part) for part in [*command, "--side", side]]
                found[name].append(timed(lambda call=call: subprocess.run(call, check=True, stdout=subprocess.DEVNULL)))
    return found


def product(arguments) -> dict:
    import cytofast as cf

    table = consistency(arguments.rows, arguments.features)
    x = np.ascontiguousarray(table.select(pl.selectors.starts_with("Cells")).to_numpy())
    cf.average_precision(table.head(500), **CONSISTENCY)
    a, b = [], []
    for _ in range(arguments.repeats):
        a.append(timed(lambda: cf.average_precision(table, **CONSISTENCY)))
        # The bare product fills a new matrix, as any caller's does.
        b.append(timed(lambda: float((x @ x.T).sum())))
    return {
        "average_precision": a,
        "bare_product_and_pass": b,
        "times": statistics.median(p / q for p, q in zip(a, b, strict=True)),
    }


def null(arguments) -> dict:
    from copairs import compute

    from cytofast.kernels.chance import draw_means

    out = np.empty(100_000)
    draw_means([(7, 3_000)], 1, 0, out[:100])
    a, b = [], []
    for _ in range(arguments.repeats):
        a.append(min(timed(partial(draw_means, [(7, 3_000)], 1, 0, out)) for _ in range(5)))
        b.append(timed(lambda: compute.random_ap(100_000, 7, 3_000, 0)))
    return {"cytofast": a, "copairs": b}


def configurations() -> dict:
    import cytofast as cf

    rng = np.random.Generator(np.random.PCG64(3))
    pairs = sorted(
        {(int(m), int(n)) for m, n in zip(rng.integers(1, 30, 6_000), rng.integers(60, 6_000, 6_000), strict=True)}
    )[:2_000]
    rows = [(i, m, n) for i, (m, n) in enumerate(pairs) for _ in range(4)]
    ap = pl.DataFrame(rows, schema=["Metadata_pert", "n_pos_pairs", "n_total_pairs"], orient="row")
    ap = ap.with_columns(average_precision=pl.Series(rng.uniform(0.001, 0.05, len(rows))))
    return {
        "configurations": len(pairs),
        "cytofast": [timed(lambda: cf.mean_average_precision(ap, "Metadata_pert"))],
        "copairs": [],
    }


def power() -> dict:
    """Fraction retrieved at q < 0.05 of 300 perturbations, a third of which have an effect of the size given."""
    import cytofast as cf

    rule = cf.Retrieval(**ACTIVITY, queries="Metadata_neg = 0")
    found = {}
    for size in (0.0, 1.0, 1.5, 2.5):
        rng = np.random.Generator(np.random.PCG64(7))
        mixing = rng.normal(size=(40, 40)) * np.exp(-np.arange(40) / 8)[:, None]
        effects = size * rng.normal(size=(300, 40)) * (np.arange(300) < 100)[:, None]
        frames = []
        for plate in range(4):
            x = (
                np.vstack([effects, np.zeros((64, 40))])
                + rng.normal(size=(364, 40)) @ mixing
                + 0.3 * rng.normal(size=40)
            )
            middle = np.median(x[300:], axis=0)
            x = (x - middle) / (1.4826 * np.median(np.abs(x[300:] - middle), axis=0))
            head = {
                "Metadata_Plate": [plate] * 364,
                "Metadata_pert": [*range(300), *[-1] * 64],
                "Metadata_neg": [0] * 300 + [1] * 64,
            }
            frames.append(pl.DataFrame(head).hstack(features(x.astype(np.float32))))
        table = pl.concat(frames)
        for name in ("labels", "ranks", "copairs", "cpjump1"):
            m = rule.mean_average_precision(table, null=name)
            hit = m["retrieved"].to_numpy()
            with_effect = m["Metadata_pert"].to_numpy() < 100
            found.setdefault(name, {})[f"effect {size}"] = [
                round(float(hit[with_effect].mean()), 3),
                round(float(hit[~with_effect].mean()), 3),
            ]
    return {"retrieved_with_and_without_effect": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=["activity", "consistency", "product", "null", "configurations", "power"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--features", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--null", default="ranks", choices=["ranks", "labels"])
    parser.add_argument("--side", choices=["ours", "copairs"])
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    arguments.rows = arguments.rows or ROWS.get(arguments.task, 0)
    tasks = {"product": product, "null": null, "power": lambda _: power(), "configurations": lambda _: configurations()}
    found = (whole if arguments.whole else tasks.get(arguments.task, paired))(arguments)
    if arguments.side:
        return
    shown = {"task": arguments.task, "rows": arguments.rows, "null": arguments.null, "whole": arguments.whole, **found}
    if found.get("copairs"):
        shown["ratio"] = round(
            statistics.median(b / a for a, b in zip(found["cytofast"], found["copairs"], strict=True)), 1
        )
    print(json.dumps(shown | {"peak_gib": found.get("peak_gib", round(peak(), 2))}))


if __name__ == "__main__":
    main()
