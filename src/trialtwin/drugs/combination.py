"""Several therapies at once, as one treatment.

Where two act on the same mechanism their values multiply, or add, as the disease does with each. Each therapy keeps
its own states, doses and random effects, and its own end: a rule that ends one does not end the others.
"""

from collections.abc import Mapping
from typing import Any, Literal, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.errors import MismatchError
from trialtwin.core.treatment import AbstractTreatment, Doses, no_doses
from trialtwin.core.variables import Declared
from trialtwin.drugs.pk import State
from trialtwin.drugs.quantity import Scalar
from trialtwin.drugs.safety import AbstractHazard
from trialtwin.drugs.therapy import Therapy


@final
class Combination(AbstractTreatment):
    """Therapies given together; made by ``combine``.

    Its states are those of the parts, and for each part one that is 1 once its own rule has ended it.
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
    parts: tuple[AbstractTreatment, ...]

    def individual(self, effects: Float[Array, " effect"], covariates: Mapping[str, Scalar]) -> Any:
        """Return a patient's own parameters, one entry a part."""
        found, at = [], 0
        for part in self.parts:
            found.append(part.individual(effects[at : at + len(part.effects)], covariates))
            at += len(part.effects)
        return tuple(found)

    def initial(self, individual: Any) -> State:
        """Return the states before the first dose; nothing has ended."""
        states: State = ()
        for part, own in zip(self.parts, individual, strict=True):
            states += part.initial(own)
        return states + tuple(jnp.zeros(()) for _ in self.parts)

    def receive(self, state: State, amounts: tuple[Scalar, ...], individual: Any) -> State:
        """Return the states just after boluses; a part that has ended receives none."""
        found: State = ()
        for part, own, states, given, ended in self._split(state, amounts, individual):
            found += part.receive(states, tuple(amount * (1 - ended) for amount in given), own)
        return found + state[-len(self.parts) :]

    def flow(self, t: Scalar, state: State, rates: tuple[Scalar, ...], individual: Any) -> State:
        """Return the time derivative, per day."""
        found: State = ()
        for part, own, states, given, ended in self._split(state, rates, individual):
            found += part.flow(t, states, tuple(rate * (1 - ended) for rate in given), own)
        return found + tuple(jnp.zeros(()) for _ in self.parts)

    def modulation(self, t: Scalar, state: State, individual: Any) -> dict[str, Scalar]:
        """Return the value of each target mechanism."""
        none = tuple(jnp.zeros(()) for _ in self.inputs)
        way = dict(zip(self.targets, self.ways, strict=True))
        values: dict[str, Scalar] = {}
        for part, own, states, _, _ in self._split(state, none, individual):
            for name, value in part.modulation(t, states, own).items():
                if name not in values:
                    values[name] = value
                else:
                    values[name] = values[name] * value if way[name] == "multiply" else values[name] + value
        return values

    def decide(
        self, t: Scalar, disease_state: Mapping[str, Scalar], state: State, individual: Any
    ) -> tuple[State, Bool[Array, ""]]:
        """Ask each part, remember which have ended, and tell whether all have."""
        none = tuple(jnp.zeros(()) for _ in self.inputs)
        found: State = ()
        ended: State = ()
        for part, own, states, _, before in self._split(state, none, individual):
            after, now = part.decide(t, disease_state, states, own)
            found += after
            ended += (jnp.maximum(before, jnp.asarray(now) * 1.0),)
        return found + ended, jnp.min(jnp.stack(ended)) > 0

    def _split(
        self, state: State, given: tuple[Scalar, ...], individual: Any
    ) -> list[tuple[AbstractTreatment, Any, State, tuple[Scalar, ...], Scalar]]:
        """Return each part with its own parameters, states, doses, and whether it has ended."""
        rows, s, d = [], 0, 0
        flags = state[-len(self.parts) :]
        for part, own, ended in zip(self.parts, individual, flags, strict=True):
            rows.append((part, own, state[s : s + len(part.states)], given[d : d + len(part.inputs)], ended))
            s += len(part.states)
            d += len(part.inputs)
        return rows


def combine(*treatments: AbstractTreatment) -> AbstractTreatment:
    """Return several treatments given together, as one.

    Raises
    ------
    MismatchError
        If there is none, if one is named twice, or if they disagree on how a mechanism takes a value.

    Examples
    --------
    >>> from trialtwin.drugs.registry import find_drug
    >>> from trialtwin.drugs.therapy import prescribe
    >>> both = combine(*(prescribe(find_drug(name), until=546.0) for name in ("lecanemab", "donepezil")))
    >>> both.name, both.targets
    ('lecanemab + donepezil', ('amyloid_clearance', 'symptoms'))
    """
    if not treatments:
        raise MismatchError("no treatment to combine", do="name at least one")
    if len(treatments) == 1:
        return treatments[0]
    names = [treatment.name for treatment in treatments]
    if len(set(names)) < len(names):
        raise MismatchError(
            f"a combination that names a drug twice: {', '.join(names)}",
            do="write its doses as one regimen, with phases joined by 'then'",
        )
    ways: dict[str, Literal["multiply", "add"]] = {}
    for treatment in treatments:
        for target, way in zip(treatment.targets, treatment.ways, strict=True):
            if ways.setdefault(target, way) != way:
                raise MismatchError(f"{treatment.name!r} and another disagree on how {target!r} takes a value")
    return Combination(
        name=" + ".join(names),
        targets=tuple(ways),
        ways=tuple(ways.values()),
        states=_joined(treatments, "states") + tuple(f"{name}: ended" for name in names),
        inputs=_joined(treatments, "inputs"),
        effects=_joined(treatments, "effects"),
        tolerances=tuple(t for treatment in treatments for t in treatment.tolerances) + (1e-3,) * len(names),
        declared=_declared(treatments),
        doses=_merged(treatments),
        # their doses are merged above: kept here as well, other doses would compile anew
        parts=tuple(eqx.tree_at(lambda t: t.doses, treatment, no_doses()) for treatment in treatments),
    )


def risks(treatment: AbstractTreatment, individual: Any) -> tuple[tuple[AbstractHazard, Scalar], ...]:
    """Return the adverse events of a treatment, each with the exposure of its own drug in a patient.

    Empty for no treatment; those of all parts for a combination, which does not know whether two drugs together carry
    more risk than each.

    Examples
    --------
    >>> from trialtwin.drugs.registry import find_drug
    >>> from trialtwin.drugs.therapy import prescribe
    >>> therapy = prescribe(find_drug("lecanemab"), "10 mg/kg over 1h q2w x 39")
    >>> found = risks(therapy, therapy.individual(jnp.zeros(len(therapy.effects)), {}))
    >>> [(hazard.event, round(float(exposure))) for hazard, exposure in found]
    [('ARIA-E', 316), ('ARIA-H', 316)]
    """
    if isinstance(treatment, Combination):
        pairs = zip(treatment.parts, individual, strict=True)
        return tuple(risk for part, own in pairs for risk in risks(part, own))
    if isinstance(treatment, Therapy):
        exposure = treatment.exposure(individual)
        return tuple((hazard, exposure) for hazard in treatment.hazards)
    return ()


def _joined(treatments: tuple[AbstractTreatment, ...], what: str) -> tuple[str, ...]:
    return tuple(name for treatment in treatments for name in getattr(treatment, what))


def _declared(treatments: tuple[AbstractTreatment, ...]) -> tuple[Declared, ...]:
    """Return each covariate once, by its first declaration; two levels of one covariate cannot both enter as 1."""
    found: dict[str, Declared] = {}
    for treatment in treatments:
        for one in treatment.declared:
            known = found.setdefault(one.concept, one)
            if known.level != one.level:
                raise MismatchError(
                    f"{treatment.name!r} reads {one.concept!r} as {one.level!r}, and another as {known.level!r}",
                    do="drop one of the two covariates from a copy of the drug's file",
                )
    return tuple(found.values())


def _merged(treatments: tuple[AbstractTreatment, ...]) -> Doses:
    """Return all doses in order of time, with inputs counted through the parts."""
    offsets = np.cumsum([0, *(len(treatment.inputs) for treatment in treatments)])
    columns = [
        np.concatenate([np.asarray(getattr(treatment.doses, name)) for treatment in treatments])
        for name in ("time", "amount", "duration")
    ]
    inputs = [np.asarray(t.doses.input) + offset for t, offset in zip(treatments, offsets[:-1], strict=True)]
    order = np.argsort(columns[0], kind="stable")
    time, amount, duration = (jnp.asarray(column[order]) for column in columns)
    return Doses(time, amount, duration, jnp.asarray(np.concatenate(inputs)[order]))
