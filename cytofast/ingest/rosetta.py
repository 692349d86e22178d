"""The paired Cell Painting and L1000 profiles of Haghighi et al. 2022, as they are published (five data sets)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import polars as pl

from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.ingest.profiles import read_profiles
from cytofast.metadata_tables import prefixed
from cytofast.schema import PLATE, WELL

PERTURBATION = "Metadata_perturbation"
"""What both modalities of every data set call the treatment here."""
_CELL_PAINTING = ("Cells_", "Cytoplasm_", "Nuclei_")
_PROBE = "_at"
"""How the ids of L1000's genes end; they are Affymetrix probe sets."""
_PERTURBATIONS: dict[str, tuple[str, str]] = {
    "LUAD": ("x_mutation_status", "allele"),
    "TA-ORF": ("Metadata_broad_sample", "pert_id"),
    "LINCS": ("Metadata_pert_id_dose", "pert_id_dose"),
    "CDRP-bio": ("Metadata_Sample_Dose", "pert_sample_dose"),
    "CDRP": ("Metadata_Sample_Dose", "pert_sample_dose"),
}
"""The column of the treatment in Cell Painting and in L1000, by data set."""
_FOLDERS = {
    "LUAD": "LUAD",
    "TA-ORF": "TA-ORF",
    "TAORF": "TA-ORF",
    "LINCS": "LINCS",
    "CDRPBIO": "CDRP-bio",
    "CDRP": "CDRP",
}
_PLATE_OF_L1000, _WELL_OF_L1000 = "Metadata_det_plate", "Metadata_det_well"
Modality = Literal["cell_painting", "l1000"]
Processing = Literal["augmented", "normalized", "normalized_variable_selected"]


def read_rosetta(
    folder: str | Path,
    modality: Modality,
    processing: Processing = "normalized",
    *,
    dataset: str | None = None,
) -> pl.DataFrame:
    """Read the replicates of one data set: metadata, then features.

    The treatment, which each data set calls otherwise, is ``Metadata_perturbation`` in both modalities, next to its own column.
    The plate of L1000 (``det_plate``) is ``Metadata_Plate``. Values are as published: nothing is filled in or dropped.

    Parameters
    ----------
    folder
        A data set's folder, such as ``LUAD-BBBC043-Caicedo``, with ``CellPainting`` and ``L1000`` in it.
    modality
        ``"cell_painting"`` or ``"l1000"``.
    processing
        Of Cell Painting: ``augmented``, ``normalized`` or ``normalized_variable_selected``.
    dataset
        ``LUAD``, ``TA-ORF``, ``LINCS``, ``CDRP-bio`` or ``CDRP``, where the folder's name does not begin so.

    Raises
    ------
    DataError
        A file is missing or damaged, lacks the treatment's column, or has text where a gene's values should be.
    RecipeError
        The data set, the modality or the processing is not known.
    """
    root = Path(folder)
    known = ("cell_painting", "l1000")
    if modality not in known:
        raise RecipeError.unknown("modality", modality, known)
    kinds = ("augmented", "normalized", "normalized_variable_selected")
    if processing not in kinds:
        raise RecipeError.unknown("processing", processing, kinds)
    name = dataset or _dataset_of(root)
    if name not in _PERTURBATIONS:
        raise RecipeError.unknown("data set", name, _PERTURBATIONS)
    painted = modality == "cell_painting"
    path = root / (
        f"CellPainting/replicate_level_cp_{processing}.csv.gz" if painted else "L1000/replicate_level_l1k.csv.gz"
    )
    # Units and names of compounds are in Latin-1 in some of these files.
    table = read_profiles(path, encoding="either").collect()
    if not painted:
        table = _numbers(table, path)
    features = [
        column
        for column, dtype in table.schema.items()
        if (column.startswith(_CELL_PAINTING) if painted else column.endswith(_PROBE)) and dtype.is_numeric()
    ]
    if not features:
        raise DataError(f"{path}: no feature of {modality}; the columns are {listed(table.columns, 8)}.")
    treatment = _PERTURBATIONS[name][0 if painted else 1]
    if treatment not in table.columns:
        raise DataError(
            f"{path}: no column {treatment!r}, which names the treatments of {name}. Hint: is it of this data set?"
        )
    counted = [column for column in table.columns if column == "" or column.startswith("Unnamed: ")]
    metadata = table.drop([*features, *counted])
    # Some of these tables have a column with the prefix and another without; both are kept.
    twice = [column for column in metadata.columns if f"Metadata_{column}" in metadata.columns]
    metadata = prefixed(metadata.rename({column: f"{column}_unprefixed" for column in twice}))
    metadata = metadata.rename(_usual(metadata.columns))
    names = [column for column in (PLATE, WELL) if column in metadata.columns]
    metadata = metadata.with_columns([metadata[column].cast(pl.String) for column in names])
    named = table[treatment].cast(pl.String).alias(PERTURBATION)
    missing = named.null_count()
    if missing:
        warnings.warn(
            f"{path}: {missing:,} of {table.height:,} rows name no treatment; they stay, with {PERTURBATION} missing",
            ProfileWarning,
            stacklevel=2,
        )
    schema = table.schema
    floats = {column: pl.Float64 for column in features if not schema[column].is_float()}
    return metadata.with_columns(named).hstack(table.select(features).cast(floats))  # type: ignore[arg-type]


def _numbers(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Probe sets as numbers: one without any value is missing, one with text is damaged; neither is metadata."""
    probes = [
        name
        for name, dtype in table.schema.items()
        if name.endswith(_PROBE) and (name[0].isdigit() or name.startswith("AFFX")) and not dtype.is_numeric()
    ]
    numbers = table.select(probes).with_columns(table[name].cast(pl.Float64, strict=False) for name in probes)
    for name in probes:
        lost = (numbers[name].is_null() & table[name].is_not_null()).arg_true()
        if len(lost):
            row = lost[0]
            raise DataError(
                f"{path}: column {name!r} holds {str(table[name][row])!r} in row {row + 1:,}, and in {len(lost):,} of "
                f"{table.height:,} rows what is no number. Hint: was the file edited? Get it anew, or clear these cells."
            )
    return table.with_columns(numbers)


def _dataset_of(folder: Path) -> str:
    name = folder.absolute().name.upper()
    for begin in sorted(_FOLDERS, key=len, reverse=True):
        if name.startswith(begin):
            return _FOLDERS[begin]
    raise RecipeError(f"{folder}: which data set is this? Hint: give dataset=, one of {', '.join(_PERTURBATIONS)}.")


def _usual(columns: list[str]) -> dict[str, str]:
    pairs = {_PLATE_OF_L1000: PLATE, _WELL_OF_L1000: WELL}
    return {old: new for old, new in pairs.items() if old in columns and new not in columns}
