"""The dossier of treated patients, and the card of one."""

from collections.abc import Sequence

import numpy as np

from trialtwin.core.cohort import Cohort
from trialtwin.core.dossier import Dossier, Provenance, Section, TwinAssumptions
from trialtwin.core.finding import Assumption, Evidence, Finding
from trialtwin.core.variables import Kind
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.diseases.base import AbstractDisease, LogisticScale
from trialtwin.drugs.drug import Drug
from trialtwin.engine.manifest import installed_packages, lock_digest, platform_facts
from trialtwin.study.replay.parameters import shipped_calibration
from trialtwin.study.treat.decide import Decided
from trialtwin.study.treat.groups import known, show_gain, show_unlike, unlike
from trialtwin.study.treat.infer import FITTED
from trialtwin.study.treat.show import show_benefit, show_card, show_choice, show_courses, show_pathways, show_risk
from trialtwin.study.treat.simulate import Simulated
from trialtwin.study.treat.spec import TreatSpec

SHOWN_PACKAGES = ("equinox", "jax", "jaxlib", "numpy", "pydantic", "scipy", "trialtwin")
LIMITS = " ".join(
    (
        "Every number here is what a model expects, not what a patient will see. In the Alzheimer model benefit",
        "through amyloid is there by construction; θ and κ, which say how much, are barely told apart by published",
        "trials. How far a drug's clinical effect differs from trial to trial is a judgement (a factor with SD",
        "{spread:g}, never below 0), and risks of two drugs together are taken as independent.",
    )
)


def write_dossier(
    cohort: Cohort,
    disease: AbstractDisease,
    drugs: Sequence[Drug],
    spec: TreatSpec,
    simulated: Simulated,
    decided: Decided,
    *,
    evidence: Evidence,
    command: str,
) -> Dossier:
    """Put the dossier together; the same inputs give the same bytes."""
    endpoint, unit = spec.endpoint_of(disease), _unit(spec, disease)
    everyone = range(len(cohort))
    sign = 1.0 if spec.higher_is_better(disease) else -1.0
    found: list[Finding | None] = [
        show_courses(
            simulated, everyone, endpoint, id_="courses", section="courses",
            title=f"{endpoint} without treatment and under each candidate", evidence=evidence,
        ),
        show_benefit(decided, simulated, unit, spec.threshold, section="courses", evidence=evidence),
        show_risk(simulated, everyone, id_="risk", section="harm", evidence=evidence),
        show_choice(decided, everyone, _weights(spec), unit, id_="choice", section="harm", evidence=evidence),
        show_pathways(simulated, sign, everyone, unit, id_="pathways", section="pathways", evidence=evidence),
        show_gain(decided, cohort, unit, section="gain", evidence=evidence),
        show_unlike(cohort, disease.name, section="limits", evidence=evidence),
    ]  # fmt: skip
    kept = tuple(finding for finding in found if finding is not None)
    sections = (
        Section(id="courses", title="What each candidate does"),
        Section(id="harm", title="What it costs, and which is best"),
        Section(id="pathways", title="Through which mechanism"),
        Section(id="gain", title="Who gains"),
        Section(id="limits", title="What this does not know", intro=LIMITS.format(spread=spec.effect_spread)),
    )
    used = {finding.section for finding in kept}
    return Dossier(
        title=f"{len(cohort)} patients treated with {len(spec.candidates)} candidate(s)",
        subtitle=f"{disease.name}: {endpoint} over {spec.weeks:g} weeks",
        study={
            "Patients": f"{len(cohort):,}",
            "Draws of each": f"{len(simulated.untreated):,}",
            "Endpoint": f"{endpoint}, {'higher' if sign > 0 else 'lower'} is better",
            "Weights": _weights(spec),
        },
        summary=tuple(finding.text for finding in kept if finding.id in ("benefit", "choice", "gain", "unlike")),
        sections=tuple(section for section in sections if section.id in used),
        findings=kept,
        assumptions=(
            TwinAssumptions(twin=disease.name, assumptions=_disease_assumptions(disease)),
            *(TwinAssumptions(twin=drug.name, assumptions=drug.assumptions(disease.name)) for drug in drugs),
        ),
        provenance=Provenance(
            data=evidence.data,
            lock=lock_digest(),
            versions={name: v for name, v in installed_packages().items() if name in SHOWN_PACKAGES} | platform_facts(),
            seed=spec.seed,
            command=command,
        ),
    )


def write_card(
    cohort: Cohort, i: int, disease: AbstractDisease, spec: TreatSpec, simulated: Simulated, decided: Decided
) -> Dossier:
    """Return one patient's card: what is known, what each candidate would do, at what risk, and what is best."""
    endpoint, unit = spec.endpoint_of(disease), _unit(spec, disease)
    sign = 1.0 if spec.higher_is_better(disease) else -1.0
    found = (
        show_card(simulated, decided, sign, i, _weights(spec), unit, section="card"),
        show_courses(
            simulated, [i], endpoint, id_="courses", section="card",
            title=f"{endpoint} without treatment and under each candidate", evidence=Evidence(),
        ),
    )  # fmt: skip
    outside = unlike(cohort, disease.name).get(i)
    return Dossier(
        title=f"Treatment card: {cohort.ids[i]}",
        subtitle=f"{disease.name}: {endpoint} over {spec.weeks:g} weeks, what a model expects",
        study=_facts(cohort, i),
        summary=(
            f"What a model expects, with 95 % intervals over {len(simulated.untreated)} draws; not advice.",
            *([f"Unlike the patients of the calibration trials: {'; '.join(outside)}."] if outside else []),
        ),
        sections=(Section(id="card", title="Candidates"),),
        findings=found,
        provenance=Provenance(seed=spec.seed),
    )


def _facts(cohort: Cohort, i: int) -> dict[str, str]:
    levels = {v.concept: v.levels for v in cohort.variables if v.kind is Kind.CATEGORICAL}
    facts = {}
    for concept, values in known(cohort).items():
        value = values[i]
        if np.isnan(value):
            facts[concept] = "not known"
        elif concept in levels:
            facts[concept] = levels[concept][int(value)]
        else:
            facts[concept] = f"{value:g}"
    return facts


def _unit(spec: TreatSpec, disease: AbstractDisease) -> str:
    name = spec.endpoint_of(disease)
    return f"{name} points" if isinstance(disease.scales[name], LogisticScale) else f"units of {name}"


def _weights(spec: TreatSpec) -> str:
    if not spec.weights:
        return "benefit alone, harm not weighed"
    return ", ".join(f"{event} {weight:g}" for event, weight in spec.weights.items()) + " points of benefit each"


def _disease_assumptions(disease: AbstractDisease) -> tuple[Assumption, ...]:
    listed = [constant.assumption() for constant in disease.constants]
    if isinstance(disease, Alzheimer):
        calibration = shipped_calibration()
        values = calibration.natural()
        made = f"calibrated on {calibration.made.rows} published numbers, {calibration.made.date}; drawn with its error"
        for place, one in enumerate(listed):
            if one.name in FITTED:
                listed[place] = one.model_copy(update={"value": f"{values[one.name]:.3g}", "source": made})
    return (*listed, *(prior.assumption() for prior in disease.priors))
