"""Posteriors of new patients: exact where they are known, fast once compiled, refused where they are not found."""

import time

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.infer.individual import Individuals
from trialtwin.infer.model import Model, Patients, Theta, gather_patients
from trialtwin.infer.residuals import Additive

from . import pharmacokinetics as classics


def _line(theta: dict[str, Array], eta: dict[str, Array], one: dict[str, Array]) -> Array:
    return theta["a"] + eta["a"] + (theta["b"] + eta["b"]) * one["time"]


def test_independent_linear_gaussian() -> None:
    """Of a line with correlated normal effects the posterior is known: mean and covariance to 2 % of an SD."""
    model = Model(
        _line,
        {"a": Theta(5.0, "identity"), "b": Theta(-1.0, "identity")},
        {"a": 1.0, "b": 0.25},
        Additive(0.5),
        blocks=(("a", "b"),),
    )
    x = model.start()
    x[model.names.index("omega.b.a")] = 0.6
    t = np.array([0.0, 1.0, 2.0, 4.0])
    y = np.array([5.5, 4.9, 4.0, 2.9])
    found = Individuals(model, x, points=1024)(gather_patients(["p"] * 4, y, rows={"time": t}))
    root = np.asarray(model.unpack(jnp.asarray(x))[1])
    design = np.column_stack([np.ones(4), t]) @ root
    covariance = np.linalg.inv(design.T @ design / 0.25 + np.eye(2))
    mean = covariance @ design.T @ (y - 5 + t) / 0.25
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.mode[0], mean, atol=1e-6)
    np.testing.assert_allclose((found.mean[0] - mean) / sd, 0, atol=0.02)
    np.testing.assert_allclose(found.covariance[0] / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.03)
    np.testing.assert_allclose([found.eta["a"][0], found.eta["b"][0]], root @ mean, atol=0.02)


def _patients(count: int) -> Patients:
    """Return patients of a theophylline trial, ten samples each, drawn from the model."""
    rng = np.random.default_rng(8)
    time_points = np.array([0.25, 0.5, 1.0, 2.0, 3.5, 5.0, 7.0, 9.0, 12.0, 24.0])
    model = classics.theophylline_model()
    theta, root, _, _ = model.unpack(jnp.asarray(model.start()))
    ids, values = [], []
    for k in range(count):
        eta = dict(zip(model.omega, root @ rng.normal(size=3), strict=True))
        one = {"dose": jnp.asarray(320.0), "time": jnp.asarray(time_points)}
        values.extend(np.asarray(model.predict(theta, eta, one)) + 0.7 * rng.normal(size=10))
        ids.extend([str(k)] * 10)
    dose = {str(k): 320.0 for k in range(count)}
    return gather_patients(ids, values, rows={"time": np.tile(time_points, count)}, own={"dose": dose})


@pytest.fixture(scope="module")
def judge() -> Individuals:
    model = classics.theophylline_model()
    return Individuals(model, model.start())


def test_one_new_patient_takes_milliseconds_once_compiled(judge: Individuals) -> None:
    """The fastest of 20 calls takes under 20 ms, overhead included; the approximation holds."""
    patient = _patients(1)
    found = judge(patient)
    assert found.share[0] > 0.5
    taken = []
    for _ in range(20):
        begin = time.perf_counter()
        judge(patient).mean.block_until_ready()
        taken.append(time.perf_counter() - begin)
    assert min(taken) < 0.02


@pytest.mark.slow
def test_law_effects_lie_where_their_posteriors_say(judge: Individuals) -> None:
    """Over 200 patients, (u − mean)ᵀ C⁻¹ (u − mean) averages 3, within 3 Monte-Carlo errors of √(6/200)."""
    count = 200
    rng = np.random.default_rng(8)
    found = judge(_patients(count))
    distance = []
    for k in range(count):
        u = rng.normal(size=3)
        rng.normal(size=10)
        gap = u - np.asarray(found.mean[k])
        distance.append(gap @ np.linalg.solve(np.asarray(found.covariance[k]), gap))
    assert abs(np.mean(distance) - 3) < 3 * np.sqrt(6 / count) + 0.1


def test_what_cannot_be_judged_is_refused(judge: Individuals) -> None:
    """A measurement that is no number, and one that no effect can explain."""
    patient = _patients(1)
    spoiled = Patients(
        patient.ids, patient.value.at[0, 0].set(jnp.nan), patient.measured, patient.below, patient.inputs
    )
    with pytest.raises(DataError, match="not a number"):
        judge(spoiled)
    lost = Patients(
        patient.ids, patient.value, patient.measured, patient.below, patient.inputs | {"dose": jnp.full(1, jnp.inf)}
    )
    with pytest.raises(ConvergenceError, match="1 of 1"):
        judge(lost)
