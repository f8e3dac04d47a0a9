"""Any SBML model as a disease: its parameters become the mechanisms that treatments multiply.

Species and parameters that change become states; with reaction rates v, stoichiometries n and compartment size V,

    dS/dt = Σ n v / V   (amounts: without V),   or the rate rule of S,

where every constant parameter p enters as p · (value of the mechanism p). Values at the start, and what initial
assignments work out from parameters, are those without treatment. Time is days outside and the model's own unit inside:
one unit of it is ``unit_days`` days, read from the file where the file says it. Nothing in the file is run as code.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.variables import Declared
from trialtwin.diseases.base import AbstractDisease, AbstractScale, Constant, Mechanism, Prior, Route, State
from trialtwin.diseases.sbml_expression import TIME, work_out
from trialtwin.diseases.sbml_model import SbmlModel, read_sbml
from trialtwin.diseases.table import BY_HAND, Instrument, scale_priors_of, scales_of

SHARE = 1e-4  # of a state's size: error that a solver may make


class Patient(NamedTuple):
    """A patient's own parameters and other constants, and the states at the start."""

    constants: Mapping[str, Float[Array, ""]]
    start: State


class Now(NamedTuple):
    """What flows along the one route: the time in the model's unit, and every parameter's value now."""

    time: Float[Array, ""]
    parameters: Mapping[str, Float[Array, ""]]


@final
class SbmlDisease(AbstractDisease):
    """A disease read from SBML; make it with ``load_sbml``."""

    name: str = eqx.field(static=True)
    model: SbmlModel = eqx.field(static=True)
    unit_days: float = eqx.field(static=True)
    source: str = eqx.field(static=True)
    spreads: tuple[tuple[str, float], ...] = eqx.field(static=True)
    learned: tuple[tuple[str, float], ...] = eqx.field(static=True)
    instruments: tuple[Instrument, ...] = eqx.field(static=True)
    observed: tuple[str, ...] = eqx.field(static=True)
    states: tuple[str, ...] = eqx.field(static=True)
    tolerances: tuple[float, ...] = eqx.field(static=True)
    ranges: tuple[tuple[float, float], ...] = eqx.field(static=True)
    effects: tuple[str, ...] = eqx.field(static=True)
    declared: tuple[Declared, ...] = eqx.field(static=True)
    mechanisms: tuple[Mechanism, ...] = eqx.field(static=True)
    routes: tuple[Route, ...] = eqx.field(static=True)

    @property
    def priors(self) -> tuple[Prior, ...]:
        """Return the population parameters that are learned: multipliers of parameters, on the logarithm."""
        return tuple(
            Prior(f"log multiplier of {name}", 0.0, sd, BY_HAND, "low", provisional=True) for name, sd in self.learned
        )

    @property
    def scales(self) -> Mapping[str, AbstractScale]:
        """Return the instruments by concept."""
        return scales_of(self.instruments, first=len(self.states))

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Return what is taken as given: all numbers of the file, and the spreads that the user gave."""
        numbers = [Constant(name, value, "", self.source, "medium") for name, value in self.model.values]
        spreads = [Constant(f"SD of log {name}", sd, "", BY_HAND, "low", provisional=True) for name, sd in self.spreads]
        return (*numbers, *spreads)

    def scale_priors(self, concept: str) -> tuple[Prior, Prior, Prior]:
        """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""
        return scale_priors_of(self.instruments, concept)

    def individual(
        self,
        population: Mapping[str, Float[Array, ""]],
        effects: Float[Array, " effect"],
        covariates: Mapping[str, Float[Array, ""]],
    ) -> Patient:
        """Return a patient's own constants and start, what initial assignments work out included."""
        del covariates
        values: dict[str, Any] = {name: jnp.asarray(value) for name, value in self.model.values}
        for name, _ in self.learned:
            values[name] = values[name] * jnp.exp(population[f"log multiplier of {name}"])
        for (name, sd), normal in zip(self.spreads, effects, strict=True):
            values[name] = values[name] * jnp.exp(sd * normal)
        values[TIME] = jnp.zeros(())
        for name, formula in self.model.begin:
            values[name] = jnp.asarray(work_out(formula, values), dtype=float)
        assigned = {name for name, _ in self.model.assigned} | {TIME, *self.states}
        constants = {name: value for name, value in values.items() if name not in assigned}
        return Patient(constants, tuple(values[name] for name in self.states))

    def initial(self, individual: Patient) -> State:
        """Return the states at the start."""
        return individual.start

    def signals(
        self, t: Float[Array, ""], state: State, individual: Patient, modulation: Mapping[str, Float[Array, ""]]
    ) -> dict[str, Any]:
        """Return the model's time and its parameters as a treatment has made them."""
        del state
        now = {name: individual.constants[name] * modulation[name] for name in self.model.parameters}
        return {"parameters": Now(t / self.unit_days, now)}

    def flow(
        self,
        t: Float[Array, ""],
        state: State,
        individual: Patient,
        modulation: Mapping[str, Float[Array, ""]],
        signals: Mapping[str, Any],
    ) -> State:
        """Return the time derivative, per day."""
        del t, modulation
        values = self._values(state, individual, signals)
        slopes = []
        for flow in self.model.flows:
            if flow.rule is not None:
                slope = work_out(flow.rule, values)
            else:
                total = sum(work_out(n, values) * values[reaction] for n, reaction in flow.terms)
                slope = work_out(flow.factor, values) * total
            slopes.append(jnp.asarray(slope / self.unit_days, dtype=state[0].dtype))
        return tuple(slopes)

    def apparent(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> State:
        """Return the states, then what is observed."""
        values = self._values(state, individual, signals)
        return (*state, *(jnp.asarray(values[name], dtype=state[0].dtype) for name in self.observed))

    def _values(self, state: State, individual: Patient, signals: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every identifier now."""
        now = signals["parameters"]
        values = dict(individual.constants) | now.parameters | dict(zip(self.states, state, strict=True))
        values[TIME] = now.time
        for name, formula in self.model.assigned:
            values[name] = work_out(formula, values)
        return values


def load_sbml(
    path: Path | str,
    *,
    unit_days: float | None = None,
    name: str | None = None,
    spreads: Mapping[str, float] | None = None,
    learned: Mapping[str, float] | None = None,
    observed: Mapping[str, Instrument] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    tolerances: Mapping[str, float] | None = None,
    source: str | None = None,
) -> SbmlDisease:
    """Return a disease from an SBML file of Level 2 or 3.

    Parameters
    ----------
    unit_days
        Days in one unit of the model's time; as the file says where not given (Level 2: seconds by default).
    name, source
        Of the disease, and where it comes from; the model's identifier and the file's name where not given.
    spreads, learned
        By parameter, SDs of its logarithm: between patients, and of the prior of what a cohort is to teach.
    observed
        By identifier in the model (a state, or what an assignment rule gives), the instrument that reads it.
    ranges, tolerances
        By state, what is physiologically possible (anything by default), and the solver's error (1e-4 of its size).

    Raises
    ------
    DataError
        If the file cannot be read or says what is not supported; names the line or the element.
    MismatchError
        If a parameter, state or identifier is not in the model; lists those that are.
    ConfigError
        If the model does not say its unit of time and ``unit_days`` is not given, or a number is not above 0.
    """
    path = Path(path)
    model = read_sbml(path)
    unit = _unit(model, unit_days, path)
    states = tuple(flow.state for flow in model.flows)
    _require_known(model, states, spreads or {}, learned or {}, observed or {}, ranges or {}, tolerances or {})
    disease = SbmlDisease(
        name=name or model.id,
        model=model,
        unit_days=unit,
        source=source or f"SBML file {path.name}",
        spreads=tuple((spreads or {}).items()),
        learned=tuple((learned or {}).items()),
        instruments=tuple((observed or {}).values()),
        observed=tuple(observed or {}),
        states=states,
        tolerances=tuple((tolerances or {}).get(n, 1.0) for n in states),
        ranges=tuple((ranges or {}).get(n, (-math.inf, math.inf)) for n in states),
        effects=tuple(spreads or {}),
        declared=(),
        mechanisms=_mechanisms(model),
        routes=(Route("parameters", "a treatment changes parameters of the model"),),
    )
    sizes = dict(zip(states, _sizes(disease, path), strict=True))
    return replace(disease, tolerances=tuple((tolerances or {}).get(n, SHARE * sizes[n]) for n in states))


def _mechanisms(model: SbmlModel) -> tuple[Mechanism, ...]:
    words = dict(model.words)
    return tuple(Mechanism(n, 1.0, f"multiplier of {words[n]}") for n in model.parameters)


def _unit(model: SbmlModel, unit_days: float | None, path: Path) -> float:
    """Return days in one unit of the model's time, of a model that moves."""
    if not model.flows:
        raise DataError("a model in which nothing changes", where=str(path), do="give reactions or rate rules")
    unit = model.unit_days if unit_days is None else unit_days
    if unit is None:
        raise ConfigError("the model does not say its unit of time", where=str(path), do="give unit_days, such as 1/24")
    if not 0 < unit < math.inf:
        raise ConfigError(f"unit_days = {unit:g}", do="give the days in one unit of the model's time, above 0")
    return unit


def _require_known(
    model: SbmlModel,
    states: tuple[str, ...],
    spreads: Mapping[str, float],
    learned: Mapping[str, float],
    observed: Mapping[str, Instrument],
    ranges: Mapping[str, tuple[float, float]],
    tolerances: Mapping[str, float],
) -> None:
    """Refuse names that the model does not have, and numbers that are not above 0."""
    computed = {n for n, _ in model.begin}
    given = [n for n in model.parameters if n not in computed]
    _require_within("parameter", [*spreads, *learned], given)
    _require_within("state", [*ranges, *tolerances], states)
    _require_within("identifier", observed, [*states, *(n for n, _ in model.assigned)])
    for what, numbers in (("spreads", spreads), ("learned", learned), ("tolerances", tolerances)):
        for key, value in numbers.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"{what}[{key!r}] = {value:g}", do="give a number above 0")


def _sizes(disease: SbmlDisease, path: Path) -> list[float]:
    """Return the size of every state at the start, and of the largest where it is 0; refuse a start or flow without."""
    centre = {prior.name: jnp.zeros(()) for prior in disease.priors}
    person = disease.individual(centre, jnp.zeros(len(disease.effects)), {})
    zero, neutral = jnp.zeros(()), disease.neutral()
    slopes = disease.flow(zero, person.start, person, neutral, disease.signals(zero, person.start, person, neutral))
    for what, numbers in (("start", person.start), ("slope at the start", slopes)):
        bad = [n for n, value in zip(disease.states, numbers, strict=True) if not np.isfinite(float(value))]
        if bad:
            raise DataError(f"the {what} of {bad[0]!r} is not a finite number", where=str(path))
    sizes = [abs(float(value)) for value in person.start]
    largest = max(sizes) or 1.0
    return [size or largest for size in sizes]


def _require_within(what: str, names: Iterable[str], exists: Sequence[str]) -> None:
    unknown = [name for name in names if name not in exists]
    if unknown:
        raise MismatchError(f"the model has no {what} {unknown[0]!r} of its own", exists=exists)
