"""Plain pandas answers to what the SQL of the store answers."""

import numpy as np
import pandas as pd

PLACE = ["Metadata_Batch", "Metadata_Plate", "Metadata_Well"]


def features(frame: pd.DataFrame) -> list[str]:
    return [n for n in frame.columns if not n.startswith("Metadata_") and pd.api.types.is_numeric_dtype(frame[n])]


def mad(values) -> float:
    values = pd.Series(values).dropna()
    return float((values - values.median()).abs().median())


def control_drift(wells: pd.DataFrame, control: str = "negcon") -> pd.DataFrame:
    controls = wells[wells["Metadata_control_type"] == control]
    rows = []
    for batch, of_batch in controls.groupby("Metadata_Batch"):
        spread = {f: 1.4826 * mad(of_batch[f]) for f in features(wells)}
        for plate, of_plate in of_batch.groupby("Metadata_Plate"):
            z = [
                abs(of_plate[f].median() - of_batch[f].median()) / spread[f]
                for f in features(wells)
                if spread[f] > 0 and of_plate[f].notna().any()
            ]
            rows.append((batch, plate, len(of_plate), len(z), float(np.median(z)), max(z)))
    return pd.DataFrame(rows, columns=["batch", "plate", "control_wells", "features", "median_drift", "largest_drift"])


def cell_count_outliers(cells: pd.DataFrame, cutoff: float = 3.0) -> set[tuple[str, str]]:
    counts = cells.groupby(["Metadata_Plate", "Metadata_Well"]).size().rename("n").reset_index()
    found = set()
    for plate, part in counts.groupby("Metadata_Plate"):
        spread = 1.4826 * mad(part["n"])
        far = part[(part["n"] - part["n"].median()).abs() >= cutoff * spread] if spread > 0 else part.head(0)
        found |= {(plate, well) for well in far["Metadata_Well"]}
    return found


def edge(well: str, rows: int, columns: int) -> bool:
    return ord(well[0]) - 64 in (1, rows) or int(well[1:]) in (1, columns)


def edge_effect(wells: pd.DataFrame, rows: int, columns: int) -> dict[str, float]:
    rim = wells["Metadata_Well"].map(lambda well: edge(well, rows, columns))
    shifts: dict[str, list[float]] = {}
    for _, part in wells.groupby("Metadata_Plate"):
        for f in features(wells):
            spread = 1.4826 * mad(part[f])
            inside, outside = part.loc[~rim, f].median(), part.loc[rim, f].median()
            if spread > 0 and np.isfinite(inside) and np.isfinite(outside):
                shifts.setdefault(f, []).append((outside - inside) / spread)
    return {f: float(np.median(s)) for f, s in shifts.items()}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def mean_profiles(profiles: pd.DataFrame, by: str) -> pd.DataFrame:
    return profiles.dropna(subset=[by]).groupby(by)[features(profiles)].mean()


def nearest(profiles: pd.DataFrame, name: str, by: str) -> list[tuple[str, float]]:
    means = mean_profiles(profiles, by)
    start = means.loc[name].to_numpy(float)
    found = [(other, cosine(start, means.loc[other].to_numpy(float))) for other in means.index if other != name]
    return sorted(found, key=lambda pair: -pair[1])


def mechanism_hits(profiles: pd.DataFrame, by: str, mechanism: str) -> dict[str, int]:
    known = profiles.dropna(subset=[by, mechanism])
    label = known.groupby(by)[mechanism].first()
    hits: dict[str, int] = {}
    for name in label.index:
        found = next(other for other, _ in nearest(known, name, by))
        hits[label[name]] = hits.get(label[name], 0) + int(label[found] == label[name])
    sizes = label.value_counts()
    return {name: count for name, count in hits.items() if sizes[name] > 1}


def same_phenotype(profiles: pd.DataFrame, by: str, column: str, first: str, second: str) -> dict[str, float]:
    one, two = (mean_profiles(profiles[profiles[column] == value], by) for value in (first, second))
    return {n: cosine(one.loc[n].to_numpy(float), two.loc[n].to_numpy(float)) for n in one.index if n in two.index}
