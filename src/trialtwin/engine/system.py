"""What the engine solves: one patient's ordinary differential equations, with doses and decisions.

A state is a tuple of scalars, one a variable, never stacked into a vector: mapped over patients, every operation then
is elementwise over a block of patients and compiles into one loop.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

type Scalar = Float[Array, ""]
type State = tuple[Scalar, ...]


class AbstractSystem(eqx.Module):
    """One patient's dynamical system.

    ``states`` and ``inputs`` name the state variables and the places where a dose goes; ``decides`` is true where
    ``decide`` is to be asked before every dose.
    """

    states: eqx.AbstractVar[tuple[str, ...]]
    inputs: eqx.AbstractVar[tuple[str, ...]]
    decides: eqx.AbstractVar[bool]

    @abstractmethod
    def initial(self, parameters: Any) -> State:
        """Return the state at the first time of the grid."""

    @abstractmethod
    def flow(self, t: Scalar, state: State, rates: State, parameters: Any) -> State:
        """Return the time derivative; ``rates`` are amounts per unit of time, one an input."""

    @abstractmethod
    def receive(self, t: Scalar, state: State, amounts: State, parameters: Any) -> State:
        """Return the state just after boluses, one amount an input; zeros change nothing."""

    @abstractmethod
    def decide(self, t: Scalar, state: State, parameters: Any) -> tuple[State, Bool[Array, ""]]:
        """Return the state after a decision just before a dose, and whether this and all later doses are withheld."""


@final
class Equations(AbstractSystem):
    """A system given as functions; a bolus into an input adds to the state of the same name, and dosing never stops.

    Parameters
    ----------
    states, inputs
        Names; every input is the name of a state.
    start
        From parameters to the initial state.
    rhs
        From time, state, infusion rates and parameters to the derivative.

    Examples
    --------
    >>> decay = Equations(states=("x",), inputs=(), start=lambda p: (p,), rhs=lambda t, y, r, p: (-y[0],))
    >>> [float(slope) for slope in decay.flow(jnp.zeros(()), (jnp.array(2.0),), (), None)]
    [-2.0]
    """

    states: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    start: Callable[[Any], State] = eqx.field(static=True, kw_only=True)
    rhs: Callable[[Any, State, State, Any], State] = eqx.field(static=True, kw_only=True)
    decides: bool = eqx.field(static=True, default=False)

    def initial(self, parameters: Any) -> State:
        """Return the initial state."""
        return self.start(parameters)

    def flow(self, t: Scalar, state: State, rates: State, parameters: Any) -> State:
        """Return the time derivative."""
        return self.rhs(t, state, rates, parameters)

    def receive(self, t: Scalar, state: State, amounts: State, parameters: Any) -> State:
        """Add each amount to the state of its input."""
        del t, parameters
        added = dict(zip(self.inputs, amounts, strict=True))
        return tuple(y + added[name] if name in added else y for name, y in zip(self.states, state, strict=True))

    def decide(self, t: Scalar, state: State, parameters: Any) -> tuple[State, Bool[Array, ""]]:
        """Never stop."""
        del t, parameters
        return state, jnp.zeros((), dtype=bool)
