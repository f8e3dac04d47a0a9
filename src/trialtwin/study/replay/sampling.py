"""Sampling errors of published numbers: as printed, or from n and the usual spread of a change; correlations.

Where no standard error is printed, SD(t) = max(spread · √(t / 78 weeks), repeat) (see ``endpoints``), n is the number
in the row, else the arm's n less dropout up to that visit. Rows of lower confidence count less: their standard error is
multiplied by 1.25 (medium), 1.5 (low-medium) or 2 (low). Numbers read off a figure carry a reading error as well.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from trialtwin.study.replay.endpoints import Endpoint, endpoint
from trialtwin.study.replay.readouts import MAIN, Row
from trialtwin.study.replay.spec import Arm

CONFIDENCE = {"high": 1.0, "medium-high": 1.0, "medium": 1.25, "low-medium": 1.5, "low": 2.0}
READING = {"CL": 0.5, "SUVR": 0.003, "points": 0.05, "share": 0.01}  # about half a percent of a figure's axis
_READ_OFF = ("digitised", "read-off")
BETWEEN_SCALES, WITH_IADRS, BETWEEN_PET = 0.5, 0.8, 0.7  # correlations of sampling errors of one arm (judged)
NUGGET = 0.1  # share of each row's variance that is its own: rounding, another analysis set
_SHARES = {  # of a trial's patients, roughly: of other subpopulations a half
    "APOE4 noncarrier": 0.31,
    "APOE4 heterozygote": 0.53,
    "APOE4 homozygote": 0.16,
    "APOE4 carrier": 0.69,
    "male": 0.48,
    "female": 0.52,
    "age<65": 0.2,
    "age65-74": 0.44,
    "age>=75": 0.36,
    "low/medium tau": 0.68,
}


def patients(row: Row, arm: Arm, fraction: float) -> float:
    """Return the number of patients behind a row in an arm; ``fraction`` is the subgroup's."""
    if row.readout.n is not None and not row.difference:
        return float(row.readout.n)
    part = row.trial.subpopulation(row.population)
    n = arm.n if part is None else part.n[arm.name]
    kept = (1 - arm.dropout) ** (row.readout.week / max(row.trial.visits))
    if row.endpoint.kind == "aria":
        kept = 1.0
    pet = row.trial.pet if row.endpoint.kind in ("amyloid", "negative") else 1.0
    return max(n * kept * pet * fraction, 1.0)


def standard_error(row: Row, expected: float, fraction: float, baseline: float) -> float:
    """Return the sampling error of a row, without regard to confidence.

    Parameters
    ----------
    expected
        What is expected of it: shares need it.
    fraction
        Of patients in the row's subgroup.
    baseline
        Expected change in the arm that it is compared with: a relative slowing divides by it.
    """
    r = row.readout
    if r.se is not None:
        return r.se
    if r.low is not None and r.high is not None:
        return (r.high - r.low) / (2 * 1.96)
    n = patients(row, row.arm, fraction)
    if r.stat == "proportion":
        return float(np.sqrt(max(expected * (1 - expected), 0.25 / n) / n))
    sd = spread(row.endpoint, r.week)
    if not row.difference:
        return float(sd / np.sqrt(n))
    of_difference = sd * np.sqrt(1 / n + 1 / patients(row, row.against, fraction))
    return float(of_difference / abs(baseline) if r.stat == "relative_slowing" else of_difference)


def weighted_error(row: Row, plain: float) -> float:
    """Return the error with which a row counts: for its confidence, and for being read off a figure."""
    read = any(word in row.readout.source for word in _READ_OFF) and row.readout.se is None
    reading = READING.get(row.endpoint.unit, 0.0) if read else 0.0
    return float(np.hypot(plain * CONFIDENCE[row.readout.confidence], reading))


def spread(what: Endpoint, week: float) -> float:
    """Return the SD of a patient's change by a week."""
    return float(max(what.spread * np.sqrt(week / 78), what.repeat))


def correlation(rows: Sequence[Row]) -> Float[np.ndarray, "row row"]:
    """Return the correlation of sampling errors: rows share patients within a trial.

    Errors of an arm's mean change at weeks s < t correlate by √(s/t), of nested populations by the root of their
    share, of two scales by 0.5; a difference is the treated arm's error less the other's.
    """
    size = len(rows)
    cells = [_cells(row) for row in rows]
    scale = np.sqrt([_covariance(c, c) for c in cells])
    found = np.eye(size)
    for i in range(size):
        for j in range(i):
            if rows[i].trial.id == rows[j].trial.id:
                found[i, j] = found[j, i] = (1 - NUGGET) * _covariance(cells[i], cells[j]) / (scale[i] * scale[j])
    return found


type _Cell = tuple[str, str, str, float]


def _cells(row: Row) -> dict[_Cell, float]:
    """Return which arms' means a row is made of, with signs."""
    who, week = row.subgroup or row.population, row.readout.week
    found = {(who, row.arm.name, row.endpoint.name, week): 1.0}
    if row.difference:
        found[who, row.against.name, row.endpoint.name, week] = -1.0
    return found


def _covariance(first: dict[_Cell, float], second: dict[_Cell, float]) -> float:
    return sum(a * b * _shared(x, y) for x, a in first.items() for y, b in second.items())


def _shared(first: _Cell, second: _Cell) -> float:
    """Return the correlation of two arm means."""
    (who, arm, name, week), (other, other_arm, other_name, other_week) = first, second
    if arm != other_arm:
        return 0.0
    ordered = min(week, other_week) / max(week, other_week)
    return _same_patients(who, other) * _same_scale(name, other_name) * float(np.sqrt(ordered))


def _same_patients(who: str, other: str) -> float:
    if who == other:
        return 1.0
    if MAIN in (who, other):
        return float(np.sqrt(_SHARES.get(other if who == MAIN else who, 0.5)))
    split = [word.split()[0].rstrip("<>=0123456789-") for word in (who, other)]
    if split[0] == split[1] or {who, other} == {"male", "female"}:
        return 0.0
    return float(np.sqrt(_SHARES.get(who, 0.5) * _SHARES.get(other, 0.5)))


def _same_scale(name: str, other: str) -> float:
    if name == other:
        return 1.0
    kinds = [getattr(endpoint(word), "kind", "") for word in (name, other)]
    if kinds == ["score", "score"]:
        return (
            WITH_IADRS if "iADRS" in (name, other) and {name, other} & {"ADAS-Cog13", "ADCS-iADL"} else BETWEEN_SCALES
        )
    if "score" in kinds or "aria" in kinds:
        return 0.0
    return BETWEEN_PET if kinds[0] == kinds[1] else -BETWEEN_PET
