"""A treatment made of functions of one state, for tests of what twins do with treatments."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from trialtwin.core.treatment import AbstractTreatment, Doses, State, no_doses
from trialtwin.core.variables import Declared


@final
class PlainTreatment(AbstractTreatment):
    """A treatment with one state and no doses; ``numbers`` are arrays, so that it compiles once for any of them."""

    numbers: Any
    start: float = eqx.field(static=True)
    slope: Callable[[Any, Array], Array] = eqx.field(static=True)
    acts: Callable[[Any, Array], dict[str, Array]] = eqx.field(static=True)
    name: str = eqx.field(static=True)
    targets: tuple[str, ...] = eqx.field(static=True)
    ways: tuple[Literal["multiply", "add"], ...] = eqx.field(static=True)
    doses: Doses
    tolerances: tuple[float, ...] = eqx.field(static=True)
    states: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    effects: tuple[str, ...] = eqx.field(static=True)
    declared: tuple[Declared, ...] = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        acts: Callable[[Any, Array], dict[str, Array]],
        ways: Mapping[str, Literal["multiply", "add"]],
        *,
        numbers: Any = (),
        start: float = 0.0,
        slope: Callable[[Any, Array], Array] = lambda _, y: 0 * y,
        tolerance: float = 1e-3,
    ) -> None:
        self.numbers, self.start, self.slope, self.acts, self.name = numbers, start, slope, acts, name
        self.targets, self.ways = tuple(ways), tuple(ways.values())
        self.doses, self.tolerances, self.states = no_doses(), (tolerance,), (f"{name}: amount",)
        self.inputs = self.effects = self.declared = ()

    def individual(self, effects: Array, covariates: Mapping[str, Array]) -> Any:
        """Return the numbers."""
        return self.numbers

    def initial(self, individual: Any) -> State:
        """Return the start."""
        return (jnp.asarray(self.start),)

    def receive(self, state: State, amounts: State, individual: Any) -> State:
        """Receive nothing."""
        return state

    def flow(self, t: Array, state: State, rates: State, individual: Any) -> State:
        """Return the slope of the one state."""
        return (self.slope(individual, state[0]),)

    def modulation(self, t: Array, state: State, individual: Any) -> dict[str, Array]:
        """Return what it does."""
        return self.acts(individual, state[0])

    def decide(
        self, t: Array, disease_state: Mapping[str, Array], state: State, individual: Any
    ) -> tuple[State, Array]:
        """Never stop."""
        return state, jnp.zeros((), dtype=bool)
