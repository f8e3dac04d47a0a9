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
def flows(registered: AbstractDisease, effects: Array, modulation: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return start and derivative of many patients at the prior means."""
    population = {p.name: jnp.asarray(p.mean) for p in registered.priors}
    centre = jnp.array([d.centre for d in registered.declared])

    def one(u: Array) -> tuple[Array, Array]:
        person = registered.individual(population, u, centre)
        start = registered.initial(person)
        return start, registered.flow(jnp.zeros(()), start, person, modulation)

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
    start, flow = flows(registered, jnp.asarray(corners), neutral(registered))
    assert start.shape == flow.shape == (EFFECTS, len(registered.states))
    assert np.isfinite(start).all()
    assert np.isfinite(flow).all()


def test_every_mechanism_moves_something(registered: AbstractDisease) -> None:
    typical = jnp.zeros((EFFECTS, len(registered.effects)))
    base = neutral(registered)
    _, untreated = flows(registered, typical, base)
    for mechanism in registered.mechanisms:
        changed = dict(base) | {mechanism.name: base[mechanism.name] + 0.5}
        _, treated = flows(registered, typical, changed)
        assert np.abs(treated - untreated).max() > 0, mechanism.name
        assert mechanism.meaning


def test_scores_stay_in_their_range(registered: AbstractDisease) -> None:
    rng = np.random.default_rng(2)
    start, _ = flows(registered, jnp.asarray(rng.normal(size=(EFFECTS, len(registered.effects)))), neutral(registered))
    for concept, scale in registered.scales.items():
        expected = jax.vmap(lambda y, s=scale: s.expected(y, jnp.zeros(())))(start)
        assert scale.lower < scale.upper
        assert float(expected.min()) >= scale.lower, concept
        assert float(expected.max()) <= scale.upper, concept
        spread = jax.vmap(scale.spread)(expected)
        assert float(spread.min()) > 0, concept


def test_every_scale_has_three_priors(registered: AbstractDisease) -> None:
    for concept in registered.scales:
        assert len(registered.scale_priors(concept)) == 3
