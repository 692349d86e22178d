"""Plain twins of the benchmark tasks, in pandas and scipy: every pair looked at, in loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from tests import oracle_retrieval as retrieval


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = a / np.linalg.norm(a, axis=1)[:, None]
    return a @ (b / np.linalg.norm(b, axis=1)[:, None]).T


def median(wells: pd.DataFrame, by: str, features: list[str]) -> pd.DataFrame:
    return wells.groupby(by, sort=True)[features].median().reset_index()


def p_above(ap: float, m: int, n: int) -> float:
    """Chance of an AP above this one, over every ranking of ``m`` positives among ``n``."""
    return float(np.mean([value > ap * (1 + 1e-10) for value in retrieval.precisions(m, n)]))


def geometric(table: pd.DataFrame, by: str, draws: int) -> pd.DataFrame:
    """CPJUMP1's p: of each profile strictly above and with one added, as for so many draws; then the geometric mean, then BH."""
    expected = [p_above(row.ap, row.m, row.m + row.n) for row in table.itertuples()]
    table = table.assign(log_p=np.log([(draws * p + 1) / (draws + 1) for p in expected]))
    found = table.groupby(by, sort=True).agg(ap=("ap", "mean"), log_p=("log_p", "mean")).reset_index()
    found["p"] = np.exp(found["log_p"])
    found["q"] = stats.false_discovery_control(found["p"])
    return found


def detection(wells: pd.DataFrame, features: list[str], position: str = "any", draws: int = 1000) -> pd.DataFrame:
    """Replicates against the controls of their plate; wells that are neither treated nor controls take no part.

    A well without controls on its plate has nothing to be told from: it does not ask.
    """
    control = wells["Metadata_control_type"] == "negcon"
    wells = wells[control | wells["Metadata_broad_sample"].notna()].reset_index(drop=True)
    control = (wells["Metadata_control_type"] == "negcon").to_numpy()
    sample, plate, well = (wells[f"Metadata_{name}"].to_numpy() for name in ("broad_sample", "Plate", "Well"))
    near = cosine(wells[features].to_numpy(), wells[features].to_numpy())
    rows = []
    for i in np.flatnonzero(~control):
        same = (sample == sample[i]) & ~control
        same[i] = False
        if position == "same":
            same &= well == well[i]
        elif position == "different":
            same &= well != well[i]
        against = control & (plate == plate[i])
        if same.any() and against.any():
            ap = retrieval.precision_of(list(near[i, same]), list(near[i, against]), optimistic=False)
            name = f"{sample[i]} {well[i]}" if position == "same" else sample[i]
            rows.append((name, ap, int(same.sum()), int(against.sum())))
    return geometric(pd.DataFrame(rows, columns=["name", "ap", "m", "n"]), "name", draws)


def matching(
    profiles: pd.DataFrame, features: list[str], absolute: bool, draws: int = 1000, side: list[int] | None = None
) -> pd.DataFrame:
    """Labels (lists) among perturbations; with sides, across sides only."""
    near = cosine(profiles[features].to_numpy(), profiles[features].to_numpy())
    near = np.abs(near) if absolute else near
    labels = [set(found) for found in profiles["labels"]]
    rows = []
    for i, own in enumerate(labels):
        others = [j for j in range(len(labels)) if j != i and (side is None or side[j] != side[i])]
        against = [near[i, j] for j in others if not labels[j] & own]
        for label in sorted(own):
            positives = [near[i, j] for j in others if label in labels[j]]
            if positives and against:
                ap = retrieval.precision_of(positives, against, optimistic=False)
                rows.append((label, ap, len(positives), len(against)))
    return geometric(pd.DataFrame(rows, columns=["name", "ap", "m", "n"]), "name", draws)


def labelled(wells: pd.DataFrame, features: list[str], label: str, detected: set[str] | None) -> pd.DataFrame:
    """Median profile of each (detected) perturbation with its list of labels."""
    treated = wells[(wells["Metadata_control_type"] != "negcon") & wells["Metadata_broad_sample"].notna()]
    if detected is not None:
        treated = treated[treated["Metadata_broad_sample"].isin(detected)]
    profiles = median(treated, "Metadata_broad_sample", features)
    texts = treated.drop_duplicates("Metadata_broad_sample").set_index("Metadata_broad_sample")[label]
    profiles["labels"] = [texts[name].split("|") for name in profiles["Metadata_broad_sample"]]
    return profiles


def across(compounds: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    """Compounds with their targets restricted to what the genes bear, and the genes."""
    borne = {label for labels in genes["labels"] for label in labels}
    kept = compounds.assign(labels=[[label for label in labels if label in borne] for labels in compounds["labels"]])
    kept = kept[[len(labels) > 0 for labels in kept["labels"]]]
    return pd.concat([kept.assign(side=0), genes.assign(side=1)], join="inner", ignore_index=True)


def directionality(compounds: pd.DataFrame, genes: pd.DataFrame, features: list[str], tails: float = 0.05) -> dict:
    """Compounds (with labels) against one profile a gene (column ``gene``)."""
    values = cosine(compounds[features].to_numpy(), genes[features].to_numpy())
    same = [[gene in labels for gene in genes["gene"]] for labels in compounds["labels"]]
    return tails_of(values, np.array(same), tails)


def percent_matching(
    compounds: pd.DataFrame, genes: pd.DataFrame, first: pd.DataFrame, second: pd.DataFrame, features: list[str]
) -> dict:
    """Median correlation of wells, pair by pair."""
    values = np.zeros((len(compounds), len(genes)))
    for i, a in enumerate(compounds["Metadata_broad_sample"]):
        for j, b in enumerate(genes["Metadata_broad_sample"]):
            x = first.loc[first["Metadata_broad_sample"] == a, features].to_numpy()
            y = second.loc[second["Metadata_broad_sample"] == b, features].to_numpy()
            values[i, j] = np.median(np.corrcoef(x, y)[: len(x), len(x) :])
    same = [[bool(set(ours) & set(theirs)) for theirs in genes["labels"]] for ours in compounds["labels"]]
    return tails_of(values, np.array(same), 0.05)


def tails_of(values: np.ndarray, same: np.ndarray, tails: float) -> dict:
    true, other = values[same], values[~same]
    low, high = np.quantile(other, [tails, 1 - tails])
    above, below = int((true >= high).sum()), int((true <= low).sum())
    more, fewer = int((other >= high).sum()), int((other <= low).sum())
    odds, p = stats.fisher_exact([[above, below], [more, fewer]])
    return {
        "n_same": len(true),
        "n_different": len(other),
        "low_threshold": low,
        "high_threshold": high,
        "n_below": below,
        "n_above": above,
        "odds_ratio": odds,
        "p_value": p,
        "p_below": stats.fisher_exact([[below, len(true) - below], [fewer, len(other) - fewer]], "greater")[1],
        "p_above": stats.fisher_exact([[above, len(true) - above], [more, len(other) - more]], "greater")[1],
        "similarities": np.sort(true)[::-1],
    }
