r"""Cox's partial likelihood, time by time, with ties after Efron or Breslow, or exact.

At a distinct event time t of a stratum with risk set R, tied events D of number d, and risks w_i = exp(x_iᵀβ),

    ℓ_t = Σ_{i ∈ D} x_iᵀβ − Σ_{l=0}^{d−1} log(Σ_R w_i − c_l Σ_D w_i),      c_l = l/d (Efron) or 0 (Breslow);
    ℓ_t = Σ_{i ∈ D} x_iᵀβ − log e_d(w),      e_d the sum over all subsets S of R of size d of Π_S w_i (exact).

For any λ > 0 let K count successes of independent trials with p_i = λ w_i / (1 + λ w_i). Then

    e_d(w) = P(K = d) Π_R (1 + λ w_i) / λ^d,

and the gradient and information of log e_d are the mean and covariance of Σ_S x_i given K = d. The recursion over
patients of P(K = k), E[Σ_S x; K = k] and E[(Σ_S x)(Σ_S x)ᵀ; K = k] cannot overflow, where that of e_d itself would;
λ makes d the mean of K.

Sources: Efron B (1977), doi:10.1080/01621459.1977.10480613; Breslow NE (1974), doi:10.2307/2529620; Gail MH, Lubin JH,
Rubinstein LV (1981), doi:10.1093/biomet/68.3.703, for the exact recursion; Chen XH, Dempster AP, Liu JS (1994),
doi:10.1093/biomet/81.3.457, for λ.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

TIES = ("Efron", "Breslow", "exact")


class Point(NamedTuple):
    """A log likelihood, its gradient and its information."""

    value: float
    gradient: Float[np.ndarray, " column"]
    information: Float[np.ndarray, "column column"]


class Terms(NamedTuple):
    """What each distinct event time adds to the log likelihood, its gradient and its information."""

    values: Float[np.ndarray, " time"]
    gradients: Float[np.ndarray, "time column"]
    informations: Float[np.ndarray, "time column column"]


class _Draws(NamedTuple):
    """For each event in order of time: the sum of risks, and the mean and mean square of x under them."""

    total: Float[np.ndarray, " draw"]
    mean: Float[np.ndarray, "draw column"]
    square: Float[np.ndarray, "draw column column"]


@dataclass(frozen=True, eq=False)
class RiskSets:
    """A stratum: its patients, at least one of them with the event, and how tied events are treated."""

    x: Float[np.ndarray, "patient column"]
    time: Float[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]
    ties: str

    @cached_property
    def times(self) -> Float[np.ndarray, " time"]:
        """Distinct event times."""
        return np.unique(self.time[self.event])

    @cached_property
    def _drawn(self) -> Int[np.ndarray, " draw"]:
        """Rows of the patients with the event, in order of time."""
        rows = np.flatnonzero(self.event)
        return rows[np.argsort(self.time[rows], kind="stable")]

    @cached_property
    def _place(self) -> Int[np.ndarray, " draw"]:
        """Position of each event's time among the distinct ones."""
        return np.searchsorted(self.times, self.time[self._drawn])

    @cached_property
    def _first(self) -> Int[np.ndarray, " time"]:
        """Position of the first event at each time."""
        return np.searchsorted(self._place, np.arange(len(self.times)))

    @cached_property
    def _left(self) -> Float[np.ndarray, " draw"]:
        """c: the share of those with the event at a time who have left when an event is drawn."""
        if self.ties != "Efron":
            return np.zeros(len(self._drawn))
        counts = np.bincount(self._place)
        return (np.arange(len(self._drawn)) - self._first[self._place]) / counts[self._place]

    @cached_property
    def _order(self) -> Int[np.ndarray, " patient"]:
        """Rows from the longest time on."""
        return np.argsort(-self.time, kind="stable")

    @cached_property
    def _at_risk(self) -> Int[np.ndarray, " time"]:
        """Number of patients at risk at each event time."""
        return len(self.time) - np.searchsorted(np.sort(self.time), self.times)

    def _draws(self, w: Float[np.ndarray, " patient"]) -> _Draws:
        found = []
        for power in range(3):
            shape = (-1,) + (1,) * power
            q = w.reshape(shape) * (1.0, self.x, self.x[:, :, None] * self.x[:, None, :])[power]
            whole = q[self._order].cumsum(axis=0)[self._at_risk - 1]
            part = np.add.reduceat(q[self._drawn], self._first)
            found.append(whole[self._place] - self._left.reshape(shape) * part[self._place])
        total, first, second = found
        return _Draws(total, first / total[:, None], second / total[:, None, None])

    def terms(self, beta: Float[np.ndarray, " column"]) -> Terms:
        """Return what each distinct event time adds."""
        eta = self.x @ beta
        highest = eta.max()
        draws = self._draws(np.exp(eta - highest))
        values = eta[self._drawn] - np.log(draws.total) - highest
        gradients = self.x[self._drawn] - draws.mean
        informations = draws.square - draws.mean[:, :, None] * draws.mean[:, None, :]
        found = Terms(*(np.add.reduceat(one, self._first) for one in (values, gradients, informations)))
        counts = np.bincount(self._place)
        for k in np.flatnonzero(counts > 1) if self.ties == "exact" else ():
            rows, own = self._order[: self._at_risk[k]], self._drawn[self._place == k]
            law = _subsets(eta[rows], self.x[rows], int(counts[k]))
            found.values[k] = eta[own].sum() - law.value
            found.gradients[k] = self.x[own].sum(axis=0) - law.gradient
            found.informations[k] = law.information
        return found

    def point(self, beta: Float[np.ndarray, " column"]) -> Point:
        """Return log partial likelihood, gradient and information."""
        terms = self.terms(beta)
        return Point(float(terms.values.sum()), terms.gradients.sum(axis=0), terms.informations.sum(axis=0))

    def meat(self, beta: Float[np.ndarray, " column"]) -> Float[np.ndarray, "column column"]:
        """Return Σ Uᵢ Uᵢᵀ of the patients' shares in the score; not for exact ties."""
        eta = self.x @ beta
        w = np.exp(eta - eta.max())
        draws = self._draws(w)
        pull = 1 / draws.total
        moment = draws.mean * pull[:, None]
        spent = np.append(0.0, np.add.reduceat(pull, self._first).cumsum())
        drift = np.concatenate([np.zeros((1, self.x.shape[1])), np.add.reduceat(moment, self._first).cumsum(axis=0)])
        seen = np.searchsorted(self.times, self.time, side="right")
        residual = -w[:, None] * (self.x * spent[seen][:, None] - drift[seen])
        # Those who have the event leave the risk set by and by, as Efron has it.
        rows, left = self._drawn, self._left
        back = [
            np.add.reduceat(left.reshape(s) * q, self._first)[self._place]
            for s, q in (((-1,), pull), ((-1, 1), moment))
        ]
        residual[rows] += w[rows, None] * (self.x[rows] * back[0][:, None] - back[1])
        mean = np.add.reduceat(draws.mean, self._first) / np.bincount(self._place)[:, None]
        residual[rows] += self.x[rows] - mean[self._place]
        return residual.T @ residual


def _subsets(eta: Float[np.ndarray, " patient"], x: Float[np.ndarray, "patient column"], d: int) -> Point:
    """Return log e_d(exp(η)), and mean and covariance of Σ_S x under the law of subsets that it normalises."""
    n, columns = x.shape
    if d == n:
        return Point(float(eta.sum()), x.sum(axis=0), np.zeros((columns, columns)))
    shift = _balance(eta, d)
    success, failure = expit(eta + shift), expit(-eta - shift)
    centre = x.mean(axis=0)
    chance, first, second = np.zeros(d + 1), np.zeros((d + 1, columns)), np.zeros((d + 1, columns, columns))
    chance[0] = 1.0
    for p, q, own in zip(success, failure, x - centre, strict=True):
        cross = first[:-1, :, None] * own
        new = second[:-1] + cross + cross.transpose(0, 2, 1) + chance[:-1, None, None] * np.outer(own, own)
        second *= q
        second[1:] += p * new
        gained = first[:-1] + chance[:-1, None] * own
        first *= q
        first[1:] += p * gained
        moved = p * chance[:-1]
        chance *= q
        chance[1:] += moved
    mean = first[d] / chance[d]
    value = np.log(chance[d]) + np.logaddexp(0.0, eta + shift).sum() - d * shift
    return Point(float(value), mean + d * centre, second[d] / chance[d] - np.outer(mean, mean))


def _balance(eta: Float[np.ndarray, " patient"], d: int) -> float:
    """Return log λ at which d successes are expected, by bisection; any λ is right, this one keeps P(K = d) large."""
    middle = np.log(d / (len(eta) - d))
    low, high = middle - eta.max(), middle - eta.min()
    for _ in range(40):
        half = 0.5 * (low + high)
        low, high = (half, high) if expit(eta + half).sum() < d else (low, half)
    return float(0.5 * (low + high))
