"""Pharmacokinetics against closed forms, matrix exponentials and published summaries."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dosed_course import follow, scalars
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from trialtwin.drugs.drug import parse_drug
from trialtwin.drugs.pk import Rates, disposition, half_life, mean_concentration, steady_peak
from trialtwin.drugs.registry import find_drug
from trialtwin.drugs.therapy import Person, Therapy, prescribe

FACT = 'source = "test", confidence = "low"'
PAGE = f"""
name = "test"
label = "Test"
kind = "test"
route = "IV"
regimen = "100 mg q1d x 1"
[sources]
test = "made up"
[pk]
model = "two-compartment"
CL = {{ value = 2.0, unit = "L/d", {FACT} }}
V1 = {{ value = 5.0, unit = "L", {FACT} }}
Q = {{ value = 3.0, unit = "L/d", {FACT} }}
V2 = {{ value = 8.0, unit = "L", {FACT} }}
ka = {{ value = 1.5, unit = "1/d", {FACT} }}
F = {{ value = 0.6, {FACT} }}
[[effect]]
mechanism = "amyloid_clearance"
direction = "raises"
model = "linear"
slope = {{ value = 1.0, {FACT} }}
"""
ONE = PAGE.replace("two-compartment", "one-compartment").replace("V1 =", "V =")
ONE = "\n".join(line for line in ONE.splitlines() if not line.startswith(("Q =", "V2 =")))
TIMES = np.array([0.0, 0.01, 0.3, 1.0, 2.5, 7.0, 20.0])
# of PAGE, as a matrix of depot, central and peripheral amounts
MATRIX = np.array([[-1.5, 0, 0], [0.6 * 1.5, -(2 + 3) / 5, 3 / 8], [0, 3 / 5, -3 / 8]])


def person(therapy: Therapy, **covariates: float) -> Person:
    """Return the median patient."""
    given_ = {name: jnp.asarray(value) for name, value in covariates.items()}
    return therapy.individual(jnp.zeros(len(therapy.effects)), given_)


def concentrations(text: str, regimen: str, times: np.ndarray) -> np.ndarray:
    therapy = prescribe(parse_drug(text), regimen)
    _, states = follow(therapy, times)
    return np.array([float(therapy.concentration(scalars(s), person(therapy))) for s in states])


def test_reference_bolus_in_one_compartment() -> None:
    """C = D/V e^(−kt); at day 0 a sample is taken before the dose."""
    found = concentrations(ONE, "100 mg", TIMES)
    np.testing.assert_allclose(found[1:], 20 * np.exp(-0.4 * TIMES[1:]), rtol=1e-6)
    assert found[0] == 0


def test_reference_infusion_in_one_compartment() -> None:
    """C = R/CL (1 − e^(−kt)) during the infusion of a day, and falls after it."""
    found = concentrations(ONE, "100 mg over 24h", TIMES)
    during = 50 * -np.expm1(-0.4 * np.minimum(TIMES, 1.0))
    np.testing.assert_allclose(found, during * np.exp(-0.4 * np.maximum(TIMES - 1, 0)), rtol=1e-6)


def test_reference_absorption_bateman() -> None:
    """C = F D ka/(V (ka − k)) (e^(−kt) − e^(−ka t))."""
    found = concentrations(ONE, "100 mg SC", TIMES)
    k, ka = 0.4, 1.5
    expected = 0.6 * 100 * ka / (5 * (ka - k)) * (np.exp(-k * TIMES) - np.exp(-ka * TIMES))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("route", ["IV", "SC"])
def test_independent_two_compartments_by_matrix_exponential(route: str) -> None:
    found = concentrations(PAGE, f"100 mg {route} q3d x 3", TIMES)
    start = np.array([100.0, 0, 0]) if route == "SC" else np.array([0, 100.0, 0])
    expected = [
        sum(expm(MATRIX * (t - d)) @ start for d in (0.0, 3.0, 6.0) if t > d)[1] / 5 if t > 0 else 0.0 for t in TIMES
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


RATES = Rates(*(jnp.asarray(x) for x in (5.0, 0.4, 0.6, 3 / 8, 1.5, 0.6)))


@pytest.mark.parametrize("depot", [False, True])
def test_independent_disposition_by_matrix_exponential(depot: bool) -> None:
    lambdas, weights = disposition(RATES, depot=depot)
    start = np.array([1.0, 0, 0]) if depot else np.array([0, 1.0, 0])
    for t in TIMES:
        expected = (expm(MATRIX * t) @ start)[1] / 5
        assert float((weights * jnp.exp(-lambdas * t)).sum()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("regimen", ["100 mg q2d", "100 mg over 5h q2d", "100 mg SC q2d", "100 mg SC q12h"])
def test_independent_exposure_is_the_peak_of_the_course(regimen: str) -> None:
    """The closed form of the peak at steady state against 120 days integrated by scipy and read every 15 minutes."""
    therapy = prescribe(parse_drug(PAGE), regimen, until=122.0)
    times = np.union1d(np.linspace(120.0, 122.0, 201), 120 + 5 / 24)
    _, states = follow(therapy, times[1:], rtol=1e-8)
    peak = max(float(therapy.concentration(scalars(s), person(therapy))) for s in states)
    # a bolus is first seen 15 minutes later, when 1 % has been distributed
    assert float(therapy.exposure(person(therapy))) == pytest.approx(
        peak, rel=0.015 if regimen == "100 mg q2d" else 2e-4
    )


def test_a_single_dose_has_its_own_peak() -> None:
    therapy = prescribe(parse_drug(ONE), "100 mg")
    assert float(therapy.exposure(person(therapy))) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("regimen", "highest"),
    [
        ("100 mg over 5h q2d x 9 then 100 mg over 5h q4d", "100 mg over 5h q2d"),  # kept up more rarely
        ("50 mg over 5h q2d x 9 then 100 mg over 5h q2d", "100 mg over 5h q2d"),  # titrated
        ("100 mg IV over 5h q2d x 9 then 100 mg SC q2d", "100 mg over 5h q2d"),
        ("100 mg SC q2d x 9 then 100 mg IV over 5h q2d x 9 then 50 mg SC q2d", "100 mg over 5h q2d"),
        ("100 mg SC q2d x 9 then 10 mg IV over 5h q2d", "100 mg SC q2d"),
        ("300 mg over 5h then 10 mg over 5h q2d at day 2", "300 mg over 5h"),
    ],
)
def test_the_highest_phase_of_a_regimen_counts(regimen: str, highest: str) -> None:
    """Whatever its place in the regimen and its route."""
    found, alone = prescribe(parse_drug(PAGE), regimen, until=90.0), prescribe(parse_drug(PAGE), highest, until=90.0)
    assert float(found.exposure(person(found))) == pytest.approx(float(alone.exposure(person(alone))), rel=1e-12)


positive = st.floats(1e-3, 1e2)


@given(positive, positive, positive, positive, positive, st.floats(0.05, 1.0), st.floats(0.01, 60), st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_law_exposures_lie_between_trough_and_dose(
    v: float, out: float, there: float, back: float, ka: float, share: float, interval: float, duration: float
) -> None:
    """The peak is no lower than the average, and no higher than all doses since ever at once; never NaN."""
    rates = Rates(*(jnp.asarray(x) for x in (v, out, there, back, ka, share)))
    for depot in (False, True):
        span = 0.0 if depot else min(duration, interval)
        peak = float(steady_peak(rates, 1.0, interval, span, depot=depot))
        mean = float(mean_concentration(rates, 1.0 / interval, depot=depot))
        assert math.isfinite(peak)
        assert peak >= mean * (1 - 1e-3)
        slowest = float(jnp.min(disposition(rates, depot=depot)[0]))
        assert peak <= (1 / -math.expm1(-slowest * interval)) / v * (1 + 1e-6)


def test_reference_lecanemab_exposure() -> None:
    """Published means at 10 mg/kg every two weeks: Cmax at steady state 305 µg/mL, average 135 µg/mL (men's 139)."""
    therapy = prescribe(find_drug("lecanemab"), "10 mg/kg over 1h q2w x 39")
    everyone, men = person(therapy), person(therapy, sex=0.0)
    assert float(therapy.exposure(everyone)) == pytest.approx(305, rel=0.05)
    rates = therapy.pk.linear(men.pk)
    assert float(mean_concentration(rates, 720 / 14, depot=False)) == pytest.approx(135, rel=0.05)
    assert float(half_life(rates)) == pytest.approx(14.5, rel=0.01)


@pytest.mark.parametrize(
    ("name", "days", "within"),
    [("donanemab", 12.1, 0.06), ("donepezil", 70 / 24, 0.10), ("aducanumab", 25.0, 0.06), ("gantenerumab", 22.0, 0.10)],
)
def test_reference_half_lives(name: str, days: float, within: float) -> None:
    """Terminal half-lives as published; clearances and volumes come from other sources, and agree this closely."""
    therapy = prescribe(find_drug(name), until=500.0, detail="full")
    assert float(half_life(therapy.pk.linear(person(therapy).pk))) == pytest.approx(days, rel=within)


def test_reference_factors_of_lecanemab() -> None:
    """CL × (WT/72)^.353 × (ALB/43)^−.374 × .791 female × 1.13 with antibodies (Majid 2024)."""
    therapy = prescribe(find_drug("lecanemab"), until=500.0)
    rates = therapy.pk.linear(person(therapy, weight=90.0, albumin=40.0, sex=1.0, ADA=1.0).pk)
    clearance = float(rates.out * rates.volume)
    expected = 0.0154 * 24 * (90 / 72) ** 0.353 * (40 / 43) ** -0.374 * 0.791 * 1.13
    assert clearance == pytest.approx(expected, rel=1e-9)
    assert float(rates.volume) == pytest.approx(3.24 * (90 / 72) ** 0.513 * 0.868, rel=1e-9)


def test_reference_men_of_aducanumab() -> None:
    therapy = prescribe(find_drug("aducanumab"), until=500.0)
    men, women = (therapy.pk.linear(person(therapy, sex=s).pk) for s in (0.0, 1.0))
    assert float(men.out * men.volume / (women.out * women.volume)) == pytest.approx(1.134, rel=1e-3)
    assert float(women.out * women.volume) == pytest.approx(0.0159 * 24 * (72 / 70.9) ** 0.561, rel=0.01)


def test_law_random_effects_have_their_spread_and_correlation() -> None:
    """4,000 draws: the SD of a log has relative error 1.1 %, a correlation error .014; three of each are allowed."""
    therapy = prescribe(find_drug("aducanumab"), until=500.0)
    draws = jax.random.normal(jax.random.key(1), (4000, len(therapy.effects)))
    rates = jax.vmap(lambda e: therapy.pk.linear(therapy.individual(e, {}).pk))(draws)
    log_cl, log_v = np.log(np.asarray(rates.out * rates.volume)), np.log(np.asarray(rates.volume))
    assert log_cl.std() == pytest.approx(math.sqrt(math.log1p(0.216**2)), rel=0.034)
    assert log_v.std() == pytest.approx(math.sqrt(math.log1p(0.148**2)), rel=0.034)
    assert np.corrcoef(log_cl, log_v)[0, 1] == pytest.approx(0.378, abs=0.042)


def test_missing_covariates_enter_as_their_centre() -> None:
    therapy = prescribe(find_drug("lecanemab"), until=500.0)
    known = person(therapy, weight=72.0, albumin=43.0, sex=0.5, ADA=0.0, race=0.0)
    for other in (person(therapy), person(therapy, weight=math.nan, albumin=math.nan, sex=math.nan)):
        for a, b in zip(jax.tree.leaves(known), jax.tree.leaves(other), strict=True):
            assert float(a) == pytest.approx(float(b), rel=1e-12)


def test_the_slow_equivalent_has_the_same_average() -> None:
    """Donepezil over its last week of ten: hourly averages of the full course against the slow one, within 0.5 %."""
    drug, until = find_drug("donepezil"), 70.0
    times = np.linspace(63.0, 70.0, 169)[:-1]
    averages = []
    for detail in ("full", "averaged"):
        therapy = prescribe(drug, "10 mg qd", until=until, detail=detail)
        _, states = follow(therapy, times, rtol=1e-7)
        averages.append(np.mean([float(therapy.concentration(scalars(s), person(therapy))) for s in states]))
    assert averages[1] == pytest.approx(averages[0], rel=5e-3)
    assert averages[1] == pytest.approx(10 / (10.03 * 24), rel=1e-3)
