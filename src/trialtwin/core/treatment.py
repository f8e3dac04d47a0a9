"""A treatment is a dynamical system that modulates named mechanisms of a disease."""

from abc import abstractmethod
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractTreatment(eqx.Module):
    """A dynamical system that modulates named mechanisms.

    ``targets`` are mechanism names, such as ``"amyloid_clearance"``. A twin that lacks one of them refuses the
    treatment and lists the mechanisms that it has. Dose numbers are arrays, so that a new dose does not recompile.
    """

    name: eqx.AbstractVar[str]
    targets: eqx.AbstractVar[tuple[str, ...]]

    @abstractmethod
    def initial(self) -> Float[Array, " state"]:
        """Return the state before the first dose."""

    @abstractmethod
    def flow(
        self, t: Float[Array, ""], state: Float[Array, " state"], covariates: Float[Array, " covariate"]
    ) -> Float[Array, " state"]:
        """Return the time derivative of the state, per day."""

    @abstractmethod
    def modulation(
        self, t: Float[Array, ""], state: Float[Array, " state"], covariates: Float[Array, " covariate"]
    ) -> dict[str, Array]:
        """Return the value of each target mechanism: a multiplier or an added rate, as the disease defines it."""


@final
class NoTreatment(AbstractTreatment):
    """The course without active treatment: touches no mechanism.

    Examples
    --------
    >>> NoTreatment().targets
    ()
    """

    name: str = "placebo"
    targets: tuple[str, ...] = ()

    def initial(self) -> Float[Array, " state"]:
        """Return an empty state."""
        return jnp.zeros(0)

    def flow(
        self, t: Float[Array, ""], state: Float[Array, " state"], covariates: Float[Array, " covariate"]
    ) -> Float[Array, " state"]:
        """Return no change."""
        del t, covariates
        return state

    def modulation(
        self, t: Float[Array, ""], state: Float[Array, " state"], covariates: Float[Array, " covariate"]
    ) -> dict[str, Array]:
        """Return no modulation."""
        del t, state, covariates
        return {}
