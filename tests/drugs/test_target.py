"""Target-mediated disposition: balance of mass, limits, and the quasi-steady state against full binding."""

import jax.numpy as jnp
import numpy as np
import pytest
from bound_drugs import BOUND, QUASI, SITE
from dosed_course import follow, scalars

from trialtwin.drugs.drug import parse_drug
from trialtwin.drugs.registry import find_drug
from trialtwin.drugs.therapy import Therapy, prescribe

TIMES = np.array([0.5, 2.0, 7.0, 20.0, 27.9, 60.0])


def drivers(therapy: Therapy, times: np.ndarray) -> dict[str, np.ndarray]:
    _, states = follow(therapy, times, rtol=1e-8)
    own = therapy.individual(jnp.zeros(len(therapy.effects)), {})
    rows = [therapy.pk.drivers(scalars(s[: len(therapy.pk.states)]), own.pk) for s in states]
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_without_drug_the_target_rests() -> None:
    for text in (BOUND, QUASI, SITE):
        therapy = prescribe(parse_drug(text))
        own = therapy.individual(jnp.zeros(len(therapy.effects)), {})
        state = therapy.initial(own)
        flows = therapy.flow(jnp.zeros(()), state, (jnp.zeros(()),), own)
        assert [float(f) for f in flows] == pytest.approx([0.0] * len(flows), abs=1e-12)
        assert float(therapy.pk.drivers(state, own.pk)["suppression"]) == 0.0


def test_independent_quasi_steady_state_follows_full_binding() -> None:
    """Binding at kon 10 /(nM d) is fast beside the rest: both descriptions agree within 2 %."""
    full, quasi = (drivers(prescribe(parse_drug(text)), TIMES) for text in (BOUND, QUASI))
    np.testing.assert_allclose(quasi["concentration"], full["concentration"], rtol=0.02, atol=1e-6)
    np.testing.assert_allclose(quasi["occupancy"], full["occupancy"], atol=0.02)
    np.testing.assert_allclose(quasi["suppression"], full["suppression"], atol=0.02)


def test_law_what_is_bound_is_not_lost() -> None:
    """With no internalisation and no turnover, drug in the blood leaves by clearance alone, and R + RC is constant."""
    text = BOUND.replace("kint = { value = 0.5", "kint = { value = 1e-9").replace(
        "kdeg = { value = 0.2", "kdeg = { value = 1e-9"
    )
    therapy = prescribe(parse_drug(text))
    _, states = follow(therapy, TIMES, rtol=1e-10)
    at = dict(zip(therapy.pk.states, states.T, strict=True))
    np.testing.assert_allclose(at["target"] + at["complex"], at["target"][0] + at["complex"][0], rtol=1e-6)
    # free and bound drug together: d/dt (A1 + A2 + V RC) = −CL C
    own = therapy.individual(jnp.zeros(len(therapy.effects)), {})
    state = tuple(jnp.asarray(x) for x in states[2])
    flow = dict(zip(therapy.pk.states, therapy.flow(jnp.zeros(()), state, (jnp.zeros(()),), own), strict=True))
    volume = float(own.pk.rates.volume)
    total = float(flow["central"] + flow["peripheral"] + volume * flow["complex"])
    assert total == pytest.approx(-float(own.pk.rates.out) * float(at["central"][2]), rel=1e-6)


def test_law_much_drug_saturates_the_target() -> None:
    """At many times R0 and Kss the target is covered, and free drug falls as if there were no target."""
    therapy = prescribe(parse_drug(BOUND), "100000 mg")
    text = BOUND.split("[target]")[0] + BOUND[BOUND.index("[[effect]]") :]
    bare = prescribe(parse_drug(text.replace('"occupancy"', '"concentration"')), "100000 mg")
    seen, alone = drivers(therapy, TIMES), drivers(bare, TIMES)
    assert np.all(seen["occupancy"] > 0.99)
    np.testing.assert_allclose(seen["concentration"], alone["concentration"], rtol=0.01)


def test_reference_posdinemab_reaches_the_fluid_as_its_flows_say() -> None:
    """At steady state free drug in the fluid is Q_CSF/(flow out) of that in the blood, where little is bound."""
    therapy = prescribe(find_drug("posdinemab"), "3000 mg/day for 2000 days")
    seen = drivers(therapy, np.array([1900.0]))
    assert seen["site"][0] / seen["concentration"][0] == pytest.approx(4.02e-6 / 1.83e-3, rel=0.01)
    assert 0.5 < seen["suppression"][0] < 1


def test_concentrations_are_never_negative_nor_nan() -> None:
    for text in (BOUND, QUASI, SITE):
        therapy = prescribe(parse_drug(text), "0.01 mg q4w x 3")
        for name, values in drivers(therapy, np.linspace(0.0, 90.0, 31)).items():
            assert np.all(np.isfinite(values)), name
            assert np.all(values >= 0), name
