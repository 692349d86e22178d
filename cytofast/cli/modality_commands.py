"""Commands on two modalities: crossmodal, mechanism."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from cytofast import resources
from cytofast.cli.render import Format, progress_bar, say, show, written
from cytofast.cli.step_commands import Memory, Threads, columns_of, names_of, require_distinct
from cytofast.errors import ProfileWarning, RecipeError, SchemaError
from cytofast.schema import require_columns


class ModelName(StrEnum):
    """What predicts."""

    LASSO = "lasso"
    RIDGE = "ridge"
    MLP = "mlp"


class QualityName(StrEnum):
    """Where replicates must agree."""

    BOTH = "both"
    EITHER = "either"


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
Quality = Annotated[
    QualityName | None,
    typer.Option(help="Keep perturbations whose replicates agree in both modalities, or in either. Needs replicates."),
]
Results = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where all tables go, for cytofast report. Default: STORE/modalities/NAME."),
]
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
    quality: Quality = None,
    compat: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="rosetta: the published procedure, its leak included; rosetta-unleaked: without it. The result says so.",
        ),
    ] = None,
    drop_missing: DropMissing = False,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep finished parts here; the same command goes on.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show what predicts this target, or what this feature predicts.")
    ] = None,
    gene_sets: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A table with columns set and gene: which sets hold what is predictable?"),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one row a target and fold (parquet or csv).")
    ] = None,
    results: Results = None,
    output: OutputOption = None,
    form: FormatOption = Format.TABLE,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Predict each feature of one modality from the other, perturbations held out.

    All tables go to STORE/modalities/NAME (or --results DIR), where cytofast report finds them.

    [bold]Example:[/bold] cytofast crossmodal --from cells.parquet --to genes.csv --on Metadata_pert --to-features gene_

    In Python: cytofast.CrossModalPrediction.
    """
    from cytofast.ingest.profiles import read_profiles, write_profiles
    from cytofast.modalities.maps import associate
    from cytofast.modalities.predict import CrossModalPrediction
    from cytofast.modalities.tables import few_draws, prediction_tables

    if explain is not None and model is ModelName.MLP:
        raise RecipeError("--explain needs coefficients, which a mlp has not. Hint: --model lasso or ridge.")
    if explain is not None and gene_sets is not None:
        raise RecipeError("--explain and --gene-sets are two questions. Hint: ask one after the other.")
    _require_outputs(store, (source, target), {"table of targets": output, "table of scores": scores}, gene_sets)
    question: dict[str, Any] = {
        "model": model.value,
        "compat": compat,
        "groups": columns_of(groups) if groups else None,
    }
    asked = CrossModalPrediction(**question, folds=folds, inner_folds=inner_folds, null_rounds=null_rounds, seed=seed)
    called = f"{Path(source).name}-to-{Path(target).name}-{model.value}{f'-{compat}' if compat else ''}"
    folder = _folder(store, results, called)
    with resources.limits(memory, threads), progress_bar("parts") as progress:
        pair = _pair(
            store, (source, target), on, (source_features, target_features), level, drop_missing, quality, seed
        )
        if explain is not None and explain not in {*pair.a.features, *pair.b.features}:
            raise RecipeError.unknown("target or feature", explain, [*pair.b.features, *pair.a.features])
        sets = None if gene_sets is None else read_profiles(gene_sets).collect()
        if sets is not None:
            require_columns(sets.schema, ["set", "gene"], str(gene_sets))
        _say_groups(pair, question["groups"])
        keeps = "given --checkpoint DIR, the same command would go on" if checkpoint is None else None
        with _stopped(keeps), warnings.catch_warnings():
            # The notes of the result tell it again.
            warnings.filterwarnings("ignore", ".* constant targets are left out", ProfileWarning)
            result = asked.predict(pair, pair.a.name, checkpoint=checkpoint, progress=progress)
        percent = result.percent_predictable(seed=seed)
    summary = result.summary()
    for note in (*result.notes, *few_draws(result.null_scores["median_r2"])):
        say(f"note: {note}")
    associations = None if sets is None else associate(result, sets)
    if folder is not None:
        prediction_tables(result, associations, seed).write(folder)
        say(f"all tables are in {folder}")
    if output is not None:
        written(output, write_profiles(summary, output), summary.width)
    if scores is not None:
        written(scores, write_profiles(result.scores, scores), result.scores.width)
    answer = associations
    if explain is not None:
        answer = result.explain(explain, what="target" if explain in result.targets else "feature")
    if form is not Format.TABLE:
        show(summary if answer is None else answer, form)
        return
    if answer is not None:
        show(answer.drop("lowest", "highest", "n_genes", strict=False), most=20)
    elif output is None:
        table = summary.select("target", "median_r2", "p_value", "predictable")
        show(table.sort("median_r2", descending=True, nulls_last=True), most=20)
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
    quality: Quality = None,
    drop_missing: DropMissing = False,
    results: Results = None,
    output: OutputOption = None,
    form: FormatOption = Format.TABLE,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Tell mechanisms from each modality and from both together.

    All tables go to STORE/modalities/NAME (or --results DIR), where cytofast report finds them.

    [bold]Example:[/bold] cytofast mechanism --first a.parquet --second b.parquet --on Metadata_pert --label Metadata_moa

    In Python: cytofast.Mechanism.
    """
    from cytofast.ingest.profiles import write_profiles
    from cytofast.modalities.mechanism import Mechanism
    from cytofast.modalities.tables import classification_tables, clustering_tables

    _require_outputs(store, (first, second), {"table": output}, None)
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
    called = f"{Path(first).name}-with-{Path(second).name}-{label}-{'clusters' if cluster else 'classes'}"
    folder = _folder(store, results, called)
    with resources.limits(memory, threads), progress_bar("models") as progress:
        pair = _pair(store, (first, second), on, (first_features, second_features), level, drop_missing, quality, seed)
        rows = asked.labelled(pair)
        _say_groups(pair, columns_of(groups) if groups else None)
        say(f"{len(rows.rows):,} rows of {len(rows.names)} classes")
        for note, n in rows.notes.rows():
            say(f"{note}: {n:,} rows")
        with _stopped("it is done in one go"):
            table = asked.cluster(pair) if cluster else None
            result = None if cluster else asked.classify(pair, progress)
    tables = None
    if result is not None:
        table, tables = result.summary(), classification_tables(result)
    elif table is not None:
        tables = clustering_tables(table, label, rows.notes)
    if table is None or tables is None:
        return
    if folder is not None:
        tables.write(folder)
        say(f"all tables are in {folder}")
    if output is not None:
        written(output, write_profiles(table, output), table.width)
    show(table if form is not Format.TABLE else table.drop("macro_f1", "accuracy", "chance_f1", strict=False), form)
    if result is not None and form is Format.TABLE:
        show(result.compare(), title="differences of weighted F1")


def _pair(
    store: Path | None,
    names: tuple[str, str],
    on: str,
    features: tuple[str | None, str | None],
    level: Pairing,
    drop_missing: bool,
    quality: QualityName | None,
    seed: int,
) -> Any:
    """Read and match the two modalities; says what did not match."""
    from cytofast.ingest.profiles import read_profiles
    from cytofast.modalities.align import align
    from cytofast.modalities.quality import agreeing
    from cytofast.store.profile_store import open_store

    if names[0] == names[1]:
        raise RecipeError(f"{names[0]!r} is named as both modalities")
    opened = None if store is None else open_store(store)
    tables: list[pl.LazyFrame] = [read_profiles(Path(name)) if opened is None else opened.scan(name) for name in names]
    short = [Path(name).name.split(".", 1)[0] if opened is None else name for name in names]
    chosen = [_features(text, table) for text, table in zip(features, tables, strict=True)]
    called = (short[0], short[1]) if short[0] != short[1] else names
    keys = columns_of(on)
    sides: dict[str, Any] = {"a_features": chosen[0], "b_features": chosen[1]}
    keep = None if quality is None else agreeing(tables[0], tables[1], keys, quality.value, **sides, seed=seed)
    if keep is not None:
        say(f"replicates of {keep.height:,} agree in {quality}")
    pair = align(
        tables[0],
        tables[1],
        keys,
        level.value,
        names=called,
        **sides,
        keep=keep,
        missing="drop" if drop_missing else "error",
    )
    say(
        f"{len(pair):,} pairs: {len(pair.a.features):,} features of {called[0]}, {len(pair.b.features):,} of {called[1]}"
    )
    for modality, reason, n, rows in pair.summary().rows():
        say(f"left out of {modality}: {n:,} ({reason}), {rows:,} rows")
    return pair


def _require_outputs(
    store: Path | None, names: tuple[str, str], outputs: dict[str, Path | None], gene_sets: Path | None
) -> None:
    """Refuse what cannot be written, or would overwrite what is read, before any work."""
    from cytofast.ingest.endings import WRITTEN, kind_of

    for path in filter(None, outputs.values()):
        if path.is_dir():
            raise RecipeError(f"{path}: a folder. Hint: give a file name.")
        if kind_of(path) not in WRITTEN:
            raise RecipeError(f"{path}: such files are read, not written. Hint: write .parquet or .csv.")
    read = {} if store is not None else {"first modality": Path(names[0]), "second modality": Path(names[1])}
    require_distinct({**read, "table of gene sets": gene_sets}, outputs)


def _folder(store: Path | None, results: Path | None, name: str) -> Path | None:
    """Where all tables go: what was asked for, or a place in the store; nowhere without either."""
    from cytofast.modalities.tables import require_place
    from cytofast.store.layout import encoded
    from cytofast.store.profile_store import open_store

    folder = results if results is not None or store is None else open_store(store).path / "modalities" / encoded(name)
    if folder is not None:
        require_place(folder)
    return folder


@contextmanager
def _stopped(instead: str | None) -> Iterator[None]:
    """Say of a computation that keeps nothing that it is lost when it is stopped."""
    try:
        yield
    except KeyboardInterrupt:
        if instead is not None:
            say(f"stopped: nothing of this computation is kept; {instead}")
        raise


def _say_groups(pair: Any, groups: list[str] | None) -> None:
    """What is held out together; a dose in place of the perturbation would show."""
    names = groups or pair.keys.columns[:1]
    require_columns(pair.metadata.schema, names, "--groups")
    say(f"held out together: {pair.metadata.select(names).n_unique():,} groups of {', '.join(names)}")


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
