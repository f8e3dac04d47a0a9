"""A therapy: a drug on a regimen, as a treatment of a disease model.

States are the drug's amounts, what its target holds, its delayed effects, and what its stopping rule remembers; all
parameters that the flow reads come from ``individual``, and dose numbers are arrays, so that new numbers do not
recompile. Patients differ in a drug's parameters by standard-normal random effects, which are the therapy's own.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.core.treatment import AbstractTreatment, Doses
from trialtwin.core.variables import Declared
from trialtwin.drugs.build import compartments, effect_of, inputs_of
from trialtwin.drugs.drug import Drug
from trialtwin.drugs.effect import Effect, Own
from trialtwin.drugs.page import DoseRate
from trialtwin.drugs.pk import AbstractPharmacokinetics, Rates, State, mean_concentration, steady_peak
from trialtwin.drugs.quantity import Scalar
from trialtwin.drugs.regimen import parse_regimen
from trialtwin.drugs.safety import AbstractHazard, hazards
from trialtwin.drugs.schedule import Phase, Regimen
from trialtwin.drugs.stop import ScanRule, rule_of

WEIGHT = Declared("weight", 72.0)
DAILY = 1.0  # days; doses as often as this can be averaged
_SHARE_OF_DOSE = 1e-3  # of a dose: the error that a solver may make in an amount


class Person(NamedTuple):
    """A patient's own parameters: of the pharmacokinetics, of each effect, and mg per unit of a dose."""

    pk: Any
    acts: tuple[Own, ...]
    scale: Scalar


class Dosing(NamedTuple):
    """The doses that make up a steady state: amount, interval and duration, or an amount a day where interval is 0.

    ``place`` is the position of the input that they go into.
    """

    amount: Scalar
    interval: Scalar
    duration: Scalar
    place: Scalar


@final
class Therapy(AbstractTreatment):
    """A drug on a regimen; made by ``prescribe``.

    Examples
    --------
    >>> from trialtwin.drugs.registry import find_drug
    >>> therapy = prescribe(find_drug("lecanemab"), "10 mg/kg over 1h q2w x 39", disease="alzheimer")
    >>> therapy.targets, therapy.ways, len(therapy.doses.time)
    (('amyloid_clearance',), ('add',), 39)
    """

    name: str = eqx.field(static=True)
    targets: tuple[str, ...] = eqx.field(static=True)
    ways: tuple[Literal["multiply", "add"], ...] = eqx.field(static=True)
    states: tuple[str, ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    effects: tuple[str, ...] = eqx.field(static=True)
    tolerances: tuple[float, ...] = eqx.field(static=True)
    declared: tuple[Declared, ...] = eqx.field(static=True)
    doses: Doses
    pk: AbstractPharmacokinetics
    acts: tuple[Effect, ...]
    rule: ScanRule | None
    hazards: tuple[AbstractHazard, ...]
    per_kg: np.ndarray
    dosing: Dosing

    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Person:
        """Return a patient's own parameters."""
        at = len(self.pk.quantities.effects)
        pk = self.pk.individual(effects[:at], covariates)
        acts = []
        for act in self.acts:
            acts.append(act.individual(effects[at : at + len(act.effects)], covariates))
            at += len(act.effects)
        given = jnp.asarray(covariates.get(WEIGHT.concept, WEIGHT.centre))
        weight = jnp.where(jnp.isnan(given), WEIGHT.centre, given)
        return Person(pk, tuple(acts), jnp.where(self.per_kg > 0, weight, 1.0))

    def initial(self, individual: Person) -> State:
        """Return the state before the first dose."""
        states = self.pk.initial(individual.pk)
        for act in self.acts:
            states += act.initial()
        return states + (self.rule.initial() if self.rule else ())

    def receive(self, state: State, amounts: tuple[Scalar, ...], individual: Person) -> State:
        """Return the state just after a bolus into each input; per-kg doses are multiplied by weight here."""
        n = len(self.pk.states)
        scaled = tuple(amount * individual.scale for amount in amounts)
        return self.pk.receive(state[:n], scaled, individual.pk) + state[n:]

    def flow(self, t: Scalar, state: State, rates: tuple[Scalar, ...], individual: Person) -> State:
        """Return the time derivative, per day."""
        del t
        n = len(self.pk.states)
        amounts = state[:n]
        scaled = tuple(rate * individual.scale for rate in rates)
        flows = self.pk.flow(amounts, scaled, individual.pk)
        drivers = self.pk.drivers(amounts, individual.pk)
        for act, own in zip(self.acts, individual.acts, strict=True):
            k = len(act.states)
            flows += act.flow(state[n : n + k], drivers, own)
            n += k
        return flows + tuple(jnp.zeros(()) for _ in state[n:])

    def modulation(self, t: Scalar, state: State, individual: Person) -> dict[str, Scalar]:
        """Return the value of each target mechanism."""
        del t
        n = len(self.pk.states)
        drivers = self.pk.drivers(state[:n], individual.pk)
        values = {}
        for act, own in zip(self.acts, individual.acts, strict=True):
            k = len(act.states)
            values[act.mechanism] = act.value(state[n : n + k], drivers, own)
            n += k
        return values

    def decide(
        self, t: Scalar, disease_state: Mapping[str, Scalar], state: State, individual: Person
    ) -> tuple[State, Bool[Array, ""]]:
        """Return the state after a scan, if one is due, and whether no further dose is given."""
        del individual
        if self.rule is None:
            return state, jnp.zeros((), dtype=bool)
        n = len(state) - len(self.rule.states)
        memory, stopped = self.rule.decide(t, disease_state, state[n:])
        return state[:n] + memory, stopped

    def concentration(self, state: State, individual: Person) -> Scalar:
        """Return the concentration in the blood: µg/mL, or the dose per day for a drug without concentrations."""
        return self.pk.drivers(state[: len(self.pk.states)], individual.pk)["concentration"]

    def exposure(self, individual: Person) -> Scalar:
        """Return the highest concentration at steady state of the regimen, µg/mL.

        Of several phases the one counts that is the highest in a typical patient: harm that comes early is not undone
        by a lower dose later. In closed form, without the target where there is one; the dose per day for a drug
        without concentrations.
        """
        rates = self.pk.linear(individual.pk)
        dosing = self.dosing._replace(amount=self.dosing.amount * individual.scale)
        found = [_peak(rates, dosing, depot=name.endswith("depot")) for name in self.inputs]
        return found[0] if len(found) == 1 else jnp.where(dosing.place > 0, found[1], found[0])


def prescribe(
    drug: Drug,
    regimen: str | Regimen | None = None,
    *,
    disease: str = "",
    until: float | None = None,
    detail: Literal["full", "averaged"] | None = None,
) -> Therapy:
    """Return a drug on a regimen, as a treatment of a disease model.

    Parameters
    ----------
    drug
        From ``find_drug`` or ``read_drug``.
    regimen
        A prescription; without it, the drug's usual one.
    disease
        The disease model; ``""`` for the drug's own.
    until
        Day of the last dose that is wanted at the latest; needed where the regimen has no end.
    detail
        ``"averaged"`` gives daily doses as one steady input into a slow equivalent of the drug's pharmacokinetics;
        without it, as the drug's file says.

    Raises
    ------
    ConfigError
        If the regimen cannot be read, has another unit than the drug, or has no end and ``until`` is not given.
    MismatchError
        If the drug has no effect on that disease; the message lists those that it has.
    """
    page = drug.page
    disease = _disease(drug, disease)
    averaged = (detail or page.detail) == "averaged" and not isinstance(page.pk, DoseRate)
    plan = _plan(drug, regimen, even=averaged or isinstance(page.pk, DoseRate))
    routes = plan.routes
    inputs, places = inputs_of(page, routes)
    pk, rule, risks = compartments(page, inputs, averaged=averaged), rule_of(page.stop), hazards(page.hazard)
    acts = tuple(effect_of(page, e, disease) for e in page.effect if (e.disease or page.disease) == disease)
    return Therapy(
        name=drug.name,
        targets=tuple(act.mechanism for act in acts),
        ways=tuple(act.way for act in acts),
        states=_prefixed(drug.name, pk, acts, rule),
        inputs=tuple(f"{drug.name}: {name}" for name in inputs),
        effects=_random_effects(drug.name, pk, acts),
        tolerances=_tolerances(pk, acts, rule, drug.regimen),
        declared=_covariates(pk, acts, risks, per_kg=plan.per_kg),
        doses=_doses(plan, until, dict(zip(routes, places, strict=True))),
        pk=pk,
        acts=acts,
        rule=rule,
        hazards=risks,
        per_kg=np.array(float(plan.per_kg)),
        dosing=_dosing(plan, pk, places),
    )


def _disease(drug: Drug, disease: str) -> str:
    """Return the disease model, the drug's own where none is named."""
    name = disease or drug.page.disease
    if name not in drug.diseases:
        raise MismatchError(
            f"{drug.name!r} has no effect on disease model {name!r}",
            exists=drug.diseases,
            do=f"choose one of these, or add an [[effect]] with disease = '{name}' to its file",
        )
    return name


def _plan(drug: Drug, regimen: str | Regimen | None, *, even: bool) -> Regimen:
    """Return the regimen in the drug's unit, daily doses evened out where that is wanted."""
    plan = regimen if isinstance(regimen, Regimen) else parse_regimen(regimen or drug.page.regimen)
    if plan.unit != drug.page.unit:
        raise ConfigError(f"a regimen in {plan.unit} for {drug.name}, whose unit is {drug.page.unit}", where=str(plan))
    return _evened(plan) if even else plan


def _evened(plan: Regimen) -> Regimen:
    """Turn doses that are given at least daily into steady inputs of the same amount per day."""
    phases = []
    for phase, start in zip(plan.phases, plan.starts(), strict=True):
        if phase.steady or not 0 < phase.interval <= DAILY:
            phases.append(phase)
            continue
        amount = phase.amount / phase.interval
        phases.append(Phase(amount, phase.per_kg, phase.unit, phase.length, 0.0, 1, start, phase.route, steady=True))
    return Regimen(tuple(phases))


def _dosing(plan: Regimen, pk: AbstractPharmacokinetics, places: tuple[int, ...]) -> Dosing:
    """Return the doses of the phase whose concentrations are the highest in a typical patient; of equals the last."""
    place = dict(zip(plan.routes, places, strict=True))
    rows = [_row(phase, place[phase.route]) for phase in plan.phases]
    last = rows[-1]
    # phases with doses as the last one's, but smaller or rarer, need no look
    rivals = {row for row in rows if row[2:] != last[2:] or row[0] > last[0] or row[1] < last[1]}
    best = last
    if rivals:
        rates = pk.linear(pk.individual(jnp.zeros(len(pk.quantities.effects)), {}))
        depots = tuple(name == "depot" for name in pk.inputs)
        peaks = {row: float(_peak(rates, _as_arrays(row), depot=depots[int(row[3])])) for row in {last, *rivals}}
        best = max(sorted(peaks), key=lambda row: (peaks[row], row == last))
    return _as_arrays(best)


def _row(phase: Phase, place: int) -> tuple[float, float, float, float]:
    if phase.steady:
        return (phase.amount, 0.0, 0.0, float(place))
    return (phase.amount, phase.interval if phase.count != 1 else math.inf, phase.duration, float(place))


def _as_arrays(row: tuple[float, float, float, float]) -> Dosing:
    return Dosing(*(jnp.asarray(np.array(value, dtype=np.float64)) for value in row))


def _peak(rates: Rates, dosing: Dosing, *, depot: bool) -> Scalar:
    """Return the highest concentration at steady state of doses in mg."""
    even = mean_concentration(rates, dosing.amount, depot=depot)
    span = jnp.where(dosing.interval > 0, dosing.interval, 1.0)
    return jnp.where(dosing.interval > 0, steady_peak(rates, dosing.amount, span, dosing.duration, depot=depot), even)


def _doses(plan: Regimen, until: float | None, places: Mapping[str, int]) -> Doses:
    schedule = plan.doses(until)
    if len(schedule.time) == 0:
        raise ConfigError("no dose is due before that day", where=f"{plan}, until day {until:g}", do="give more time")
    position = np.array([places[route] for route in schedule.route], dtype=np.int64)
    return Doses(
        time=jnp.asarray(schedule.time),
        amount=jnp.asarray(schedule.amount),
        duration=jnp.asarray(schedule.duration),
        input=jnp.asarray(position),
    )


def _prefixed(
    name: str, pk: AbstractPharmacokinetics, acts: tuple[Effect, ...], rule: ScanRule | None
) -> tuple[str, ...]:
    own = [*pk.states, *(state for act in acts for state in act.states), *(rule.states if rule else ())]
    return tuple(f"{name}: {state}" for state in own)


def _random_effects(name: str, pk: AbstractPharmacokinetics, acts: tuple[Effect, ...]) -> tuple[str, ...]:
    found = [f"{name}: {effect}" for effect in pk.quantities.effects]
    return (*found, *(f"{name}: {act.mechanism} {effect}" for act in acts for effect in act.effects))


def _tolerances(
    pk: AbstractPharmacokinetics,
    acts: tuple[Effect, ...],
    rule: ScanRule | None,
    usual: Regimen,
) -> tuple[float, ...]:
    """Return the error that a solver may make in each state: a thousandth of a dose, a target, a response.

    The dose is the largest of the drug's usual regimen, so that another regimen leaves the tolerances as they are.
    """
    typical = {item.name: float(item.value) for item in pk.quantities.items}
    most = max(phase.amount for phase in usual.phases) * (WEIGHT.centre if usual.per_kg else 1.0)
    dose = most * _SHARE_OF_DOSE
    bound = typical.get("R0", 0.0) * _SHARE_OF_DOSE
    of_state = {"site": bound, "target": bound, "complex": bound}
    found = [of_state.get(state, dose) for state in pk.states]
    for act in acts:
        half = next((float(item.value) for item in act.quantities.items if item.name == "half"), 0.0)
        delay = half * _SHARE_OF_DOSE or dose / typical["V1"]
        found += [delay if state.startswith("onset") else _SHARE_OF_DOSE for state in act.states]
    return (*found, *(_SHARE_OF_DOSE for _ in (rule.states if rule else ())))


def _covariates(
    pk: AbstractPharmacokinetics, acts: tuple[Effect, ...], risks: tuple[AbstractHazard, ...], *, per_kg: bool
) -> tuple[Declared, ...]:
    """Return each covariate once, by its first declaration."""
    declared: list[Declared] = [*pk.quantities.declared]
    declared += [found for act in acts for found in act.declared] + [found for risk in risks for found in risk.declared]
    declared += [WEIGHT] * per_kg
    found: dict[str, Declared] = {}
    for one in declared:
        found.setdefault(one.concept, one)
    return tuple(found.values())
