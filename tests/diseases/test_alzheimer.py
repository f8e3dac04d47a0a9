"""The compact Alzheimer model against its published form, programmed a second time here."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.integrate import solve_ivp
from scipy.special import expit, logit

from trialtwin.diseases.alzheimer import Alzheimer, Patient
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import align
from trialtwin.engine.system import Equations

ALZHEIMER = Alzheimer()
NEUTRAL = {m.name: jnp.asarray(m.neutral) for m in ALZHEIMER.mechanisms}
POPULATION = {p.name: jnp.asarray(p.mean) for p in ALZHEIMER.priors}
CENTRE = {d.concept: jnp.asarray(d.centre) for d in ALZHEIMER.declared}
YEAR = 365.25
RATE_SD = np.exp(-0.288)  # of the log rate, whose mean is such that the mean rate is 1


def independent_flow(y: np.ndarray, rate: float, K: float, act: Mapping[str, Any]) -> np.ndarray:
    """Return the derivative per year, from the formulas and constants of the science notes."""
    A, X, T, _ = y
    bracket = 0.93 * (1 - 0.77 * T)
    return np.array(
        [
            act["amyloid_production"] * (0.55 + 0.195 * A * (1 - A / K)) - act["amyloid_clearance"] * A,
            4.0 * (A / 90.0 - X),
            act["tau_spread"] * 0.25 * (1 - 0.4 + 0.4 * X) * T * (1 - T),
            act["synaptic_loss"] * 0.307 * rate * (T / 0.35) ** 0.87 * (1 - bracket + bracket * X)
            + act["synaptic_harm"],
        ]
    )


def patient(rate: float, K: float, amyloid: float, tau: float, severity: float) -> Patient:
    return Patient(*map(jnp.asarray, (rate, K, amyloid, tau, severity)))


def slopes(y: Any, one: Patient, act: Mapping[str, Any]) -> Any:
    """Return the derivative per day under given values of the mechanisms."""
    zero = jnp.zeros(())
    return ALZHEIMER.flow(zero, y, one, act, ALZHEIMER.signals(zero, y, one, act))


def _start(person: Patient) -> Any:
    return ALZHEIMER.initial(person)


def follow(one: Patient, act: Mapping[str, Any], days: np.ndarray, step: float) -> np.ndarray:
    """Return the states at days, of shape (time, state)."""
    system = Equations(
        states=ALZHEIMER.states,
        inputs=(),
        start=_start,
        rhs=lambda t, y, r, p: slopes(y, p, act),
    )
    solved = jax.jit(Fixed().solve)(system, one, align(None, days, inputs=0, longest=step))
    return np.stack(solved.values, axis=1)


ACTS = [
    NEUTRAL,
    NEUTRAL | {"amyloid_clearance": jnp.asarray(1.3)},
    NEUTRAL
    | {
        name: jnp.asarray(v)
        for name, v in (
            ("amyloid_production", 0.2),
            ("tau_spread", 0.5),
            ("synaptic_loss", 0.7),
            ("synaptic_harm", 0.11),
        )
    },
]
PEOPLE = [(1.0, 98.0, 75.0, 0.35, -1.5), (4.0, 60.0, 20.0, 0.1, -2.5), (0.3, 150.0, 140.0, 0.7, 0.5)]


@pytest.mark.parametrize("act", ACTS, ids=["untreated", "clearance", "others"])
def test_independent_flow(act: Mapping[str, Array]) -> None:
    rng = np.random.default_rng(5)
    flow = jax.jit(lambda y, one: slopes(y, one, act))
    for _ in range(20):
        y = np.array([rng.uniform(0, 150), rng.uniform(0, 1.6), rng.uniform(0.01, 0.99), rng.normal(-1, 1)])
        rate, K = np.exp(rng.normal()), rng.uniform(50, 180)
        density = rng.uniform(0.3, 1.0)
        found = flow((y[0], y[1], y[2], density, y[3]), patient(rate, K, 0, 0, 0))
        wanted = independent_flow(y, rate, K, act)
        np.testing.assert_allclose(np.array([*found[:3], found[4]]) * YEAR, wanted, rtol=1e-12)
        np.testing.assert_allclose(found[3] * YEAR, -wanted[3] * density / 4.0, rtol=1e-12)


@pytest.mark.parametrize("act", ACTS, ids=["untreated", "clearance", "others"])
def test_independent_course_of_five_years(act: Mapping[str, Array]) -> None:
    """Scipy's LSODA at 1e-11 and ours at a step of four weeks, to 1e-5; density tells severity in another unit."""
    days = np.array([0.0, 91.0, 365.25, 900.0, 5 * YEAR])
    plain = {name: float(v) for name, v in act.items()}
    for person in PEOPLE:
        rate, K, A, T, z = person
        reference = solve_ivp(
            lambda t, y, r=rate, k=K: independent_flow(y, r, k, plain),
            (0.0, 5.0),
            [A, A / 90.0, T, z],
            method="LSODA",
            t_eval=days / YEAR,
            rtol=1e-11,
            atol=1e-11,
        )
        ours = follow(patient(*person), act, days, 28.0)
        np.testing.assert_allclose(ours[:, [0, 1, 2, 4]], reference.y.T, atol=1e-5)
        np.testing.assert_allclose(4.0 * np.log(ours[0, 3] / ours[:, 3]), ours[:, 4] - ours[0, 4], atol=1e-6)


@pytest.mark.reference
def test_reference_natural_history_of_amyloid() -> None:
    """Amyloid PET grows from 5 CL to 24 in 7 years and to 80 in 19 (the curve that k0, r and K were fitted to)."""
    one = patient(1.0, 98.0, 5.0, 0.1, -4.0)
    amyloid = follow(one, NEUTRAL, np.array([7 * YEAR, 19 * YEAR]), 28.0)[:, 0]
    np.testing.assert_allclose(amyloid, [24.0, 80.0], atol=0.5)


def test_the_driver_starts_in_balance() -> None:
    one = patient(1.0, 98.0, 60.0, 0.3, -1.0)
    start = ALZHEIMER.initial(one)
    assert float(slopes(start, one, NEUTRAL)[1]) == pytest.approx(0.0, abs=1e-15)
    np.testing.assert_allclose(start, [60.0, 60.0 / 90.0, 0.3, 0.85 * np.exp(-(-1.0 - logit(0.5 / 18)) / 4), -1.0])


BIOMARKERS = ("tau-PET", "p-tau217", "GFAP", "Aβ42/40", "NfL")
SCALES: dict[str, Any] = {
    "CDR-SB": lambda z: 18 * expit(z),
    "ADAS-Cog11": lambda z: 70 * expit(-0.151 + 0.730 * z),
    "ADAS-Cog13": lambda z: 85 * expit(0.032 + 0.589 * z),
    "ADAS-Cog14": lambda z: 90 * expit(0.037 + 0.657 * z),
    "MMSE": lambda z: 30 * (1 - expit(0.226 + 1.159 * z)),
    "ADCS-MCI-ADL": lambda z: 53 * (1 - expit(-0.006 + 0.786 * z)),
    "ADCS-iADL": lambda z: 59 * (1 - expit(-0.202 + 0.960 * z)),
    "iADRS": lambda z: 85 - 85 * expit(0.032 + 0.589 * z) + 59 * (1 - expit(-0.202 + 0.960 * z)),
}
Z = np.linspace(-60, 60, 241)


def _expected(concept: str, z: np.ndarray, offset: float = 0.0) -> np.ndarray:
    seen = (*(jnp.full(len(z), y) for y in (70.0, 1.0, 0.3, 0.7)), jnp.asarray(z))
    return np.asarray(jax.vmap(lambda y: ALZHEIMER.scales[concept].expected(y, jnp.asarray(offset)))(seen))


def test_every_scale_is_tested() -> None:
    assert set(ALZHEIMER.scales) == {*SCALES, "amyloid-PET", *BIOMARKERS}


@pytest.mark.parametrize("concept", SCALES)
def test_independent_scale(concept: str) -> None:
    np.testing.assert_allclose(_expected(concept, Z), SCALES[concept](Z), atol=1e-12)
    np.testing.assert_allclose(_expected(concept, Z, offset=0.7), SCALES[concept](Z + 0.7), atol=1e-12)


@pytest.mark.parametrize("concept", SCALES)
def test_a_scale_stays_in_its_range_and_gets_worse_with_severity(concept: str) -> None:
    """The whole range is used and never left; cognition scores rise, function and MMSE scores fall."""
    scale, found = ALZHEIMER.scales[concept], _expected(concept, Z)
    assert scale.lower <= found.min() <= scale.lower + 1e-6
    assert scale.upper - 1e-6 <= found.max() <= scale.upper
    worse = 1.0 if concept.startswith(("CDR", "ADAS")) else -1.0
    assert (worse * np.diff(found) >= 0).all()


def test_severity_is_the_logit_of_cdr() -> None:
    scores = np.array([0.5, 3.2, 9.0, 17.5])
    np.testing.assert_allclose(_expected("CDR-SB", logit(scores / 18)), scores, rtol=1e-12)


def test_amyloid_pet_reads_amyloid() -> None:
    np.testing.assert_allclose(_expected("amyloid-PET", np.zeros(1), offset=-3.0), [67.0])


@pytest.mark.parametrize(
    ("concept", "expected", "spread"),
    [
        ("CDR-SB", 3.0, np.hypot(0.52, 0.16 * 3)),
        ("ADAS-Cog13", 25.0, np.hypot(2.98, 0.07 * 25)),
        ("amyloid-PET", 80.0, np.hypot(4.47, 0.091 * 80)),
    ],
)
def test_measurement_error_has_an_additive_and_a_proportional_part(
    concept: str, expected: float, spread: float
) -> None:
    """As published in Cao 2026: CDR 0.52 + 16 %, ADAS 2.98 + 7 %, Centiloid 4.47 + 9.1 %."""
    assert float(ALZHEIMER.scales[concept].spread(jnp.asarray(expected))) == pytest.approx(spread, rel=1e-12)


def _individuals(effects: np.ndarray, covariates: Mapping[str, Array] = CENTRE) -> Patient:
    return jax.vmap(lambda u: ALZHEIMER.individual(POPULATION, u, covariates))(jnp.asarray(effects))


def test_independent_correlations_of_tau_amyloid_and_severity() -> None:
    """On the latent scales they are the constants, 0.35, 0.15 and 0.05; rate and capacity are independent of all.

    400,000 patients; the Monte-Carlo standard error of a correlation is below 0.0016, and 4 of them are allowed.
    """
    people = _individuals(np.random.default_rng(7).normal(size=(400_000, 5)))
    latent = [
        people.severity,
        logit(np.asarray(people.tau)),
        logit(np.asarray(people.amyloid / people.capacity)),
        np.log(people.rate),
        np.log(people.capacity),
    ]
    expected = np.eye(5)
    expected[0, 1] = expected[1, 0] = 0.35
    expected[1, 2] = expected[2, 1] = 0.15
    expected[0, 2] = expected[2, 0] = 0.05
    np.testing.assert_allclose(np.corrcoef(latent), expected, atol=4 * 0.0016)


def test_independent_spread_of_patients() -> None:
    """Means and SDs of the latent scales, within 4 standard errors of 400,000 patients."""
    people = _individuals(np.random.default_rng(8).normal(size=(400_000, 5)))
    n = 400_000
    for values, mean, sd in (
        (np.log(people.rate), -(RATE_SD**2) / 2, RATE_SD),
        (people.severity, -1.0, np.exp(-0.69)),
        (logit(np.asarray(people.tau)), -0.6, 0.8),
        (logit(np.asarray(people.amyloid / people.capacity)), 1.7, 1.3),
        (np.log(people.capacity), np.log(98.0), 0.25),
    ):
        assert float(np.mean(values)) == pytest.approx(mean, abs=4 * sd / np.sqrt(n))
        assert float(np.std(values)) == pytest.approx(sd, rel=4 / np.sqrt(2 * n))


def test_the_mean_rate_is_1() -> None:
    """What was fitted to means of arms is the rate of the mean patient, within 4 standard errors of 400,000."""
    rates = np.asarray(_individuals(np.random.default_rng(9).normal(size=(400_000, 5))).rate)
    assert rates.mean() == pytest.approx(1.0, abs=4 * rates.std() / np.sqrt(len(rates)))


def test_a_covariate_at_its_centre_has_no_effect() -> None:
    typical = ALZHEIMER.individual(POPULATION, jnp.zeros(5), CENTRE)
    assert float(typical.rate) == pytest.approx(np.exp(-(RATE_SD**2) / 2))


@pytest.mark.parametrize(
    ("covariates", "factor"),
    [
        ({"age": 85.0}, np.exp(-0.024 * 10)),
        ({"sex": 1.0}, np.exp(0.076 * 0.5)),
        ({"sex": 0.0}, np.exp(-0.076 * 0.5)),
        ({"APOE4": 2.0}, np.exp(0.178 * 1.28)),
        ({"genetic risk score": 1.0}, np.exp(0.128)),
    ],
    ids=["ten years older", "a woman", "a man", "two alleles", "a score of 1 SD"],
)
def test_declared_covariates_act_on_the_rate_alone(covariates: dict[str, float], factor: float) -> None:
    """Conrado 2014: −2.4 % a year of age above 75, +7.9 % for women, +19.5 % for an APOE4 allele."""
    typical = ALZHEIMER.individual(POPULATION, jnp.zeros(5), CENTRE)
    other = ALZHEIMER.individual(POPULATION, jnp.zeros(5), CENTRE | {k: jnp.asarray(v) for k, v in covariates.items()})
    assert float(other.rate / typical.rate) == pytest.approx(factor, rel=1e-12)
    assert [float(x) for x in other[1:]] == [float(x) for x in typical[1:]]


def test_what_is_declared() -> None:
    assert [(d.concept, d.level) for d in ALZHEIMER.declared] == [
        ("age", ""),
        ("sex", "F"),
        ("APOE4", ""),
        ("genetic risk score", ""),
    ]


PUBLISHED = {
    "k0": (0.55, "CL/yr"),
    "r": (0.195, "1/yr"),
    "K": (98.0, "CL"),
    "kx": (4.0, "1/yr"),
    "Xref": (90.0, "CL"),
    "rT": (0.25, "1/yr"),
    "φ": (0.4, ""),
    "kz": (0.307, "1/yr"),
    "θ": (0.93, ""),
    "κ": (0.77, ""),
    "γ": (0.87, ""),
    "correlation tau–severity": (0.35, ""),
    "correlation amyloid–tau": (0.15, ""),
    "correlation amyloid–severity": (0.05, ""),
}
ERRORS = {"kz": 0.024, "θ": 0.33, "κ": 0.35, "γ": 0.22}


@pytest.mark.parametrize("name", PUBLISHED)
def test_independent_constant(name: str) -> None:
    """Value, unit and standard error as in the science notes, typed a second time."""
    constant = {c.name: c for c in ALZHEIMER.constants}[name]
    assert (constant.value, constant.unit) == PUBLISHED[name]
    assert constant.se == ERRORS.get(name)


def test_what_was_set_by_hand_or_assumed_is_provisional() -> None:
    for item in (*ALZHEIMER.constants, *(p for s in ALZHEIMER.scales for p in ALZHEIMER.scale_priors(s))):
        if item.source.startswith(("set by hand", "assumed")):
            assert item.provisional, item.name
            assert item.confidence == "low", item.name
