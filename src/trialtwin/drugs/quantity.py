"""A parameter of a drug in one patient: the typical value, times its covariates' factors, times a lognormal effect."""

from collections.abc import Mapping, Sequence
from typing import Literal, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.errors import ConfigError
from trialtwin.core.variables import Declared

type Scalar = Float[Array, ""]
type Form = Literal["power", "exponential", "level"]
_SMALLEST = 1e-9


@final
class Influence(eqx.Module):
    """How a covariate x changes a parameter, as a factor.

    power (x / centre)^b; exponential e^(b (x − centre)); level b^(x − centre), where x is 1 for the level
    and 0 for any other.
    A missing covariate enters as ``missing``.
    """

    concept: str = eqx.field(static=True)
    form: Form = eqx.field(static=True)
    level: str = eqx.field(static=True)
    value: np.ndarray
    centre: np.ndarray
    missing: np.ndarray

    def factor(self, covariates: Mapping[str, Scalar]) -> Scalar:
        """Return the factor for a patient's covariates, by concept."""
        given = jnp.asarray(covariates.get(self.concept, self.missing))
        x = jnp.where(jnp.isnan(given), self.missing, given)
        if self.form == "power":
            return (jnp.maximum(x, _SMALLEST) / self.centre) ** self.value
        if self.form == "exponential":
            return jnp.exp(self.value * (x - self.centre))
        return jnp.exp(jnp.log(self.value) * (x - self.centre))

    @property
    def declared(self) -> Declared:
        """The covariate, as the twin is to hand it over."""
        return Declared(self.concept, float(self.missing), self.level)


@final
class Quantity(eqx.Module):
    """A parameter: typical value, SD of its logarithm between patients, and covariates.

    Examples
    --------
    >>> weight = Influence("weight", "power", "", np.array(0.75), np.array(70.0), np.array(70.0))
    >>> clearance = Quantity("CL", np.array(2.0), np.array(0.3), (weight,))
    >>> float(clearance.individual(0.0, {"weight": 140.0}))  # 2 · 2^0.75  # doctest: +ELLIPSIS
    3.363...
    """

    name: str = eqx.field(static=True)
    value: np.ndarray
    omega: np.ndarray
    influences: tuple[Influence, ...] = ()

    @property
    def varies(self) -> bool:
        """Whether patients differ in it by a random effect."""
        return bool(self.omega > 0)

    def individual(self, deviation: Scalar | float, covariates: Mapping[str, Scalar]) -> Scalar:
        """Return a patient's value; ``deviation`` is in standard deviations of the logarithm."""
        value = jnp.asarray(self.value) * jnp.exp(self.omega * deviation)
        for influence in self.influences:
            value = value * influence.factor(covariates)
        return value


@final
class Quantities(eqx.Module):
    """Parameters of a part of a drug, with the correlations of their random effects.

    ``effects`` names the standard-normal random effects, one a parameter that varies; correlated deviations are
    L · effects, where L is the Cholesky factor of the correlation matrix.
    """

    items: tuple[Quantity, ...]
    factor: np.ndarray
    effects: tuple[str, ...] = eqx.field(static=True)

    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return a patient's parameters by name."""
        deviations = jnp.asarray(self.factor) @ effects if self.effects else effects
        found: dict[str, Scalar] = {}
        position = 0
        for item in self.items:
            at = 0.0 if item.name not in self.effects else deviations[position]
            position += item.name in self.effects
            found[item.name] = item.individual(at, covariates)
        return found

    @property
    def declared(self) -> tuple[Declared, ...]:
        """Covariates that the parameters depend on."""
        return tuple(influence.declared for item in self.items for influence in item.influences)


def together(
    items: Sequence[Quantity], correlations: Mapping[tuple[str, str], float] | None = None, *, where: str = ""
) -> Quantities:
    """Collect parameters, and turn correlations of their random effects into a Cholesky factor.

    Raises
    ------
    ConfigError
        If a correlation names a parameter that does not vary, or the matrix is not positive definite.
    """
    names = tuple(item.name for item in items if item.varies)
    matrix = np.eye(len(names))
    for (first, second), value in (correlations or {}).items():
        for name in (first, second):
            if name not in names:
                raise ConfigError(f"a correlation of {name!r}, which does not vary", where=where, exists=names)
        i, j = names.index(first), names.index(second)
        matrix[i, j] = matrix[j, i] = value
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError as error:
        raise ConfigError(
            "these correlations cannot all hold: their matrix is not positive definite", where=where
        ) from error
    return Quantities(tuple(items), factor, names)
