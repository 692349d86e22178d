"""A small experiment, made up: what CellProfiler would export of two JUMP-like plates, with effects that are known."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import DataError, RecipeError, StoreError
from cytofast.kernels.rng import generator

BATCH_NAME = "2026_01_01_Example"
PLATEMAP_NAME = "Example-Target-1_compound_platemap"
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
_COMPARTMENTS = ("Cells", "Cytoplasm", "Nuclei")
_PARENTS = {"Cells": ("Nuclei",), "Cytoplasm": ("Cells", "Nuclei"), "Nuclei": ()}
_CONSTANT = ("AreaShape_EulerNumber", "Neighbors_NumberOfNeighbors_Adjacent")
_MARKER = "example.json"
_TIME = 1_767_225_600  # 2026-01-01: files do not remember when they were made
_ROWS = "ABCDEFGHIJKLMNOP"
_LATENT = 8
_WELLS_OF_A_COMPOUND = 4
_COMPOUNDS_OF_A_MECHANISM = 4
_EVERY_CONTROL = 6

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """What was planted in an experiment of :func:`write_example`.

    ``inactive`` compounds do nothing. ``site_without_cells`` and ``orphan_nucleus`` are ``(plate, well)``.
    """

    plates: tuple[str, ...]
    wells: int
    sites: int
    cells: int
    controls: int
    compounds: int
    inactive: tuple[str, ...]
    site_without_cells: tuple[str, str]
    orphan_nucleus: tuple[str, str]
    seed: int


def write_example(
    folder: str | Path, *, plates: int = 2, wells: int = 384, sites: int = 1, cells_per_site: int = 10, seed: int = 0
) -> Example:
    """Write a made-up experiment as CellProfiler CSV folders, as the Cell Painting Gallery lays them out.

    Below ``folder`` come ``analysis/<batch>/<plate>/analysis/<plate>-<well>-<site>/`` with ``Image.csv``,
    ``Cells.csv``, ``Cytoplasm.csv`` and ``Nuclei.csv``, and ``metadata/`` with platemaps and a table of compounds. As in
    JUMP, one well in six is a DMSO control whose sample is left empty. Plates differ by a shift; three compounds in four
    change the cells, those of one mechanism alike. One site has no cells and one nucleus no cell; a few values are
    missing and two features never change.

    Parameters
    ----------
    folder
        Made if it is not there; used as it is if it holds this very experiment.
    plates, wells, sites, cells_per_site
        How much: wells a plate (6 to 384), sites a well, and cells a site on average.
    seed
        Another seed is another experiment; the same one is the same bytes.

    Raises
    ------
    DataError
        The folder is there and holds something else.
    """
    target = Path(folder)
    if not (6 <= wells <= 384 and plates >= 1 and 1 <= sites <= 99 and cells_per_site >= 1):
        raise RecipeError("an example has 6 to 384 wells, 1 to 99 sites a well, at least one plate and one cell a site")
    asked = {"plates": plates, "wells": wells, "sites": sites, "cells_per_site": cells_per_site, "seed": seed}
    if target.exists():
        return _reused(target, asked)
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(parents=True)
        example = _write(unfinished, **asked)
        described = {"asked": asked, "example": asdict(example)}
        (unfinished / _MARKER).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        for directory, _, files in os.walk(unfinished, topdown=False):
            for name in [*files, "."]:
                os.utime(Path(directory, name), (_TIME, _TIME))
        unfinished.rename(target)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise StoreError(f"{target}: the example cannot be written ({error.strerror or error})") from error
    return example


def _reused(folder: Path, asked: Mapping[str, int]) -> Example:
    marker = folder / _MARKER
    try:
        described = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else {}
    except ValueError:
        described = {}
    if described.get("asked") != asked:
        raise DataError(
            f"{folder}: is there already and is {'another' if described else 'no'} example experiment. "
            f"Hint: give another folder."
        )
    found: dict[str, Any] = described["example"]
    values: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in found.items()}
    return Example(**values)


def feature_names(compartment: str) -> list[str]:
    """Names as CellProfiler gives them, in the alphabetical order of its files, without the compartment."""
    shape = ["Area", "Compactness", "Eccentricity", "EulerNumber", "Extent", "FormFactor", "MajorAxisLength"]
    shape += ["MinorAxisLength", "Orientation", "Perimeter", "Solidity", "Zernike_0_0", "Zernike_1_1", "Zernike_2_0"]
    names = [f"AreaShape_{name}" for name in shape]
    names += [f"Correlation_Correlation_{one}_{other}" for one, other in combinations(CHANNELS, 2)]
    names += ["Location_Center_X", "Location_Center_Y"]
    for channel in CHANNELS:
        names += [f"Granularity_{scale}_{channel}" for scale in (1, 2)]
        names += [f"Intensity_{how}Intensity_{channel}" for how in ("Integrated", "Max", "Mean", "Median", "Std")]
        names += [f"RadialDistribution_{how}_{channel}_{ring}of4" for how in ("FracAtD", "MeanFrac") for ring in (1, 4)]
        names += [f"Texture_{how}_{channel}_3_00_256" for how in ("Contrast", "Correlation", "Entropy")]
    if compartment != "Cytoplasm":
        names.append("Neighbors_NumberOfNeighbors_Adjacent")
    return sorted(names)


@dataclass(frozen=True)
class _Design:
    """What is in each well, and what it does."""

    wells: list[str]
    compound: NDArray[np.int64]
    """``int64[n_wells]``; -1 is a control."""
    effects: Doubles
    """``float64[n_compounds, n_latent]``."""

    @property
    def n_compounds(self) -> int:
        return len(self.effects)


def _sample(compound: int) -> str:
    return f"BRD-K{10_000_019 + 7_919 * compound:08d}-001-01-1"


def _is_inactive(compound: int) -> bool:
    return compound % _COMPOUNDS_OF_A_MECHANISM == 0


def _design(wells: int, seed: int) -> _Design:
    names = [f"{_ROWS[i // 24]}{i % 24 + 1:02d}" for i in range(wells)]
    draw = generator(seed, 1)
    compound = np.full(wells, -1)
    treated = np.flatnonzero(np.arange(wells) % _EVERY_CONTROL != 1)
    n_compounds = -(-len(treated) // _WELLS_OF_A_COMPOUND)
    compound[draw.permutation(treated)] = np.arange(len(treated)) % max(1, n_compounds)
    mechanisms = draw.normal(size=(-(-n_compounds // _COMPOUNDS_OF_A_MECHANISM), _LATENT))
    effects = 1.5 * mechanisms[np.arange(n_compounds) // _COMPOUNDS_OF_A_MECHANISM]
    effects += 0.7 * draw.normal(size=(n_compounds, _LATENT))
    effects[[_is_inactive(c) for c in range(n_compounds)]] = 0.0
    return _Design(names, compound, effects)


def _write(folder: Path, *, plates: int, wells: int, sites: int, cells_per_site: int, seed: int) -> Example:
    design = _design(wells, seed)
    names = tuple(f"EX{100_001 + plate:08d}" for plate in range(plates))
    empty_well = int(np.flatnonzero(design.compound >= 0)[-1])
    cells = 0
    for number, plate in enumerate(names):
        draw = generator(seed, 2, number)
        counts = np.maximum(draw.poisson(cells_per_site, size=wells * sites), 2)
        if number == plates - 1:
            counts[empty_well * sites] = 0
        cells += int(counts.sum())
        _write_plate(
            folder / "analysis" / BATCH_NAME / plate / "analysis", plate, design, counts, number=number, seed=seed
        )
    _write_metadata(folder / "metadata", names, design)
    return Example(
        plates=names,
        wells=wells,
        sites=sites,
        cells=cells,
        controls=int(np.count_nonzero(design.compound < 0)),
        compounds=design.n_compounds,
        inactive=tuple(_sample(c) for c in range(design.n_compounds) if _is_inactive(c)),
        site_without_cells=(names[-1], design.wells[empty_well]),
        orphan_nucleus=(names[0], design.wells[0]),
        seed=seed,
    )


def _write_plate(
    folder: Path, plate: str, design: _Design, counts: NDArray[np.int64], *, number: int, seed: int
) -> None:
    sites = len(counts) // len(design.wells)
    site_of = np.repeat(np.arange(len(counts)), counts)
    object_number = np.arange(len(site_of)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    compound = design.compound[site_of // sites]
    draw = generator(seed, 3, number)
    latent = draw.normal(size=(len(site_of), _LATENT))
    latent += np.where(compound[:, None] >= 0, design.effects[compound], 0.0) if design.n_compounds else 0.0
    # Wells differ a little, plates more: what normalization is for.
    latent += 0.15 * draw.normal(size=(len(counts) // sites, _LATENT))[site_of // sites]
    latent += 0.8 * generator(seed, 4, number).normal(size=_LATENT)
    lines: dict[str, list[bytes]] = {}
    headers: dict[str, bytes] = {}
    for place, name in enumerate(_COMPARTMENTS):
        table = _objects(name, latent, site_of + 1, object_number, (seed, number, place))
        header, *rest = table.write_csv(null_value="nan").encode().splitlines(keepends=True)
        headers[name], lines[name] = header, rest
    ends = np.cumsum(counts)
    for site, (begin, end) in enumerate(zip((ends - counts).tolist(), ends.tolist(), strict=True)):
        well = design.wells[site // sites]
        directory = folder / f"{plate}-{well}-{site % sites + 1}"
        directory.mkdir(parents=True)
        orphan = number == 0 and site == 0
        (directory / "Image.csv").write_bytes(
            _image(plate, well, site=site, sites=sites, count=end - begin, orphan=orphan)
        )
        if end == begin:
            continue
        for name in _COMPARTMENTS:
            rows = lines[name][begin:end]
            if orphan and name == "Nuclei":
                _, _, values = rows[-1].split(b",", 2)
                rows = [*rows, b"%d,%d,%s" % (site + 1, end - begin + 1, values)]
            (directory / f"{name}.csv").write_bytes(headers[name] + b"".join(rows))


def _objects(
    name: str, latent: Doubles, image: NDArray[np.int64], number: NDArray[np.int64], key: tuple[int, int, int]
) -> pl.DataFrame:
    """One compartment of a plate: every feature is a mixture of the latent factors and of noise."""
    features = feature_names(name)
    seed, plate, place = key
    mixing = generator(seed, 5, place)
    weights = mixing.normal(size=(_LATENT, len(features))) / np.sqrt(_LATENT)
    centre = mixing.uniform(5, 50, size=len(features))
    spread = centre * mixing.uniform(0.02, 0.1, size=len(features))
    noise = generator(seed, 6, plate, place)
    values = 0.6 * noise.normal(size=(len(number), len(features)))
    for factor in range(_LATENT):
        # One product at a time: the sum has one order on every machine.
        values += latent[:, factor, None] * weights[factor]
    values = np.round(centre + spread * values, 6)
    missing = noise.random(size=values.shape) < 0.003
    columns = [pl.Series("ImageNumber", image), pl.Series("ObjectNumber", number)]
    for at, feature in enumerate(features):
        if feature in _CONSTANT:
            columns.append(pl.Series(feature, np.full(len(number), float(feature.startswith("AreaShape")))))
            continue
        column = pl.Series(feature, values[:, at])
        if feature.startswith(("Correlation", "Granularity")):
            column = column.set(pl.Series(missing[:, at]), None)
        columns.append(column)
    columns.append(pl.Series("Number_Object_Number", number))
    columns += [pl.Series(f"Parent_{parent}", number) for parent in _PARENTS[name]]
    return pl.DataFrame(columns)


def _image(plate: str, well: str, *, site: int, sites: int, count: int, orphan: bool) -> bytes:
    files = {f"FileName_Orig{channel}": f"{plate}_{well}_s{site % sites + 1}_{channel}.tiff" for channel in CHANNELS}
    row: dict[str, object] = {
        "Count_Cells": float(count),
        "Count_Cytoplasm": float(count),
        "Count_Nuclei": float(count + orphan),
        **files,
        "ImageNumber": site + 1,
        "Metadata_Plate": plate,
        "Metadata_Site": site % sites + 1,
        "Metadata_Well": well,
    }
    return f"{','.join(row)}\n{','.join(map(str, row.values()))}\n".encode()


def _write_metadata(folder: Path, plates: tuple[str, ...], design: _Design) -> None:
    maps = folder / "platemaps" / BATCH_NAME
    (maps / "platemap").mkdir(parents=True)
    (folder / "external_metadata").mkdir()
    barcodes = [f"{plate},{PLATEMAP_NAME}\n" for plate in plates]
    (maps / "barcode_platemap.csv").write_text("Assay_Plate_Barcode,Plate_Map_Name\n" + "".join(barcodes))
    samples = ["" if compound < 0 else _sample(compound) for compound in design.compound.tolist()]
    rows = [f"{well}\t{sample}\tDMSO\n" for well, sample in zip(design.wells, samples, strict=True)]
    (maps / "platemap" / f"{PLATEMAP_NAME}.txt").write_text("well_position\tbroad_sample\tsolvent\n" + "".join(rows))
    compounds = ["NA\tDMSO\tcontrol\tnegcon\tNA\tNA\n"]
    for compound in range(design.n_compounds):
        mechanism = compound // _COMPOUNDS_OF_A_MECHANISM + 1
        told = f"mechanism-{mechanism:02d}\tGENE{mechanism}A|GENE{mechanism}B"
        compounds.append(f"{_sample(compound)}\tcompound-{compound + 1:03d}\ttrt\tNA\t{told}\n")
    header = "broad_sample\tpert_iname\tpert_type\tcontrol_type\tmoa\ttarget_list\n"
    (folder / "external_metadata" / "external_metadata.tsv").write_text(header + "".join(compounds))
