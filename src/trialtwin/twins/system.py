"""A disease under a treatment, as one dynamical system of one patient."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.errors import MismatchError
from trialtwin.core.treatment import AbstractTreatment, NoTreatment, no_doses
from trialtwin.core.variables import Declared
from trialtwin.diseases.base import AbstractDisease, Mechanism
from trialtwin.engine.grid import Grid, align
from trialtwin.engine.system import AbstractSystem, State

SMOOTH = 14.0  # days; the longest step between doses
FINEST = 4  # times that steps are halved before a course is refused


class Person(NamedTuple):
    """A patient's own parameters of the disease and of the treatment, and which routes carry treated signals.

    ``open`` has a value a route, 1 where the treated patient's own signal flows, 0 where that of the untreated copy
    does; it is empty where there is no untreated copy. ``model`` is the disease with constants of the patient's own,
    where they differ between patients.
    """

    disease: Any
    treatment: Any
    open: tuple[Array, ...] = ()
    model: AbstractDisease | None = None


@final
class Course(AbstractSystem):
    """A disease under a treatment: the states of the disease, then those of the treatment.

    With ``routed``, a copy of the same patient without treatment follows behind, and each route carries the signal of
    the treated patient or of the copy, as ``Person.open`` says: so is told how much of a benefit runs along which
    route.

    Raises
    ------
    MismatchError
        If the treatment acts on a mechanism that the disease lacks, or multiplies where the disease adds.
    """

    disease: AbstractDisease
    treatment: AbstractTreatment
    routed: bool = eqx.field(static=True)
    states: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    decides: bool = eqx.field(static=True)

    def __init__(self, disease: AbstractDisease, treatment: AbstractTreatment, *, routed: bool = False) -> None:
        require_acts(disease.mechanisms, treatment, disease.name)
        self.disease = disease
        # doses are in the grid: other doses are to compile nothing anew
        self.treatment = eqx.tree_at(lambda t: t.doses, treatment, no_doses())
        self.routed = routed
        copy = tuple(f"untreated {name}" for name in disease.states) if routed else ()
        self.states = (*disease.states, *treatment.states, *copy)
        self.inputs = treatment.inputs
        self.decides = len(treatment.inputs) > 0

    @property
    def tolerances(self) -> tuple[float, ...]:
        """Error that a solver may make in each state."""
        own = self.disease.tolerances
        return (*own, *self.treatment.tolerances, *(own if self.routed else ()))

    def initial(self, parameters: Person) -> State:
        """Return the state at baseline."""
        own = self._model(parameters).initial(parameters.disease)
        return (*own, *self.treatment.initial(parameters.treatment), *(own if self.routed else ()))

    def flow(self, t: Float[Array, ""], state: State, rates: State, parameters: Person) -> State:
        """Return the time derivative, per day."""
        own, treated, copy = self.parts(state)
        disease = self._model(parameters)
        modulation, signals = self.signals(t, state, parameters)
        slopes = disease.flow(t, own, parameters.disease, modulation, signals)
        slopes += self.treatment.flow(t, treated, rates, parameters.treatment)
        if self.routed:
            neutral = disease.neutral()
            untreated = disease.signals(t, copy, parameters.disease, neutral)
            slopes += disease.flow(t, copy, parameters.disease, neutral, untreated)
        return slopes

    def receive(self, t: Float[Array, ""], state: State, amounts: State, parameters: Person) -> State:
        """Return the state just after boluses."""
        del t
        own, treated, copy = self.parts(state)
        return (*own, *self.treatment.receive(treated, amounts, parameters.treatment), *copy)

    def decide(self, t: Float[Array, ""], state: State, parameters: Person) -> tuple[State, Bool[Array, ""]]:
        """Return the state after the treatment's decision, and whether dosing ends."""
        own, treated, copy = self.parts(state)
        named = dict(zip(self.disease.states, own, strict=True))
        after, stop = self.treatment.decide(t, named, treated, parameters.treatment)
        return (*own, *after, *copy), stop

    def parts(self, state: State) -> tuple[State, State, State]:
        """Return the states of the disease, of the treatment, and of the untreated copy."""
        n, m = len(self.disease.states), len(self.treatment.states)
        return tuple(state[:n]), tuple(state[n : n + m]), tuple(state[n + m :])

    def signals(self, t: Float[Array, ""], state: State, parameters: Person) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the value of every mechanism, and what flows along every route."""
        own, treated, copy = self.parts(state)
        disease = self._model(parameters)
        neutral = disease.neutral()
        modulation = neutral | self.treatment.modulation(t, treated, parameters.treatment)
        signals = disease.signals(t, own, parameters.disease, modulation)
        if not self.routed:
            return modulation, signals
        untreated = disease.signals(t, copy, parameters.disease, neutral)
        for route, share in zip(self.disease.routes, parameters.open, strict=True):
            signals[route.name] = jax.tree.map(
                lambda with_, without, s=share: jnp.where(s > 0.5, with_, without),
                signals[route.name],
                untreated[route.name],
            )
        return modulation, signals

    def apparent(self, t: Float[Array, ""], state: State, parameters: Person) -> State:
        """Return the treated patient as instruments see it."""
        own, _, _ = self.parts(state)
        _, signals = self.signals(t, state, parameters)
        return self._model(parameters).apparent(own, parameters.disease, signals)

    def _model(self, parameters: Person) -> AbstractDisease:
        return self.disease if parameters.model is None else parameters.model


def require_acts(mechanisms: tuple[Mechanism, ...], treatment: AbstractTreatment, name: str) -> None:
    """Refuse a treatment that acts on what is not there, or in another way.

    Raises
    ------
    MismatchError
        With the mechanisms that there are.
    """
    neutral = {mechanism.name: mechanism.neutral for mechanism in mechanisms}
    missing = [target for target in treatment.targets if target not in neutral]
    if missing:
        raise MismatchError(
            f"{treatment.name!r} acts on {missing}, which {name!r} does not have",
            exists=neutral or ("(none)",),
            do="use a disease that has these mechanisms",
        )
    for target, way in zip(treatment.targets, treatment.ways, strict=True):
        if (way == "multiply") != (neutral[target] == 1.0):
            raise MismatchError(
                f"{treatment.name!r} would {way} {target}, whose value without treatment is {neutral[target]:g}",
                do="multiply what is 1 without treatment, and add to what is 0",
            )


def dosing_grid(
    treatment: AbstractTreatment, outputs: Float[np.ndarray, " time"], *, finer: int = 0, longest: float = SMOOTH
) -> Grid:
    """Return a grid for a disease under a treatment: steps of 14 days, shorter where either moves fast.

    The fastest rate ρ of the treatment is read from its Jacobian in a typical patient after a dose; steps are at most
    1.5/ρ, which explicit methods need to be stable, and start at 0.3/ρ after a dose. ``longest`` is what the disease
    allows, in days; ``finer`` halves steps so often.
    """
    rate = _fastest_of_treatment(treatment)
    halved = 0.5**finer
    longest = min(SMOOTH, longest, 1.5 / rate if rate > 0 else SMOOTH) * halved
    first = min(longest, 0.3 / rate * halved) if rate > 0 else longest
    doses = treatment.doses if len(treatment.inputs) else None
    return align(doses, outputs, inputs=len(treatment.inputs), longest=longest, first=first)


def typical(declared: tuple[Declared, ...]) -> Mapping[str, Array]:
    """Return covariates at the values that missing ones enter as."""
    return {d.concept: jnp.asarray(d.centre) for d in declared}


def typical_person(disease: AbstractDisease) -> Person:
    """Return an untreated patient at the prior means, with covariates at the values that missing ones enter as."""
    population = {prior.name: jnp.asarray(prior.mean) for prior in disease.priors}
    return Person(disease.individual(population, jnp.zeros(len(disease.effects)), typical(disease.declared)), ())


def fastest(disease: AbstractDisease) -> float:
    """Return the fastest rate of a disease, per day: the largest eigenvalue of its Jacobian in a typical patient."""
    course, person = Course(disease, NoTreatment()), typical_person(disease)
    return _largest(lambda state: course.flow(jnp.zeros(()), state, (), person), course.initial(person))


def _fastest_of_treatment(treatment: AbstractTreatment) -> float:
    """Return the largest eigenvalue of a treatment's Jacobian, per day, in a typical patient after a dose."""
    if not treatment.states:
        return 0.0
    person = treatment.individual(jnp.zeros(len(treatment.effects)), typical(treatment.declared))
    start = tuple(jnp.asarray(y, dtype=float) for y in treatment.initial(person))
    rates = tuple(jnp.zeros(()) for _ in treatment.inputs)
    if len(treatment.doses.time):
        amounts = np.zeros(len(treatment.inputs))
        amounts[np.asarray(treatment.doses.input)] = np.asarray(treatment.doses.amount)
        start = treatment.receive(start, tuple(jnp.asarray(a) for a in amounts), person)
    return _largest(lambda state: treatment.flow(jnp.zeros(()), state, rates, person), start)


def _largest(flow: Callable[[State], State], start: State) -> float:
    """Return the largest eigenvalue of a flow's Jacobian."""

    def as_floats(state: State) -> State:
        return tuple(jnp.asarray(y, dtype=float) for y in state)

    rows = jax.jit(jax.jacfwd(lambda state: as_floats(flow(state))))(as_floats(start))
    matrix = np.array([[float(cell) for cell in row] for row in rows])
    return float(np.abs(np.linalg.eigvals(matrix)).max())
