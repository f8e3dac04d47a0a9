"""Response families of generalised linear models, each with one link: what IRLS needs to know of a distribution.

    family              endpoint     link        Var(Y | mean μ)
    Gaussian            continuous   identity    σ²
    Binomial            binary       logit       μ (1 − μ)
    Poisson             count        log         μ
    NegativeBinomial    count        log         μ + α μ²,  α ≥ 0; α = 0 is the Poisson law

Sources: McCullagh and Nelder (1989), doi:10.1007/978-1-4899-3242-6; Lawless (1987), doi:10.2307/3314912, for the
negative binomial.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from scipy.special import expit, gammaln, logit, xlog1py, xlogy

from trialtwin.core.arrays import require_finite
from trialtwin.core.errors import ConfigError, DataError

type Endpoint = Literal["continuous", "binary", "count"]

_TINY = float(np.finfo(float).eps)


class AbstractFamily(abc.ABC):
    """A distribution of the response given its mean, with its link; immutable."""

    name: ClassVar[str]
    endpoint: ClassVar[Endpoint]
    canonical: ClassVar[bool]
    free_scale: ClassVar[bool] = False

    @abc.abstractmethod
    def mean(self, eta: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return μ at a linear predictor η."""

    @abc.abstractmethod
    def link(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return η at a mean, such as a forecast that is to enter a model as a covariate."""

    @abc.abstractmethod
    def slope(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return dμ/dη at a mean."""

    @abc.abstractmethod
    def variance(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return the variance function V(μ), without the scale."""

    @abc.abstractmethod
    def curvature(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """Return minus the second derivative of each log likelihood by η, without the scale; never negative."""

    @abc.abstractmethod
    def start(self, y: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """Return a linear predictor to begin with."""

    @abc.abstractmethod
    def deviance(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return twice the log likelihood that a saturated model gains, without the scale."""

    @abc.abstractmethod
    def log_likelihood(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return the log likelihood, constants included."""

    @abc.abstractmethod
    def require_response(self, name: str, y: Float[np.ndarray, " row"]) -> None:
        """Refuse a response that the distribution cannot have."""


@dataclass(frozen=True)
class Gaussian(AbstractFamily):
    """Normal response, identity link."""

    name: ClassVar[str] = "gaussian"
    endpoint: ClassVar[Endpoint] = "continuous"
    canonical: ClassVar[bool] = True
    free_scale: ClassVar[bool] = True

    def mean(self, eta: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return η."""
        return eta

    def link(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return μ."""
        return mu

    def slope(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return 1."""
        return np.ones_like(mu)

    def variance(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return 1."""
        return np.ones_like(mu)

    def curvature(
        self,
        y: Float[np.ndarray, " row"],  # noqa: ARG002
        mu: Float[np.ndarray, " row"],
    ) -> Float[np.ndarray, " row"]:
        """Return 1."""
        return np.ones_like(mu)

    def start(self, y: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """Return the response."""
        return y

    def deviance(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return Σ (y − μ)²."""
        return float((y - mu) @ (y - mu))

    def log_likelihood(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return the normal log likelihood at its maximum over σ²."""
        with np.errstate(divide="ignore"):  # an exact fit has an infinite likelihood
            return -0.5 * len(y) * float(np.log(2 * np.pi * self.deviance(y, mu) / len(y)) + 1)

    def require_response(self, name: str, y: Float[np.ndarray, " row"]) -> None:
        """Refuse NaN and infinity."""
        require_finite(name, y)


@dataclass(frozen=True)
class Binomial(AbstractFamily):
    """Response 0 or 1, logit link."""

    name: ClassVar[str] = "binomial"
    endpoint: ClassVar[Endpoint] = "binary"
    canonical: ClassVar[bool] = True

    def mean(self, eta: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return 1 / (1 + exp(−η)), kept one rounding away from 0 and 1."""
        return np.clip(expit(eta), _TINY, 1 - _TINY)

    def link(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return log(μ / (1 − μ))."""
        _require_inside(mu, 1.0)
        return logit(mu)

    def slope(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return μ (1 − μ)."""
        return mu * (1 - mu)

    def variance(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return μ (1 − μ)."""
        return mu * (1 - mu)

    def curvature(
        self,
        y: Float[np.ndarray, " row"],  # noqa: ARG002
        mu: Float[np.ndarray, " row"],
    ) -> Float[np.ndarray, " row"]:
        """Return μ (1 − μ)."""
        return mu * (1 - mu)

    def start(self, y: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """Return the logit of the response pulled half-way to ½."""
        return np.log((y + 0.5) / (1.5 - y))

    def deviance(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return −2 Σ [y log μ + (1 − y) log(1 − μ)]."""
        return -2 * self.log_likelihood(y, mu)

    def log_likelihood(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return the Bernoulli log likelihood."""
        return float(np.sum(xlogy(y, mu) + xlog1py(1 - y, -mu)))

    def require_response(self, name: str, y: Float[np.ndarray, " row"]) -> None:
        """Refuse anything but 0 and 1.

        Raises
        ------
        DataError
            With the first value that is neither.
        """
        require_finite(name, y)
        other = y[(y != 0) & (y != 1)]
        if len(other):
            raise DataError(
                f"{name} is not binary: {len(other)} value(s) are neither 0 nor 1, such as {other[0]:g}",
                do="code the response as 0 and 1",
            )


@dataclass(frozen=True)
class Poisson(AbstractFamily):
    """Counts, log link."""

    name: ClassVar[str] = "poisson"
    endpoint: ClassVar[Endpoint] = "count"
    canonical: ClassVar[bool] = True

    def mean(self, eta: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return exp(η)."""
        return np.exp(eta)

    def link(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return log μ."""
        _require_inside(mu, np.inf)
        return np.log(mu)

    def slope(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return μ."""
        return mu

    def variance(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return μ."""
        return mu

    def curvature(
        self,
        y: Float[np.ndarray, " row"],  # noqa: ARG002
        mu: Float[np.ndarray, " row"],
    ) -> Float[np.ndarray, " row"]:
        """Return μ."""
        return mu

    def start(self, y: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """Return log(y + 0.1)."""
        return np.log(y + 0.1)

    def deviance(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return 2 Σ [y log(y/μ) − (y − μ)]."""
        return 2 * float(np.sum(xlogy(y, y) - xlogy(y, mu) - (y - mu)))

    def log_likelihood(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return the Poisson log likelihood."""
        return float(np.sum(xlogy(y, mu) - mu - gammaln(y + 1)))

    def require_response(self, name: str, y: Float[np.ndarray, " row"]) -> None:
        """Refuse anything but whole numbers from 0 on."""
        _require_counts(name, y)


@dataclass(frozen=True)
class NegativeBinomial(AbstractFamily):
    """Overdispersed counts, log link, Var = μ + α μ².

    Parameters
    ----------
    dispersion
        α ≥ 0, the inverse of R's θ; 0 is the Poisson law.

    Raises
    ------
    ConfigError
        If α is negative or not finite.
    """

    dispersion: float
    name: ClassVar[str] = "negative binomial"
    endpoint: ClassVar[Endpoint] = "count"
    canonical: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.dispersion) and self.dispersion >= 0):
            raise ConfigError(f"a negative binomial dispersion of {self.dispersion:g} is not a number from 0 on")

    def mean(self, eta: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return exp(η)."""
        return np.exp(eta)

    def link(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return log μ."""
        _require_inside(mu, np.inf)
        return np.log(mu)

    def slope(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return μ."""
        return mu

    def variance(self, mu: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return μ + α μ²."""
        return mu * (1 + self.dispersion * mu)

    def curvature(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """Return μ (1 + α y) / (1 + α μ)²."""
        return mu * (1 + self.dispersion * y) / (1 + self.dispersion * mu) ** 2

    def start(self, y: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """Return log(y + 0.1)."""
        return np.log(y + 0.1)

    def deviance(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return 2 Σ [y log(y/μ) − (y + 1/α) log((1 + α y)/(1 + α μ))]."""
        if self.dispersion == 0:
            return Poisson().deviance(y, mu)
        a = self.dispersion
        return 2 * float(np.sum(xlogy(y, y) - xlogy(y, mu) - (y + 1 / a) * (np.log1p(a * y) - np.log1p(a * mu))))

    def log_likelihood(self, y: Float[np.ndarray, " row"], mu: Float[np.ndarray, " row"]) -> float:
        """Return the negative binomial log likelihood."""
        if self.dispersion == 0:
            return Poisson().log_likelihood(y, mu)
        a = self.dispersion
        constant = _rising(y, a) - gammaln(y + 1)
        return float(np.sum(constant + xlogy(y, mu) - (y + 1 / a) * np.log1p(a * mu)))

    def require_response(self, name: str, y: Float[np.ndarray, " row"]) -> None:
        """Refuse anything but whole numbers from 0 on."""
        _require_counts(name, y)


def _rising(y: Float[np.ndarray, " row"], dispersion: float) -> Float[np.ndarray, " row"]:
    """Return log Π_{k<y} (1 + α k), as a sum: the difference of two log gammas loses all digits near α = 0."""
    most = int(y.max(initial=0))
    if most > 10_000:
        return gammaln(y + 1 / dispersion) - gammaln(1 / dispersion) + y * np.log(dispersion)
    steps = np.log1p(dispersion * np.arange(most))
    return np.concatenate([[0.0], np.cumsum(steps)])[y.astype(np.int64)]


def _require_inside(mu: Float[np.ndarray, "..."], upper: float) -> None:
    """Refuse means that the link sends to infinity or beyond."""
    outside = mu[~((mu > 0) & (mu < upper))]
    if len(outside):
        raise DataError(
            f"{len(outside)} mean(s) lie outside (0, {upper:g}), such as {outside[0]:g}: they have no place on the "
            "link scale",
            do="keep forecasts of a rate above 0, and of a probability between 0 and 1",
        )


def _require_counts(name: str, y: Float[np.ndarray, " row"]) -> None:
    """Refuse values that are not whole numbers from 0 on."""
    require_finite(name, y)
    other = y[(y < 0) | (y != np.floor(y))]
    if len(other):
        raise DataError(
            f"{name} is not a count: {len(other)} value(s) are negative or not whole, such as {other[0]:g}",
            do="use the gaussian family for a continuous response",
        )
