"""The validate step: findings on how well each twin foresaw control patients that it had not seen."""

from collections.abc import Mapping, Sequence

import numpy as np

from trialtwin.core.cohort import Cohort
from trialtwin.core.finding import Evidence, Finding, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.study.fit import folds_of
from trialtwin.study.spec import StudySpec
from trialtwin.twins.features import Encoder, encode
from trialtwin.validate.accuracy import Quoted, judge_accuracy, judge_agreement
from trialtwin.validate.calibration import judge_coverage, judge_ranks, show_courses
from trialtwin.validate.forecast import forecast
from trialtwin.validate.knowledge import judge_novelty, show_learned
from trialtwin.validate.reference import reference_forecasts

SECTION = "twins"
PANELS = 9


def judge_twins(
    spec: StudySpec,
    cohort: Cohort,
    trajectories: Mapping[str, Trajectories],
    learned: Mapping[str, Sequence[Learned]],
    history: Cohort | None,
    evidence: Evidence,
) -> list[Finding]:
    """Judge the forecasts of the control arm, show courses to look at, and say what the twins do not know."""
    outcome, visit = spec.endpoint.outcome, spec.endpoint.visit
    control = np.flatnonzero(cohort.arm(spec.arms.control))
    patients = cohort.take(control)
    forecasts = [forecast(name, asked.take(control), patients, outcome) for name, asked in trajectories.items()]
    change = forecasts[0].observed[:, forecasts[0].visit(visit)] - forecasts[0].base
    references = reference_forecasts(
        encode(Encoder.learn(patients), patients),
        change,
        folds_of(spec, cohort)[control],
        seed=spec.study.seed,
    )
    quoted = [Quoted(q.name, q.rmse, q.correlation, q.source) for q in spec.quoted]
    return [
        judge_accuracy(forecasts, references, quoted, visit=visit, section=SECTION, evidence=evidence),
        judge_agreement(forecasts, visit=visit, section=SECTION, evidence=evidence),
        judge_coverage(forecasts, section=SECTION, evidence=evidence),
        judge_ranks(forecasts, section=SECTION, evidence=evidence, seed=spec.study.seed),
        *(show_courses(each, panels=PANELS, section=SECTION, evidence=evidence) for each in forecasts),
        *(show_learned(name, pieces, section=SECTION, evidence=evidence) for name, pieces in learned.items()),
        _novelty(cohort, patients if history is None else history, evidence),
    ]


def _novelty(cohort: Cohort, teachers: Cohort, evidence: Evidence) -> Finding:
    """Compare every patient with those that taught the twins."""
    encoder = Encoder.learn(teachers)
    names = [f"{name} {level}".strip() for name, level in zip(encoder.names, encoder.levels, strict=True)]
    known, everybody = encode(encoder, teachers), encode(encoder, cohort)
    return judge_novelty(cohort.ids, names, known, everybody, section=SECTION, evidence=evidence)


def scores(spec: StudySpec, asked: Trajectories, base: np.ndarray) -> np.ndarray:
    """Return each patient's prognostic score: the expected endpoint at the endpoint's visit without treatment."""
    visit = [v.name for v in spec.visits].index(spec.endpoint.visit)
    day = float(asked.times[visit])
    level = asked.score(spec.endpoint.outcome, day)
    return level - base if spec.endpoint.column == "CHG" else level
