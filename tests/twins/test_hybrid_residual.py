"""The hybrid's residual: paid for by evidence where a mechanism is wrong, absent where it is right, and readable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from residual import DAYS, DISEASE, growing

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import MismatchError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.twin import AbstractTwin
from trialtwin.stats.calibration import crps
from trialtwin.twins.hybrid import Hybrid, HybridTwin
from trialtwin.twins.hybrid_disease import FAR, LATE, LIMIT, Corrected, Own, Residual, blank
from trialtwin.twins.hybrid_reading import read
from trialtwin.twins.mechanistic import Mechanistic

KEY = jax.random.key(4)


def ask(twin: AbstractTwin, cohort: Cohort, draws: int = 128) -> Trajectories:
    return twin.predict(cohort, NoTreatment(), DAYS, draws=draws, key=KEY)


@pytest.fixture(scope="module")
def twin() -> HybridTwin:
    """Return the twin of patients whose amyloid grows, which the mechanism denies."""
    return Hybrid(DISEASE).fit(growing(96, 1), key=KEY)


@pytest.mark.parametrize("day", [0.0, 182.0])
def test_law_where_the_mechanism_is_wrong_the_residual_forecasts_better(twin: HybridTwin, day: float) -> None:
    """Paired over 96 new patients against the mechanism, fitted to the same patients on its own."""
    others = growing(96, 2)
    plain = Mechanistic(DISEASE).fit(growing(96, 1), key=KEY)
    truth = others.values[:, -1, 0]
    worse, better = (crps(ask(one, others.until(day)).values[:, :, -1, 0], truth) for one in (plain, twin))
    gain = worse - better
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain)), (gain.mean(), gain.std())


def test_the_reading_says_what_bends_which_mechanism_and_how_well_it_says_it(twin: HybridTwin) -> None:
    """Amyloid grows where the mechanism holds it: less removal, or a slope that rises."""
    reading = twin.reading
    assert reading is not None
    assert reading.explained > 0.8
    middle = reading.coefficients[0] / reading.errors[0]
    assert middle < -3 if reading.multiplies else middle > 3
    told = next(a for a in twin.assumptions if a.name == "residual on the mechanism")
    assert reading.channel in told.value
    assert "log evidence gained" in told.value
    assert sum(one.name.startswith("residual: ") for one in twin.learned) == 4


def test_law_where_the_mechanism_is_right_a_residual_is_seldom_kept() -> None:
    """Of 6 cohorts at most 1: a share of 2 % would exceed that with a probability of 0.6 % (0 of 80 were seen)."""
    kept = [Hybrid(DISEASE).fit(growing(32, seed, growth=0.0), key=KEY).reading is not None for seed in range(6)]
    assert sum(kept) <= 1


def test_ten_patients_are_enough_to_fit(twin: HybridTwin) -> None:
    few = Hybrid(DISEASE).fit(growing(10, 3), key=KEY)
    course = ask(few, growing(20, 4).until(0.0))
    assert (course.implausible() == 0).all()
    assert course.values.std(axis=0).min() > 0.01


def test_no_draw_leaves_what_is_possible(twin: HybridTwin) -> None:
    course = ask(twin, growing(96, 2).until(-1.0), draws=400)
    assert course.values.size >= 1e5
    assert (course.implausible() == 0).all()


def bent(channel: int, weights: tuple[float, ...]) -> tuple[Corrected, Own]:
    """Return the disease with a residual of these weights on one channel, and a patient."""
    look = blank(DISEASE)
    chosen = np.arange(len(look.channels)) == channel
    residual = Residual(
        look.channels,
        *map(jnp.asarray, (chosen.astype(float), np.array([1.5]), np.array([[4.0, 0.0]]), 2.0, 700.0, 0.5)),
        jnp.array([2e-4]),
    )
    disease = Corrected(DISEASE, residual)
    own = {"SUVR at baseline": jnp.asarray(1.5), "loss": jnp.asarray(0.7)}
    return disease, Own(own, jnp.asarray(weights))


def slope(disease: Corrected, patient: Own, suvr: float, day: float = 0.0) -> float:
    state, t, neutral = (jnp.asarray(suvr),), jnp.asarray(day), disease.neutral()
    return float(disease.flow(t, state, patient, neutral, disease.signals(t, state, patient, neutral))[0])


def test_a_mechanism_is_multiplied_by_the_exponential_of_the_residual() -> None:
    """S' = kout (S0 − exp(r) S) with r = L tanh(τ ω / L) by hand, for a constant residual."""
    disease, patient = bent(0, (1.2, 0.0, 0.0, 0.0))
    r = LIMIT * np.tanh(0.5 * 1.2 / LIMIT)
    assert slope(disease, patient, 1.6) == pytest.approx(0.7 / 365.25 * (1.5 - np.exp(r) * 1.6), rel=1e-12)


def test_a_slope_is_added_and_ends_at_the_ends_of_the_range() -> None:
    disease, patient = bent(1, (1.2, 0.0, 0.0, 0.0))
    plain, _ = bent(0, (0.0, 0.0, 0.0, 0.0))
    low, high = DISEASE.ranges[0]
    assert slope(disease, patient, 1.5) > slope(plain, patient, 1.5)
    for end in (low, high):
        assert slope(disease, patient, end) == pytest.approx(slope(plain, patient, end), abs=1e-15)


def test_far_from_what_was_seen_and_long_after_the_mechanism_is_left_alone() -> None:
    disease, patient = bent(0, (1.2, 0.3, 0.0, 0.1))
    for suvr, day in ((1.5 + 0.25 * 2.0 * FAR + 0.01, 0.0), (1.5, 700.0 * LATE + 1)):
        alone = 0.7 / 365.25 * (1.5 - suvr)
        assert slope(disease, patient, suvr, day) == pytest.approx(alone, abs=1e-15)


def test_the_residual_is_bounded_whatever_its_weights() -> None:
    disease, patient = bent(0, (900.0, 0.0, 0.0, 0.0))
    assert slope(disease, patient, 1.6) == pytest.approx(0.7 / 365.25 * (1.5 - 4.0 * 1.6), rel=1e-9)


def test_a_channel_that_the_disease_lacks_is_refused() -> None:
    look = blank(DISEASE)
    wrong = Residual(("wishes",), jnp.ones(1), look.centre, look.axes, *(jnp.ones(()) for _ in range(3)), look.pace)
    with pytest.raises(MismatchError, match="no channel 'wishes' to correct"):
        Corrected(DISEASE, wrong)


def test_a_reading_finds_a_line_and_says_how_sure_it_is() -> None:
    """Over states so near the centre that tanh is a line: r = τ (0.4 + 0.3 a), a = 4 (S − 1.5)."""
    disease, _ = bent(0, (0.0,) * 4)
    states = 1.5 + 0.02 * np.random.default_rng(1).normal(size=(200, 1))
    weights, covariance = np.array([0.4, 0.3, 0.0, 0.0]), np.diag([1e-4, 4e-4, 1e-12, 1e-12])
    found = read(disease.residual, states, DISEASE.states, weights, covariance, multiplies=True)
    assert found.channel == "amyloid_turnover"
    assert found.terms == ("1", "z[amyloid SUVR]")
    assert found.explained > 0.99
    sd = states.std()
    assert found.coefficients[0] == pytest.approx(0.2, rel=0.03)
    assert found.coefficients[1] == pytest.approx(0.5 * 0.3 * 4 * sd, rel=0.03)
    assert found.errors[1] == pytest.approx(0.5 * 0.02 * 4 * sd, rel=0.2)
    assert "log multiplier of amyloid_turnover" in str(found)
