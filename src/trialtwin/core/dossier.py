"""What a report shows, as data: study facts, findings in sections, results, assumptions and provenance."""

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trialtwin import __version__
from trialtwin.core.errors import MismatchError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.core.finding import Assumption, Finding, Verdict


class Section(BaseModel):
    """A part of the report: where it is linked to, its heading, and the words under the heading.

    With ``results`` the table of results stands in this section, under its findings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    title: str
    intro: str = ""
    results: bool = False


class Result(BaseModel):
    """An estimate with the analysis that gave it, and what, when and on whom it was computed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    analysis: str
    endpoint: str
    visit: str = ""
    population: str = ""
    estimate: Estimate


class TwinAssumptions(BaseModel):
    """What one twin takes as given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    twin: str
    assumptions: tuple[Assumption, ...]

    @property
    def provisional(self) -> int:
        """Number of assumptions that are provisional."""
        return sum(assumption.provisional for assumption in self.assumptions)


class Provenance(BaseModel):
    """Where the numbers come from: hashes of data, configuration and lock, versions, seed, and the command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each file that was read")
    configuration: str = Field(default="", description="SHA-256 of the study file")
    lock: str = Field(default="", description="SHA-256 of the resolved package versions")
    versions: dict[str, str] = Field(default_factory=dict, description="packages and their versions")
    seed: int | None = None
    command: str = Field(default="", description="the command that makes these results again")
    software: str = f"trialtwin {__version__}"


class Question(BaseModel):
    """An estimand and the analyses that address it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimand: Estimand
    analyses: tuple[str, ...]


class Dossier(BaseModel):
    """Everything that one report shows; immutable, JSON in and out, no time of day in it.

    Parameters are fields. ``summary`` holds the lines of the summary box; ``study`` the short facts under the
    title; ``estimand`` the primary question, shown in the title block (where it is absent, those of the results are).

    Raises
    ------
    MismatchError
        If identifiers repeat, a finding names a section that does not exist, or two sections claim the results.

    Examples
    --------
    >>> dossier = Dossier(title="A trial", sections=[Section(id="data", title="Data")])
    >>> Dossier.model_validate_json(dossier.model_dump_json()) == dossier
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(min_length=1)
    subtitle: str = ""
    study: dict[str, str] = Field(default_factory=dict)
    estimand: Estimand | None = None
    summary: tuple[str, ...] = ()
    sections: tuple[Section, ...]
    findings: tuple[Finding, ...] = ()
    results: tuple[Result, ...] = ()
    assumptions: tuple[TwinAssumptions, ...] = ()
    provenance: Provenance = Field(default_factory=Provenance)

    @model_validator(mode="after")
    def _names_agree(self) -> "Dossier":
        _require_unique("section", (section.id for section in self.sections))
        _require_unique("finding", (finding.id for finding in self.findings))
        _require_unique("twin", (group.twin for group in self.assumptions))
        known = [section.id for section in self.sections]
        for finding in self.findings:
            if finding.section not in known:
                raise MismatchError(
                    f"no section {finding.section!r} in this dossier",
                    where=f"finding {finding.id!r}",
                    exists=known,
                    do="add the section, or give the finding one that exists",
                )
        claims = [section.id for section in self.sections if section.results]
        if len(claims) > 1:
            raise MismatchError(
                f"sections {claims} all claim the table of results", do="set results = true on one section"
            )
        return self

    def counts(self) -> dict[Verdict, int]:
        """Return how many findings have each verdict."""
        counted = Counter(finding.verdict for finding in self.findings)
        return {verdict: counted[verdict] for verdict in Verdict}

    def in_section(self, section: Section) -> tuple[Finding, ...]:
        """Return the findings of a section, in the order given."""
        return tuple(finding for finding in self.findings if finding.section == section.id)

    def questions(self) -> tuple[Question, ...]:
        """Return the distinct estimands with the analyses of each: the stated one first, then as results come."""
        found: list[tuple[Estimand, list[str]]] = [] if self.estimand is None else [(self.estimand, [])]
        for result in self.results:
            estimand = result.estimate.estimand
            if estimand is None:
                continue
            match = next((analyses for known, analyses in found if known == estimand), None)
            if match is None:
                match = []
                found.append((estimand, match))
            if result.analysis not in match:
                match.append(result.analysis)
        return tuple(Question(estimand=estimand, analyses=tuple(analyses)) for estimand, analyses in found)


def _require_unique(what: str, names: Iterable[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise MismatchError(f"{what} identifiers repeat: {', '.join(map(repr, twice))}", do="give each its own")
