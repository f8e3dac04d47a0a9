"""Residual errors: how a measurement scatters around what a model predicts."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.core.errors import ConfigError


class AbstractResidual(abc.ABC):
    """How measurements scatter: the SDs it has (``sigma``), and location and log SD of a row given its prediction.

    ``transform`` brings a measurement to the scale on which it is normal; ``log_jacobian`` is the logarithm of that
    transform's derivative, so that likelihoods are those of the measurements as they were given.
    """

    @abc.abstractmethod
    def parts(self) -> dict[str, float]:
        """Return the SDs by name, at the values where a search begins."""

    @abc.abstractmethod
    def moments(
        self, mean: Float[Array, " row"], sigma: Mapping[str, Array]
    ) -> tuple[Float[Array, " row"], Float[Array, " row"]]:
        """Return location and log SD of each row."""

    @abc.abstractmethod
    def transform(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Bring measurements to the scale on which they are normal."""

    @abc.abstractmethod
    def log_jacobian(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Return the logarithm of the transform's derivative."""


@final
@dataclass(frozen=True)
class Additive(AbstractResidual):
    """Y = f + a ε.

    Examples
    --------
    >>> Additive(0.7).parts()
    {'additive': 0.7}
    """

    sd: float

    def __post_init__(self) -> None:
        """Refuse an SD that is not positive."""
        _positive(self.sd)

    def parts(self) -> dict[str, float]:
        """Return a."""
        return {"additive": self.sd}

    def moments(
        self, mean: Float[Array, " row"], sigma: Mapping[str, Array]
    ) -> tuple[Float[Array, " row"], Float[Array, " row"]]:
        """Return f, and log a."""
        return mean, jnp.broadcast_to(jnp.log(sigma["additive"]), mean.shape)

    def transform(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Leave measurements as they are."""
        return value

    def log_jacobian(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Return zeros."""
        return jnp.zeros_like(value)


@final
@dataclass(frozen=True)
class Proportional(AbstractResidual):
    """Y = f (1 + b ε), with b a coefficient of variation (.2 is 20 %)."""

    cv: float

    def __post_init__(self) -> None:
        """Refuse a coefficient of variation that is not positive."""
        _positive(self.cv)

    def parts(self) -> dict[str, float]:
        """Return b."""
        return {"proportional": self.cv}

    def moments(
        self, mean: Float[Array, " row"], sigma: Mapping[str, Array]
    ) -> tuple[Float[Array, " row"], Float[Array, " row"]]:
        """Return f, and log b |f|."""
        return mean, jnp.log(sigma["proportional"]) + jnp.log(jnp.abs(mean))

    def transform(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Leave measurements as they are."""
        return value

    def log_jacobian(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Return zeros."""
        return jnp.zeros_like(value)


@final
@dataclass(frozen=True)
class Combined(AbstractResidual):
    """Y = f + √(a² + b² f²) ε."""

    sd: float
    cv: float

    def __post_init__(self) -> None:
        """Refuse SDs that are not positive."""
        _positive(self.sd, self.cv)

    def parts(self) -> dict[str, float]:
        """Return a and b."""
        return {"additive": self.sd, "proportional": self.cv}

    def moments(
        self, mean: Float[Array, " row"], sigma: Mapping[str, Array]
    ) -> tuple[Float[Array, " row"], Float[Array, " row"]]:
        """Return f, and ½ log(a² + b² f²)."""
        return mean, 0.5 * jnp.log(sigma["additive"] ** 2 + (sigma["proportional"] * mean) ** 2)

    def transform(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Leave measurements as they are."""
        return value

    def log_jacobian(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Return zeros."""
        return jnp.zeros_like(value)


@final
@dataclass(frozen=True)
class Lognormal(AbstractResidual):
    """Log y = log f + a ε; the likelihood is that of y, so that objectives compare with those of other errors."""

    sd: float

    def __post_init__(self) -> None:
        """Refuse an SD that is not positive."""
        _positive(self.sd)

    def parts(self) -> dict[str, float]:
        """Return a."""
        return {"lognormal": self.sd}

    def moments(
        self, mean: Float[Array, " row"], sigma: Mapping[str, Array]
    ) -> tuple[Float[Array, " row"], Float[Array, " row"]]:
        """Return log f, and log a."""
        return jnp.log(mean), jnp.broadcast_to(jnp.log(sigma["lognormal"]), mean.shape)

    def transform(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Take logarithms."""
        return jnp.log(value)

    def log_jacobian(self, value: Float[Array, " row"]) -> Float[Array, " row"]:
        """Return −log y."""
        return -jnp.log(value)


def _positive(*values: float) -> None:
    """Refuse what is not a positive number."""
    for value in values:
        if not value > 0:
            raise ConfigError(f"a residual SD must be positive, not {value}", do="give a rough guess of it")
