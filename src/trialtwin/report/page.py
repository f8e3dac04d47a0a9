"""A page as plain values: what the template prints, numbered and anchored, with nothing left to decide."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from markupsafe import Markup

from trialtwin.core.dossier import Dossier, Question, Section
from trialtwin.core.errors import DataError
from trialtwin.core.finding import Finding, Verdict
from trialtwin.report.figures import draw
from trialtwin.report.roles import drawable
from trialtwin.report.tables import TableView, assumption_table, finding_table, result_tables


@dataclass(frozen=True)
class Plot:
    """A figure's drawing, its number and its caption."""

    number: int
    svg: Markup
    caption: str


@dataclass(frozen=True)
class FindingView:
    """A finding as it is printed; ``blank`` says why a figure is not drawn."""

    anchor: str
    title: str
    verdict: Verdict
    text: str
    plot: Plot | None
    blank: str
    table: TableView | None
    evidence: tuple[tuple[str, str], ...]

    @property
    def plain(self) -> bool:
        """Whether it is words only, and is set as a line of a list."""
        return self.table is None


@dataclass(frozen=True)
class SectionView:
    """A section with what stands in it."""

    anchor: str
    title: str
    intro: str
    findings: tuple[FindingView, ...] = ()
    results: tuple[TableView, ...] = ()

    @property
    def failed(self) -> int:
        """Number of findings that failed."""
        return sum(finding.verdict is Verdict.FAIL for finding in self.findings)


@dataclass(frozen=True)
class Page:
    """Everything that the template prints."""

    dossier: Dossier
    questions: tuple[Question, ...]
    counts: dict[str, int]
    failures: tuple[FindingView, ...]
    sections: tuple[SectionView, ...]
    assumptions: tuple[TableView, ...]
    provisional: int
    assumed: int


def build(dossier: Dossier) -> Page:
    """Build a page: number, anchor, draw and print everything of a dossier.

    Raises
    ------
    MismatchError, DataError
        If a figure cannot be drawn from its table; the message names the finding.
    """
    figures, tables, anchors = count(1), count(1), _Anchors()
    questions = dossier.questions()
    results = result_tables(dossier.results, questions)
    sections = list(dossier.sections)
    if results and not any(section.results for section in sections):
        sections.append(Section(id="results", title="Results", results=True))
    views = tuple(
        SectionView(
            anchor=anchors.take("section", section.id),
            title=section.title,
            intro=section.intro,
            findings=tuple(_finding(finding, figures, tables, anchors) for finding in dossier.in_section(section)),
            results=tuple(replace(table, number=next(tables)) for table in results) if section.results else (),
        )
        for section in sections
    )
    return Page(
        dossier=dossier,
        questions=questions,
        counts={verdict.value: number for verdict, number in dossier.counts().items()},
        failures=tuple(f for view in views for f in view.findings if f.verdict is Verdict.FAIL),
        sections=views,
        assumptions=tuple(
            replace(assumption_table(group.twin, group.assumptions), number=next(tables))
            for group in dossier.assumptions
        ),
        provisional=sum(group.provisional for group in dossier.assumptions),
        assumed=sum(len(group.assumptions) for group in dossier.assumptions),
    )


def _finding(finding: Finding, figures: Iterator[int], tables: Iterator[int], anchors: "_Anchors") -> FindingView:
    table = None if finding.table is None else replace(finding_table(finding.table, finding.title), number=next(tables))
    plot = _plot(finding, figures, table.number) if table else None
    blank = f"No figure: Table {table.number} has no values to draw." if table and finding.figure and not plot else ""
    evidence = [*finding.evidence.data.items()]
    if finding.evidence.seed is not None:
        evidence.append(("seed", str(finding.evidence.seed)))
    evidence.append(("software", finding.evidence.software))
    return FindingView(
        anchor=anchors.take("finding", finding.id),
        title=finding.title,
        verdict=finding.verdict,
        text=finding.text,
        plot=plot,
        blank=blank,
        table=table,
        evidence=tuple(evidence),
    )


def _plot(finding: Finding, figures: Iterator[int], table: int) -> Plot | None:
    """Draw a finding's figure, if it has one and there is something to draw; errors say which finding it is."""
    if finding.figure is None or finding.table is None:
        return None
    try:
        if not drawable(finding.figure, finding.table):
            return None
        number = next(figures)
        svg = draw(finding.figure, finding.table, prefix=f"fig{number}-")
    except DataError as error:
        where = ", ".join(part for part in (f"finding {finding.id!r}", error.where) if part)
        raise type(error)(error.what, where=where, exists=error.exists, do=error.do) from error
    # The drawing is made here, and every word in it was escaped when it was written as XML.
    return Plot(number, Markup(svg), f"{finding.title}. Drawn from Table {table}.")  # noqa: S704


class _Anchors:
    """Identifiers for links: readable, safe in a URL, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def take(self, kind: str, name: str) -> str:
        """Return an identifier for a name that was not given before."""
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-").lower() or "x"
        wanted = f"{kind}-{slug}"
        anchor = next(
            a for a in (wanted, *(f"{wanted}-{n}" for n in range(2, len(self._given) + 3))) if a not in self._given
        )
        self._given.add(anchor)
        return anchor
