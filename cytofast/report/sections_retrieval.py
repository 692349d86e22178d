"""The section on retrieval: which perturbations do something that repeats, in words first."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from cytofast.report import retrieval_figures
from cytofast.report.evidence import Activity, Evidence
from cytofast.report.parts import Drawn, Listed, Part, Prose, Section, counted
from cytofast.report.results import Given
from cytofast.retrieval.significance import fraction_retrieved

_LITTLE = 0.1
_WIDE = 0.25
_MOST_ROWS = 6_000
_MOST_NOTES = 4
_OWN = (
    "mean_average_precision",
    "p_value",
    "q_value",
    "n_profiles",
    "n_candidates",
    "retrieved",
    "doubtful",
    "p_method",
)


def retrieval_section(evidence: Evidence, given: Given) -> Section:
    """From results that were given, else by asking whether replicates find each other."""
    parts: list[Part] = [Prose(text, "warning") for text in given.failed]
    news: list[Prose] = []
    for name, table in given.maps.items():
        by = [column for column in evidence.conditions if column in table.columns]
        parts += found_parts(table, by, name, f"From {name}.", news)
    for name, results in given.benchmarks.items():
        tasks = results.perturbations["task"].unique(maintain_order=True)
        for task in tasks:
            table = results.perturbations.filter(results.perturbations["task"] == task)
            by = [column for column in results.conditions if table[column].is_not_null().any()]
            parts += found_parts(table, by, f"{name}-{task}", f"Task {task} of the benchmark {name}.", news)
    if not given.maps and not any(results.perturbations.height for results in given.benchmarks.values()):
        parts += _asked(evidence, news)
    return Section("retrieval", "Retrieval", parts, news)


def _asked(evidence: Evidence, news: list[Prose]) -> list[Part]:
    """What the preset ``activity`` finds, condition by condition."""
    answers = evidence.activity
    parts: list[Part] = []
    tables = []
    for answer in answers:
        label = _label(answer)
        parts += [Prose(f"{label}{part.text}", part.tone) for part in answer.found.notes if isinstance(part, Prose)]
        if answer.found.table.height:
            tables.append(
                answer.found.table.with_columns(pl.lit(value).alias(name) for name, value in answer.condition.items())
            )
    if not tables:
        text = "Retrieval was not possible, so nothing is said about which perturbations are active."
        news.append(Prose(text, "warning"))
        hint = (
            "Say which wells are controls: cytofast report --controls SQL. If perturbations are named otherwise, run cytofast "
            "map with your own rule, write its answer with -o FILE, and give that file: cytofast report --tables FILE."
        )
        return [*_remarks(parts), Prose(f"{text} {hint}", "warning")]
    rule = evidence.rule()
    key = rule.pos_sameby[0]
    left = evidence.content["levels"][evidence.chosen]["features"] - len(evidence.features)
    most = max(evidence.draws(answer.profiles) for answer in answers)
    about = (
        f"Asked of level {evidence.chosen}: do the wells of a {key.removeprefix('Metadata_')} find each other, by "
        "cosine similarity of "
        f"{len(evidence.features):,} features, among the negative controls "
        f"({rule.controls}; {evidence.controls.source}) of their plate? p comes "
        f"from permuted labels ({most:,} draws at most where it is not exact)."
    )
    if left:
        about += f" {left:,} features with more than 5 % missing values are left out."
    table = evidence.named(pl.concat(tables), key)
    return [*found_parts(table, list(answers[0].condition), "activity", about, news), *_remarks(parts)]


def _remarks(parts: Sequence[Part]) -> list[Part]:
    """What was left out or could not be asked, as paragraphs, or as a table where it is much."""
    said = list(dict.fromkeys(part for part in parts if isinstance(part, Prose)))
    if len(said) <= _MOST_NOTES:
        return list(said)
    table = pl.DataFrame({"remark": [part.text for part in said], "kind": [part.tone for part in said]})
    caption = "What was left out, and conditions that could not be asked."
    return [
        Listed("remarks", f"Remarks ({len(said)})", table, caption, opened=any(part.tone == "warning" for part in said))
    ]


def _label(answer: Activity) -> str:
    return f"{', '.join(str(value) for value in answer.condition.values())}: " if answer.condition else ""


def found_parts(
    table: pl.DataFrame, by: Sequence[str], name: str, about: str, news: list[Prose], kind: str = "perturbation"
) -> list[Part]:
    """A verdict, both figures and the table of hits."""
    known = table.filter(table["mean_average_precision"].is_not_null())
    if not known.height:
        return [Prose(f"{about} No {kind} could be tested: has each a single profile?", "warning")]
    whole = fraction_retrieved(table)
    verdict = said_of(whole.row(0, named=True), name, kind)
    news.append(verdict)
    shares = fraction_retrieved(table, list(by) or None)
    parts: list[Part] = [Prose(about), verdict]
    doubtful = int(table["doubtful"].sum()) if "doubtful" in table.columns else 0
    if doubtful:
        warned = Prose(
            f"{name}: {doubtful:,} of {int(table['retrieved'].sum()):,} retrieved {'is' if doubtful == 1 else 'are'} "
            "doubtful: with a perfect ranking of few candidates (n_candidates) the p of the CPJUMP1 paper is the smallest "
            "there is, however likely such a ranking is by chance. Ask with null=labels which of them hold.",
            "warning",
        )
        parts.append(warned)
        news.append(warned)
    if whole["n_untested"][0]:
        parts.append(
            Prose(
                f"{counted(whole['n_untested'][0], kind)} could not be tested, with nothing to find or nothing else.",
                "note",
            )
        )
    wide = shares.filter((shares["upper"] - shares["lower"] > _WIDE).fill_null(value=True))
    if by and wide.height:
        named = "; ".join(retrieval_figures.conditions_of(wide, by).head(_MOST_NOTES))
        rest = f" and {wide.height - _MOST_NOTES} more" if wide.height > _MOST_NOTES else ""
        text = (
            f"In {wide.height} of {counted(shares.height, 'condition')} the interval is wider than {_WIDE:.0%}, or nothing "
            f"could be tested: {named}{rest}."
        )
        parts.append(Prose(text, "note"))
    hits = _hits(table, by)
    shown = hits.head(_MOST_ROWS)
    parts += [
        Drawn(
            f"boxes-{name}",
            f"Mean average precision by condition: {name}",
            retrieval_figures.map_boxes(table, by, shares, kind),
            shares,
        ),
        Drawn(
            f"against_p-{name}",
            f"Mean average precision against chance: {name}",
            retrieval_figures.map_against_p(table, by, kind),
            shown,
        ),
        Listed(f"hits-{name}", f"Hits: {name}", shown, _caption(hits, kind)),
    ]
    return parts


def _caption(hits: pl.DataFrame, kind: str) -> str:
    text = f"{kind.capitalize()}s by q-value, the surest first. "
    text += "Search for names, targets or mechanisms; click on a heading to sort."
    if hits.height > _MOST_ROWS:
        text += f" The first {_MOST_ROWS:,} of {counted(hits.height, 'row')}; cytofast map writes all."
    return text


def _hits(table: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The columns that people read, in the order that they read them; the surest first."""
    names = [
        c for c in table.columns if c not in by and (c.startswith("Metadata_") or c in {"name", "about", "position"})
    ]
    names = [column for column in names if table[column].is_not_null().any()]
    numbers = [column for column in _OWN if column in table.columns]
    return table.select(*names, *by, *numbers).sort(
        ["q_value", "mean_average_precision"], descending=[False, True], nulls_last=True
    )


def said_of(numbers: dict[str, float], name: str, kind: str) -> Prose:
    """How much signal there is, in a sentence that does not make it more than it is."""
    share = numbers["fraction_retrieved"]
    if share is None:
        return Prose(f"{name}: nothing could be tested.", "warning")
    told = f"{name}: {verdict_of(numbers, kind)}"
    if share < _LITTLE:
        chance = " The interval reaches down to none." if numbers["lower"] == 0 else ""
        return Prose(
            f"Hardly any signal. {told}.{chance} Nearly all look no more like their own kind than chance would have "
            "it; read what "
            "follows from these profiles with that in mind.",
            "warning",
        )
    wide = " The interval is wide: few were tested." if numbers["upper"] - numbers["lower"] > _WIDE else ""
    return Prose(f"{told}.{wide}", "note" if wide else "good")


def verdict_of(numbers: dict[str, float], kind: str) -> str:
    """Numbers in words."""
    if numbers["fraction_retrieved"] is None:
        return f"no {kind} could be tested"
    return (
        f"{numbers['n_retrieved']:,} of {counted(int(numbers['n_perturbations']), kind)} retrieved at q < 0.05 "
        f"({numbers['fraction_retrieved']:.1%}, 95 % interval {numbers['lower']:.1%} to {numbers['upper']:.1%})"
    )
