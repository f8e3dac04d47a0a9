"""First-order conditional estimation with interaction (FOCEI) of two classics, against NONMEM and nlmixr2.

The curves are written here in closed form; what is tested is ``infer.laplace`` and ``infer.optimise``. Both programs
print −2 log L without the constant n log 2π.
"""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from trialtwin.infer.laplace import find_mode, log_marginal
from trialtwin.infer.optimise import Optimum, minimise

pytestmark = pytest.mark.reference

LOG_2PI = float(np.log(2 * np.pi))
type Data = Mapping[str, Array]
# mean and log SD of the measurements, given parameters, effects and one patient's data
type Moments = Callable[[Array, Array, Data], tuple[Array, Array]]


def read(path: Path) -> dict[str, Array]:
    """Return doses and measurements, one row a patient, padded with zeros; ``measured`` is 1 where there is one."""
    with path.open(encoding="utf-8") as stream:
        rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(stream)]
    patients = [[r for r in rows if r["ID"] == name] for name in sorted({r["ID"] for r in rows})]
    doses = [[(r["TIME"], r["AMT"]) for r in p if r["AMT"] > 0] for p in patients]
    measured = [[(r["TIME"], r["DV"], 1.0) for r in p if r["EVID"] == 0] for p in patients]
    own = {name: jnp.array([p[0][name] for p in patients]) for name in ("WT", "APGR") if name in rows[0]}
    return own | _columns(doses, "dosed", "amount") | _columns(measured, "time", "value", "measured")


def _columns(rows: list[list[tuple[float, ...]]], *names: str) -> dict[str, Array]:
    padded = np.zeros((len(rows), max(map(len, rows)), len(names)))
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return {name: jnp.asarray(padded[..., k]) for k, name in enumerate(names)}


def foce(moments: Moments, data: Data, effects: int) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return −log L and its gradient as a function of the parameters."""

    def joint(theta: Array, u: Array, one: Data) -> Array:
        mean, log_sd = moments(theta, u, one)
        terms = ((one["value"] - mean) * jnp.exp(-log_sd)) ** 2 + 2 * log_sd + LOG_2PI
        return -0.5 * jnp.sum(one["measured"] * terms) - 0.5 * jnp.sum(u**2 + LOG_2PI)

    def expand(theta: Array, u: Array, one: Data) -> tuple[Array, Array, Array]:
        value, gradient = jax.value_and_grad(joint, argnums=1)(theta, u, one)
        _, log_sd = moments(theta, u, one)
        J, L = jax.jacfwd(lambda v: moments(theta, v, one))(u)
        weight = one["measured"] * jnp.exp(-2 * log_sd)
        interaction = 2 * L.T @ (one["measured"][:, None] * L)
        return value, gradient, J.T @ (weight[:, None] * J) + interaction + jnp.eye(effects)

    @jax.jit
    def compute(theta: Array) -> tuple[Array, Array, Array]:
        start = jnp.zeros(effects)
        modes = jax.vmap(lambda one: find_mode(joint, expand, theta, start, one))(data)

        def total(th: Array) -> Array:
            return -jax.vmap(lambda u, one: log_marginal(joint, expand, th, u, one))(modes.position, data).sum()

        return modes.converged.all(), *jax.value_and_grad(total)(theta)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        converged, value, gradient = compute(jnp.asarray(theta))
        assert converged
        return float(value), np.asarray(gradient)

    return objective


def printed(value: float, data: Data) -> float:
    """Return −2 log L as the programs print it."""
    return 2 * value - float(data["measured"].sum()) * LOG_2PI


def absorbed(theta: Array, u: Array, one: Data) -> tuple[Array, Array]:
    """One compartment with first-order absorption; log ka, CL and V vary between patients; additive error."""
    ka, cl, v = jnp.exp(theta[:3] + jnp.exp(theta[3:6]) * u)
    k, t = cl / v, one["time"]
    mean = one["amount"][0] * ka / (v * (ka - k)) * (jnp.exp(-k * t) - jnp.exp(-ka * t))
    return mean, jnp.full_like(mean, theta[6])


@pytest.fixture(scope="module")
def theophylline(shared: Path) -> tuple[Data, Optimum]:
    data = read(shared / "data" / "pk" / "theo_sd.csv")
    start = np.array([0.45, 1.0, 3.45, np.log(0.6), np.log(0.3), np.log(0.2), np.log(0.7)])
    names = ("tka", "tcl", "tv", "log ω ka", "log ω cl", "log ω v", "log σ")
    return data, minimise(foce(absorbed, data, effects=3), start, names=names)


def test_reference_theophylline_objective(theophylline: tuple[Data, Optimum]) -> None:
    """nlmixr2 FOCEI, theo_sd: OFV 116.80."""
    data, found = theophylline
    assert int(data["measured"].sum()) == 132
    assert printed(found.value, data) == pytest.approx(116.80, abs=0.01)


def test_reference_theophylline_estimates(theophylline: tuple[Data, Optimum]) -> None:
    """nlmixr2 FOCEI, theo_sd: tka .464, tcl 1.012, tv 3.460, ω² .402/.069/.019, additive SD .694."""
    _, found = theophylline
    np.testing.assert_allclose(found.position[:3], [0.464, 1.012, 3.460], atol=1e-3)
    np.testing.assert_allclose(np.exp(2 * found.position[3:6]), [0.402, 0.069, 0.019], atol=1e-3)
    assert np.exp(found.position[6]) == pytest.approx(0.694, abs=1e-3)


def infused(theta: Array, u: Array, one: Data) -> tuple[Array, Array]:
    """One compartment, doses superposed; CL and V in proportion to weight; error in proportion to concentration.

    Rows that are only padding get a concentration of 1, so that their logarithm exists; they are not counted.
    """
    cl = jnp.exp(theta[0] + jnp.exp(theta[3]) * u[0]) * one["WT"]
    v = jnp.exp(theta[1] + jnp.exp(theta[4]) * u[1]) * one["WT"] * (1 + (one["APGR"] < 5) * theta[2])
    lag = one["time"][:, None] - one["dosed"]
    given = (lag >= 0) & (one["amount"] > 0)
    left = jnp.where(given, one["amount"] / v * jnp.exp(-cl / v * jnp.where(given, lag, 0.0)), 0.0).sum(axis=1)
    mean = jnp.where(one["measured"] > 0, left, 1.0)
    return mean, theta[5] + jnp.log(mean)


# NONMEM 7, FOCEI, pheno: TVCL, TVV, COVAPGR, ω² of CL and V, σ²; OFV 586.276056
NONMEM = np.array([0.00469555, 0.984258, 0.15892, 0.0293508, 0.027906, 0.013241])


@pytest.fixture(scope="module")
def phenobarbital(shared: Path) -> tuple[Data, Callable[[np.ndarray], tuple[float, np.ndarray]]]:
    data = read(shared / "data" / "pk" / "pheno_sd.csv")
    return data, foce(infused, data, effects=2)


def test_reference_phenobarbital_objective(
    phenobarbital: tuple[Data, Callable[[np.ndarray], tuple[float, np.ndarray]]],
) -> None:
    """NONMEM 7 FOCEI, pheno: OFV 586.276056 at its estimates, to the last digit printed; the interaction counts."""
    data, objective = phenobarbital
    at = np.concatenate([np.log(NONMEM[:2]), NONMEM[2:3], 0.5 * np.log(NONMEM[3:])])
    assert int(data["measured"].sum()) == 155
    assert printed(objective(at)[0], data) == pytest.approx(586.276056, abs=1e-6)


def test_reference_phenobarbital_estimates(
    phenobarbital: tuple[Data, Callable[[np.ndarray], tuple[float, np.ndarray]]],
) -> None:
    """And from a start of our own the search ends where NONMEM's did."""
    data, objective = phenobarbital
    start = np.array([np.log(0.006), 0.0, 0.1, np.log(0.2), np.log(0.2), np.log(0.12)])
    found = minimise(objective, start, names=("CL", "V", "APGR", "log ω CL", "log ω V", "log σ"))
    estimates = np.concatenate([np.exp(found.position[:2]), found.position[2:3], np.exp(2 * found.position[3:])])
    assert printed(found.value, data) == pytest.approx(586.276056, abs=1e-4)
    np.testing.assert_allclose(estimates, NONMEM, rtol=2e-3)
