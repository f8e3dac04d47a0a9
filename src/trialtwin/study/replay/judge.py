"""Findings of a replay: published numbers beside foretold ones, with z-scores and a verdict; courses; ARIA."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.study.replay.predict import Prediction, Replayed
from trialtwin.study.replay.readouts import MAIN, LeftOut, informs

FAR, NEAR, MOST_NEAR = 2.0, 1.3, 0.8  # the bars: every |z| below 2, at least 80 % below 1.3
Z = "z = (published − foretold) / √(SE² + predictive variance); the predictive variance is that between trials, arms"
Z += " and subgroups plus that of the parameters. z of sampling leaves the predictive variance out."
_LABELS = {"amyloid_CL": "Amyloid PET", "amyloid_SUVR(florbetapir)": "Amyloid PET, florbetapir"}
_STATISTICS = {
    "change": "change",
    "diff_vs_placebo": "difference",
    "diff_vs_external": "difference from the other cohort",
    "relative_slowing": "relative slowing",
    "proportion": "share",
}


def verdict(predictions: Sequence[Prediction]) -> tuple[Verdict, str]:
    """Return whether published numbers lie where they were foretold, in words too."""
    scores = np.array([abs(p.z) for p in predictions if p.z is not None])
    if not len(scores):
        return Verdict.INFO, "Nothing published to hold the forecast against."
    far = [p for p in predictions if p.z is not None and abs(p.z) >= FAR]
    near = float((scores < NEAR).mean())
    # a share of a handful of numbers says little: the second bar waits until it could be told from 80 % by chance
    spread_out = near < MOST_NEAR and stats.binom.cdf((scores < NEAR).sum(), len(scores), MOST_NEAR) < 0.05
    words = f"{len(scores)} published numbers: |z| < 1.3 for {near:.0%}, largest |z| {scores.max():.2f}."
    if far:
        words += f" Beyond 2: {'; '.join(f'{p.row.words} (z {_signed(p.z)})' for p in far)}."
    return (Verdict.FAIL if far or spread_out else Verdict.PASS), words


def judge_trial(found: Replayed, *, section: str, evidence: Evidence) -> Finding:
    """Hold a trial's published numbers against what was foretold."""
    decision, words = verdict(found.published)
    rows = tuple(_compared(p) for p in sorted(found.published, key=_order))
    return Finding(
        id=f"{section}.published",
        section=section,
        title=f"{found.trial.id}: published and foretold",
        verdict=decision,
        text=words,
        table=Table(columns=_COMPARED, rows=rows, note=Z) if rows else None,
        evidence=evidence,
    )


_COMPARED = (
    Column(name="number", label="Number"),
    Column(name="who", label="Arm and population"),
    Column(name="observed", label="Published"),
    Column(name="expected", label="Foretold"),
    Column(name="z", label="z", decimals=2),
    Column(name="low", label="95% from"),
    Column(name="high", label="to"),
    Column(name="se", label="SE"),
    Column(name="z_sampling", label="z of sampling", decimals=2),
    Column(name="use", label="Use"),
)


def _compared(p: Prediction) -> tuple[Cell, ...]:
    r, places = p.row.readout, _places(p)
    who = p.row.subgroup or ("" if p.row.population == MAIN else p.row.population)
    use = r.use.removeprefix("calibration").strip("()") or "calibration"
    use = "calibration" if informs(p.row) else f"checked only ({use})"
    return (
        f"{r.endpoint}, week {r.week:g}, {_STATISTICS[r.stat]}",
        r.arm + (f", {who}" if who else ""),
        _round(p.observed, places),
        _round(p.expected, places),
        _round(p.z, 2),
        *(_round(end, places) for end in p.interval()),
        _round(p.plain, places),
        _round(p.z_sampling, 2),
        use,
    )


def show_courses(found: Replayed, name: str, *, section: str, figure: bool, evidence: Evidence) -> Finding | None:
    """Show an endpoint over time: change in each arm, and difference from the control."""
    asked = [p for p in found.asked if p.row.endpoint.name == name and p.row.readout.stat != "proportion"]
    if not asked:
        return None
    published = _seen(found)
    places = _places(asked[0])
    rows: list[tuple[Cell, ...]] = []
    for p in asked:
        outer, inner = p.interval(0.9), p.interval(0.5)
        panel = _panel(p)
        if not any(row[0] == panel for row in rows):
            rows.append((panel, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None))
        numbers = (p.expected, *outer, *inner)
        rows.append((panel, p.row.readout.week, *(_round(v, places) for v in numbers), published.get(_place(p))))
    unit = asked[0].row.endpoint.unit
    last = max(found.trial.visits)
    final = [p for p in asked if p.row.readout.week == last and p.row.population == MAIN]
    text = "; ".join(f"{_panel(p)} {_signed(p.expected, places)} ({_range(p, places)})" for p in final)
    picture = Figure(
        kind="fan",
        encoding={
            "x": "week",
            "median": "expected",
            "low": "low90",
            "high": "high90",
            "inner_low": "low50",
            "inner_high": "high50",
            "panel": "panel",
        }
        | ({"observed": "observed"} if any(row[-1] is not None for row in rows) else {}),
        x_label="Week",
        y_label=f"{_LABELS.get(name, name)} ({unit})",
        reference=0.0,
        alt=f"Change of {name} in each arm over the weeks, foretold with intervals, and published values",
    )
    return Finding(
        id=f"{section}.{name}",
        section=section,
        title=f"{_LABELS.get(name, name)}: change and difference",
        verdict=Verdict.INFO,
        text=f"Week {last:g}, with 95 % intervals of what the trial shows: {text}.",
        table=Table(columns=_course_columns(places), rows=tuple(rows), note=f"In {unit}."),
        figure=picture if figure else None,
        evidence=evidence,
    )


def _course_columns(places: int) -> tuple[Column, ...]:
    numbers = (
        ("expected", "Foretold"),
        ("low90", "90% from"),
        ("high90", "to"),
        ("low50", "50% from"),
        ("high50", "to"),
        ("observed", "Published"),
    )
    return (
        Column(name="panel", label="Arm"),
        Column(name="week", label="Week", decimals=0),
        *(Column(name=name, label=label, decimals=places) for name, label in numbers),
    )


def show_shares(found: Replayed, *, section: str, evidence: Evidence) -> Finding | None:
    """Show the share below 24.1 CL by visit, and ARIA by APOE4 genotype."""
    asked = [p for p in found.asked if p.row.readout.stat == "proportion"]
    if not asked:
        return None
    published = _seen(found)
    rows = []
    for p in asked:
        r, (low, high) = p.row.readout, p.interval()
        seen = published.get(_place(p))
        who = p.row.subgroup or ("" if p.row.population == MAIN else p.row.population)
        shown = (round(100 * v, 1) for v in (p.expected, low, high))
        name = f"{r.endpoint}, week {r.week:g}"
        rows.append((name, r.arm + (f", {who}" if who else ""), *shown, None if seen is None else 100 * seen))
    aria = [p for p in asked if p.row.endpoint.name == "ARIA-E" and p.row.treated and not p.row.subgroup]
    words = "; ".join(f"ARIA-E under {p.row.arm.name} {p.expected:.0%}" for p in aria)
    return Finding(
        id=f"{section}.shares",
        section=section,
        title="Amyloid below 24.1 CL, and ARIA",
        verdict=Verdict.INFO,
        text=f"Shares of patients with 95 % intervals. {words}{'.' if words else ''}",
        table=Table(
            columns=(
                Column(name="number", label="Share"),
                Column(name="who", label="Arm and population"),
                Column(name="expected", label="Foretold", unit="%", decimals=1),
                Column(name="low", label="95% from", unit="%", decimals=1),
                Column(name="high", label="to", unit="%", decimals=1),
                Column(name="observed", label="Published", unit="%", decimals=1),
            ),
            rows=tuple(rows),
            note="ARIA without a drug is that of the placebo groups in the drug's file.",
        ),
        evidence=evidence,
    )


def show_left_out(left: Sequence[LeftOut], *, section: str, evidence: Evidence) -> Finding | None:
    """List published numbers that are not modelled."""
    if not left:
        return None
    rows = tuple(
        (_named(i), i.readout.arm, None if np.isnan(i.readout.value) else i.readout.value, i.reason) for i in left
    )
    names = (("number", "Number"), ("arm", "Arm"), ("value", "Published"), ("reason", "Why"))
    return Finding(
        id=f"{section}.left-out",
        section=section,
        title="Numbers that are not modelled",
        verdict=Verdict.INFO,
        text=f"{len(rows)} numbers, published or asked for, have no counterpart in the model; judged nowhere.",
        table=Table(columns=tuple(Column(name=n, label=label) for n, label in names), rows=rows),
        evidence=evidence,
    )


def judge_all(replays: Sequence[Replayed], *, section: str, evidence: Evidence) -> Finding:
    """Hold all published numbers against what was foretold, a row a trial, with the distribution of z."""
    everything = [p for found in replays for p in found.published]
    decision, words = verdict(everything)
    scores = np.array([p.z for p in everything if p.z is not None])
    lines = []
    for found in replays:
        z = np.array([p.z for p in found.published if p.z is not None])
        if len(z):
            ok = verdict(found.published)[0].value
            lines.append((found.trial.id, len(z), 100 * float((np.abs(z) < NEAR).mean()), float(np.abs(z).max()), ok))
    sampling = np.array([abs(p.z_sampling) for p in everything if p.z_sampling is not None])
    if len(sampling):
        words += f" Against sampling error alone {float((sampling < FAR).mean()):.0%} lie within 2."
    columns = (
        Column(name="trial", label="Trial"),
        Column(name="n", label="Published numbers"),
        Column(name="near", label="|z| < 1.3", unit="%", decimals=0),
        Column(name="largest", label="Largest |z|", decimals=2),
        Column(name="verdict", label="Verdict"),
    )
    return Finding(
        id=f"{section}.published",
        section=section,
        title="Published numbers and what was foretold, over all trials",
        verdict=decision if len(scores) else Verdict.INFO,
        text=words,
        table=Table(columns=columns, rows=tuple(lines), note=Z) if lines else None,
        evidence=evidence,
    )


def show_scores(replays: Sequence[Replayed], *, section: str, evidence: Evidence) -> Finding | None:
    """Show the distribution of z beside that of a standard normal variable."""
    scores = np.array([p.z for found in replays for p in found.published if p.z is not None])
    if len(scores) < 20:
        return None
    edges = np.arange(-3.25, 3.26, 0.5)
    counts, _ = np.histogram(np.clip(scores, -3.2, 3.2), edges)
    chance = np.diff(stats.norm.cdf(edges))
    low, high = (stats.binom.ppf(q, len(scores), chance) for q in (0.025, 0.975))
    rows = tuple(
        (float((a + b) / 2), int(n), float(lo), float(hi))
        for a, b, n, lo, hi in zip(edges, edges[1:], counts, low, high, strict=False)
    )
    return Finding(
        id=f"{section}.scores",
        section=section,
        title="The distribution of z",
        verdict=Verdict.INFO,
        text=(
            f"Mean {scores.mean():.2f}, SD {scores.std():.2f} (1 for independent numbers of trials not fitted; less for"
            " fitted ones, where the error of the parameters counts twice). Numbers of a trial share its deviates and"
            " its patients, so that bars scatter more than the range of independent ones."
        ),
        table=Table(
            columns=(
                Column(name="z", label="z, middle of the bin", decimals=1),
                Column(name="count", label="Published numbers"),
                Column(name="low", label="95% of chance from"),
                Column(name="high", label="to"),
            ),
            rows=rows,
        ),
        figure=Figure(
            kind="histogram",
            encoding={"x": "z", "y": "count", "low": "low", "high": "high"},
            x_label="z of published numbers",
            y_label="Published numbers",
            alt="Histogram of z beside the range that a standard normal variable would give",
        ),
        evidence=evidence,
    )


def _seen(found: Replayed) -> dict[tuple[str, str, str, str, float, str], float | None]:
    """Return published numbers by what they are about; the main analysis where there are two (MMRM, not NCS2)."""
    second = [p for p in found.published if p.row.readout.endpoint.endswith("(NCS2)")]
    first = [p for p in found.published if not p.row.readout.endpoint.endswith("(NCS2)")]
    return {_place(p): p.observed for p in (*second, *first)}


def _place(p: Prediction) -> tuple[str, str, str, str, float, str]:
    r = p.row.readout
    return p.row.population, p.row.subgroup, p.row.endpoint.name, p.row.arm.name, r.week, r.stat


def _panel(p: Prediction) -> str:
    words = f"{p.row.arm.name} − {p.row.against.name}" if p.row.difference else p.row.arm.name
    return words if p.row.population == MAIN else f"{words}, {p.row.population}"


def _order(p: Prediction) -> tuple[str, str, str, float, str]:
    r = p.row.readout
    return r.endpoint, p.row.subgroup or p.row.population, r.arm, r.week, r.stat


def _places(p: Prediction) -> int:
    if p.row.endpoint.unit in ("SUVR", "share") or p.row.readout.stat == "relative_slowing":
        return 3
    return 2 if p.row.endpoint.kind == "score" else 1


def _round(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def _signed(value: float | None, places: int = 2) -> str:
    return "–" if value is None else f"{value:+.{places}f}".replace("-", "−")


def _range(p: Prediction, places: int) -> str:
    low, high = p.interval()
    return f"{_signed(low, places)} to {_signed(high, places)}"


def _named(item: LeftOut) -> str:
    return f"{item.trial}: {item.readout.endpoint}, week {item.readout.week:g}"
