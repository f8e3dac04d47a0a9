"""A treatment is a dynamical system that receives doses and modulates named mechanisms of a disease."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from trialtwin.core.variables import Declared

type Scalar = Float[Array, ""]
type State = tuple[Scalar, ...]


class Doses(eqx.Module):
    """Doses in time, sorted: arrays, so that other doses do not recompile.

    Parameters
    ----------
    time : shape (dose,), days
        When a dose starts.
    amount : shape (dose,)
        In the drug's unit.
    duration : shape (dose,), days
        Of the infusion; 0 for a bolus.
    input : shape (dose,)
        Position in the treatment's ``inputs``.
    """

    time: Float[Array, " dose"]
    amount: Float[Array, " dose"]
    duration: Float[Array, " dose"]
    input: Int[Array, " dose"]


def no_doses() -> Doses:
    """Return no doses."""
    none = jnp.zeros(0)
    return Doses(none, none, none, jnp.zeros(0, dtype=int))


class AbstractTreatment(eqx.Module):
    """A dynamical system that receives doses and modulates named mechanisms.

    ``targets`` are mechanism names, such as ``"amyloid_clearance"``, and ``ways`` says of each whether the disease
    multiplies by its value (1 without treatment) or adds it (0 without). A twin that lacks one of them refuses the
    treatment and lists the mechanisms that it has. ``states`` are the treatment's own, with the error that a solver may
    make in each in ``tolerances``; ``inputs`` are the places where a dose goes; ``effects`` its own standard-normal
    random effects; ``declared`` the covariates that it uses, with the value that a missing one enters as. States are
    tuples of scalars, never stacked, which compilers fuse over patients. Time is in days since baseline.
    """

    name: eqx.AbstractVar[str]
    targets: eqx.AbstractVar[tuple[str, ...]]
    ways: eqx.AbstractVar[tuple[Literal["multiply", "add"], ...]]
    states: eqx.AbstractVar[tuple[str, ...]]
    inputs: eqx.AbstractVar[tuple[str, ...]]
    effects: eqx.AbstractVar[tuple[str, ...]]
    tolerances: eqx.AbstractVar[tuple[float, ...]]
    declared: eqx.AbstractVar[tuple[Declared, ...]]
    doses: eqx.AbstractVar[Doses]

    @abstractmethod
    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Any:
        """Return a patient's own parameters; covariates by concept."""

    @abstractmethod
    def initial(self, individual: Any) -> State:
        """Return the state before the first dose."""

    @abstractmethod
    def receive(self, state: State, amounts: tuple[Scalar, ...], individual: Any) -> State:
        """Return the state just after a bolus, one amount an input."""

    @abstractmethod
    def flow(self, t: Scalar, state: State, rates: tuple[Scalar, ...], individual: Any) -> State:
        """Return the time derivative of the state, per day; ``rates`` are amounts per day, one an input."""

    @abstractmethod
    def modulation(self, t: Scalar, state: State, individual: Any) -> dict[str, Scalar]:
        """Return the value of each target mechanism: a multiplier or an added rate, as the disease defines it."""

    @abstractmethod
    def decide(
        self, t: Scalar, disease_state: Mapping[str, Scalar], state: State, individual: Any
    ) -> tuple[State, Bool[Array, ""]]:
        """Return the state after a decision, and whether no further dose is given; asked just before every dose."""


@final
class NoTreatment(AbstractTreatment):
    """The course without active treatment: no doses, and no mechanism touched.

    Examples
    --------
    >>> NoTreatment().targets
    ()
    """

    doses: Doses
    name: str = eqx.field(static=True)
    targets: tuple[str, ...] = eqx.field(static=True)
    ways: tuple[Literal["multiply", "add"], ...] = eqx.field(static=True)
    states: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    effects: tuple[str, ...] = eqx.field(static=True)
    tolerances: tuple[float, ...] = eqx.field(static=True)
    declared: tuple[Declared, ...] = eqx.field(static=True)

    def __init__(self, name: str = "placebo") -> None:
        self.name = name
        self.doses = no_doses()
        self.targets = self.ways = self.states = self.inputs = self.effects = self.tolerances = self.declared = ()

    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Any:
        """Return nothing."""
        del effects, covariates
        return ()

    def initial(self, individual: Any) -> State:
        """Return no states."""
        del individual
        return ()

    def receive(self, state: State, amounts: tuple[Scalar, ...], individual: Any) -> State:
        """Return no states."""
        del amounts, individual
        return state

    def flow(self, t: Scalar, state: State, rates: tuple[Scalar, ...], individual: Any) -> State:
        """Return no change."""
        del t, rates, individual
        return state

    def modulation(self, t: Scalar, state: State, individual: Any) -> dict[str, Scalar]:
        """Return no modulation."""
        del t, state, individual
        return {}

    def decide(
        self, t: Scalar, disease_state: Mapping[str, Scalar], state: State, individual: Any
    ) -> tuple[State, Bool[Array, ""]]:
        """Return no states, and that nothing ends."""
        del t, disease_state, individual
        return state, jnp.zeros((), dtype=bool)
