"""A trial foretold: every endpoint of every arm at every visit, with intervals, and published numbers beside.

The variance of a number is the sum of three: sampling error from n; differences between trials, arms and subgroups; and
the uncertainty of the parameters, JΣJᵀ. Intervals are normal, for shares on the logit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from trialtwin.study.replay.endpoints import endpoint
from trialtwin.study.replay.expected import Simulator, expect
from trialtwin.study.replay.fit import errors
from trialtwin.study.replay.parameters import Calibration, spreads_of
from trialtwin.study.replay.readouts import MAIN, LeftOut, Row, known, rows_of
from trialtwin.study.replay.spec import Arm, Readout, Stat, Trial

GENOTYPES = ("APOE4 noncarrier", "APOE4 heterozygote", "APOE4 homozygote")


@dataclass(frozen=True)
class Prediction:
    """One number foretold, and what was observed where there is a published one.

    ``between`` and ``parameter`` are SDs of the two kinds, ``sampling`` the standard error from n (as it counts, for
    a published number), ``plain`` that error without regard to confidence.
    """

    row: Row
    expected: float
    between: float
    parameter: float
    sampling: float
    plain: float

    @property
    def observed(self) -> float | None:
        """The published number."""
        value = self.row.readout.value
        return None if np.isnan(value) else value

    @property
    def predictive(self) -> float:
        """SD of what the trial would have shown without sampling error."""
        return float(np.hypot(self.between, self.parameter))

    @property
    def total(self) -> float:
        """SD of what the trial shows."""
        return float(np.hypot(self.predictive, self.sampling))

    @property
    def z(self) -> float | None:
        """(observed − expected) / √(SE² + predictive variance)."""
        return None if self.observed is None else (self.observed - self.expected) / self.total

    @property
    def z_sampling(self) -> float | None:
        """(observed − expected) / SE: against sampling error alone."""
        return None if self.observed is None else (self.observed - self.expected) / self.plain

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval in which the trial's number lies with a probability."""
        reach = float(stats.norm.ppf(0.5 + level / 2)) * self.total
        if self.row.readout.stat != "proportion":
            return self.expected - reach, self.expected + reach
        p = min(max(self.expected, 1e-6), 1 - 1e-6)
        on_logit = reach / (p * (1 - p))
        return float(special.expit(special.logit(p) - on_logit)), float(special.expit(special.logit(p) + on_logit))


@dataclass(frozen=True)
class Replayed:
    """A trial foretold: what was asked, what was published, and what is not modelled."""

    trial: Trial
    asked: tuple[Prediction, ...]
    published: tuple[Prediction, ...]
    left_out: tuple[LeftOut, ...]


def replay(
    trial: Trial,
    simulator: Simulator,
    calibration: Calibration,
    progress: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Foretell a trial with a calibration."""
    published, left = rows_of([trial])
    published, unknown = known(published, simulator.events, simulator.entry)
    asked, silent = known(asked_rows(trial), simulator.events, simulator.entry)
    found = predict([*asked, *published], simulator, calibration, progress)
    return Replayed(trial, tuple(found[: len(asked)]), tuple(found[len(asked) :]), (*left, *unknown, *_once(silent)))


def _once(silent: Sequence[LeftOut]) -> list[LeftOut]:
    """Return what was asked and is not known: one a kind and arm, without the subgroups."""
    return [item for item in silent if item.readout.population == MAIN]


def predict(
    rows: Sequence[Row],
    simulator: Simulator,
    calibration: Calibration,
    progress: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Foretell rows with a calibration."""
    if not rows:
        return []
    expected = expect(rows, simulator, calibration.vector, progress)
    between = np.sqrt(np.diag(expected.between(spreads_of(calibration.spreads))))
    parameter = parameter_sds(expected.jacobian, calibration.matrix)
    plain, counted = errors(rows, expected)
    columns = zip(rows, expected.mean, between, parameter, counted, plain, strict=True)
    return [Prediction(row, *(float(number) for number in numbers)) for row, *numbers in columns]


def parameter_sds(
    jacobian: Float[np.ndarray, "row parameter"], covariance: Float[np.ndarray, "parameter parameter"]
) -> Float[np.ndarray, " row"]:
    """Return the SD of each row that the uncertainty of the parameters brings."""
    return np.asarray(np.sqrt(np.einsum("ij,jk,ik->i", jacobian, covariance, jacobian)), dtype=float)


def asked_rows(trial: Trial) -> list[Row]:
    """Return a row for every endpoint of every arm at every visit, and for the subpopulations."""
    rows = []
    last = max(trial.visits)
    for population in (MAIN, *(part.name for part in trial.subpopulations)):
        for arm in trial.arms:
            against = trial.counterpart(arm)
            for name in dict.fromkeys(trial.endpoints):
                what = endpoint(name)
                if what is None:
                    continue
                if what.kind == "aria":
                    subgroups = ("", *GENOTYPES) if population == MAIN else ()
                    rows += [_row(trial, arm, name, last, "proportion", MAIN, who) for who in subgroups]
                elif what.kind == "negative":
                    rows += [_row(trial, arm, name, week, "proportion", population) for week in trial.visits]
                else:
                    rows += [_row(trial, arm, name, week, "change", population) for week in trial.visits]
                    if arm.drug and against.name != arm.name:
                        rows += [_row(trial, arm, name, week, "diff_vs_placebo", population) for week in trial.visits]
    return rows


def _row(trial: Trial, arm: Arm, name: str, week: float, stat: Stat, population: str, subgroup: str = "") -> Row:
    what = endpoint(name)
    assert what is not None  # noqa: S101 - asked_rows leaves out what is not modelled
    readout = Readout(
        arm=arm.name,
        population=subgroup or population,
        endpoint=name,
        week=week,
        stat=stat,
        value=nan,
        confidence="high",
    )
    return Row(trial, readout, what, arm, trial.counterpart(arm), population, subgroup)
