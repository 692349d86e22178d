"""Ask a store everything a scientist wants to see after a screen, and write it as one page."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cytofast.errors import DataError
from cytofast.report.evidence import Evidence
from cytofast.report.page import page
from cytofast.report.parts import Section
from cytofast.report.results import given_results
from cytofast.report.sections_modalities import modalities_section
from cytofast.report.sections_plates import plates_section
from cytofast.report.sections_retrieval import retrieval_section
from cytofast.report.sections_steps import map_section, normalization_section, selection_section
from cytofast.report.sections_store import facts_of, provenance_section, store_section
from cytofast.report.sections_tasks import matching_section
from cytofast.store.partition import write_text
from cytofast.store.profile_store import ProfileStore, open_store

Progress = Callable[[str, float, int], None]


def _quiet(what: str, done: float, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes
    ----------
    path
        Where it lies.
    sections
        Titles of its sections, and whether each has an answer.
    size
        In bytes.
    headlines
        What stands at its top.
    """

    path: Path
    sections: dict[str, bool]
    size: int
    headlines: tuple[str, ...]

    def __repr__(self) -> str:
        silent = [name for name, answered in self.sections.items() if not answered]
        without = f", without an answer: {', '.join(silent)}" if silent else ""
        return f"Report({str(self.path)!r}: {self.size / 1e6:.1f} MB, {len(self.sections)} sections{without})"


def write_report(
    store: ProfileStore | str | Path,
    path: str | Path,
    *,
    level: str | None = None,
    by: Sequence[str] | None = None,
    controls: str | None = None,
    tables: Sequence[str | Path] = (),
    title: str | None = None,
    progress: Progress = _quiet,
) -> Report:
    """Write one self-contained HTML page about a store: plates, normalization, selection, retrieval, matching, map, and more.

    Results on two modalities are drawn too, and provenance is told. It needs no network and no second file. What cannot be
    answered (no controls, one replicate, an empty store) is said in its place, and the page still opens.

    Parameters
    ----------
    store
        The store, or its directory.
    path
        The HTML file to write; it is replaced as a whole.
    level
        Profiles to compare and to map; by default ``profiles``, or else the last level that has wells.
    by
        Condition columns: retrieval is asked in each condition by itself. By default those of the usual ones (cell type, time,
        modality) that are the same on a whole plate and differ between plates.
    controls
        SQL predicate of the negative controls, such as ``"Metadata_Compound = 'DMSO'"``. By default
        ``Metadata_control_type = 'negcon'`` or the like, or else the reference by which the store's recipe scaled plates.
    tables
        Results that were computed before: files of ``cytofast map``, folders of ``cytofast benchmark``, ``crossmodal`` or
        ``mechanism``, or a folder of such. Those in the store are found. Without any, the report asks whether replicates find
        each other among the negative controls of their plate (:func:`cytofast.activity`).
    title
        What stands at the top.
    progress
        Called with what is being asked, how many sections are finished, and how many there are.

    Raises
    ------
    StoreError
        The store or the level is not there, or the file cannot be written.
    DataError
        Something in ``tables`` is not there, ``path`` is no HTML file, or ``controls`` are no wells.
    SchemaError
        ``controls`` names a column that is not there.

    Examples
    --------
    >>> import tempfile, cytofast
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = cytofast.open_store(folder / "store", create=True)
    >>> list(write_report(store, folder / "report.html").sections)[:5]
    ['Store', 'Plates', 'Normalization', 'Selection', 'Retrieval']
    """
    target = Path(path)
    if target.suffix.lower() not in {".html", ".htm"}:
        raise DataError(f"{target}: a report is an HTML file. Hint: end its name in .html.")
    opened = store if isinstance(store, ProfileStore) else open_store(store)
    given = given_results(opened, tables)
    evidence = Evidence(opened, level, by, controls)
    if evidence.chosen is not None and controls is not None:  # a wrong level or predicate is an error before any work
        evidence.controls  # noqa: B018
    makers: list[Callable[[], Section]] = [
        lambda: store_section(evidence),
        lambda: plates_section(evidence),
        lambda: normalization_section(evidence),
        lambda: selection_section(evidence),
        lambda: retrieval_section(evidence, given),
        lambda: matching_section(evidence, given),
        lambda: modalities_section(given),
        lambda: map_section(evidence),
        lambda: provenance_section(evidence, given.files),
    ]
    sections: list[Section] = []
    for maker in makers:
        progress("asking", len(sections), len(makers))
        sections.append(maker())
    name = opened.path.resolve().name
    heading = title or f"Cell Painting report: {opened.path.resolve().parent.name if name == 'store' else name}"
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    text = page(
        heading,
        f"About the store {opened.path}, level {evidence.chosen}."
        if evidence.chosen
        else f"About the store {opened.path}.",
        facts_of(evidence),
        sections,
        f"Made by cytofast {version('cytofast')} on {now}. This file holds everything it shows; it fetches nothing.",
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, text)
    progress("written", len(makers), len(makers))
    return Report(
        target,
        {section.title: section.answered for section in sections},
        len(text.encode()),
        tuple(line.text for section in sections for line in section.headlines),
    )
