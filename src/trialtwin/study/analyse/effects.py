"""Contrasts and means of arms as findings: forests, contrasts by visit, means with intervals."""

import math
import re
from collections.abc import Iterable, Sequence

from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.study.analyse.rows import Analysed
from trialtwin.study.analyse.spec import AnalyseSpec, EndpointSpec
from trialtwin.trials.answer import Found, is_ratio

_NOTE = "SE: standard error. df: degrees of freedom; none where the reference distribution is normal."
_NORMAL = "SE: standard error. The reference distribution is normal."

_BRACKETED = re.compile(r" \([a-z ]*ratio[a-z ]*\)$")

type Block = list[tuple[Analysed, Found]]


def effect_findings(spec: AnalyseSpec, analysed: list[Analysed], evidence: Evidence) -> list[Finding]:
    """Return one forest for each endpoint and measure, and contrasts by visit where there are several."""
    blocks: dict[tuple[str, str, str], Block] = {}
    for one in analysed:
        for found in one.answer.contrasts:
            key = (one.endpoint.spec.id, _measure(found).removeprefix("conditional "), found.estimate.unit)
            blocks.setdefault(key, []).append((one, found))
    findings = []
    for (name, measure, unit), block in blocks.items():
        endpoint = spec.endpoint(name)
        visits = list(dict.fromkeys(found.visit for _, found in block))
        last = [(one, found) for one, found in block if found.visit == visits[-1]]
        findings.append(_forest(endpoint, measure, unit, last, evidence))
        if len(visits) > 1:
            findings.append(_by_visit(endpoint, measure, unit, block, evidence))
    return findings


def mean_findings(one: Analysed, evidence: Evidence) -> list[Finding]:
    """Return the means of an analysis's arms, drawn where there are several visits."""
    if not one.answer.means:
        return []
    first, visits = one.answer.means[0].estimate, list(dict.fromkeys(visit for _, visit in one.answer.means))
    measures = list(dict.fromkeys(map(_measure, one.answer.means)))
    several = len(visits) > 1
    unit, level = first.unit, f"{first.level:.0%}"
    decimals = decimals_of(e.se for e, _ in one.answer.means)
    arms = one.endpoint.outcome.patients.arms
    ordered = sorted(
        one.answer.means,
        key=lambda m: (visits.index(m.visit), measures.index(_measure(m)), arms.index(m.estimate.contrast)),
    )
    rows = [
        ((visit,) if several else ()) + (_measure(Found(e, visit)),) * (len(measures) > 1)
        + (e.contrast, e.value, e.se, e.df, e.lower, e.upper)
        for e, visit in ordered
    ]  # fmt: skip
    what = measures[0] if len(measures) == 1 else "value"
    columns = [Column(name="visit", label="Visit")] * several + [Column(name="measure", label="What")] * (
        len(measures) > 1
    )
    columns += [
        Column(name="arm", label="Arm"),
        Column(name="mean", label=_capital(what), unit=unit, decimals=decimals),
        Column(name="se", label="SE", decimals=decimals + 1),
        Column(name="df", label="df", decimals=1),
        Column(name="lower", label=f"{level} lower", decimals=decimals),
        Column(name="upper", label=f"{level} upper", decimals=decimals),
    ]
    words = one.endpoint.spec.words
    return [
        Finding(
            id=f"means.{one.spec.id}",
            section="survival" if one.endpoint.spec.kind == "time to event" else "means",
            title=f"{one.title}: {words}" + (", by visit" if several else ""),
            verdict=Verdict.INFO,
            text=f"{_method_words(ordered)}Variance: {first.variance}. Intervals: {level}.",
            table=_filled(columns, rows),
            figure=_means_figure(words, what, unit, level) if several else None,
            evidence=evidence,
        )
    ]


def _method_words(means: list[Found]) -> str:
    methods = {found.estimate.method for found in means}
    return f"Method: {methods.pop()}. " if len(methods) == 1 else ""


def decimals_of(errors: Iterable[float]) -> int:
    """Return the decimals that show two significant digits of the smallest standard error.

    Examples
    --------
    >>> decimals_of([0.84, 0.051])
    3
    """
    positive = [error for error in errors if error > 0]
    return min(max(1 - math.floor(math.log10(min(positive))), 0), 8) if positive else 2


def _means_figure(words: str, what: str, unit: str, level: str) -> Figure:
    return Figure(
        kind="interval",
        encoding={"x": "visit", "y": "mean", "low": "lower", "high": "upper", "group": "arm"},
        x_label="Visit",
        y_label=_capital(words) + (f" ({unit})" if unit else ""),
        alt=f"{what} of each arm at each visit with intervals of {level}.",
    )


def _forest(endpoint: EndpointSpec, measure: str, unit: str, block: Block, evidence: Evidence) -> Finding:
    ratio, visit = is_ratio(measure), block[0][1].visit
    rows = [_row(one, found) for one, found in _by_contrast(block)]
    at = f" at {visit}" if visit else ""
    return Finding(
        id=f"effects.{endpoint.id}.{_slug(measure)}" + (f".{_slug(unit)}" if unit else ""),
        section="effects",
        title=f"{_capital(measure)}: {endpoint.words}{at}",
        verdict=Verdict.INFO,
        text=_better_words(endpoint, ratio=ratio, hazard="hazard" in measure),
        table=_filled(_columns(measure, unit, block), rows),
        figure=Figure(
            kind="forest",
            encoding={"label": "analysis", "y": "estimate", "low": "lower", "high": "upper", "group": "contrast"},
            x_label=f"{_capital(measure)}, {endpoint.words}{at}" + (f" ({unit})" if unit else ""),
            y_label="Analysis",
            reference=1.0 if ratio else 0.0,
            log=ratio and all(found.estimate.lower > 0 for _, found in block),
            alt=f"Forest plot of the {measure} by contrast and analysis, with intervals.",
        ),
        evidence=evidence,
    )


def _by_visit(endpoint: EndpointSpec, measure: str, unit: str, block: Block, evidence: Evidence) -> Finding:
    """Show contrasts at every visit, a panel each."""
    rows = [
        (contrast, found.visit, *rest) for one, found in _by_contrast(block) for contrast, *rest in [_row(one, found)]
    ]
    columns = list(_columns(measure, unit, block))
    return Finding(
        id=f"effects.{endpoint.id}.{_slug(measure)}.by-visit",
        section="effects",
        title=f"{_capital(measure)} by visit: {endpoint.words}",
        verdict=Verdict.INFO,
        text="The same contrasts at every visit.",
        table=_filled((columns[0], Column(name="visit", label="Visit"), *columns[1:]), rows),
        figure=Figure(
            kind="interval",
            encoding={
                "x": "visit", "y": "estimate", "low": "lower", "high": "upper",
                "group": "analysis", "panel": "contrast",
            },
            x_label="Visit",
            y_label=_capital(measure) + (f" ({unit})" if unit else ""),
            reference=0.0,
            alt=f"{measure} at each visit by analysis, one panel a contrast, with intervals.",
        ),
        evidence=evidence,
    )  # fmt: skip


def _by_contrast(block: Block) -> Block:
    """Return results in order of their contrasts."""
    names = list(dict.fromkeys(_plain(found.estimate.contrast) for _, found in block))
    return sorted(block, key=lambda pair: names.index(_plain(pair[1].estimate.contrast)))


def _filled(columns: Sequence[Column], rows: Sequence[tuple[Cell, ...]]) -> Table:
    """Return a table without degrees of freedom where none has any."""
    kept = [k for k, c in enumerate(columns) if c.name != "df" or any(row[k] is not None for row in rows)]
    note = _NOTE if len(kept) == len(columns) else _NORMAL
    return Table(
        columns=tuple(columns[k] for k in kept), rows=tuple(tuple(row[k] for k in kept) for row in rows), note=note
    )


def _row(one: Analysed, found: Found) -> tuple[Cell, ...]:
    e = found.estimate
    return (_plain(e.contrast), one.title, e.n, e.value, e.se, e.df, e.lower, e.upper, e.p)


def _columns(measure: str, unit: str, block: Block) -> tuple[Column, ...]:
    ratio = is_ratio(measure)
    levels = {found.estimate.level for _, found in block}
    level = f"{100 * next(iter(levels)):g}% " if len(levels) == 1 else ""
    decimals = 2 if ratio else decimals_of(found.estimate.se for _, found in block)
    return (
        Column(name="contrast", label="Contrast"),
        Column(name="analysis", label="Analysis"),
        Column(name="n", label="n", decimals=0),
        Column(name="estimate", label="Estimate", unit=unit, decimals=decimals),
        Column(name="se", label="SE", decimals=decimals + 1),
        Column(name="df", label="df", decimals=1),
        Column(name="lower", label=_capital(f"{level}lower"), decimals=decimals),
        Column(name="upper", label=_capital(f"{level}upper"), decimals=decimals),
        Column(name="p", label="p"),
    )


def _better_words(endpoint: EndpointSpec, *, ratio: bool, hazard: bool) -> str:
    null = "1" if ratio else "0"
    if endpoint.better is None:
        return f"Without an effect the value is {null}."
    low = (endpoint.better == "lower") != hazard  # where later events are better, a lower hazard is
    return f"Without an effect the value is {null}; values {'below' if low else 'above'} it favour the first arm named."


def _measure(found: Found) -> str:
    return found.estimate.estimand.summary if found.estimate.estimand else ""


def _plain(contrast: str) -> str:
    """Return a contrast without the measure in brackets, which the title says."""
    return _BRACKETED.sub("", contrast)


def _slug(words: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in words).split())


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
