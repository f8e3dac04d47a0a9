"""Effects: each form against its formula, delays and turnovers against their closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dosed_course import follow, scalars
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.errors import ConfigError
from trialtwin.drugs.drug import parse_drug
from trialtwin.drugs.effect import points_to_latent
from trialtwin.drugs.therapy import Therapy, prescribe

FACT = 'source = "test", confidence = "low"'
HEAD = f"""
name = "test"
label = "Test"
kind = "test"
route = "IV"
regimen = "10 mg q1d x 1"
[sources]
test = "made up"
[pk]
model = "one-compartment"
CL = {{ value = 1.0, unit = "L/d", {FACT} }}
V = {{ value = 2.0, unit = "L", {FACT} }}
[[effect]]
"""


def number(key: str, value: float, unit: str = "", more: str = "") -> str:
    return f'{key} = {{ value = {value}, unit = "{unit}", {FACT}{more} }}\n'


def therapy(effect: str, mechanism: str = "amyloid_clearance", direction: str = "raises") -> Therapy:
    head = HEAD + f'mechanism = "{mechanism}"\ndirection = "{direction}"\n'
    return prescribe(parse_drug(head + effect))


def value_at(treatment: Therapy, concentration: float) -> float:
    """Return the value of its mechanism with this much in the blood, its delays having caught up."""
    own = treatment.individual(jnp.zeros(len(treatment.effects)), {})
    state = (jnp.asarray(concentration * 2.0), *(jnp.asarray(concentration) for _ in treatment.states[1:]))
    return float(treatment.modulation(jnp.zeros(()), state, own)[treatment.targets[0]])


EMAX = 'model = "emax"\n' + number("emax", 3.0, "1/yr") + number("ec50", 20, "µg/mL")
FORMS = {
    "linear": ('model = "linear"\n' + number("slope", 0.5, "1/yr"), lambda c: 0.5 * c),
    "power": ('model = "power"\n' + number("slope", 0.5) + number("h", 1.5), lambda c: 0.5 * c**1.5),
    "emax": (EMAX, lambda c: 3 * c / (20 + c)),
    "sigmoid": (
        'model = "sigmoid"\n' + number("emax", 3.0) + number("ec50", 2e4, "ng/mL") + number("h", 2.5),
        lambda c: 3 * c**2.5 / (20**2.5 + c**2.5),
    ),
    "threshold": (
        'model = "threshold"\n' + number("emax", 3.0) + number("ec50", 15, "mg/L") + number("width", 0.05),
        lambda c: 3 / (1 + (15 / max(c, 1e-12)) ** 20) if c else 0.0,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_reference_sizes(form: str) -> None:
    text, formula = FORMS[form]
    treatment = therapy(text)
    for c in (0.0, 0.1, 14.0, 16.0, 300.0):
        assert value_at(treatment, c) == pytest.approx(formula(c), rel=1e-9, abs=1e-9)


def test_directions_and_ways() -> None:
    share = 'model = "emax"\n' + number("emax", 0.6) + number("ec50", 20, "µg/mL")
    assert value_at(therapy(share, "tau_spread", "lowers"), 20) == pytest.approx(0.7)
    assert value_at(therapy(share, "tau_spread", "raises"), 20) == pytest.approx(1.3)
    assert value_at(therapy(share, "symptoms", "lowers"), 20) == pytest.approx(-0.3)
    assert value_at(therapy(share, "synaptic_harm", "raises"), 20) == pytest.approx(0.3)


def test_a_multiplier_never_falls_below_zero() -> None:
    assert value_at(therapy('model = "linear"\n' + number("slope", 0.5), "tau_spread", "lowers"), 100) == 0.0


@pytest.mark.parametrize("form", FORMS)
@given(c=st.floats(-1e-3, 1e6))
@settings(max_examples=30, deadline=None)
def test_law_values_are_finite_and_not_negative(form: str, c: float) -> None:
    """A solver may undershoot below zero a little; no value becomes negative or NaN."""
    treatment = CACHED.setdefault(form, therapy(FORMS[form][0]))
    found = value_at(treatment, c)
    assert math.isfinite(found)
    assert found >= 0


CACHED: dict[str, Therapy] = {}


def test_reference_onset_has_its_half_life() -> None:
    """A steady input whose concentration rises as 5 (1 − e^(−t/2)) into a delay of rate k, solved by hand."""
    treatment = prescribe(
        parse_drug(
            HEAD
            + 'mechanism = "symptoms"\ndirection = "lowers"\nmodel = "linear"\n'
            + number("slope", 1.0)
            + number("onset", 3.0, "wk")
        ),
        "5 mg/day for 300 days",
    )
    times = np.array([1.0, 7.0, 21.0, 100.0])
    _, states = follow(treatment, times)
    k, a = math.log(2) / 21, 0.5
    expected = 5 * (1 - np.exp(-k * times)) - 5 * k / (k - a) * (np.exp(-a * times) - np.exp(-k * times))
    own = treatment.individual(jnp.zeros(0), {})
    found = [
        float(treatment.modulation(jnp.asarray(t), scalars(s), own)["symptoms"])
        for t, s in zip(times, states, strict=True)
    ]
    np.testing.assert_allclose(found, -expected, rtol=1e-6)


TURNOVERS = {
    "stimulate production": lambda e: 1 + e,
    "inhibit production": lambda e: 1 - min(e, 1),
    "stimulate loss": lambda e: 1 / (1 + e),
    "inhibit loss": lambda e: 1 / (1 - e),
}


@pytest.mark.parametrize("kind", TURNOVERS)
def test_reference_indirect_response_settles(kind: str) -> None:
    """At constant size E the response of baseline 1 settles at 1 + E, 1 − E, 1/(1 + E), 1/(1 − E)."""
    text = f'model = "emax"\nindirect = "{kind}"\n' + number("emax", 0.8) + number("ec50", 5, "µg/mL")
    head = HEAD + 'mechanism = "tau_spread"\ndirection = "raises"\n'
    treatment = prescribe(parse_drug(head + text + number("kout", 0.5, "1/d")), "5 mg/day for 300 days")
    _, states = follow(treatment, np.array([200.0]))
    assert states[0, -1] == pytest.approx(TURNOVERS[kind](0.4), rel=1e-5)


def test_independent_points_become_a_shift_of_the_scale() -> None:
    """The shift, applied to the scale, is worth the points; small ones follow its slope."""

    def scale(z: float) -> float:
        return 70 / (1 + math.exp(-(-0.151 + 0.730 * z)))

    at, step = math.log(7 / 11), 1e-5
    slope = (scale(at + step) - scale(at - step)) / (2 * step)
    assert points_to_latent(1e-3, 70, -0.151, 0.730, at) == pytest.approx(1e-3 / slope, rel=1e-4)
    assert scale(at) - scale(at - points_to_latent(2.67, 70, -0.151, 0.730, at)) == pytest.approx(2.67, rel=1e-12)
    with pytest.raises(ConfigError, match="more than a scale"):
        points_to_latent(30, 70, -0.151, 0.730, at)


def test_symptomatic_effect_has_its_points_at_the_reference() -> None:
    text = 'model = "symptomatic"\n' + number("points", 2.67, "points") + number("reference", 4, "µg/mL")
    text += number("half", 0.67) + "[effect.scale]\n" + 'name = "ADAS-Cog11"\n' + number("upper", 70)
    text += number("intercept", -0.151) + number("slope", 0.730) + number("at", -0.452)
    treatment = therapy(text, "symptoms", "lowers")
    assert value_at(treatment, 4) == pytest.approx(-points_to_latent(2.67, 70, -0.151, 0.730, -0.452))
    assert value_at(treatment, 2) / value_at(treatment, 4) == pytest.approx(0.5 * 1.67 / 1.17)


def test_an_average_is_the_mean_over_patients() -> None:
    """Of 20,000 patients with ω .75 the mean size is the number in the file, within 3 Monte-Carlo errors."""
    treatment = therapy('model = "linear"\n' + number("slope", 2.0, more=", omega = 0.75, average = true"))
    draws = np.random.default_rng(1).standard_normal(20000)
    sizes = np.asarray(jax.vmap(lambda d: treatment.acts[0].quantities.items[0].individual(d, {}))(jnp.asarray(draws)))
    error = 2.0 * math.sqrt(math.expm1(0.75**2) / 20000)
    assert sizes.mean() == pytest.approx(2.0, abs=3 * error)
    assert np.median(sizes) == pytest.approx(2.0 * math.exp(-(0.75**2) / 2), rel=0.03)


def test_correlations_that_cannot_hold_are_refused() -> None:
    text = 'model = "sigmoid"\n' + "".join(
        number(key, 1.0, unit, ", omega = 0.3") for key, unit in (("emax", ""), ("ec50", "mg/L"), ("h", ""))
    )
    pairs = ", ".join(
        f'{{ of = ["{a}", "{b}"], value = {v}, {FACT} }}'
        for a, b, v in (("emax", "ec50", 0.9), ("ec50", "h", 0.9), ("emax", "h", -0.9))
    )
    with pytest.raises(ConfigError, match="not positive definite"):
        therapy(text + f"correlation = [{pairs}]\n")
