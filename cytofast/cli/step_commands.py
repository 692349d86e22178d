"""Single steps on files, for people who script: aggregate, annotate, normalize."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from cytofast import resources
from cytofast.cli.render import written
from cytofast.errors import RecipeError
from cytofast.steps.step import Step

In = Annotated[Path, typer.Argument(metavar="IN", help="Profiles: parquet, csv or csv.gz.")]
Out = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Where to write: parquet, csv or csv.gz.")]
FeatureOption = Annotated[
    str | None,
    typer.Option(metavar="PREFIX_OR_LIST", help="A prefix, or names with commas. Default: CellProfiler features."),
]
FitOption = Annotated[
    Path | None, typer.Option("--fit", metavar="FILE", help="Write what the step learned (parquet or csv).")
]
Memory = Annotated[
    str | None, typer.Option(help="Peak memory to stay under, such as 2GB. Default: a sixteenth of the machine's.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: every core.")]


class Method(StrEnum):
    """The normalizations."""

    ROBUST_MAD = "robust_mad"
    STANDARDIZE = "standardize"
    ROBUSTIZE = "robustize"


def names_of(text: str | None) -> list[str] | str | None:
    """What an option says of features: a prefix, or names with commas."""
    if text is None:
        return None
    return columns_of(text) if "," in text else text.strip()


def columns_of(text: str) -> list[str]:
    """Names with commas, and spaces around them or not."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise RecipeError(f"{text!r}: a name is missing. Hint: write names with one comma between them.")
    return names


def require_distinct(read: dict[str, Path | None], written: dict[str, Path | None]) -> None:
    """Refuse to write over a file that the same command reads or writes."""
    seen = {path.resolve(): what for what, path in read.items() if path is not None}
    for what, path in written.items():
        if path is None:
            continue
        other = seen.setdefault(path.resolve(), what)
        if other != what:
            raise RecipeError(
                f"{path}: is both the {other} and the {what}, and would be overwritten. Hint: rename one."
            )


def apply_step(
    step: Step,
    source: Path,
    target: Path,
    fit_path: Path | None,
    memory: str | None,
    threads: int | None,
    platemap: Path | None = None,
) -> pl.DataFrame:
    """Fit a step to a file, apply it, write the result, and give back the fit."""
    from cytofast.ingest.profiles import read_profiles, write_profiles

    require_distinct(
        {"input": source, "platemap": platemap}, {"output": target, "table of what the step learned": fit_path}
    )
    with resources.limits(memory, threads):
        profiles = read_profiles(source)
        fit = step.fit(profiles)
        if fit_path is not None:
            write_profiles(fit, fit_path)
        result = step.apply(profiles, fit)
        rows = write_profiles(result, target)
        written(target, rows, len(result.collect_schema()))
    return fit


def aggregate(
    source: In,
    output: Out,
    by: Annotated[
        str, typer.Option(metavar="COLUMNS", help="Columns that make the groups, with commas.")
    ] = "Metadata_Plate,Metadata_Well",
    statistic: Annotated[str, typer.Option(help="median, mean, std, mad or count.")] = "median",
    features: FeatureOption = None,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Make one row a well (or any group) of many: exact medians, missing values skipped.

    [bold]Example:[/bold] cytofast aggregate cells.parquet -o wells.parquet

    In Python: cytofast.Aggregate.
    """
    from cytofast.steps.aggregate import Aggregate

    step = Aggregate.from_parameters(
        {"by": columns_of(by), "statistic": statistic, "features": names_of(features)}, "aggregate"
    )
    apply_step(step, source, output, None, memory, threads)


def annotate(
    source: In,
    output: Out,
    platemap: Annotated[
        Path, typer.Option(metavar="FILE", help="A platemap or other metadata: csv, tsv, txt, parquet.")
    ],
    on: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS", help="Key columns, with commas. Default: the plate, if named, and the well."),
    ] = None,
    suffix: Annotated[str | None, typer.Option(help="For columns that both sides have with different content.")] = None,
    fit: FitOption = None,
) -> None:
    """Join a platemap or other metadata; no profile is lost, unmatched keys are listed.

    [bold]Example:[/bold] cytofast annotate wells.parquet --platemap platemap.txt -o annotated.parquet

    In Python: cytofast.Annotate.
    """
    from cytofast.steps.annotate import Annotate

    step = Annotate(platemap, on=columns_of(on) if on else None, suffix=suffix)
    apply_step(step, source, output, fit, None, None, platemap)


def normalize(
    source: In,
    output: Out,
    method: Annotated[Method, typer.Option(help="How centre and spread are measured.")] = Method.ROBUST_MAD,
    by: Annotated[
        str, typer.Option(metavar="COLUMNS", help="Columns that make the groups, with commas; 'none' is one group.")
    ] = "Metadata_Plate",
    reference: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Rows to learn from, such as \"Metadata_control_type = 'negcon'\"."),
    ] = None,
    features: FeatureOption = None,
    zero_scale: Annotated[str, typer.Option(help="Where there is no spread: null, one, divide or error.")] = "null",
    scale: Annotated[float | None, typer.Option(help="Factor of the MAD (robust_mad; default 1.4826).")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Added to the divisor (robust_mad; default 0).")] = None,
    ddof: Annotated[int | None, typer.Option(help="Variance by n - ddof (standardize; default 0).")] = None,
    fit: FitOption = None,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Centre and scale each feature by a reference, group by group.

    [bold]Example:[/bold] cytofast normalize wells.parquet -o profiles.parquet --reference "Metadata_control_type = 'negcon'"

    In Python: cytofast.RobustMAD, Standardize, Robustize.
    """
    from cytofast.steps import normalize as _  # noqa: F401  (makes the steps known)
    from cytofast.steps.step import step_class

    given = {"scale": scale, "epsilon": epsilon, "ddof": ddof}
    parameters = {
        "by": None if by.strip().lower() == "none" else columns_of(by),
        "reference": reference,
        "features": names_of(features),
        "zero_scale": zero_scale,
        **{key: value for key, value in given.items() if value is not None},
    }
    step = step_class(method.value).from_parameters(parameters, "normalize")
    apply_step(step, source, output, fit, memory, threads)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("aggregate")(aggregate)
    app.command("annotate")(annotate)
    app.command("normalize")(normalize)
