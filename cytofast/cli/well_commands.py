"""Commands on wells: select, correct, consensus, map, recipe, explain."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cytofast import resources
from cytofast.cli.render import Format, out, say, show, written
from cytofast.cli.step_commands import (
    FeatureOption,
    FitOption,
    In,
    Memory,
    Out,
    Threads,
    apply_step,
    columns_of,
    names_of,
    require_distinct,
)
from cytofast.errors import RecipeError

USUAL_RULES = ("drop_low_frequency", "drop_correlated", "drop_missing", "drop_listed")
"""The rules, in the order, of the published CPJUMP1 profiles."""
CORRECTIONS = (
    "sphere",
    "tvn",
    "principal_components",
    "centre_wells",
    "median_polish",
    "regress_cell_count",
    "harmonize",
    "inverse_normal",
    "clip_outliers",
)


class ConsensusMethod(StrEnum):
    """How replicates become one profile."""

    MEDIAN = "median"
    MEAN = "mean"
    MODZ = "modz"


class Task(StrEnum):
    """The two questions that are asked most."""

    ACTIVITY = "activity"
    CONSISTENCY = "consistency"


class Null(StrEnum):
    """What chance is."""

    LABELS = "labels"
    RANKS = "ranks"
    COPAIRS = "copairs"
    CPJUMP1 = "cpjump1"


def _value(text: str) -> Any:
    """A value as TOML has it; what is none of its types is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _pairs(texts: list[str]) -> dict[str, Any]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"{text!r} is not key=value, for example threshold=0.9")
        pairs[key.strip()] = _value(value.strip())
    return pairs


def _rule(text: str) -> dict[str, Any]:
    """``drop_correlated:threshold=0.8,absolute=true`` as a recipe's table."""
    name, _, options = text.partition(":")
    return {"step": name, **_pairs(_parts(options))}


def _parts(text: str) -> list[str]:
    """Split at commas, but not inside quotes, brackets and parentheses: lists and SQL predicates have some of their own."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def select(
    source: In,
    output: Out,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:KEY=VALUE,...]", help=f"A rule; repeat it. Default: {', '.join(USUAL_RULES)}."),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what was dropped and why.")] = None,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Drop features by rules in order, and say why each one went.

    [bold]Example:[/bold] cytofast select in.parquet -o out.parquet --rule drop_correlated:threshold=0.9 --report why.csv

    In Python: cytofast.FeatureSelect, DropMissing, DropCorrelated, ...
    """
    from cytofast.recipe.recipe import load_steps
    from cytofast.steps.select import FeatureSelect

    load_steps()
    step = FeatureSelect.from_parameters({"steps": [_rule(text) for text in rule or USUAL_RULES]}, "select")
    fit = apply_step(step, source, output, report, memory, threads)
    dropped = fit.filter(~fit["kept"]).group_by("order", "step", maintain_order=True).len("dropped")
    show(dropped.drop("order"))


def correct(
    source: In,
    output: Out,
    method: Annotated[
        str,
        typer.Option(help=f"{', '.join(CORRECTIONS)}."),
    ] = "sphere",
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A field of the step; repeat it.")
    ] = None,
    reference: Annotated[str | None, typer.Option(metavar="SQL", help="Rows to learn from.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Columns that make the groups, with commas.")
    ] = None,
    fit: FitOption = None,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Take batch and position effects out of profiles.

    [bold]Example:[/bold] cytofast correct selected.parquet -o sphered.parquet --reference "Metadata_control_type = 'negcon'"

    In Python: cytofast.Sphere, TVN, CentreWells, MedianPolish, RegressCellCount, Harmonize.
    """
    from cytofast.recipe.recipe import load_steps
    from cytofast.steps.step import step_class

    load_steps()
    if method not in CORRECTIONS:
        raise RecipeError.unknown("correction", method, CORRECTIONS)
    given = {"reference": reference, "by": columns_of(by) if by else None}
    parameters = {**{key: value for key, value in given.items() if value is not None}, **_pairs(option or [])}
    apply_step(step_class(method).from_parameters(parameters, "correct"), source, output, fit, memory, threads)


def consensus(
    source: In,
    output: Out,
    by: Annotated[str, typer.Option(metavar="COLUMNS", help="What replicates have in common, with commas.")],
    method: Annotated[ConsensusMethod, typer.Option(help="How replicates become one.")] = ConsensusMethod.MEDIAN,
    features: FeatureOption = None,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Make one profile of the replicates of each perturbation.

    [bold]Example:[/bold] cytofast consensus profiles.parquet -o consensus.parquet --by Metadata_broad_sample --method modz

    In Python: cytofast.Consensus.
    """
    from cytofast.steps.consensus import Consensus

    parameters = {"by": columns_of(by), "method": method.value, "features": names_of(features)}
    apply_step(Consensus.from_parameters(parameters, "consensus"), source, output, None, memory, threads)


def map_profiles(
    source: Annotated[str, typer.Argument(metavar="PROFILES", help="A file, or the name of a level with --store.")],
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DIR", help="A store that PROFILES is a level of.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Where to write the table.")
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option(help="Choose the rules: replicates against negative controls, or same label against the rest."),
    ] = None,
    pos_sameby: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="What a positive pair has in common, with commas.")
    ] = None,
    pos_diffby: Annotated[str | None, typer.Option(metavar="COLUMNS", help="In what it differs.")] = None,
    neg_sameby: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="What a negative pair has in common.")
    ] = None,
    neg_diffby: Annotated[str | None, typer.Option(metavar="COLUMNS", help="In what it differs.")] = None,
    controls: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Negatives are these rows, such as \"Metadata_control_type = 'negcon'\"."),
    ] = None,
    queries: Annotated[str | None, typer.Option(metavar="SQL", help="Whose average precision is wanted.")] = None,
    where: Annotated[str | None, typer.Option(metavar="SQL", help="Rows that take part at all.")] = None,
    sameby: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="What is averaged. Default: pos-sameby.")
    ] = None,
    multilabel: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A column of several labels, separated by |.")
    ] = None,
    metric: Annotated[str, typer.Option(help="cosine, abs_cosine, correlation or euclidean.")] = "cosine",
    null: Annotated[Null, typer.Option(help="What chance is.")] = Null.LABELS,
    null_size: Annotated[int, typer.Option(help="How often it is drawn.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Another seed, other draws.")] = 0,
    threshold: Annotated[float, typer.Option(help="Retrieved: q below this.")] = 0.05,
    features: FeatureOption = None,
    drop_nulls: Annotated[bool, typer.Option(help="Leave out rows with nulls in a key, with a note.")] = False,
    drop_invalid: Annotated[bool, typer.Option(help="Leave out profiles with missing values, with a note.")] = False,
    form: Annotated[
        Format, typer.Option("--format", help="How the table is written to standard output.")
    ] = Format.TABLE,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Who finds whom: mean average precision, its p-value, and the fraction retrieved.

    [bold]Example:[/bold] cytofast map profiles.parquet --task activity -o map.parquet

    In Python: cytofast.Retrieval(...).mean_average_precision(profiles).
    """
    from cytofast.ingest.endings import kind_of
    from cytofast.ingest.profiles import read_profiles, write_profiles
    from cytofast.retrieval.significance import fraction_retrieved
    from cytofast.store.profile_store import open_store

    if output is not None:
        if store is None:
            require_distinct({"input": Path(source)}, {"output": output})
        else:
            from cytofast.store.answering import refuse_inside

            refuse_inside(open_store(store), output)
        # Said now, not after hours.
        kind_of(output)
    profiles = open_store(store).scan(source) if store is not None else read_profiles(Path(source))
    columns = profiles.collect_schema().names()
    rule = _retrieval(
        task,
        columns,
        {"pos_sameby": pos_sameby, "pos_diffby": pos_diffby, "neg_sameby": neg_sameby, "neg_diffby": neg_diffby},
        {"controls": controls, "queries": queries, "where": where, "multilabel": multilabel},
        {
            "metric": metric,
            "features": names_of(features),
            "nulls": "drop" if drop_nulls else "error",
            "on_invalid": "drop" if drop_invalid else "error",
        },
    )
    say(f"rule: {rule_text(rule)}")
    with resources.limits(memory, threads):
        table = rule.mean_average_precision(
            profiles,
            columns_of(sameby) if sameby else None,
            null=null.value,
            null_size=null_size,
            seed=seed,
            threshold=threshold,
        )
    if output is not None:
        written(output, write_profiles(table, output), table.width)
    if form is not Format.TABLE:
        show(table, form)
        return
    if output is None:
        show(table.sort("mean_average_precision", descending=True, nulls_last=True), most=20)
    show(fraction_retrieved(table, threshold=threshold))


def rule_text(rule: Any) -> str:
    """The parts of a rule that say something."""
    parts = (
        "pos_sameby",
        "pos_diffby",
        "neg_sameby",
        "neg_diffby",
        "controls",
        "queries",
        "where",
        "multilabel",
        "metric",
    )
    said = {part: getattr(rule, part) for part in parts}
    return ", ".join(f"{part}={list(v) if isinstance(v, tuple) else v}" for part, v in said.items() if v)


def _retrieval(
    task: Task | None,
    columns: list[str],
    pairs: dict[str, str | None],
    predicates: dict[str, str | None],
    options: dict[str, Any],
) -> Any:
    from cytofast.retrieval.presets import activity, consistency
    from cytofast.retrieval.rule import Retrieval

    lists = {name: columns_of(text) for name, text in pairs.items() if text}
    texts = {name: text for name, text in predicates.items() if text}
    if task is None:
        if "pos_sameby" not in lists:
            raise RecipeError("map needs --pos-sameby, or --task activity or consistency")
        fields: dict[str, Any] = {**lists, **texts, **options}
        return Retrieval(**fields)
    unused = sorted(set(lists) - {"pos_sameby", "neg_sameby" if task is Task.ACTIVITY else "pos_diffby"})
    if unused:
        raise RecipeError(f"--task {task} chooses {', '.join(unused)} itself; leave them out, or leave out --task")
    if task is Task.ACTIVITY:
        controls = texts.pop("controls", None)
        block = lists.get("neg_sameby", "Metadata_Plate")
        return activity(columns, lists.get("pos_sameby"), controls, block, **texts, **options)
    return consistency(columns, lists.get("pos_sameby"), lists.get("pos_diffby"), **texts, **options)


def recipe(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="show or convert.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME_OR_FILE", help="A shipped recipe, or the YAML of a profiling-recipe.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Where to write the TOML.")
    ] = None,
) -> None:
    """Show a shipped recipe, or convert the YAML configuration of the profiling-recipe.

    [bold]Example:[/bold] cytofast recipe convert config.yml -o recipe.toml
    """
    from cytofast.recipe.convert import convert_profiling_recipe
    from cytofast.recipe.recipe import shipped_text
    from cytofast.store.partition import write_text

    lost: list[str] = []
    if action == "show":
        text = shipped_text(name)
    elif action == "convert":
        text, lost = convert_profiling_recipe(Path(name))
    else:
        raise RecipeError.unknown("action", action, ("show", "convert"))
    for line in lost:
        say(f"not expressed: {line}")
    if output is None:
        out.print(text, markup=False, soft_wrap=True, end="")
    else:
        write_text(output, text)
        say(f"wrote {output}")


def explain(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="The profile store.")],
    feature: Annotated[str, typer.Option(metavar="NAME", help="The feature.")],
    form: Annotated[Format, typer.Option("--format", help="How the table is written.")] = Format.TABLE,
) -> None:
    """Tell a feature's fate: which steps saw it, what they measured, and why it was dropped.

    [bold]Example:[/bold] cytofast explain my-store --feature Cells_AreaShape_Area
    """
    from cytofast.recipe.explain import explain_feature
    from cytofast.store.profile_store import open_store

    table = explain_feature(open_store(store), feature)
    if form is Format.TABLE:
        for row in table.iter_rows(named=True):
            out.print(f"{row['level']}: {row['fate']}", markup=False, soft_wrap=True)
    else:
        show(table, form)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("select")(select)
    app.command("correct")(correct)
    app.command("consensus")(consensus)
    app.command("map")(map_profiles)
    app.command("recipe")(recipe)
    app.command("explain")(explain)
