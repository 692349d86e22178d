"""Small CellProfiler exports for tests, written by hand."""

from pathlib import Path

FEATURES = {"Cells": "AreaShape_Area", "Cytoplasm": "AreaShape_Area", "Nuclei": "AreaShape_Area"}


def csv(header: str, *rows: object) -> str:
    lines = [header, *(",".join(map(str, row)) if isinstance(row, tuple) else str(row) for row in rows)]
    return "".join(f"{line}\n" for line in lines)


def write_site(
    folder: Path, *, plate: str | None = "P", well: str | None = "A01", site: int | None = 1, image: int = 1, n: int = 3
) -> Path:
    """One export with ``n`` cells; cell 1 has area 10, its cytoplasm 100, its nucleus 1000, and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site}
    named = {k: v for k, v in told.items() if v is not None}
    header = ",".join(["Count_Cells", "Count_Cytoplasm", "Count_Nuclei", "ImageNumber", *named])
    (folder / "Image.csv").write_text(csv(header, (n, n, n, image, *named.values())))
    numbers = range(1, n + 1)
    (folder / "Cells.csv").write_text(
        csv("ImageNumber,ObjectNumber,AreaShape_Area,Parent_Nuclei", *((image, i, 10.0 * i, i) for i in numbers))
    )
    (folder / "Cytoplasm.csv").write_text(
        csv(
            "ImageNumber,ObjectNumber,AreaShape_Area,Parent_Cells,Parent_Nuclei",
            *((image, i, 100.0 * i, i, i) for i in numbers),
        )
    )
    (folder / "Nuclei.csv").write_text(
        csv("ImageNumber,ObjectNumber,AreaShape_Area", *((image, i, 1000.0 * i) for i in numbers))
    )
    return folder
