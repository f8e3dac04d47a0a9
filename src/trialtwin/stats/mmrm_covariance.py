"""Covariance structures of repeated measures, with first and second derivatives in their parameters.

Parameters are those of R mmrm, unbounded, so that quantities that depend on the parametrisation (the second
derivatives in Kenward and Roger's adjustment) agree with it. With standard deviations sᵢ = exp τᵢ and correlations
ρ = θ / √(1 + θ²):

    unstructured                  Σ = D L Lᵀ D, D = diag(exp τ), L unit lower triangular
    AR(1)                         Σᵢⱼ = s² ρ^|i − j|                    heterogeneous: sᵢ sⱼ in place of s²
    compound symmetry             Σᵢⱼ = s² ρ, i ≠ j                     heterogeneous: sᵢ sⱼ in place of s²
    Toeplitz                      Σᵢⱼ = s² ρ_|i − j|                    heterogeneous: sᵢ sⱼ in place of s²
    ante-dependence               Σᵢⱼ = s² ρᵢ ρᵢ₊₁ … ρⱼ₋₁, i < j        heterogeneous: sᵢ sⱼ in place of s²
    spatial exponential           Σᵢⱼ = s² ρ^|tᵢ − tⱼ|, ρ = 1 / (1 + exp(−θ))

Compound symmetry and Toeplitz do not hold the matrix positive definite by themselves; the fit does.

Sources: Sabanés Bové et al., mmrm: Mixed Models for Repeated Measures (R package); Jennrich and Schluchter (1986),
doi:10.2307/2530695; Zimmerman and Núñez-Antón (2009), Antedependence Models for Longitudinal Data.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import ConfigError

type Vector = Float[np.ndarray, " _"]
type Square = Float[np.ndarray, "_ _"]

_LARGEST_CORRELATION = 0.95  # of a start; at 1 the parameter is infinite


@dataclass(frozen=True, eq=False)
class Derivatives:
    """A covariance matrix of ``visit`` visits and its derivatives in ``parameter`` parameters.

    Parameters
    ----------
    value : shape (visit, visit)
        Σ, in the squared unit of the response.
    first : shape (parameter, visit, visit)
        ∂Σ/∂θ.
    second : shape (parameter, parameter, visit, visit)
        ∂²Σ/∂θ∂θ.
    """

    value: Float[np.ndarray, "visit visit"]
    first: Float[np.ndarray, "parameter visit visit"]
    second: Float[np.ndarray, "parameter parameter visit visit"]


@dataclass(frozen=True)
class Structure:
    """A family of covariance matrices.

    Parameters
    ----------
    name
        Its name in the field.
    heterogeneous
        Whether each visit has its own standard deviation.
    correlation
        Which correlations there are: "free", "power", "constant", "lag", "product" or "distance".

    Examples
    --------
    >>> structure = find_structure("AR(1)")
    >>> structure.size(4)
    2
    >>> structure.covariance(np.array([0.0, 1.0]), np.arange(3.0)).round(3).tolist()
    [[1.0, 0.707, 0.5], [0.707, 1.0, 0.707], [0.5, 0.707, 1.0]]
    """

    name: str
    heterogeneous: bool
    correlation: str

    @property
    def spatial(self) -> bool:
        """Whether covariance depends on the times of visits and not on which visits they are."""
        return self.correlation == "distance"

    def size(self, visits: int) -> int:
        """Return the number of parameters for so many visits."""
        scales = visits if self.heterogeneous else 1
        pairs = visits * (visits - 1) // 2
        steps = visits - 1
        counts = {"free": pairs, "power": 1, "constant": 1, "lag": steps, "product": steps, "distance": 1}
        return scales + (counts[self.correlation] if visits > 1 else 0)

    def covariance(
        self, theta: Float[np.ndarray, " parameter"], times: Float[np.ndarray, " visit"]
    ) -> Float[np.ndarray, "visit visit"]:
        """Return Σ at parameters and visits; ``times`` matter to the spatial structure alone."""
        return self.derivatives(theta, times).value

    def derivatives(self, theta: Float[np.ndarray, " parameter"], times: Float[np.ndarray, " visit"]) -> Derivatives:
        """Return Σ with its exact first and second derivatives."""
        if self.correlation == "free":
            return _cholesky(theta, len(times))
        scales = len(times) if self.heterogeneous else 1
        link = _logistic if self.spatial else _bounded
        return _scaled(theta[:scales], _chained(_CORRELATIONS[self.correlation], link, theta[scales:], times))

    def start(
        self, covariance: Float[np.ndarray, "visit visit"], times: Float[np.ndarray, " visit"]
    ) -> Float[np.ndarray, " parameter"]:
        """Return parameters near a positive definite covariance matrix, from which a fit may start."""
        if self.correlation == "free":
            lower = np.linalg.cholesky(covariance)
            scale = np.diag(lower)
            rows, columns = np.tril_indices(len(times), -1)
            return np.concatenate([np.log(scale), lower[rows, columns] / scale[rows]])
        variances = np.diag(covariance)
        sd = np.sqrt(variances)
        logs = np.log(sd) if self.heterogeneous else np.array([0.5 * np.log(variances.mean())])
        if len(times) == 1:
            return logs
        if self.spatial:
            gap = float(np.median(np.diff(np.sort(times))))
            half = 0.5 ** (1 / gap)  # correlation one half between neighbours
            return np.append(logs, np.log(half / (1 - half)))
        correlation = covariance / np.outer(sd, sd)
        lags = [np.diag(correlation, lag) for lag in range(1, len(times))]
        match self.correlation:
            case "power":
                rho = np.array([lags[0].mean()])
            case "constant":
                rho = np.array([np.concatenate(lags).mean()])
            case "lag":
                rho = np.array([lag.mean() for lag in lags])
            case _:
                rho = np.array(lags[0])
        return np.append(logs, self._within(logs, rho, times))

    def _within(self, logs: Vector, rho: Vector, times: Vector) -> Vector:
        """Return parameters of correlations, drawn towards zero until the matrix is positive definite."""
        rho = np.clip(rho, -_LARGEST_CORRELATION, _LARGEST_CORRELATION)
        while True:
            theta = rho / np.sqrt(1 - rho**2)
            if np.linalg.eigvalsh(self.covariance(np.append(logs, theta), times))[0] > 0:
                return theta
            rho = rho / 2


STRUCTURES = {
    structure.name: structure
    for structure in (
        Structure("unstructured", heterogeneous=True, correlation="free"),
        Structure("AR(1)", heterogeneous=False, correlation="power"),
        Structure("heterogeneous AR(1)", heterogeneous=True, correlation="power"),
        Structure("compound symmetry", heterogeneous=False, correlation="constant"),
        Structure("heterogeneous compound symmetry", heterogeneous=True, correlation="constant"),
        Structure("Toeplitz", heterogeneous=False, correlation="lag"),
        Structure("heterogeneous Toeplitz", heterogeneous=True, correlation="lag"),
        Structure("ante-dependence", heterogeneous=False, correlation="product"),
        Structure("heterogeneous ante-dependence", heterogeneous=True, correlation="product"),
        Structure("spatial exponential", heterogeneous=False, correlation="distance"),
    )
}


def find_structure(name: str) -> Structure:
    """Return a covariance structure by name.

    Raises
    ------
    ConfigError
        If there is no such structure; the message lists those that exist.
    """
    if name not in STRUCTURES:
        raise ConfigError(f"no covariance structure {name!r}", exists=STRUCTURES)
    return STRUCTURES[name]


def _cholesky(theta: Vector, visits: int) -> Derivatives:
    """Return Σ = G Gᵀ, G = D L, with derivatives: G has one parameter in each element, and one for each row."""
    rows, columns = np.tril_indices(visits, -1)
    q, scale = len(theta), np.exp(theta[:visits])
    factor = np.eye(visits)
    factor[rows, columns] = theta[visits:]
    factor *= scale[:, None]
    below = visits + np.arange(len(rows))
    first = np.zeros((q, visits, visits))
    each = np.arange(visits)
    first[each, each] = factor
    first[below, rows, columns] = scale[rows]
    second = np.zeros((q, q, visits, visits))
    second[each, each, each] = factor
    second[rows, below, rows, columns] = second[below, rows, rows, columns] = scale[rows]
    left = first @ factor.T
    outer = np.einsum("aij,bkj->abik", first, first)
    square = second @ factor.T + outer
    return Derivatives(factor @ factor.T, left + left.mT, square + square.mT)


def _scaled(logs: Vector, correlation: Derivatives) -> Derivatives:
    """Multiply a correlation matrix by standard deviations exp τ on both sides."""
    visits, scales = len(correlation.value), len(logs)
    sd = np.exp(logs) * np.ones(visits)
    size = np.outer(sd, sd)
    value = size * correlation.value
    own = np.eye(visits) if scales == visits and visits > 1 else np.ones((1, visits))
    power = own[:, :, None] + own[:, None, :]  # how often τ enters element (i, j)
    first = np.concatenate([power * value, size * correlation.first])
    crossed = power[:, None] * (size * correlation.first)[None]
    second = np.concatenate(
        [
            np.concatenate([power[:, None] * power[None] * value, crossed], axis=1),
            np.concatenate([crossed.swapaxes(0, 1), size * correlation.second], axis=1),
        ]
    )
    return Derivatives(value, first, second)


type Correlation = Callable[[Vector, Vector], Derivatives]
type Link = Callable[[Vector], tuple[Vector, Vector, Vector]]


def _chained(correlation: Correlation, link: Link, theta: Vector, times: Vector) -> Derivatives:
    """Take derivatives in unbounded parameters in place of those in correlations."""
    rho, slope, bend = link(theta)
    inner = correlation(rho, times)
    first = slope[:, None, None] * inner.first
    second = np.multiply.outer(np.outer(slope, slope), np.ones_like(inner.value)) * inner.second
    own = np.arange(len(theta))
    second[own, own] += bend[:, None, None] * inner.first
    return Derivatives(inner.value, first, second)


def _bounded(theta: Vector) -> tuple[Vector, Vector, Vector]:
    """Return ρ = θ / √(1 + θ²) with two derivatives."""
    root = np.sqrt(1 + theta**2)
    return theta / root, root**-3, -3 * theta * root**-5


def _logistic(theta: Vector) -> tuple[Vector, Vector, Vector]:
    """Return ρ = 1 / (1 + exp(−θ)) with two derivatives."""
    rho = np.exp(-np.logaddexp(0, -theta))
    slope = rho * np.exp(-np.logaddexp(0, theta))
    return rho, slope, slope * (1 - 2 * rho)


def _distance(rho: Vector, times: Vector) -> Derivatives:
    """Return ρ^|tᵢ − tⱼ| with derivatives; visits in steps of one make it AR(1)."""
    gap = np.abs(times[:, None] - times[None, :])
    if len(rho) == 0:
        return Derivatives(np.ones_like(gap), np.zeros((0, *gap.shape)), np.zeros((0, 0, *gap.shape)))
    base = np.where(gap > 0, gap, 1.0)  # the diagonal has power 0, whose derivatives are 0 at ρ = 0 as well
    value = np.where(gap > 0, rho[0] ** base, 1.0)
    first = np.where(gap > 0, base * rho[0] ** (base - 1), 0.0)
    twice = np.where(base == 1, 2.0, base)
    second = np.where((gap > 0) & (base != 1), twice * (twice - 1) * rho[0] ** (twice - 2), 0.0)
    return Derivatives(value, first[None], second[None, None])


def _power(rho: Vector, times: Vector) -> Derivatives:
    """Return ρ^|i − j|."""
    return _distance(rho, np.arange(float(len(times))))


def _linear(basis: Float[np.ndarray, "parameter n n"], rho: Vector) -> Derivatives:
    """Return a correlation matrix that is linear in its correlations."""
    visits = basis.shape[-1]
    value = np.eye(visits) + np.tensordot(rho, basis, axes=1)
    return Derivatives(value, basis, np.zeros((len(rho), len(rho), visits, visits)))


def _constant(rho: Vector, times: Vector) -> Derivatives:
    """Return ρ in every element off the diagonal."""
    visits = len(times)
    return _linear((np.ones((visits, visits)) - np.eye(visits))[None][: len(rho)], rho)


def _lag(rho: Vector, times: Vector) -> Derivatives:
    """Return one correlation for each distance between visits."""
    each = np.arange(len(times))
    apart = np.abs(each[:, None] - each[None, :])
    return _linear((apart == 1 + np.arange(len(rho))[:, None, None]).astype(float), rho)


def _product(rho: Vector, times: Vector) -> Derivatives:
    """Return products of the correlations between neighbours; derivatives leave factors out, so that ρ may be 0."""
    visits, steps = len(times), len(rho)
    each = np.arange(visits)
    low, high = np.minimum.outer(each, each), np.maximum.outer(each, each)
    step = np.arange(steps)[:, None, None]
    between = (step >= low) & (step < high)

    def product(*without: int) -> Square:
        """Multiply the factors between two visits but those left out; zero where those are not between them."""
        left = np.delete(between, without, axis=0)
        kept = np.where(left, np.delete(rho, without)[:, None, None], 1.0).prod(axis=0)
        return kept * between[list(without)].all(axis=0)

    first = np.array([product(a) for a in range(steps)]).reshape(steps, visits, visits)
    second = np.zeros((steps, steps, visits, visits))
    for a in range(steps):
        for b in range(a):
            second[a, b] = second[b, a] = product(a, b)
    return Derivatives(product(), first, second)


_CORRELATIONS: dict[str, Correlation] = {
    "power": _power,
    "constant": _constant,
    "lag": _lag,
    "product": _product,
    "distance": _distance,
}
