"""What every registered disease promises: a new one is found here by its name."""

from collections.abc import Mapping
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from trialtwin.core.errors import MismatchError
from trialtwin.diseases.base import AbstractDisease
from trialtwin.diseases.registry import DISEASES, find_disease

EFFECTS = 64


@cache
def disease(name: str) -> AbstractDisease:
    return find_disease(name)


@pytest.fixture(params=sorted(DISEASES))
def registered(request: pytest.FixtureRequest) -> AbstractDisease:
    """Return each registered disease in turn."""
    return disease(request.param)


def neutral(registered: AbstractDisease) -> Mapping[str, Array]:
    return {m.name: jnp.asarray(m.neutral) for m in registered.mechanisms}


@eqx.filter_jit
def flows(registered: AbstractDisease, effects: Array, modulation: Mapping[str, Array]) -> tuple[Array, ...]:
    """Return start, derivative and what is apparent of many patients at the prior means."""
    population = {p.name: jnp.asarray(p.mean) for p in registered.priors}
    centre = {d.concept: jnp.asarray(d.centre) for d in registered.declared}

    def one(u: Array) -> tuple[Array, ...]:
        person = registered.individual(population, u, centre)
        start = registered.initial(person)
        zero = jnp.zeros(())
        signals = registered.signals(zero, start, person, modulation)
        slopes = registered.flow(zero, start, person, modulation, signals)
        return jnp.stack(start), jnp.stack(slopes), jnp.stack(registered.apparent(start, person, signals))

    return jax.vmap(one)(effects)


def test_a_disease_is_found_by_the_name_that_it_has(registered: AbstractDisease) -> None:
    assert type(find_disease(registered.name)) is type(registered)


def test_an_unknown_disease_is_refused_with_those_that_exist() -> None:
    with pytest.raises(MismatchError, match="exists: " + ", ".join(DISEASES)):
        find_disease("gout")


def test_names_are_unique(registered: AbstractDisease) -> None:
    scale_priors = [p for s in registered.scales for p in registered.scale_priors(s)]
    for names in (
        registered.states,
        registered.effects,
        [d.concept for d in registered.declared],
        [m.name for m in registered.mechanisms],
        [c.name for c in registered.constants],
        [p.name for p in (*registered.priors, *scale_priors)],
    ):
        assert len(set(names)) == len(names), names


def test_everything_taken_as_given_has_a_source_and_a_confidence(registered: AbstractDisease) -> None:
    given = [*registered.constants, *registered.priors]
    given += [p for s in registered.scales for p in registered.scale_priors(s)]
    assert given
    for item in given:
        line = item.assumption()
        assert line.source.strip(), item.name
        assert line.confidence in {"high", "medium", "low"}, item.name
        assert line.provisional is item.provisional


def test_constants_are_numbers_and_priors_have_a_spread(registered: AbstractDisease) -> None:
    for constant in registered.constants:
        assert np.isfinite(constant.value), constant.name
        assert constant.se is None or constant.se > 0, constant.name
    for prior in (*registered.priors, *(p for s in registered.scales for p in registered.scale_priors(s))):
        assert np.isfinite(prior.mean), prior.name
        assert 0 < prior.sd < np.inf, prior.name


def test_patients_at_five_standard_deviations_have_a_start_and_a_flow(registered: AbstractDisease) -> None:
    corners = 5.0 * np.random.default_rng(1).choice([-1.0, 1.0], (EFFECTS, len(registered.effects)))
    start, flow, apparent = flows(registered, jnp.asarray(corners), neutral(registered))
    assert start.shape == flow.shape == (EFFECTS, len(registered.states))
    assert np.isfinite(start).all()
    assert np.isfinite(flow).all()
    assert np.isfinite(apparent).all()
    for values, (low, high), name in zip(np.asarray(start).T, registered.ranges, registered.states, strict=True):
        assert low <= values.min() <= values.max() <= high, name


def test_every_mechanism_moves_something(registered: AbstractDisease) -> None:
    typical = jnp.zeros((EFFECTS, len(registered.effects)))
    base = neutral(registered)
    _, *untreated = flows(registered, typical, base)
    for mechanism in registered.mechanisms:
        changed = dict(base) | {mechanism.name: base[mechanism.name] + 0.5}
        _, *treated = flows(registered, typical, changed)
        assert mechanism.neutral in (0.0, 1.0), mechanism.name
        assert max(np.abs(a - b).max() for a, b in zip(treated, untreated, strict=True)) > 0, mechanism.name
        assert mechanism.meaning


def test_signals_are_those_of_the_routes(registered: AbstractDisease) -> None:
    """One entry a route, and a state of as many parts as are named, each with a tolerance and a range."""
    population = {p.name: jnp.asarray(p.mean) for p in registered.priors}
    centre = {d.concept: jnp.asarray(d.centre) for d in registered.declared}
    person = registered.individual(population, jnp.zeros(len(registered.effects)), centre)
    start, zero = registered.initial(person), jnp.zeros(())
    signals = registered.signals(zero, start, person, neutral(registered))
    assert [*signals] == [route.name for route in registered.routes]
    assert len(start) == len(registered.states) == len(registered.tolerances) == len(registered.ranges)
    assert all(tolerance > 0 for tolerance in registered.tolerances)
    assert all(low < high for low, high in registered.ranges)


def test_scores_stay_in_their_range(registered: AbstractDisease) -> None:
    rng = np.random.default_rng(2)
    *_, seen = flows(registered, jnp.asarray(rng.normal(size=(EFFECTS, len(registered.effects)))), neutral(registered))
    for concept, scale in registered.scales.items():
        expected = jax.vmap(lambda y, s=scale: s.expected(tuple(y), jnp.zeros(())))(seen)
        assert scale.lower < scale.upper
        assert float(expected.min()) >= scale.lower, concept
        assert float(expected.max()) <= scale.upper, concept
        spread = jax.vmap(scale.spread)(expected)
        assert float(spread.min()) > 0, concept


def test_every_scale_has_three_priors(registered: AbstractDisease) -> None:
    for concept in registered.scales:
        assert len(registered.scale_priors(concept)) == 3
