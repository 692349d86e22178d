"""From the measured cost of a plate to that of CPJUMP1 and of JUMP's production data; says what it takes for granted."""

from __future__ import annotations

CPJUMP1_PLATES = 107
JUMP_CELLS = 1.5e9
"""Of cpg0016, as the README of the Cell Painting Gallery counts them ("over 1.5 billion")."""


def duration(seconds: float) -> str:
    """
    >>> duration(5400), duration(50), duration(200_000)
    ('1.5 hours', '50 s', '2.3 days')
    """
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def projection(result: dict) -> str:
    """A paragraph, from a result of ``benchmarks.cpjump1 --plates``."""
    answer, shape = result["answer"], result["shape"]
    plate, cells, features = answer["median_seconds"], shape["cells"], shape["features"]
    cpjump1 = CPJUMP1_PLATES * plate + answer["select_and_map_seconds"] * CPJUMP1_PLATES / result["plates"]
    jump = JUMP_CELLS / cells * plate
    one = f"{plate:.1f} s each (median, whole process) to normalized wells, with at most {answer['peak'] / 1e9:.1f} GB"
    together = f"selection and mAP of their {answer['wells']:,} wells {answer['select_and_map_seconds']:.1f} s"
    return (
        f"**Projection.** {result['plates']} plates of {cells:,} cells x {features:,} features, each read from disk once, "
        f"took {one}, and {together}. The 107 plates of CPJUMP1 are then {duration(cpjump1)} on this machine, and JUMP's "
        f"production data (over 1.5 billion cells) {duration(jump)}. This takes for granted that every plate costs what "
        "these did (the time is linear in cells and features), that cells lie in our layout on a local disk as fast as this "
        "one, one plate after the other, and that the selection grows no faster than the number of wells. Ingest and "
        "download are not in it, nor selection over all of JUMP."
    )
