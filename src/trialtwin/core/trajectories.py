"""Posterior-predictive courses of patients: draws over patients, times and outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Shaped

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.variables import Variable, position


@dataclass(frozen=True, eq=False)
class Trajectories:
    """What a twin expects of each patient, as draws of what would be measured.

    Parameters
    ----------
    ids
        Subject identifiers.
    outcomes
        Quantities, with units and ranges.
    times : shape (time,) or (patient, time), days since baseline
        When.
    values : shape (draw, patient, time, outcome)
        Posterior-predictive draws, measurement error included. Draws are paired across treatments that were asked
        with the same key.
    expected : shape (patient, time, outcome)
        Posterior-predictive mean as the twin computes it, without Monte-Carlo noise from draws or key.

    Raises
    ------
    DataError
        If shapes disagree, or a value is not finite.
    """

    ids: tuple[str, ...]
    outcomes: tuple[Variable, ...]
    times: Float[np.ndarray, " time"] | Float[np.ndarray, "patient time"]
    values: Float[np.ndarray, "draw patient time outcome"]
    expected: Float[np.ndarray, "patient time outcome"]

    def __post_init__(self) -> None:
        shape = (len(self.ids), self.times.shape[-1], len(self.outcomes))
        if self.values.shape[1:] != shape or self.expected.shape != shape or len(self.values) == 0:
            raise DataError(
                f"trajectories of shape {self.values.shape} with expectations of shape {self.expected.shape}",
                do=f"give draws of shape (draw, {', '.join(map(str, shape))}), at least one draw",
            )
        if self.times.ndim == 2 and len(self.times) != len(self.ids):
            raise DataError(f"times of {len(self.times)} patients for {len(self.ids)}")
        bad = ~(np.isfinite(self.values).all(axis=(0, 2, 3)) & np.isfinite(self.expected).all(axis=(1, 2)))
        if bad.any():
            raise DataError(
                "a twin predicted values that are not finite numbers",
                where="patients " + ", ".join(self.ids[i] for i in np.flatnonzero(bad)[:10]),
            )
        for name in ("times", "values", "expected"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Sequence[int] | Int[np.ndarray, " chosen"]) -> "Trajectories":
        """Return the trajectories of the chosen patients, in the order given."""
        chosen = np.asarray(index, dtype=np.int64)
        times = self.times if self.times.ndim == 1 else self.times[chosen]
        ids = tuple(self.ids[i] for i in chosen)
        return Trajectories(ids, self.outcomes, times, self.values[:, chosen], self.expected[chosen])

    def quantiles(self, q: Sequence[float]) -> Float[np.ndarray, "level patient time outcome"]:
        """Return quantiles over the draws."""
        return np.quantile(self.values, np.asarray(q, dtype=float), axis=0)

    def score(self, outcome: str, time: float) -> Float[np.ndarray, " patient"]:
        """Return the prognostic score: each patient's expected value of an outcome at a time.

        Raises
        ------
        MismatchError
            If the outcome or the time was not predicted; the message lists those that were.
        """
        column = position(self.outcomes, outcome, what="predicted outcome")
        if self.times.ndim != 1:
            raise MismatchError(
                "these trajectories have a time grid of their own for each patient",
                do="predict at times common to all patients to get a score",
            )
        hit = np.flatnonzero(np.isclose(self.times, time))
        if len(hit) == 0:
            raise MismatchError(f"day {time:g} was not predicted", exists=[f"{t:g}" for t in self.times])
        return self.expected[:, int(hit[0]), column]

    def contrast(self, other: "Trajectories") -> "Trajectories":
        """Return this minus other, draw by draw: the effect on each patient where keys were the same.

        Raises
        ------
        MismatchError
            If patients, times, outcomes or the number of draws differ.
        """
        same = (
            self.ids == other.ids
            and self.values.shape == other.values.shape
            and np.array_equal(self.times, other.times)
            and [v.name for v in self.outcomes] == [v.name for v in other.outcomes]
        )
        if not same:
            raise MismatchError(
                "trajectories can be contrasted only for the same patients, times, outcomes and draws",
                where=f"shapes {self.values.shape} and {other.values.shape}",
            )
        outcomes = tuple(
            replace(v, label=f"difference in {v.label or v.name}", lower=None, upper=None) for v in self.outcomes
        )
        return Trajectories(self.ids, outcomes, self.times, self.values - other.values, self.expected - other.expected)

    def implausible(self) -> Float[np.ndarray, " outcome"]:
        """Return, for each outcome, the share of draws outside its plausible range."""
        share = np.zeros(len(self.outcomes))
        for k, variable in enumerate(self.outcomes):
            draws: Shaped[np.ndarray, "draw patient time"] = self.values[..., k]
            low = -np.inf if variable.lower is None else variable.lower
            high = np.inf if variable.upper is None else variable.upper
            share[k] = float(np.mean((draws < low) | (draws > high)))
        return share
