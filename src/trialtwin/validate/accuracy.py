"""Findings on accuracy: error and correlation beside plain forecasts, and predicted against observed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.finding import Cell, Column, Evidence, Figure, Finding, Table, Verdict
from trialtwin.stats.calibration import correlation, crps, rmse
from trialtwin.validate.forecast import Forecast


@dataclass(frozen=True)
class Quoted:
    """Accuracy that somebody else reported for the same patients and visit, with its source."""

    name: str
    rmse: float
    correlation: float | None
    source: str


def judge_accuracy(
    forecasts: Sequence[Forecast],
    references: Mapping[str, Float[np.ndarray, " patient"]],
    quoted: Sequence[Quoted],
    *,
    visit: str,
    section: str,
    evidence: Evidence,
) -> Finding:
    """Compare the error of each twin's expected change with plain forecasts of the same patients.

    All are out of fold, of the patients whose change at the visit was measured. Intervals describe the sampling of
    patients with the forecasts as given; they overlap more than the models differ, because the patients are the same.
    """
    first = forecasts[0]
    v = first.visit(visit)
    seen = first.seen(v)
    change = first.observed[seen, v] - first.base[seen]
    unit = first.variable.unit
    rows: list[tuple[Cell, ...]] = []
    for twin in forecasts:
        predicted = twin.expected[seen, v] - twin.base[seen]
        score = float(crps(twin.draws[:, seen, v], twin.observed[seen, v]).mean())
        rows.append(("twin", f"{twin.name} twin", *_measures(predicted, change), score, 100 * twin.implausible))
    for name, predicted in references.items():
        rows.append(("plain", name, *_measures(predicted[seen], change), None, None))
    rows += [("quoted", q.name, None, q.rmse, None, None, q.correlation, *(None,) * 4) for q in quoted]
    smallest, best = min((float(row[3] or 0), str(row[1])) for row in rows if row[0] == "twin")
    plain = min(float(row[3] or 0) for row in rows if row[0] == "plain")
    words = "below" if smallest < plain else "not below"
    return Finding(
        id=f"{section}.accuracy",
        section=section,
        title=f"Accuracy of the forecast change at {visit}",
        verdict=Verdict.INFO,
        text=(
            f"Forecast made at baseline for {len(change)} control patients whose change was measured, none of whom the"
            f" model had seen. The smallest error of a twin is {smallest:.2f} {unit} ({best}), {words} that"
            f" of the best plain forecast ({plain:.2f}). Correlation is between forecast and observed change."
        ),
        table=Table(
            columns=_accuracy_columns(unit),
            rows=tuple(rows),
            note=_accuracy_note(quoted),
        ),
        figure=Figure(
            kind="forest",
            encoding={"label": "model", "y": "rmse", "low": "rmse_lower", "high": "rmse_upper", "group": "kind"},
            x_label=f"RMSE of the forecast change at {visit} ({unit})",
            y_label="Model",
            reference=plain,
            alt="Root mean squared error of each twin, of plain forecasts, and of quoted forecasts, with intervals.",
        ),
        evidence=evidence,
    )


def judge_agreement(forecasts: Sequence[Forecast], *, visit: str, section: str, evidence: Evidence) -> Finding:
    """Show each patient's forecast change beside the observed one."""
    rows: list[tuple[Cell, ...]] = []
    words = []
    for twin in forecasts:
        v = twin.visit(visit)
        seen = np.flatnonzero(twin.seen(v))
        predicted, change = twin.expected[seen, v] - twin.base[seen], twin.observed[seen, v] - twin.base[seen]
        error = rmse(predicted, change)
        r = correlation(predicted, change)
        words.append(f"{twin.name}: n = {len(seen)}, RMSE {error.value:.2f}, R {r.value:.2f}")
        panel = f"{twin.name} twin: RMSE {error.value:.2f}, R {r.value:.2f}"
        rows += [(panel, twin.ids[i], float(p), float(c)) for i, p, c in zip(seen, predicted, change, strict=True)]
    unit = forecasts[0].variable.unit
    return Finding(
        id=f"{section}.agreement",
        section=section,
        title=f"Forecast against observed change at {visit}",
        verdict=Verdict.INFO,
        text="Control patients, each forecast by a twin that had not seen the patient. " + "; ".join(words) + ".",
        table=Table(
            columns=(
                Column(name="panel", label="Twin"),
                Column(name="subject", label="Subject"),
                Column(name="predicted", label="Forecast change", unit=unit, decimals=1),
                Column(name="observed", label="Observed change", unit=unit, decimals=1),
            ),
            rows=tuple(rows),
        ),
        figure=Figure(
            kind="scatter",
            encoding={"x": "predicted", "y": "observed", "panel": "panel"},
            x_label=f"Forecast change ({unit})",
            y_label=f"Observed change ({unit})",
            alt="Scatter of observed against forecast change, one panel a twin, with the line of identity.",
        ),
        evidence=evidence,
    )


def _accuracy_note(quoted: Sequence[Quoted]) -> str:
    sources = dict.fromkeys(q.source for q in quoted)
    words = "The line in the figure is at the best plain forecast. "
    words += (
        "The mean of the others correlates negatively with what was left out by construction, and every forecast that"
    )
    words += " was fitted out of fold carries some of that. Implausible draws lie outside the range of the scale."
    return words + (f" Quoted, not recomputed: {'; '.join(sources)}." if sources else "")


def _accuracy_columns(unit: str) -> tuple[Column, ...]:
    return (
        Column(name="kind", label="Forecast"),
        Column(name="model", label="Model"),
        Column(name="n", label="n", decimals=0),
        Column(name="rmse", label="RMSE", unit=unit, decimals=2),
        Column(name="rmse_lower", label="95 % lower", unit=unit, decimals=2),
        Column(name="rmse_upper", label="95 % upper", unit=unit, decimals=2),
        Column(name="r", label="R", decimals=2),
        Column(name="r_lower", label="R 95 % lower", decimals=2),
        Column(name="r_upper", label="R 95 % upper", decimals=2),
        Column(name="crps", label="Mean CRPS", unit=unit, decimals=2),
        Column(name="implausible", label="Implausible draws", unit="%", decimals=2),
    )


def _measures(predicted: Float[np.ndarray, " patient"], change: Float[np.ndarray, " patient"]) -> tuple[Cell, ...]:
    """Return n, RMSE with interval, and R with interval; R is empty for a constant forecast."""
    error = rmse(predicted, change)
    shown: tuple[Cell, ...] = (len(change), error.value, error.lower, error.upper)
    if np.ptp(predicted) == 0:
        return (*shown, None, None, None)
    r = correlation(predicted, change)
    return (*shown, r.value, r.lower, r.upper)
