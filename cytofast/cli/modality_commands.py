"""Commands on two modalities: crossmodal, mechanism."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from cytofast import resources
from cytofast.cli.render import Format, progress_bar, say, show, written
from cytofast.cli.step_commands import Memory, Threads, columns_of, names_of, require_distinct
from cytofast.errors import RecipeError, SchemaError


class ModelName(StrEnum):
    """What predicts."""

    LASSO = "lasso"
    RIDGE = "ridge"
    MLP = "mlp"


class Pairing(StrEnum):
    """What is matched."""

    TREATMENT = "treatment"
    REPLICATE = "replicate"


StoreArgument = Annotated[
    Path | None, typer.Argument(metavar="[STORE]", help="The store. Without it, the modalities are files.")
]
From = Annotated[str, typer.Option("--from", metavar="LEVEL_OR_FILE", help="The modality that predicts.")]
To = Annotated[str, typer.Option("--to", metavar="LEVEL_OR_FILE", help="The modality that is predicted.")]
On = Annotated[
    str,
    typer.Option(metavar="COLUMNS", help="Columns that both have, with commas; the perturbation first, then doses."),
]
LevelOption = Annotated[Pairing, typer.Option(help="Means of treatments, or replicates one by one.")]
Groups = Annotated[
    str | None, typer.Option(metavar="COLUMNS", help="What is held out together. Default: the first of --on.")
]
DropMissing = Annotated[bool, typer.Option(help="Leave out features with missing values, with a note.")]
Folds = Annotated[int, typer.Option(min=2, help="Folds that score.")]
InnerFolds = Annotated[int, typer.Option(min=2, help="Folds that choose the penalty.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of folds and shuffles.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", metavar="OUT", help="Write the main table.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How the table is written to standard output.")]


def crossmodal(
    source: From,
    target: To,
    on: On,
    store: StoreArgument = None,
    source_features: Annotated[
        str | None,
        typer.Option(
            "--from-features",
            metavar="PREFIX_OR_LIST",
            help="A prefix, *ending, or names with commas: features of --from.",
        ),
    ] = None,
    target_features: Annotated[
        str | None,
        typer.Option(
            "--to-features", metavar="PREFIX_OR_LIST", help="A prefix, *ending, or names with commas: features of --to."
        ),
    ] = None,
    level: LevelOption = Pairing.TREATMENT,
    model: Annotated[ModelName, typer.Option(help="What predicts.")] = ModelName.LASSO,
    groups: Groups = None,
    folds: Folds = 5,
    inner_folds: InnerFolds = 5,
    null_rounds: Annotated[int, typer.Option(min=1, help="Shuffles of the null.")] = 1,
    seed: Seed = 0,
    compat: Annotated[
        str | None, typer.Option(help="rosetta: the published procedure, its leak included. Says so in the result.")
    ] = None,
    drop_missing: DropMissing = False,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep finished parts here; the same command goes on.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show what predicts this target, or what this feature predicts.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one row a target and fold (parquet or csv).")
    ] = None,
    output: OutputOption = None,
    form: FormatOption = Format.TABLE,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Predict each feature of one modality from the other, perturbations held out.

    [bold]Example:[/bold] cytofast crossmodal --from cells.parquet --to genes.csv --on Metadata_pert --to-features gene_

    In Python: cytofast.CrossModalPrediction.
    """
    from cytofast.ingest.profiles import write_profiles
    from cytofast.modalities.predict import CrossModalPrediction

    require_distinct({}, {"table of targets": output, "table of scores": scores})
    question: dict[str, Any] = {
        "model": model.value,
        "compat": compat,
        "groups": columns_of(groups) if groups else None,
    }
    asked = CrossModalPrediction(**question, folds=folds, inner_folds=inner_folds, null_rounds=null_rounds, seed=seed)
    with resources.limits(memory, threads), progress_bar("parts") as progress:
        pair = _pair(store, (source, target), on, (source_features, target_features), level, drop_missing)
        result = asked.predict(pair, pair.a.name, checkpoint=checkpoint, progress=progress)
        percent = result.percent_predictable(seed=seed)
    summary = result.summary()
    for note in result.notes:
        say(f"note: {note}")
    if output is not None:
        written(output, write_profiles(summary, output), summary.width)
    if scores is not None:
        written(scores, write_profiles(result.scores, scores), result.scores.width)
    table = summary if explain is None else result.explain(explain)
    if form is not Format.TABLE:
        show(table, form)
        return
    if explain is not None or output is None:
        show(table if explain is not None else table.sort("median_r2", descending=True, nulls_last=True), most=20)
    show(percent)


def mechanism(
    first: Annotated[str, typer.Option(metavar="LEVEL_OR_FILE", help="One modality.")],
    second: Annotated[str, typer.Option(metavar="LEVEL_OR_FILE", help="The other.")],
    on: On,
    label: Annotated[str, typer.Option(metavar="COLUMN", help="The mechanism or target of a perturbation.")],
    store: StoreArgument = None,
    first_features: Annotated[
        str | None,
        typer.Option(metavar="PREFIX_OR_LIST", help="A prefix, *ending, or names with commas: features of --first."),
    ] = None,
    second_features: Annotated[
        str | None,
        typer.Option(metavar="PREFIX_OR_LIST", help="A prefix, *ending, or names with commas: features of --second."),
    ] = None,
    level: LevelOption = Pairing.TREATMENT,
    groups: Groups = None,
    cluster: Annotated[bool, typer.Option(help="Cluster instead of classify.")] = False,
    classifier: Annotated[list[str] | None, typer.Option(help="logistic or mlp; repeat it. Default: both.")] = None,
    fusion: Annotated[
        list[str] | None, typer.Option(help="early, late, rgcca or cca; repeat it. Default: early, late, rgcca.")
    ] = None,
    folds: Folds = 5,
    inner_folds: InnerFolds = 3,
    smallest_class: Annotated[int, typer.Option(min=2, help="Perturbations that a class has at least.")] = 5,
    separator: Annotated[str, typer.Option(help="Between the labels of one perturbation.")] = "|",
    seed: Seed = 0,
    drop_missing: DropMissing = False,
    output: OutputOption = None,
    form: FormatOption = Format.TABLE,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Tell mechanisms from each modality and from both together.

    [bold]Example:[/bold] cytofast mechanism --first a.parquet --second b.parquet --on Metadata_pert --label Metadata_moa

    In Python: cytofast.Mechanism.
    """
    from cytofast.ingest.profiles import write_profiles
    from cytofast.modalities.mechanism import Mechanism

    asked = Mechanism(
        label,
        groups=columns_of(groups) if groups else None,
        classifiers=classifier or ("logistic", "mlp"),
        fusions=fusion,
        folds=folds,
        inner_folds=inner_folds,
        smallest_class=smallest_class,
        separator=separator,
        seed=seed,
    )
    with resources.limits(memory, threads), progress_bar("models") as progress:
        pair = _pair(store, (first, second), on, (first_features, second_features), level, drop_missing)
        rows = asked.labelled(pair)
        say(f"{len(rows.rows):,} rows of {len(rows.names)} classes")
        for note, n in rows.notes.rows():
            say(f"{note}: {n:,} rows")
        table = asked.cluster(pair) if cluster else None
        result = None if cluster else asked.classify(pair, progress)
    if table is None and result is not None:
        table = result.summary()
    if table is None:
        return
    if output is not None:
        written(output, write_profiles(table, output), table.width)
    show(table, form)
    if result is not None and form is Format.TABLE:
        show(result.compare(), title="differences of weighted F1")


def _pair(
    store: Path | None,
    names: tuple[str, str],
    on: str,
    features: tuple[str | None, str | None],
    level: Pairing,
    drop_missing: bool,
) -> Any:
    """Read and match the two modalities; says what did not match."""
    from cytofast.ingest.profiles import read_profiles
    from cytofast.modalities.align import align
    from cytofast.store.profile_store import open_store

    if names[0] == names[1]:
        raise RecipeError(f"{names[0]!r} is named as both modalities")
    opened = None if store is None else open_store(store)
    tables: list[pl.LazyFrame] = [read_profiles(Path(name)) if opened is None else opened.scan(name) for name in names]
    short = [Path(name).name.split(".", 1)[0] if opened is None else name for name in names]
    chosen = [_features(text, table) for text, table in zip(features, tables, strict=True)]
    called = (short[0], short[1]) if short[0] != short[1] else names
    pair = align(
        tables[0],
        tables[1],
        columns_of(on),
        level.value,
        names=called,
        a_features=chosen[0],
        b_features=chosen[1],
        missing="drop" if drop_missing else "error",
    )
    say(
        f"{len(pair):,} pairs: {len(pair.a.features):,} features of {called[0]}, {len(pair.b.features):,} of {called[1]}"
    )
    for modality, reason, n, rows in pair.summary().rows():
        say(f"left out of {modality}: {n:,} ({reason}), {rows:,} rows")
    return pair


def _features(text: str | None, table: pl.LazyFrame) -> list[str] | str | None:
    """As everywhere, and an ending after a star, such as the ``*_at`` of probe sets."""
    if text is None or not text.strip().startswith("*"):
        return names_of(text)
    ending = text.strip().removeprefix("*")
    found = [name for name in table.collect_schema().names() if name.endswith(ending)]
    if not found:
        raise SchemaError(f"no column ends with {ending!r}. Hint: name the features, with commas.")
    return found


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("crossmodal")(crossmodal)
    app.command("mechanism")(mechanism)
