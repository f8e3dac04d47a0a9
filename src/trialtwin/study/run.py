"""A study from its tables to its report, in steps that are not repeated when nothing that they read has changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter

from trialtwin.core.arrays import digest
from trialtwin.core.backend import enable_compilation_cache
from trialtwin.core.cohort import Cohort
from trialtwin.core.dossier import Dossier, Result
from trialtwin.core.finding import Assumption, Evidence, Finding, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.data.reliability.assessment import assess
from trialtwin.engine.manifest import installed_packages, lock_digest, platform_facts
from trialtwin.study.ard import ard_json, ard_parquet, parquet
from trialtwin.study.compose import compose
from trialtwin.study.fit import ask_twin, fit_twin, pack, unpack
from trialtwin.study.judge import judge_twins, scores
from trialtwin.study.prepare import Prepared
from trialtwin.study.results import judge_results, run_analyses
from trialtwin.study.spec import StudySpec
from trialtwin.study.workspace import Workspace, open_workspace

type Render = Callable[[Dossier], str]

_FINDINGS = TypeAdapter(list[Finding])
_RESULTS = TypeAdapter(list[Result])
_ASSUMPTIONS = TypeAdapter(list[Assumption])
_LEARNED = TypeAdapter(list[Learned])


class Progress(Protocol):
    """Told which step begins, how far it is, and whether it was taken from an earlier run."""

    def begin(self, step: str) -> None:
        """Note that a step begins."""

    def advance(self, done: int, total: int) -> None:
        """Note how far the present step is."""

    def end(self, step: str, *, ran: bool) -> None:
        """Note that a step has ended; ``ran`` is false where an earlier run had done it."""


@dataclass(frozen=True)
class Outcome:
    """Where a finished run is, and what it found."""

    folder: Path
    dossier: Dossier

    @property
    def report(self) -> Path:
        """The report to open."""
        return self.folder / "report.html"


def run_study(
    prepared: Prepared,
    folder: Path,
    *,
    render: Render,
    progress: Progress,
    command: str,
    history: Cohort | None = None,
) -> Outcome:
    """Run a study in a folder, or what is left of it where it was begun before.

    Writes ``reliability.json`` with every rule's finding, and patients and violations in full as Parquet; each twin's
    ``forecast.NAME.npz``, ``assumptions.NAME.json`` and ``learned.NAME.json``; ``validation.json``; ``results.json``,
    ``analysis.json``, ``ard.json``, ``ard.parquet``; ``dossier.json``; ``report.html``; and ``manifest.json`` with
    hashes, versions, seed and times. The same data, study, seed and versions give the same bytes in all but the
    manifest.

    Raises
    ------
    DataError, FitError, MachineError
        As the steps raise them; steps done before are kept.
    """
    enable_compilation_cache()
    prepared.require_usable()
    spec = prepared.spec
    with open_workspace(folder) as space:
        _describe(space, prepared, command)
        runner = _Runner(prepared, history, space, progress)
        runner.check()
        for entry in spec.twins:
            runner.fit(entry.name)
        runner.validate()
        runner.analyse()
        runner.compose(command)
        return Outcome(folder, runner.report(render))


class _Runner:
    """The steps of one run; each reads what earlier ones left on disk, so that a resumed run does the same."""

    def __init__(self, prepared: Prepared, history: Cohort | None, space: Workspace, progress: Progress) -> None:
        self.prepared, self.history, self.space, self.progress = prepared, history, space, progress
        self.spec = prepared.spec
        self.data = digest([f"{name}={sha}" for name, sha in sorted(prepared.tables.sources().items())])

    def check(self) -> None:
        """Judge the tables."""
        parts = _parts(self.spec, "data", "arms", "visits", "outcomes", "covariates", "scales", "terms")
        files = ("reliability.json", "reliability.patients.parquet", "reliability.violations.parquet")

        def work() -> Mapping[str, bytes]:
            found = assess(self.prepared.tables, self.prepared.layout)
            contents = (_FINDINGS.dump_json(list(found.findings), indent=1), parquet(found.patients))
            return dict(zip(files, (*contents, parquet(found.violations)), strict=True))

        self._step("check", {"data": self.data, "spec": parts}, files, work)

    def fit(self, name: str) -> None:
        """Fit one twin and ask it for every patient."""
        entry = next(t for t in self.spec.twins if t.name == name)
        parts = _parts(self.spec, "study", "data", "arms", "visits", "outcomes", "covariates", "scoring")
        inputs = {"data": self.data, "spec": parts, "twin": entry.model_dump_json()}
        inputs["position"] = str(self.spec.twins.index(entry))
        if self.history is not None:
            inputs["history"] = self.history.digest()
        files = (f"forecast.{name}.npz", f"assumptions.{name}.json", f"learned.{name}.json")

        def work() -> Mapping[str, bytes]:
            twin = fit_twin(self.spec, entry, self.prepared.cohort, self.history, self.progress.advance)
            asked = ask_twin(self.spec, entry, twin, self.prepared.cohort)
            known = (_ASSUMPTIONS.dump_json(list(twin.assumptions), indent=1), _LEARNED.dump_json(list(twin.learned)))
            return dict(zip(files, (pack(asked), *known), strict=True))

        self._step(f"fit {name}", inputs, files, work)

    def validate(self) -> None:
        """Judge the forecasts of control patients."""
        inputs = self._fitted() | {"spec": _parts(self.spec, "study", "endpoint", "scoring", "quoted")}

        def work() -> Mapping[str, bytes]:
            learned = {t.name: self._load(_LEARNED, f"learned.{t.name}.json") for t in self.spec.twins}
            cohort, asked = self.prepared.cohort, self._trajectories()
            found = judge_twins(self.spec, cohort, asked, learned, self.history, self._evidence())
            return {"validation.json": _FINDINGS.dump_json(found, indent=1)}

        self._step("validate", inputs, ("validation.json",), work)

    def analyse(self) -> None:
        """Analyse the trial."""
        inputs = self._fitted() | {"data": self.data, "spec": self.spec.model_dump_json()}
        files = ("results.json", "analysis.json", "ard.json", "ard.parquet")

        def work() -> Mapping[str, bytes]:
            record, rows = self.prepared.record, self.prepared.rows
            place = {name: i for i, name in enumerate(self.prepared.cohort.ids)}
            index = [place[name] for name in record.ids]
            by_twin = {
                name: scores(self.spec, asked.take(index), rows.base) for name, asked in self._trajectories().items()
            }
            results = run_analyses(self.spec, record, by_twin)
            found = judge_results(self.spec, record, by_twin, results, self._evidence())
            contents = (_RESULTS.dump_json(results, indent=1), _FINDINGS.dump_json(found, indent=1))
            return dict(zip(files, (*contents, ard_json(results), ard_parquet(results)), strict=True))

        self._step("analyse", inputs, files, work)

    def compose(self, command: str) -> None:
        """Put the dossier together."""
        done = {name: self.space.digest_of(name) for name in ("check", "validate", "analyse")}
        configuration = digest([self.spec.model_dump_json()])
        inputs = done | self._fitted() | {"configuration": configuration, "lock": lock_digest(), "command": command}

        def work() -> Mapping[str, bytes]:
            names = ("reliability.json", "validation.json", "analysis.json")
            findings = [finding for name in names for finding in self._load(_FINDINGS, name)]
            assumptions = {t.name: self._load(_ASSUMPTIONS, f"assumptions.{t.name}.json") for t in self.spec.twins}
            results = self._load(_RESULTS, "results.json")
            dossier = compose(
                self.prepared, findings, results, assumptions, configuration=configuration, command=command
            )
            return {"dossier.json": dossier.model_dump_json(indent=1).encode()}

        self._step("compose", inputs, ("dossier.json",), work)

    def report(self, render: Render) -> Dossier:
        """Render the report."""
        dossier = Dossier.model_validate_json(self.space.path("dossier.json").read_bytes())
        inputs = {"dossier": self.space.digest_of("compose")}
        self._step("report", inputs, ("report.html",), lambda: {"report.html": render(dossier).encode()})
        return dossier

    def _step(
        self, name: str, inputs: Mapping[str, str], outputs: tuple[str, ...], work: Callable[[], Mapping[str, bytes]]
    ) -> None:
        self.progress.begin(name)
        ran = self.space.step(name, inputs, outputs, work)
        self.progress.end(name, ran=ran)

    def _fitted(self) -> dict[str, str]:
        return {f"fit {t.name}": self.space.digest_of(f"fit {t.name}") for t in self.spec.twins}

    def _trajectories(self) -> dict[str, Trajectories]:
        paths = {t.name: self.space.path(f"forecast.{t.name}.npz") for t in self.spec.twins}
        return {name: unpack(path, self.prepared.cohort) for name, path in paths.items()}

    def _evidence(self) -> Evidence:
        return Evidence(data=self.prepared.tables.sources(), seed=self.spec.study.seed)

    def _load(self, adapter: TypeAdapter[Any], name: str) -> Any:
        return adapter.validate_json(self.space.path(name).read_bytes())


def _parts(spec: StudySpec, *names: str) -> str:
    """Return parts of the study file as JSON, for a fingerprint."""
    return orjson.dumps(spec.model_dump(mode="json", include=set(names)), option=orjson.OPT_SORT_KEYS).decode()


def _describe(space: Workspace, prepared: Prepared, command: str) -> None:
    """Write into the manifest what the run rests on."""
    spec = prepared.spec
    space.record("study", spec.model_dump(mode="json"))
    space.record("configuration", digest([spec.model_dump_json()]))
    space.record("data", prepared.tables.sources())
    space.record("seed", spec.study.seed)
    space.record("lock", lock_digest())
    space.record("packages", installed_packages())
    space.record("platform", platform_facts())
    space.record("command", command)
