"""The errors of a boosted twin: how wide they are, how they are distributed, and how they hang together over time.

Held-out errors e of a patient known up to a day are e = σ(known, t) · Q(Φ(z)), with

    σ² = vᵀψ,  v ≥ 0,  ψ = 1, [no history], [no history] t, since, 1 / count, since / count, share unknown
    cov(z_k(t), z_l(s)) = C_kl √(r_k r_l) exp(−|t − s| / ℓ) + (1 − r_k) [k = l and t = s],   r_k = 1 − ν_k / σ_k²

with the count of measurements and the time since the last. No weight is below 0: the longer ago and the fewer the
measurements, the wider. Q is the conformal predictive law of the scaled errors, a patient's counting as one (Vovk et
al. 2019, doi:10.1007/s10994-018-5755-8). The copula leaves each time's law as it is and makes a course of the draws: an
error that lasts, and noise ν measured anew each time. History takes from what lasts and never from the noise, so that
the errors of a patient known better hang together less.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize
from scipy.special import ndtr, ndtri

from trialtwin.stats.conformal import ErrorLaw, error_law

FLOOR = 0.05
"""Smallest variance of an error, as a share of the mean square."""
LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Candidates of ℓ, in horizons."""
SHARES = tuple(np.arange(0.02, 1.0, 0.04).tolist())
"""Candidates of ν, as shares of an outcome's mean σ²."""
JITTER = 1e-9

type Column = Float[np.ndarray, " row"]


def spread_terms(
    known: Float[np.ndarray, "row outcome summary"], time: Column, unknown: Column, own: int
) -> Float[np.ndarray, "row term"]:
    """Return ψ of each row for outcome ``own``; ``unknown`` is the share of covariates that the patient lacks."""
    count, since = known[:, own, 4], known[:, own, 1]
    none = (count == 0).astype(float)
    ahead = np.where(count > 0, np.nan_to_num(since), 0.0)
    few = np.where(count > 0, 1.0 / np.maximum(count, 1.0), 0.0)
    return np.stack([np.ones_like(time), none, none * time, ahead, few, ahead * few, unknown], axis=1)


@dataclass(frozen=True, eq=False)
class Errors:
    """The law of one outcome's errors: weights of the spread, its floor, the law of scaled errors and its mean."""

    weights: Float[np.ndarray, " term"]
    floor: float
    law: ErrorLaw
    bias: float

    def spread(self, terms: Float[np.ndarray, "row term"]) -> Column:
        """Return σ of each row."""
        return np.sqrt(np.maximum(np.einsum("rt,t->r", terms, self.weights), self.floor))


def learn_errors(errors: Column, terms: Float[np.ndarray, "row term"], patient: Int[np.ndarray, " row"]) -> Errors:
    """Learn spread and law of held-out errors; each patient counts the same.

    Raises
    ------
    FitError
        If there are errors of fewer than two patients.
    """
    share = 1.0 / np.bincount(patient)[patient]
    square = errors**2
    typical = float(np.average(square, weights=share))
    floor = FLOOR * typical
    variance = np.full_like(square, typical)
    weights = np.zeros(terms.shape[1])
    for _ in range(5):  # a square has an SD in proportion to its mean: reweighted least squares
        root = np.sqrt(share) / variance
        weights, _ = optimize.nnls(terms * root[:, None], square * root)
        variance = np.maximum(terms @ weights, floor)
    law = error_law(errors / np.sqrt(variance), patient)
    return Errors(weights, floor, law, law.mean())


def normal_scores(scaled: Column, law: ErrorLaw) -> Column:
    """Return z = Φ⁻¹ of each scaled error's place in the law."""
    place = np.interp(scaled, law.scores, law.place)
    return ndtri(np.clip(place, 1e-6, 1 - 1e-6))


@dataclass(frozen=True, eq=False)
class Copula:
    """How errors hang together: C between outcomes, each outcome's noise ν as a variance, and ℓ in horizons."""

    between: Float[np.ndarray, "outcome outcome"]
    noise: Float[np.ndarray, " outcome"]
    length: float

    def lasting(self, spread: Float[np.ndarray, "*shape"], outcome: int) -> Float[np.ndarray, "*shape"]:
        """Return r, the share of an error's variance that lasts: what is not the noise of a single measurement."""
        return _lasting(spread, float(self.noise[outcome]))

    def correlation(self, times: Float[np.ndarray, "*p time"]) -> Float[np.ndarray, "*p row row"]:
        """Return the correlation of what lasts over (time, outcome), time by time; times are in horizons."""
        near = np.exp(-np.abs(times[..., :, None] - times[..., None, :]) / self.length)
        size = times.shape[-1] * len(self.noise)
        both = near[..., :, None, :, None] * self.between[:, None, :]
        # a day asked for twice is one day: the jitter lets it be factored
        return both.reshape(*times.shape[:-1], size, size) + JITTER * np.eye(size)


def _lasting(spread: Float[np.ndarray, "*shape"], noise: float) -> Float[np.ndarray, "*shape"]:
    return np.clip(1.0 - noise / spread**2, 0.01, 0.99)


@dataclass(frozen=True, eq=False)
class Scores:
    """Normal scores of all outcomes' held-out errors: whose, from which landmark, of what, when, how widely spread."""

    patient: Int[np.ndarray, " row"]
    landmark: Int[np.ndarray, " row"]
    outcome: Int[np.ndarray, " row"]
    time: Column
    spread: Column
    z: Column


def learn_copula(scores: Scores, outcomes: int) -> Copula:
    """Learn the copula from products of scores of the same patient and landmark, by least squares over ℓ and ν.

    An outcome that nobody had measured twice after a landmark is taken to be half noise.
    """
    first, second = _pairs(scores)
    product = scores.z[first] * scores.z[second]
    apart = np.abs(scores.time[first] - scores.time[second])
    k, m = scores.outcome[first], scores.outcome[second]
    typical = [float(np.mean(scores.spread[scores.outcome == o] ** 2)) for o in range(outcomes)]
    best = (np.inf, LENGTHS[0], 0.5 * np.array(typical))
    for length in LENGTHS:
        near, loss, noise = np.exp(-apart / length), 0.0, 0.5 * np.array(typical)
        for o in range(outcomes):
            here = (k == o) & (m == o)
            if not here.any():
                continue
            a, b = scores.spread[first[here]], scores.spread[second[here]]
            found = [
                float(((product[here] - np.sqrt(_lasting(a, v) * _lasting(b, v)) * near[here]) ** 2).sum())
                for v in np.array(SHARES) * typical[o]
            ]
            noise[o], loss = SHARES[int(np.argmin(found))] * typical[o], loss + min(found)
        if loss < best[0]:
            best = (loss, length, noise)
    _, length, noise = best
    rooted = np.sqrt(np.clip(1.0 - noise[scores.outcome] / scores.spread**2, 0.01, 0.99))
    wanted = rooted[first] * rooted[second] * np.exp(-apart / length)
    between = np.eye(outcomes)
    for i in range(outcomes):
        for j in range(i + 1, outcomes):
            here = ((k == i) & (m == j)) | ((k == j) & (m == i))
            if here.any():
                slope = float((wanted[here] @ product[here]) / (wanted[here] @ wanted[here]))
                between[i, j] = between[j, i] = slope
    return Copula(_nearest_correlation(between), noise, length)


def _pairs(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of every two measurements of a patient that were forecast from the same landmark.

    Two outcomes at one time are a pair as well.
    """
    group = scores.patient * (int(scores.landmark.max(initial=0)) + 1) + scores.landmark
    order = np.argsort(group, kind="stable")
    _, starts, counts = np.unique(group[order], return_index=True, return_counts=True)
    firsts, seconds = [], []
    for size in np.unique(counts[counts > 1]):
        a, b = np.triu_indices(int(size), 1)
        begin = starts[counts == size][:, None]
        firsts.append((begin + a).ravel())
        seconds.append((begin + b).ravel())
    if not firsts:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    return order[np.concatenate(firsts)], order[np.concatenate(seconds)]


def _nearest_correlation(matrix: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """Return a correlation matrix near one that may not be: negative eigenvalues raised, diagonal made 1."""
    symmetric = np.clip((matrix + matrix.T) / 2, -0.99, 0.99)
    np.fill_diagonal(symmetric, 1.0)
    values, vectors = np.linalg.eigh(symmetric)
    raised = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(raised))
    return raised / np.outer(scale, scale)


def probabilities(z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return Φ(z), kept within what a quantile function takes."""
    return np.clip(ndtr(z), 1e-12, 1 - 1e-12)
