"""Leave-one-trial-out: each trial foretold by a calibration that has not seen it, and how often intervals hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from trialtwin.core.finding import Column, Evidence, Finding, Table, Verdict
from trialtwin.study.replay.expected import Simulator, expect
from trialtwin.study.replay.fit import Fitted, errors, solve
from trialtwin.study.replay.judge import MOST_NEAR, NEAR
from trialtwin.study.replay.predict import Prediction, parameter_sds

LEVELS = (0.5, 0.8, 0.95)
ROUNDS = 2  # from the fit to all trials, which is near


@dataclass(frozen=True)
class LeftOutTrial:
    """What a calibration without a trial (and those that share its deviates) says of it."""

    family: str
    predictions: tuple[Prediction, ...]


def leave_one_out(
    fitted: Fitted, simulator: Simulator, progress: Callable[[int, int], None] | None = None
) -> list[LeftOutTrial]:
    """Foretell each trial from all others, for the numbers that informed the calibration.

    Parameters and spreads are fitted anew without the trial, by two rounds that begin at the fit to all trials.
    """
    families = list(dict.fromkeys(row.trial.family for row, used in zip(fitted.rows, fitted.used, strict=True) if used))
    found = []
    for done, family in enumerate(families):
        own = np.array([row.trial.family == family for row in fitted.rows]) & fitted.used
        others = fitted.used & ~own
        vector, expected = fitted.vector, fitted.expected
        for round_ in range(ROUNDS):
            solved = solve(fitted.rows, expected, vector, others, fitted.spreads)
            vector = solved.parameters
            if round_ + 1 < ROUNDS:
                expected = expect(fitted.rows, simulator, vector)
        rows = [row for row, chosen in zip(fitted.rows, own, strict=True) if chosen]
        there = expect(rows, simulator, vector)
        between = np.sqrt(np.diag(there.between(solved.spreads)))
        parameter = parameter_sds(there.jacobian, solved.covariance)
        plain, counted = errors(rows, there)
        columns = zip(rows, there.mean, between, parameter, counted, plain, strict=True)
        predictions = [Prediction(row, *(float(number) for number in numbers)) for row, *numbers in columns]
        found.append(LeftOutTrial(family, tuple(predictions)))
        if progress is not None:
            progress(done + 1, len(families))
    return found


def judge_coverage(left: Sequence[LeftOutTrial], *, section: str, evidence: Evidence) -> Finding:
    """Hold the intervals' coverage of trials that were left out against what they claim.

    Numbers of a trial are not independent. The error is that of independent numbers (binomial), and beside it one that
    takes whole trials as the units: the SD of coverage when trials are drawn anew with replacement.
    """
    groups = {
        "clinical": [[p for p in t.predictions if p.row.endpoint.kind == "score"] for t in left],
        "amyloid": [[p for p in t.predictions if p.row.endpoint.kind != "score"] for t in left],
        "all": [list(t.predictions) for t in left],
    }
    rows, short, wide = [], [], []
    for name, trials in groups.items():
        scores = [np.array([abs(p.z) for p in trial if p.z is not None]) for trial in trials]
        scores = [z for z in scores if len(z)]
        if not scores:
            continue
        total = np.concatenate(scores)
        for level in LEVELS:
            reach = stats.norm.ppf(0.5 + level / 2)
            held = float((total < reach).mean())
            binomial = float(np.sqrt(level * (1 - level) / len(total)))
            by_trial = _by_trials([z < reach for z in scores])
            rows.append((name, 100 * level, 100 * held, 100 * binomial, 100 * by_trial, len(total), len(scores)))
            if held < level - 2 * max(binomial, by_trial):
                short.append(f"{name} at {level:.0%}: {held:.0%}")
            if level < max(LEVELS) and held > level + 2 * binomial:
                wide.append(f"{name} at {level:.0%}: {held:.0%}")
    words = "Each trial was foretold by a calibration to all others. "
    words += f"Intervals hold less often than they claim: {'; '.join(short)}." if short else "Intervals hold."
    words += f" Some are wider than they need be: {'; '.join(wide)}." if wide else ""
    return Finding(
        id=f"{section}.coverage",
        section=section,
        title="Intervals of trials that were left out",
        verdict=Verdict.FAIL if short else Verdict.PASS,
        text=words,
        table=Table(
            columns=(
                Column(name="endpoints", label="Endpoints"),
                Column(name="level", label="Claimed", unit="%", decimals=0),
                Column(name="held", label="Held", unit="%", decimals=0),
                Column(name="binomial", label="Binomial SE", unit="%", decimals=1),
                Column(name="by_trial", label="SE over trials", unit="%", decimals=1),
                Column(name="n", label="Numbers"),
                Column(name="trials", label="Trials"),
            ),
            rows=tuple(rows),
            note="Judged short where coverage lies more than two errors (the larger one) below what is claimed.",
        ),
        evidence=evidence,
    )


def show_left_out_trials(left: Sequence[LeftOutTrial], *, section: str, evidence: Evidence) -> Finding:
    """Show each left-out trial's z-scores and its misses."""
    rows = []
    for trial in left:
        z = np.array([abs(p.z) for p in trial.predictions if p.z is not None])
        worst = sorted((p for p in trial.predictions if p.z is not None), key=lambda p: -abs(p.z or 0.0))[:3]
        misses = "; ".join(_miss(p) for p in worst)
        rows.append((trial.family, len(z), 100 * float((z < NEAR).mean()), float(z.max()), misses))
    return Finding(
        id=f"{section}.left-out-trials",
        section=section,
        title="Trials foretold without their own numbers",
        verdict=Verdict.INFO,
        text=f"By trial: how many numbers lie within |z| 1.3 (aim {MOST_NEAR:.0%}), and the three farthest.",
        table=Table(
            columns=(
                Column(name="trial", label="Trial"),
                Column(name="n", label="Numbers"),
                Column(name="near", label="|z| < 1.3", unit="%", decimals=0),
                Column(name="largest", label="Largest |z|", decimals=2),
                Column(name="worst", label="Farthest"),
            ),
            rows=tuple(rows),
        ),
        evidence=evidence,
    )


def pooled_effect(left: Sequence[LeftOutTrial]) -> tuple[float, float]:
    """Return how large the drugs' CDR-SB effects were against what was foretold without each trial, and its SE."""
    chosen = [
        p
        for trial in left
        for p in trial.predictions
        if p.row.difference and p.row.endpoint.name == "CDR-SB" and not p.row.subgroup and p.observed is not None
    ]
    ratios = np.array([p.observed / p.expected for p in chosen if p.observed is not None])
    weights = np.array([(p.expected / p.sampling) ** 2 for p in chosen])
    return float(ratios @ weights / weights.sum()), float(weights.sum() ** -0.5)


def _miss(p: Prediction) -> str:
    """Return a number, what was foretold of it, and z."""
    numbers = f"{p.observed:g} for {p.expected:.3g} (z {p.z:.2f})"
    return f"{p.row.words}: {numbers.replace('-', '−')}"


def _by_trials(held: Sequence[np.ndarray]) -> float:
    """Return the SD of coverage over draws of trials with replacement (a ratio estimator's)."""
    if len(held) < 2:
        return 0.0
    counts, sizes = np.array([h.sum() for h in held]), np.array([len(h) for h in held])
    share = counts.sum() / sizes.sum()
    return float(np.sqrt(((counts - share * sizes) ** 2).sum() * len(held) / (len(held) - 1)) / sizes.sum())
