"""A comparison from a study's patients to its report, its tables and the winner as a file."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import polars as pl

from trialtwin.core.backend import enable_compilation_cache
from trialtwin.core.cohort import Cohort
from trialtwin.core.dossier import Dossier, Provenance, Section, TwinAssumptions
from trialtwin.core.errors import DataError
from trialtwin.core.files import replacing, write_bytes
from trialtwin.core.finding import Column, Evidence, Finding, Table, Verdict
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.twin import AbstractTwin
from trialtwin.engine.manifest import installed_packages, lock_digest, platform_facts
from trialtwin.stats.calibration import Measure as Estimated
from trialtwin.study.compare.ask import Asked
from trialtwin.study.prepare import Prepared
from trialtwin.study.workspace import open_workspace
from trialtwin.twins.card import Card, Measure, make_card
from trialtwin.twins.compare.findings import SECTION, findings_of
from trialtwin.twins.compare.run import Comparison, Progress, compare
from trialtwin.twins.compare.summary import Score
from trialtwin.twins.registry import MODELS, find_entry
from trialtwin.twins.saving import save_twin
from trialtwin.twins.stacking import DISAGREE, StackTwin

type Render = Callable[[Dossier], str]

SHOWN_PACKAGES = ("jax", "jaxlib", "lightgbm", "numpy", "polars", "pydantic", "scikit-learn", "scipy", "trialtwin")


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where a finished comparison is, what it found, and the winner fitted to everybody."""

    folder: Path
    found: Comparison
    dossier: Dossier
    card: Card

    @property
    def report(self) -> Path:
        """The report to open."""
        return self.folder / "report.html"

    @property
    def twin(self) -> Path:
        """The folder of the winner."""
        return self.folder / "twin"


def untreated(prepared: Prepared, history: Cohort | None) -> Cohort:
    """Return the patients to compare on: those of the earlier trial where there is one, else the control arm.

    Raises
    ------
    DataError
        If there are fewer than ten.
    """
    cohort = history if history is not None else prepared.cohort.take(prepared.cohort.arm(prepared.spec.arms.control))
    if len(cohort) < 10:
        raise DataError(f"{len(cohort)} untreated patients are too few to compare twins on", do="give at least ten")
    return cohort


def run_compare(
    prepared: Prepared,
    asked: Asked,
    folder: Path,
    *,
    render: Render,
    on_cell: Progress | None = None,
    command: str = "",
    history: Cohort | None = None,
) -> Outcome:
    """Compare models on a study's untreated patients, and keep the winner, in a folder of its own.

    Writes ``cells/`` (a file a fit, so that a comparison that was stopped goes on), ``scores.parquet`` (one row a
    model, outcome, day known and measure), ``dossier.json``, ``report.html`` and ``twin/``: the winner fitted to all,
    with its card.

    Raises
    ------
    DataError, FitError, MachineError
        As comparing, fitting and writing raise them; finished cells are kept.
    """
    enable_compilation_cache()
    cohort, models = untreated(prepared, history), asked.build()
    key = jax.random.key(asked.seed)
    with open_workspace(folder) as space:
        found = compare(
            cohort,
            models,
            asked.plan,
            key=jax.random.fold_in(key, 0),
            bounds=asked.bounds(cohort),
            folder=folder / "cells",
            on_cell=on_cell,
        )
        winner = found.winner
        twin = models[winner].fit(cohort, key=jax.random.fold_in(key, 1))
        evidence = Evidence(data=prepared.tables.sources() | {"untreated patients": cohort.digest()}, seed=asked.seed)
        findings = findings_of(found, evidence=evidence, told=asked.told())
        if isinstance(twin, StackTwin):
            findings.insert(1, _disagreement(twin, cohort, jax.random.fold_in(key, 2), evidence))
        card = _card(twin, winner, cohort, found, findings, asked.seed)
        dossier = _dossier(prepared, cohort, asked, found, findings, twin, command)
        with replacing(folder / "scores.parquet") as path:
            score_table(found).write_parquet(path)
        shutil.rmtree(folder / "twin", ignore_errors=True)
        sha = save_twin(twin, folder / "twin", card)
        write_bytes(folder / "dossier.json", dossier.model_dump_json(indent=1).encode())
        write_bytes(folder / "report.html", render(dossier).encode())
        space.record("command", command)
        space.record("seed", asked.seed)
        space.record("twin", {"model": winner, "sha256": sha})
        space.record("packages", installed_packages())
        space.record("platform", platform_facts())
    return Outcome(folder, found, dossier, card)


def score_table(found: Comparison) -> pl.DataFrame:
    """Return every measure of every model as rows: one a model, outcome, day known and measure."""
    rows: list[tuple[str | float | None, ...]] = []
    for one in found.scores():
        place = (one.model, _architecture(one.model), found.cohort.outcomes[one.outcome].name, found.known[one.known])
        shares = [(measure.name, measure) for measure in one.coverage]
        named: list[tuple[str, Estimated | None]] = [
            ("RMSE", one.rmse),
            ("CRPS", one.crps),
            ("scaled CRPS", one.scaled),
            ("log score", one.log_score),
        ]
        named += [("R", one.r), ("R of change", one.r_change)]
        for name, measure in (*named, *shares):
            if measure is not None:
                rows.append((*place, name, measure.value, measure.se, measure.lower, measure.upper, measure.n))
        rows.append((*place, "implausible share", one.implausible, None, None, None, one.patients))
        if one.uniform_p is not None:
            rows.append((*place, "p of uniform PIT", one.uniform_p, None, None, None, one.patients))
    names = ["model", "architecture", "outcome", "known", "measure", "value", "se", "lower", "upper", "n"]
    types = [pl.String] * 3 + [pl.Float64, pl.String] + [pl.Float64] * 4 + [pl.Int64]
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def _architecture(model: str) -> str:
    return MODELS[model].architecture if model in MODELS else ""


def _card(
    twin: AbstractTwin, winner: str, cohort: Cohort, found: Comparison, findings: Sequence[Finding], seed: int
) -> Card:
    entry = find_entry(winner)
    wrong = [f"{one.title}: {one.text}" for one in findings if one.verdict is Verdict.FAIL]
    return make_card(
        twin,
        cohort,
        name=winner,
        architecture=entry.architecture,
        summary=entry.summary,
        seed=seed,
        measures=[m for one in found.scores() if one.model == winner for m in _measures(one, found)],
        keeps_patients=entry.keeps_patients,
        limits=wrong,
    )


def _measures(one: Score, found: Comparison) -> list[Measure]:
    """Return a model's scores as a card shows them."""
    outcome = found.cohort.outcomes[one.outcome]
    plan = found.plan
    how = f"{outcome.name} at all later visits, known up to day {found.known[one.known]:g}, {plan.folds} folds"
    how += f" × {plan.repeats}" * (plan.repeats > 1) + f" by {plan.by}"
    shown: list[tuple[Estimated | None, str]] = [(one.rmse, outcome.unit), (one.crps, outcome.unit)]
    shown += [(one.log_score, ""), (one.r_change, ""), (one.coverage[2], "")]
    return [
        Measure(name=m.name, value=m.value, lower=m.lower, upper=m.upper, unit=unit, n=m.n, how=how)
        for m, unit in shown
        if m is not None
    ]


def _disagreement(twin: StackTwin, cohort: Cohort, key: jax.Array, evidence: Evidence) -> Finding:
    """Say for how many patients the members of the stack disagree at the last planned visit."""
    at = np.array([float(cohort.nominal.max())])
    share = twin.disagreement(cohort.until(0.0), NoTreatment(), at, draws=256, key=key)[:, 0]
    rows = []
    for k, variable in enumerate(twin.outcomes):
        apart = share[:, k] > DISAGREE
        weights = ", ".join(f"{n} {w:.2f}" for n, w in zip(twin.names, twin.weights[k], strict=True) if w > 0)
        quantiles = (float(q) for q in np.quantile(share[:, k], (0.5, 0.95)))
        rows.append((variable.name, weights, len(cohort), int(apart.sum()), *quantiles))
    flagged = [cohort.ids[i] for i in np.flatnonzero((share > DISAGREE).any(axis=1))]
    text = (
        f"Kinds of twins disagree on {len(flagged)} of {len(cohort)} patients, known at baseline, at day {at[0]:g}:"
        f" more than half of their forecast's variance is between members. {', '.join(flagged[:10])}"
        if flagged
        else f"For none of {len(cohort)} patients, known at baseline, does more than half of the forecast's variance at"
        f" day {at[0]:g} lie between members."
    )
    return Finding(
        id=f"{SECTION}.disagreement",
        section=SECTION,
        title="Where the members of the stack disagree",
        verdict=Verdict.FAIL if len(flagged) > len(cohort) / 10 else Verdict.INFO,
        text=text,
        table=Table(
            columns=(
                Column(name="outcome", label="Outcome"),
                Column(name="weights", label="Weights"),
                Column(name="n", label="Patients", decimals=0),
                Column(name="flagged", label="Disagree", decimals=0),
                Column(name="median", label="Share between members, median", decimals=3),
                Column(name="high", label="95th percentile", decimals=3),
            ),
            rows=tuple(rows),
        ),
        evidence=evidence,
    )


def _dossier(
    prepared: Prepared,
    cohort: Cohort,
    asked: Asked,
    found: Comparison,
    findings: Sequence[Finding],
    twin: AbstractTwin,
    command: str,
) -> Dossier:
    spec = prepared.spec
    seen = cohort.observed.any(axis=2)
    return Dossier(
        title=f"Which kind of twin deserves trust: {spec.study.title}",
        subtitle="Kinds of twins compared on the same untreated patients, same folds, same information told to each.",
        study={
            "Study": spec.study.id,
            "Patients": f"{len(cohort)} untreated ({'earlier trial' if spec.scoring.history else spec.arms.control})",
            "Outcomes": ", ".join(v.name for v in cohort.outcomes),
            "Visits": f"{len(cohort.visits)} planned, {int(seen.sum())} attended",
            "Models": ", ".join(found.models),
            "Disease": asked.disease or "none",
            "Blocks": ", ".join(cohort.blocks) or "none",
        },
        summary=tuple(one.text for one in findings if one.id in (f"{SECTION}.trust", f"{SECTION}.failures")),
        sections=(
            Section(
                id=SECTION,
                title="The comparison",
                intro=(
                    "Every model learned from the same patients in each fold and forecast the same others. Models that"
                    " choose settings or weigh members did so within the patients they learned from."
                ),
            ),
        ),
        findings=tuple(findings),
        assumptions=(TwinAssumptions(twin=f"{found.winner} (the winner)", assumptions=tuple(twin.assumptions)),),
        provenance=Provenance(
            data=prepared.tables.sources(),
            lock=lock_digest(),
            versions={n: v for n, v in installed_packages().items() if n in SHOWN_PACKAGES} | platform_facts(),
            seed=asked.seed,
            command=command,
        ),
    )
