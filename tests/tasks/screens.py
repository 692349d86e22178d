"""Small screens with known effects."""

import numpy as np
import polars as pl

F = 24
FEATURES = [f"Cells_f{i}" for i in range(F)]


def screen(effects, labels, kind="c", plates=3, controls=8, wells=1, noise=1.0, seed=0, column="Metadata_target_list"):
    """``effects[n, F]``: one row a perturbation; the same layout on every plate, ``wells`` wells a perturbation."""
    rng = np.random.default_rng(seed)
    rows, values = [], []
    for plate in range(plates):
        position = 0
        for i, effect in enumerate(effects):
            for _ in range(wells):
                well = f"{'ABCDEFGHIJKLMNOP'[position // 24]}{position % 24 + 1:02d}"
                rows.append((f"{kind}P{plate}", well, f"{kind}{i:02d}", None, labels[i]))
                values.append(effect + noise * rng.normal(size=F))
                position += 1
        for i in range(controls):
            rows.append((f"{kind}P{plate}", f"P{i + 1:02d}", None, "negcon", None))
            values.append(noise * rng.normal(size=F))
    names = ["Metadata_Plate", "Metadata_Well", "Metadata_broad_sample", "Metadata_control_type", column]
    schema = dict.fromkeys(names, pl.String)
    return pl.DataFrame(rows, schema=schema, orient="row").hstack(
        pl.DataFrame(np.array(values), schema=FEATURES, orient="row")
    )


def condition(table, modality, time, cell="U2OS"):
    """The same wells as one condition of a larger experiment."""
    table = table.with_columns(
        pl.lit(modality).alias("Metadata_Perturbation"),
        pl.lit(cell).alias("Metadata_Cell_type"),
        pl.lit(time).alias("Metadata_Time"),
        (pl.col("Metadata_Plate") + f"-{cell}-{time}").alias("Metadata_Plate"),
    )
    metadata = [name for name in table.columns if name.startswith("Metadata_")]
    return table.select(*metadata, *FEATURES)


def directions(n, seed=0):
    """Unit vectors, orthogonal as far as that is possible."""
    x = np.random.default_rng([7, seed]).normal(size=(max(n, F), F))
    q = np.concatenate([np.linalg.qr(x[i : i + F].T)[0].T for i in range(0, len(x), F)])
    return q[:n]
