"""The machine's density against its energy integrated by brute force, and its samplers against its density."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from trialtwin.twins.boltzmann_gibbs import (
    contrastive_loss,
    grid_given_hidden,
    hidden_given_grid,
    phase_loss,
    sample_phases,
)
from trialtwin.twins.boltzmann_machine import Constants, Net, condition, law, log_density, log_prior, start_net
from trialtwin.twins.panel import Panel

KEY = jax.random.key(7)
WIDTH, COLUMNS = 3, 2


def machine(outcomes: int, knots: int, hidden: int, *, binary: tuple[int, ...] = (), scale: float = 0.4) -> tuple:
    """Return a machine with random weights, its constants, and one patient's covariates."""
    rng = np.random.default_rng(outcomes + 10 * knots + 100 * hidden)
    s = np.linspace(-1, 1, knots)
    grid = jnp.asarray(np.stack([np.ones(knots), s], axis=-1))
    signs = jnp.asarray(np.array(list(itertools.product((-1.0, 1.0), repeat=hidden))))
    flags = jnp.asarray(np.isin(np.arange(outcomes), binary).astype(float))
    begin = start_net(KEY, COLUMNS, outcomes, 2, normal=2, hidden=hidden, width=WIDTH)
    net = jax.tree.map(lambda a: a + jnp.asarray(rng.normal(0, scale, a.shape)), begin)
    return net, Constants(grid, signs, flags), jnp.asarray(rng.normal(size=COLUMNS))


def dense(net: Net, constants: Constants, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return μ, P and W of the energy on the grid, by plain matrix algebra."""
    on_grid = law(net, x, constants.grid)
    mean = np.asarray(on_grid.mean).ravel()
    F = np.asarray(on_grid.factor).reshape(len(mean), -1)
    C = np.asarray(on_grid.shift).reshape(len(mean), -1)
    P = np.linalg.inv(np.diag(np.asarray(on_grid.noise).ravel() ** 2) + F @ F.T)
    return mean, P, P @ C


def energy(net: Net, constants: Constants, x: Array, y: np.ndarray) -> np.ndarray:
    """Return ½ rᵀ P r − Σ log cosh(Wᵀ r + b) of each row of y."""
    mean, P, W = dense(net, constants, x)
    r = y - mean
    return 0.5 * np.einsum("ni,ij,nj->n", r, P, r) - np.log(np.cosh(r @ W + np.asarray(net.bias))).sum(axis=1)


def panel(
    x: Array, constants: Constants, y: np.ndarray, shape: tuple[int, int], seen: np.ndarray | None = None
) -> Panel:
    """Return rows of y as patients with the same covariates, seen on the grid."""
    n = len(y)
    weight = np.ones((n, *shape)) if seen is None else np.broadcast_to(seen.reshape(shape), (n, *shape))
    rows = (
        np.broadcast_to(np.asarray(x), (n, len(x))),
        np.broadcast_to(np.asarray(constants.grid), (n, *constants.grid.shape)),
        np.zeros((n, shape[0])),
        y.reshape(n, *shape) * weight,
        weight,
    )
    return Panel(*map(jnp.asarray, rows))


@pytest.fixture(scope="module")
def plane() -> tuple[np.ndarray, float]:
    """Return points of a plane, as rows, and the area of each: the trapezium rule errs by less than 1e-8 of them."""
    line = np.linspace(-16, 16, 321)
    return np.array(list(itertools.product(line, line))), float((line[1] - line[0]) ** 2)


def test_the_density_is_the_energy_normalised_by_integration(plane: tuple[np.ndarray, float]) -> None:
    """Two visits of one outcome, three hidden units: Z by numerical integration of exp(−E)."""
    points, area = plane
    net, constants, x = machine(1, 2, 3)
    E = energy(net, constants, x, points)
    log_Z = np.log(np.exp(-E).sum() * area)
    some = slice(40_000, 60_000, 1371)
    found = log_density(net, constants, panel(x, constants, points[some], (2, 1)))
    np.testing.assert_allclose(found, -E[some] - log_Z, rtol=1e-6)


def test_a_missing_visit_is_integrated_out(plane: tuple[np.ndarray, float]) -> None:
    points, area = plane
    net, constants, x = machine(1, 2, 3)
    p = np.exp(-energy(net, constants, x, points)).reshape(321, 321)
    marginal = p.sum(axis=1) * np.sqrt(area) / (p.sum() * area)
    first = points.reshape(321, 321, 2)[:, 0, 0]
    rows = panel(x, constants, np.column_stack([first, np.zeros(321)]), (2, 1), np.array([1.0, 0.0]))
    np.testing.assert_allclose(np.exp(log_density(net, constants, rows)), marginal, rtol=1e-6, atol=1e-12)


def test_what_is_expected_after_a_history_is_the_integral(plane: tuple[np.ndarray, float]) -> None:
    """E[y₂ | y₁] by the rule against the closed form, far out in the tail as well."""
    points, _ = plane
    net, constants, x = machine(1, 2, 3)
    p = np.exp(-energy(net, constants, x, points)).reshape(321, 321)
    y = points.reshape(321, 321, 2)
    at = law(net, x, constants.grid)
    for i in (110, 160, 190):
        wanted = (p[i] * y[i, :, 1]).sum() / p[i].sum()
        seen = jnp.asarray([[1.0], [0.0]])
        known = condition(net, constants, x, constants.grid, jnp.asarray(y[i, 0, 0]) * seen, seen)
        h = jax.nn.softmax(known.log_joint) @ constants.signs
        z = known.location + known.slope @ h
        np.testing.assert_allclose(at.mean[1, 0] + at.shift[1, 0] @ h + at.factor[1, 0] @ z, wanted, rtol=1e-6)


def test_without_normal_units_the_precision_is_diagonal_and_the_density_the_published_one() -> None:
    """F = 0 and b = 0 leave ½ Σ p r² − Σ log cosh(Wᵀ r), normalised by enumeration of the hidden units."""
    net, constants, x = machine(2, 3, 4)
    net = jax.tree.map(lambda a: a, net)
    net = Net(**{**vars(net), "factor": jnp.zeros_like(net.factor), "bias": jnp.zeros_like(net.bias)})
    mean, P, W = dense(net, constants, x)
    assert np.count_nonzero(P - np.diag(np.diag(P))) == 0
    signs = np.asarray(constants.signs)
    y = np.random.default_rng(1).normal(0, 1.5, (9, 6))
    r, C = y - mean, W / np.diag(P)[:, None]
    # ∫ exp(−½ rᵀPr + hᵀWᵀr) dr = (2π)^{d/2} |P|^{−½} exp(½ hᵀWᵀP⁻¹Wh); cosh is the mean of exp over both signs
    log_Z = 0.5 * 6 * np.log(2 * np.pi) - 0.5 * np.log(np.diag(P)).sum()
    log_Z += np.log(np.exp(0.5 * np.einsum("sh,hg,sg->s", signs, W.T @ C, signs)).mean())
    wanted = -0.5 * (r**2 @ np.diag(P)) + np.log(np.cosh(r @ W)).sum(axis=1) - log_Z
    np.testing.assert_allclose(log_density(net, constants, panel(x, constants, y, (3, 2))), wanted, rtol=1e-10)


def test_binary_visible_units_sum_to_one_and_follow_the_energy() -> None:
    """Three visits of a binary outcome: p ∝ Π exp(y μ) Π cosh-like sums, against the sum over all eight courses."""
    net, constants, x = machine(1, 3, 3, binary=(0,))
    y = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    found = np.exp(log_density(net, constants, panel(x, constants, y, (3, 1))))
    on_grid = law(net, x, constants.grid)
    m, C = np.asarray(on_grid.mean)[:, 0], np.asarray(on_grid.shift)[:, 0]
    wanted = np.exp(y @ m) * np.cosh(y @ C + np.asarray(net.bias)).prod(axis=1)
    np.testing.assert_allclose(found, wanted / wanted.sum(), rtol=1e-10)


@pytest.mark.parametrize("binary", [(), (1,)])
def test_gibbs_sweeps_keep_the_law_of_the_hidden_units(binary: tuple[int, ...]) -> None:
    """Started from π and swept once, 40,000 chains have π still: each frequency within 4.5 of its standard errors."""
    net, constants, x = machine(2, 2, 3, binary=binary, scale=0.3)
    on_grid, exact = law(net, x, constants.grid), np.exp(np.asarray(log_prior(net, x, constants)))
    n = 40_000

    @jax.jit
    @jax.vmap
    def sweep(h: Array, key: Array) -> Array:
        first, second = jax.random.split(key)
        values = grid_given_hidden(on_grid, constants, h, first)
        return hidden_given_grid(on_grid, net.bias, constants, values, second)

    start = constants.signs[jax.random.categorical(KEY, jnp.log(exact), shape=(n,))]
    moved = np.asarray(sweep(start, jax.random.split(jax.random.key(8), n)))
    assert (moved != np.asarray(start)).any(axis=1).mean() > 0.05
    share = (moved[:, None] == np.asarray(constants.signs)).all(axis=-1).mean(axis=0)
    assert (np.abs(share - exact) < 4.5 * np.sqrt(exact * (1 - exact) / n)).all()


@pytest.mark.parametrize("binary", [(), (1,)])
def test_the_hidden_units_given_measurements_have_their_exact_law(binary: tuple[int, ...]) -> None:
    net, constants, x = machine(2, 3, 3, binary=binary, scale=0.3)
    y = np.where(np.isin(np.arange(2), binary), 1.0, [[0.7, -0.4], [0.2, 0.1], [1.0, 0.3]])
    seen = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    row = jax.tree.map(lambda a: a[0], panel(x, constants, y.reshape(1, -1), (3, 2), seen))
    exact = np.asarray(jax.nn.softmax(condition(net, constants, x, row.phi, row.values, row.weight).log_joint))
    n = 20_000
    draw = jax.jit(jax.vmap(lambda k: sample_phases(net, row, k, constants, warm=60, steps=1)[0]))
    found = np.asarray(draw(jax.random.split(KEY, n)))
    share = (found[:, None] == np.asarray(constants.signs)).all(axis=-1).mean(axis=0)
    assert (np.abs(share - exact) < 4.5 * np.sqrt(exact * (1 - exact) / n) + 1e-3).all()


def test_contrastive_divergence_has_the_exact_gradient_on_average() -> None:
    """Long chains from patients that the machine did not make: mean of 30,000 gradients, within 5 standard errors."""
    net, constants, x = machine(1, 3, 3, scale=0.3)
    y = np.array([[1.2, 0.1, -0.8]])
    rows = panel(x, constants, y, (3, 1), np.array([1.0, 0.0, 1.0]))
    exact = jax.grad(lambda w: -log_density(w, constants, rows).sum())(net)
    row = jax.tree.map(lambda a: a[0], rows)

    @jax.jit
    @partial(jax.vmap, in_axes=0)
    def gradient(key: Array) -> Net:
        first, second = sample_phases(net, row, key, constants, warm=25, steps=25)
        return jax.grad(phase_loss)(net, row, constants, first, second)

    drawn = gradient(jax.random.split(KEY, 30_000))
    for name in ("mean", "noise", "factor", "shift", "bias", "inner"):
        sample, wanted = np.asarray(getattr(drawn, name)), np.asarray(getattr(exact, name))
        error = sample.std(axis=0) / np.sqrt(len(sample))
        assert (np.abs(sample.mean(axis=0) - wanted) <= 5 * error + 1e-9).all(), name
    assert np.abs(np.asarray(exact.shift)).max() > 0.1


def test_one_step_is_enough_where_the_machine_made_the_patients() -> None:
    """CD-k has no bias at the truth, whatever k: over the machine's own patients the mean gradient is 0."""
    net, constants, x = machine(1, 3, 3, scale=0.3)
    on_grid, n = law(net, x, constants.grid), 20_000
    keys = jax.random.split(KEY, 3)
    h = constants.signs[jax.random.categorical(keys[0], log_prior(net, x, constants), shape=(n,))]
    y = jax.vmap(lambda one, k: grid_given_hidden(on_grid, constants, one, k))(h, jax.random.split(keys[1], n))
    rows = panel(x, constants, np.asarray(y).reshape(n, -1), (3, 1))

    @jax.jit
    def gradients(keys: Array) -> Array:
        def one(row: Panel, key: Array) -> Array:
            rows = jax.tree.map(lambda a: a[None], row)
            return jax.grad(contrastive_loss)(net, rows, jnp.ones(1), key, constants).shift[0]

        return jax.vmap(one)(rows, keys)

    drawn = np.asarray(gradients(jax.random.split(keys[2], n)))
    error = drawn.std(axis=0) / np.sqrt(n)
    assert (np.abs(drawn.mean(axis=0)) < 4.5 * error).all()
