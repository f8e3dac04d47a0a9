"""A finished trial analysed: results to an Analysis Results Dataset, findings, and a report."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from trialtwin.core.dossier import Dossier, Provenance, Section
from trialtwin.core.errors import TrialTwinError
from trialtwin.core.files import write_bytes
from trialtwin.core.finding import Evidence
from trialtwin.engine.manifest import installed_packages, lock_digest, platform_facts
from trialtwin.study.analyse.findings import SECTIONS, findings_of, headline
from trialtwin.study.analyse.methods import METHODS, TITLES
from trialtwin.study.analyse.prepare import Prepared, prepare
from trialtwin.study.analyse.read import Trial
from trialtwin.study.analyse.rows import Analysed, Tested, ard_files, ard_rows, test_hypotheses, together
from trialtwin.study.analyse.spec import AnalyseSpec, AnalysisSpec
from trialtwin.study.workspace import open_workspace

type Render = Callable[[Dossier], str]

SHOWN_PACKAGES = ("numpy", "polars", "pydantic", "scipy", "trialtwin")


@dataclass(frozen=True, eq=False)
class Finished:
    """Where a finished analysis is, and what it found."""

    folder: Path
    rows: list[dict[str, str | float]]
    dossier: Dossier

    @property
    def report(self) -> Path:
        """The report to open."""
        return self.folder / "report.html"


def run_analyse(trial: Trial, folder: Path, *, render: Render, command: str = "") -> Finished:
    """Analyse a finished trial, in a folder of its own.

    Writes ``ard.json`` and ``ard.parquet`` (one row a statistic), ``dossier.json`` and ``report.html``. Every
    outcome is prepared, and every analysis done, before anything is written.

    Raises
    ------
    ConfigError, DataError, MismatchError, FitError
        If an endpoint cannot be prepared or an analysis cannot be done; the message names it.
    MachineError
        If the folder cannot be written.
    """
    spec = trial.spec
    prepared = {endpoint.id: prepare(trial, endpoint) for endpoint in spec.endpoints}
    analysed = [_analyse(spec, one, prepared[one.endpoint]) for one in spec.analyses]
    tested = test_hypotheses(spec, analysed)
    rows = ard_rows(analysed, tested)
    dossier = _dossier(trial, list(prepared.values()), analysed, tested, command)
    with open_workspace(folder) as space:
        for name, content in ard_files(rows).items():
            write_bytes(folder / name, content)
        write_bytes(folder / "dossier.json", dossier.model_dump_json(indent=1).encode())
        write_bytes(folder / "report.html", render(dossier).encode())
        space.record("command", command)
        space.record("packages", installed_packages())
        space.record("platform", platform_facts())
    return Finished(folder, rows, dossier)


def _analyse(spec: AnalyseSpec, one: AnalysisSpec, endpoint: Prepared) -> Analysed:
    """Do one analysis; an error says which one it was."""
    method = METHODS[endpoint.spec.kind][one.method]
    try:
        answer = method(endpoint.outcome, **({"level": spec.level} | one.options()))
    except TrialTwinError as error:
        where = f"analysis {one.id!r}" + (f": {error.where}" if error.where else "")
        raise type(error)(error.what, where=where, exists=error.exists, do=error.do) from error
    return Analysed(one, _title(spec, one), endpoint, answer)


def _title(spec: AnalyseSpec, one: AnalysisSpec) -> str:
    """Return a title, told apart by the identifier where another analysis of the endpoint has the same."""
    titles = [other.title or TITLES[other.method] for other in spec.analyses if other.endpoint == one.endpoint]
    title = one.title or TITLES[one.method]
    return f"{title} ({one.id})" if titles.count(title) > 1 else title


def _dossier(
    trial: Trial, prepared: list[Prepared], analysed: list[Analysed], tested: list[Tested], command: str
) -> Dossier:
    spec = trial.spec
    evidence = Evidence(data=trial.sources())
    findings = findings_of(spec, prepared, analysed, tested, evidence)
    used = {finding.section for finding in findings}
    primary = next(one for one in analysed if one.spec.primary)
    people = primary.endpoint.outcome.patients
    sizes = ", ".join(f"{name} {n}" for name, n in zip(people.arms, people.counts(), strict=True))
    results = together(analysed)
    asked_first = [e.estimand for e, _ in primary.answer.contrasts] + [s.estimand for s in primary.answer.summaries]
    return Dossier(
        title=spec.title,
        subtitle="Analysis of a finished trial.",
        study={
            "Analysis": spec.id,
            "Population": spec.population.name,
            "Primary analysis": primary.title,
            "Patients in the primary analysis": f"{len(people)} ({sizes})",
            "Randomisation": people.scheme_words,
            "Intervals": f"{spec.level:.0%}, two-sided",
        },
        estimand=next(
            (r.estimate.estimand for r in reversed(results) if r.analysis == primary.spec.id), asked_first[-1]
        ),
        summary=tuple(headline(spec, primary, tested)),
        sections=tuple(
            Section(id=name, title=title, intro=intro, results=name == "estimates")
            for name, (title, intro) in SECTIONS.items()
            if name in used or (name == "estimates" and results)
        ),
        findings=tuple(findings),
        results=tuple(results),
        provenance=Provenance(
            data=trial.sources(),
            configuration=sha256(spec.model_dump_json().encode()).hexdigest(),
            lock=lock_digest(),
            versions={n: v for n, v in installed_packages().items() if n in SHOWN_PACKAGES} | platform_facts(),
            command=command,
        ),
    )
