"""The dossier of a replay: summary, trials one a section, the calibration, and what is taken as given."""

from collections.abc import Sequence

from trialtwin.core.dossier import Dossier, Provenance, Section, TwinAssumptions
from trialtwin.core.finding import Assumption, Evidence, Finding, Verdict
from trialtwin.engine.manifest import installed_packages, lock_digest, platform_facts
from trialtwin.study.replay.endpoints import endpoint
from trialtwin.study.replay.judge import (
    judge_all,
    judge_trial,
    show_courses,
    show_left_out,
    show_scores,
    show_shares,
)
from trialtwin.study.replay.leave_out import LeftOutTrial, judge_coverage, pooled_effect, show_left_out_trials
from trialtwin.study.replay.parameters import Calibration
from trialtwin.study.replay.predict import Prediction, Replayed
from trialtwin.study.replay.readouts import MAIN, LeftOut
from trialtwin.validate.knowledge import show_learned

SHOWN_PACKAGES = ("equinox", "jax", "jaxlib", "numpy", "pydantic", "scipy", "trialtwin")
FULL = 3  # trials; with more, only the first clinical endpoint and amyloid are drawn
WEAKNESSES = " ".join(
    (
        "Amyloid drives benefit by construction: what a drug does by other ways, or a trial that lowers amyloid",
        "without benefit (ENGAGE's high dose), cannot be foretold, only covered by the spread between trials.",
        "Differences between APOE4 genotypes and sexes in CLARITY-AD's benefit are not reproduced. θ and κ are barely",
        "told apart by the data. Benefit was calibrated on trials most of which succeeded: expect forecasts of new",
        "trials to err towards too much benefit.",
    )
)


def write_dossier(
    replays: Sequence[Replayed],
    calibration: Calibration,
    left: Sequence[LeftOut],
    held_out: Sequence[LeftOutTrial],
    assumptions: Sequence[Assumption],
    *,
    evidence: Evidence,
    command: str,
) -> Dossier:
    """Put the dossier together; the same inputs give the same bytes."""
    sections = [Section(id="overview", title="How well published numbers were foretold", intro=_intro(calibration))]
    findings: list[Finding | None] = [
        judge_all(replays, section="overview", evidence=evidence),
        show_scores(replays, section="overview", evidence=evidence),
    ]
    if held_out:
        findings += [
            judge_coverage(held_out, section="overview", evidence=evidence),
            show_left_out_trials(held_out, section="overview", evidence=evidence),
        ]
    everything = [*left, *(item for found in replays for item in found.left_out)]
    findings.append(show_left_out(everything, section="overview", evidence=evidence))
    for place, found in enumerate(replays, start=1):
        section = f"trial-{place}"
        sections.append(Section(id=section, title=found.trial.title, intro=_about(found)))
        findings += _of_trial(found, section, evidence, full=len(replays) <= FULL)
    sections.append(
        Section(id="calibration", title="What was calibrated, and on what", intro=WEAKNESSES),
    )
    findings.append(show_learned("alzheimer", calibration.learned(), section="calibration", evidence=evidence))
    kept = [finding for finding in findings if finding is not None]
    return Dossier(
        title=replays[0].trial.title if len(replays) == 1 else f"{len(replays)} trials replayed",
        subtitle="What the calibrated disease model expects of each arm, beside what was published",
        study=_facts(replays, calibration),
        summary=_summary(replays, kept, held_out),
        sections=tuple(sections),
        findings=tuple(kept),
        assumptions=(
            TwinAssumptions(twin="spreads between trials", assumptions=calibration.assumptions()),
            TwinAssumptions(twin="alzheimer", assumptions=tuple(assumptions)),
        ),
        provenance=Provenance(
            data=evidence.data,
            lock=lock_digest(),
            versions={name: v for name, v in installed_packages().items() if name in SHOWN_PACKAGES} | platform_facts(),
            seed=evidence.seed,
            command=command,
        ),
    )


def _intro(calibration: Calibration) -> str:
    made = calibration.made
    return (
        f"The model was calibrated on {made.rows} numbers of {len(made.trials)} trials ({', '.join(made.trials)})."
        " Numbers of those trials are fitted, numbers of any other trial are foretold."
    )


def _about(found: Replayed) -> str:
    trial = found.trial
    arms = "; ".join(f"{arm.name} (n {arm.n})" for arm in trial.arms)
    return " ".join(
        part for part in (f"Arms: {arms}.", f"Source: {trial.source}." * bool(trial.source), trial.notes) if part
    )


def _of_trial(found: Replayed, section: str, evidence: Evidence, *, full: bool) -> list[Finding | None]:
    known = [what for what in (endpoint(name) for name in dict.fromkeys(found.trial.endpoints)) if what is not None]
    scores = [what.name for what in known if what.kind == "score"]
    pet = [what.name for what in known if what.kind == "amyloid"]
    drawn = {*scores, *pet} if full else {*scores[:1], *pet[:1]}
    courses = [
        show_courses(found, name, section=section, figure=name in drawn, evidence=evidence) for name in (*scores, *pet)
    ]
    return [
        judge_trial(found, section=section, evidence=evidence),
        *courses,
        show_shares(found, section=section, evidence=evidence),
    ]


def _facts(replays: Sequence[Replayed], calibration: Calibration) -> dict[str, str]:
    patients = sum(arm.n for found in replays for arm in found.trial.arms)
    return {
        "Trials": ", ".join(found.trial.id for found in replays),
        "Patients": f"{patients:,}",
        "Calibration": f"{calibration.made.rows} published numbers, {calibration.made.date}",
    }


def _summary(
    replays: Sequence[Replayed], findings: Sequence[Finding], held_out: Sequence[LeftOutTrial]
) -> tuple[str, ...]:
    lines = [f"Published and foretold: {next(f.text for f in findings if f.id == 'overview.published')}"]
    if held_out:
        ratio, error = pooled_effect(held_out)
        lines.append(next(f.text for f in findings if f.id == "overview.coverage"))
        lines.append(
            f"CDR-SB benefit of trials that were left out was {ratio:.2f} times what was foretold (SE {error:.2f})."
        )
    for found in replays:
        lines += _headlines(found)
    failed = [f.title for f in findings if f.verdict is Verdict.FAIL]
    if failed:
        lines.append(f"Not passed: {'; '.join(failed)}.")
    return tuple(lines)


def _primary(found: Replayed) -> str:
    """Return the first clinical endpoint of a trial."""
    known = (endpoint(name) for name in found.trial.endpoints)
    return next((what.name for what in known if what is not None and what.kind == "score"), "")


def _headlines(found: Replayed) -> list[str]:
    """Return a line an arm: the first clinical endpoint's difference at the last visit."""
    last, lines = max(found.trial.visits), []
    ordered = sorted(
        found.published, key=lambda p: not p.row.readout.endpoint.endswith("(NCS2)")
    )  # MMRM has the last word
    published = {(p.row.arm.name, p.row.readout.week): p.observed for p in ordered if _main(p, _primary(found))}
    for p in found.asked:
        if _main(p, _primary(found)) and p.row.readout.week == last:
            low, high = p.interval()
            numbers = f"{p.expected:+.2f} (95 % {low:+.2f} to {high:+.2f})"
            seen = published.get((p.row.arm.name, last))
            numbers += "" if seen is None else f", published {seen:+.2f}"
            arm = f"{found.trial.id}, {p.row.arm.name}, week {last:g}"
            lines.append(f"{arm}: {p.row.endpoint.name} {numbers.replace('-', '−')}.")
    return lines


def _main(p: Prediction, name: str) -> bool:
    """Tell whether a number is a difference of all patients in an endpoint."""
    whole = not p.row.subgroup and p.row.population == MAIN and p.row.readout.stat != "relative_slowing"
    return whole and p.row.difference and p.row.endpoint.name == name
