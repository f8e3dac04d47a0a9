"""Forecasts held against what was measured: one case a patient, day up to which known, later visit and outcome."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from trialtwin.core.arrays import owned
from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.twin import AbstractTwin
from trialtwin.stats.calibration import crps, pit
from trialtwin.stats.scoring import log_density_kernel

LEVELS = (0.5, 0.8, 0.9, 0.95)
RESOLUTION = 0.02  # of an outcome's SD: the narrowest kernel of a log score, so that steps of a scale are no points


@dataclass(frozen=True, eq=False)
class Cases:
    """Scores of forecasts, an element a case; and, by outcome, how many draws there were and left the plausible range.

    ``patient`` counts in the whole cohort, ``known`` among the days asked, ``visit`` and ``outcome`` in the cohort.
    ``base`` is the value measured at baseline, NaN where it was not. ``covered`` has a column a level of ``LEVELS``.
    Scores are in the unit of the outcome, the log score per that unit.
    """

    patient: Int[np.ndarray, " case"]
    known: Int[np.ndarray, " case"]
    visit: Int[np.ndarray, " case"]
    outcome: Int[np.ndarray, " case"]
    observed: Float[np.ndarray, " case"]
    base: Float[np.ndarray, " case"]
    expected: Float[np.ndarray, " case"]
    crps: Float[np.ndarray, " case"]
    log_score: Float[np.ndarray, " case"]
    pit: Float[np.ndarray, " case"]
    covered: Bool[np.ndarray, "case level"]
    draws: Int[np.ndarray, " outcome"]
    implausible: Int[np.ndarray, " outcome"]

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            object.__setattr__(self, name, owned(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.patient)

    def pack(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}


def join(parts: Sequence[Cases]) -> Cases:
    """Put cases of several splits together."""
    columns = [f.name for f in fields(Cases) if f.name not in ("draws", "implausible")]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    counts = {name: np.sum([getattr(part, name) for part in parts], axis=0) for name in ("draws", "implausible")}
    return Cases(**joined, **counts)


def scales_of(cohort: Cohort) -> Float[np.ndarray, " outcome"]:
    """Return the SD of each outcome's measurements; 1 where there are none or all are the same."""
    scales = np.ones(len(cohort.outcomes))
    for k in range(len(cohort.outcomes)):
        seen = cohort.values[..., k][cohort.observed[..., k]]
        spread = float(seen.std()) if len(seen) else 0.0
        scales[k] = spread if spread > 0 else 1.0
    return scales


def judge(
    twin: AbstractTwin,
    patients: Cohort,
    place: Int[np.ndarray, " patient"],
    known: Sequence[float],
    *,
    bounds: Mapping[str, tuple[float, float]],
    scales: Float[np.ndarray, " outcome"],
    draws: int,
    key: Array,
) -> Cases:
    """Ask a twin for every visit after each of the days up to which patients are known, and score what it says.

    Parameters
    ----------
    place
        Of the patients in the whole cohort.
    bounds
        By outcome, values outside which are impossible beyond the outcome's own plausible range.
    scales
        SD of each outcome of the cohort, by which the narrowest kernel of the log score is set.

    Raises
    ------
    FitError
        If the twin forecasts none of the outcomes measured later.
    """
    parts = []
    for number, day in enumerate(known):
        later = np.flatnonzero(patients.nominal > day)
        if len(later) == 0:
            continue
        times = np.maximum(patients.times[:, later], 0.0)
        asked = twin.predict(patients.until(day), NoTreatment(), times, draws=draws, key=key)
        parts.append(_score(asked, patients, place, number, later, bounds, scales))
    if not parts or not sum(map(len, parts)):
        raise FitError(
            "nothing to judge the twin by: no outcome that it forecasts was measured after the days asked",
            where=f"known up to days {', '.join(f'{day:g}' for day in known)}",
        )
    return join(parts)


def _score(
    asked: Trajectories,
    patients: Cohort,
    place: Int[np.ndarray, " patient"],
    number: int,
    later: Int[np.ndarray, " visit"],
    bounds: Mapping[str, tuple[float, float]],
    scales: Float[np.ndarray, " outcome"],
) -> Cases:
    columns = np.array([patients.outcome(v.name) for v in asked.outcomes])
    seen = patients.observed[:, later][..., columns]
    i, t, k = np.nonzero(seen)
    draws, observed = asked.values[:, i, t, k], patients.values[i, later[t], columns[k]]
    at_entry = np.where(patients.times[:, :1] <= 0, patients.values[:, 0], np.nan)
    inside = []
    for level in LEVELS:
        low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2), axis=0)
        inside.append((low <= observed) & (observed <= high))
    total, outside = _implausible(asked, columns, len(patients.outcomes), bounds)
    return Cases(
        patient=place[i],
        known=np.full(len(i), number),
        visit=later[t],
        outcome=columns[k],
        observed=observed,
        base=at_entry[i, columns[k]],
        expected=asked.expected[i, t, k],
        crps=crps(draws, observed),
        log_score=log_density_kernel(draws, observed, least=RESOLUTION * scales[columns[k]]),
        pit=pit(draws, observed, seed=int(later[0]) + 1000 * number),
        covered=np.stack(inside, axis=1),
        draws=total,
        implausible=outside,
    )


def _implausible(
    asked: Trajectories, columns: Int[np.ndarray, " k"], outcomes: int, bounds: Mapping[str, tuple[float, float]]
) -> tuple[Int[np.ndarray, " outcome"], Int[np.ndarray, " outcome"]]:
    """Count draws, and those outside the plausible range of the variable or the possible one of the disease."""
    total, outside = np.zeros(outcomes, dtype=np.int64), np.zeros(outcomes, dtype=np.int64)
    for k, variable in enumerate(asked.outcomes):
        low, high = bounds.get(variable.name, (-np.inf, np.inf))
        low = max(low, -np.inf if variable.lower is None else variable.lower)
        high = min(high, np.inf if variable.upper is None else variable.upper)
        values = asked.values[..., k]
        total[columns[k]] = values.size
        outside[columns[k]] = int(((values < low) | (values > high)).sum())
    return total, outside


@dataclass(frozen=True, eq=False)
class Cell:
    """One model fitted once and judged: what it cost, and its cases, or why there are none."""

    model: str
    split: str
    variation: str
    teachers: int
    pupils: int
    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    mebibytes: float = 0.0
    failure: str = ""
    cases: Cases | None = None

    def pack(self) -> bytes:
        """Write it as an uncompressed NumPy archive of plain arrays."""
        stream = io.BytesIO()
        plain = {f.name: np.array(getattr(self, f.name)) for f in fields(self) if f.name != "cases"}
        own = {} if self.cases is None else {f"cases.{name}": array for name, array in self.cases.pack().items()}
        np.savez(stream, **plain, **own)  # type: ignore[arg-type]
        return stream.getvalue()

    @classmethod
    def unpack(cls, content: bytes) -> "Cell":
        """Read it back; nothing is unpickled."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            plain = {f.name: archive[f.name].item() for f in fields(cls) if f.name != "cases"}
            own = {name.removeprefix("cases."): archive[name] for name in archive.files if name.startswith("cases.")}
        return cls(**plain, cases=Cases(**own) if own else None)
