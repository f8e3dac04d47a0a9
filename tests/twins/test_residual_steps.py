"""Scoring steps of a residual's fit, on made-up densities: where they begin, and which of two modes they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from trialtwin.core.errors import ConvergenceError
from trialtwin.diseases.amyloid_turnover import AmyloidTurnover
from trialtwin.infer.laplace import Mode
from trialtwin.twins import hybrid_residual
from trialtwin.twins.course import Instrument, Observations, time_grid
from trialtwin.twins.hybrid_disease import Corrected, blank

DISEASE = AmyloidTurnover("amyloid-turnover-kandadi")
BENT = Instrument(Corrected(DISEASE, blank(DISEASE)), ("amyloid-PET-SUVR",))
GRID = time_grid(0.0)
MEAN, SD = (np.array([getattr(prior, name) for prior in BENT.priors]) for name in ("mean", "sd"))


def numbered(n: int) -> Observations:
    """Return patients whose only measurement is their number."""
    one = jnp.arange(n, dtype=float)[:, None]
    return Observations({}, one, one[..., None], jnp.ones((n, 1, 1), dtype=bool))


def mode(position: Array) -> Mode:
    return jax.vmap(lambda u: Mode(u, jnp.eye(len(u)), jnp.asarray(True)))(position)


@pytest.mark.parametrize("n", [5, 300])
def test_of_two_modes_the_one_that_counts_for_more_is_taken(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches end at 2 or at −2, as they start; every third patient's density is higher, or only there, at −2."""

    def at(_: object, population: np.ndarray, modes: Array, data: Observations, grid: object) -> tuple:
        number, low = np.asarray(data.times[:, 0]), np.asarray(modes[:, 0]) < 0
        elsewhere = np.where(number % 2, 0.0, np.nan)  # of every third patient, at 2
        value = np.where(number % 3 == 0, np.where(low, 1.0, elsewhere), np.where(low, -1.0, 0.0))
        return value, np.tile(value[:, None], (1, len(MEAN)))

    monkeypatch.setattr(hybrid_residual, "infer", lambda b, p, start, d, g: mode(2.0 * jnp.sign(start)))
    monkeypatch.setattr(hybrid_residual, "_at", at)
    up, down = jnp.ones((n, BENT.dimension)), -jnp.ones((n, BENT.dimension))
    position, (values, scores) = hybrid_residual._inferred(BENT, MEAN, (up, down), numbered(n), GRID)
    third = np.arange(n) % 3 == 0
    np.testing.assert_array_equal(position[:, 0], np.where(third, -2.0, 2.0))
    np.testing.assert_array_equal(values, third.astype(float))
    np.testing.assert_array_equal(scores[:, 0], values)


def test_the_first_step_begins_at_patients_inferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the modes of the plain mechanism, here 0, the density under the residual may have no value."""
    n, rng = 400, np.random.default_rng(2)
    own = MEAN + SD * (0.3 + rng.normal(size=(n, len(MEAN))))

    def at(_: object, population: np.ndarray, modes: Array, data: Observations, grid: object) -> tuple:
        off = (np.asarray(population) - own[np.asarray(data.times[:, 0]).astype(int)]) / SD
        lost = np.where(np.asarray(modes[:, 0]) == 0.0, np.nan, 0.0)
        return lost - 0.5 * (off**2).sum(axis=1), lost[:, None] - off / SD

    monkeypatch.setattr(hybrid_residual, "infer", lambda b, p, start, d, g: mode(jnp.ones_like(start)))
    monkeypatch.setattr(hybrid_residual, "_at", at)
    plain = jnp.zeros((n, BENT.dimension))
    found = hybrid_residual._fit(BENT, MEAN, plain, numbered(n), GRID)
    best = (own.sum(axis=0) + MEAN) / (n + 1)  # each patient's density is the prior's, around the own point
    gap = 0.5 * (n + 1) * (((found.population - best) / SD) ** 2).sum()
    assert 0.0 <= gap < hybrid_residual.SETTLED * 2


def test_patients_that_are_not_found_are_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(_: object, population: np.ndarray, modes: Array, data: Observations, grid: object) -> tuple:
        value = np.where(np.arange(len(modes)) == 3, np.nan, 0.0)
        return value, np.zeros((len(modes), len(MEAN)))

    monkeypatch.setattr(hybrid_residual, "infer", lambda b, p, start, d, g: mode(start))
    monkeypatch.setattr(hybrid_residual, "_at", at)
    with pytest.raises(ConvergenceError, match="1 patient"):
        hybrid_residual._fit(BENT, MEAN, jnp.zeros((5, BENT.dimension)), numbered(5), GRID)
