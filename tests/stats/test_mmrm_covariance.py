"""Covariance structures: their matrices by hand, and their derivatives by automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trialtwin.core.backend import enable_float64
from trialtwin.core.errors import ConfigError
from trialtwin.stats.mmrm_covariance import STRUCTURES, Structure, find_structure

enable_float64()
TIMES = np.array([0.0, 1.0, 2.5, 3.0])
VISITS = np.arange(4.0)


def programmed_again(structure: Structure, theta: jax.Array, times: np.ndarray) -> jax.Array:
    """Write Σ element by element."""
    m = len(times)
    scales = m if structure.heterogeneous else 1
    sd = jnp.exp(theta[:scales]) * jnp.ones(m)
    rest = theta[scales:]
    if structure.correlation == "free":
        lower = jnp.eye(m).at[np.tril_indices(m, -1)].set(rest)
        return (sd[:, None] * lower) @ (sd[:, None] * lower).T
    rho = jax.nn.sigmoid(rest) if structure.spatial else rest / jnp.sqrt(1 + rest**2)

    def correlation(i: int, j: int) -> jax.Array:
        low, high = min(i, j), max(i, j)
        match structure.correlation:
            case "power":
                return rho[0] ** (high - low)
            case "constant":
                return rho[0]
            case "lag":
                return rho[high - low - 1]
            case "product":
                return jnp.prod(rho[low:high])
        return rho[0] ** float(times[high] - times[low])

    rows = [[correlation(i, j) if i != j else jnp.array(1.0) for j in range(m)] for i in range(m)]
    return sd[:, None] * sd[None, :] * jnp.array(rows)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("visits", [1, 2, 4])
def test_independent_matrix_and_derivatives(name: str, visits: int) -> None:
    structure = find_structure(name)
    if visits == 1 and structure.correlation != "free":
        pytest.skip("one visit has no correlation")
    times = TIMES[:visits]
    theta = np.random.default_rng(1).normal(size=structure.size(visits)) * 0.5
    found = structure.derivatives(theta, times)

    def again(t: jax.Array) -> jax.Array:
        return programmed_again(structure, t, times)

    assert found.value == pytest.approx(np.asarray(again(jnp.array(theta))), rel=1e-12)
    first = np.asarray(jax.jacfwd(again)(jnp.array(theta)))
    second = np.asarray(jax.hessian(again)(jnp.array(theta)))
    assert found.first == pytest.approx(np.moveaxis(first, 2, 0), rel=1e-10, abs=1e-12)
    assert found.second == pytest.approx(np.moveaxis(second, (2, 3), (0, 1)), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", STRUCTURES)
def test_derivatives_are_finite_where_visits_do_not_correlate(name: str) -> None:
    structure = find_structure(name)
    found = structure.derivatives(np.zeros(structure.size(4)), VISITS)
    assert np.isfinite(found.first).all()
    assert np.isfinite(found.second).all()


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_starts_from_a_matrix_of_its_own(name: str) -> None:
    structure = find_structure(name)
    theta = np.concatenate([np.full(structure.size(4) - 1, 0.3), [0.2]])
    matrix = structure.covariance(theta, VISITS)
    again = structure.covariance(structure.start(matrix, VISITS), VISITS)
    if structure.spatial:  # starts at a correlation of one half
        assert np.diag(again) == pytest.approx(np.diag(matrix))
        assert again[0, 1] / again[0, 0] == pytest.approx(0.5)
    else:
        assert again == pytest.approx(matrix)


def test_a_start_is_positive_definite_where_correlations_are_not_of_the_structure() -> None:
    alternating = np.array([[1.0, -0.6, 0.5], [-0.6, 1.0, -0.6], [0.5, -0.6, 1.0]])
    for name in ("compound symmetry", "Toeplitz", "heterogeneous Toeplitz"):
        structure = find_structure(name)
        times = np.arange(3.0)
        assert np.linalg.eigvalsh(structure.covariance(structure.start(alternating, times), times))[0] > 0


def test_a_structure_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="exists: unstructured, AR\\(1\\)"):
        find_structure("us")
