"""Closed-form curves and readers of the classic data sets, for tests of population fits."""

import csv
from pathlib import Path

import jax.numpy as jnp
from jaxtyping import Array

from trialtwin.infer.model import Model, Patients, Theta, gather_patients
from trialtwin.infer.population import Fit
from trialtwin.infer.residuals import Additive, Combined, Proportional


def records(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def oral(ka: Array, cl: Array, v: Array, dose: Array, time: Array) -> Array:
    """One compartment with first-order absorption; no drug before time 0."""
    k, t = cl / v, jnp.maximum(time, 0.0)
    return dose * ka / (v * (ka - k)) * (jnp.exp(-k * t) - jnp.exp(-ka * t))


def theophylline(path: Path) -> Patients:
    """theo_sd: rows with EVID 0 are measurements, the one at the dose included."""
    rows = records(path)
    seen = [r for r in rows if float(r["EVID"]) == 0]
    dose = {r["ID"]: float(r["AMT"]) for r in rows if float(r["AMT"]) > 0}
    time = [float(r["TIME"]) for r in seen]
    return gather_patients(
        [r["ID"] for r in seen], [float(r["DV"]) for r in seen], rows={"time": time}, own={"dose": dose}
    )


def theophylline_model() -> Model:
    """nlmixr2's example: log ka, CL and V vary, additive error."""

    def predict(theta: dict[str, Array], eta: dict[str, Array], one: dict[str, Array]) -> Array:
        ka, cl, v = (theta[n] * jnp.exp(eta[n]) for n in ("ka", "cl", "v"))
        return oral(ka, cl, v, one["dose"], one["time"])

    return Model(predict, {"ka": 1.5, "cl": 2.7, "v": 31.0}, {"ka": 0.36, "cl": 0.09, "v": 0.04}, Additive(0.7))


def phenobarbital(path: Path) -> Patients:
    """pheno_sd: doses reach the model as padded arrays."""
    rows = records(path)
    seen = [r for r in rows if float(r["EVID"]) == 0]
    names = list(dict.fromkeys(r["ID"] for r in rows))
    given = {
        n: [(float(r["TIME"]), float(r["AMT"])) for r in rows if r["ID"] == n and float(r["AMT"]) > 0] for n in names
    }
    longest = max(map(len, given.values()))
    own = {
        "dosed": {n: [g[0] for g in given[n]] + [0.0] * (longest - len(given[n])) for n in names},
        "amount": {n: [g[1] for g in given[n]] + [0.0] * (longest - len(given[n])) for n in names},
        "weight": {r["ID"]: float(r["WT"]) for r in rows},
        "apgar": {r["ID"]: float(r["APGR"]) for r in rows},
    }
    time = [float(r["TIME"]) for r in seen]
    return gather_patients([r["ID"] for r in seen], [float(r["DV"]) for r in seen], rows={"time": time}, own=own)


def phenobarbital_model() -> Model:
    """CL and V in proportion to weight, V higher where the Apgar score is below 5; proportional error."""

    def predict(theta: dict[str, Array], eta: dict[str, Array], one: dict[str, Array]) -> Array:
        cl = theta["cl"] * jnp.exp(eta["cl"]) * one["weight"]
        v = theta["v"] * jnp.exp(eta["v"]) * one["weight"] * (1 + (one["apgar"] < 5) * theta["apgar"])
        lag = one["time"][:, None] - one["dosed"]
        given = (lag >= 0) & (one["amount"] > 0)
        left = jnp.exp(-cl / v * jnp.where(given, lag, 0.0))
        return jnp.where(given, one["amount"] / v * left, 0.0).sum(axis=1)

    theta = {"cl": Theta(0.006), "v": Theta(1.0), "apgar": Theta(0.1, "identity")}
    return Model(predict, theta, {"cl": 0.04, "v": 0.04}, Proportional(0.12))


def indomethacin(path: Path) -> Patients:
    """Indometh of R's datasets."""
    rows = records(path)
    time = [float(r["time"]) for r in rows]
    return gather_patients([r["Subject"] for r in rows], [float(r["conc"]) for r in rows], rows={"time": time})


def indomethacin_model() -> Model:
    """SSbiexp with normal effects on A1, lrc1 and A2, as fm2Indom of Pinheiro and Bates (2000)."""

    def predict(theta: dict[str, Array], eta: dict[str, Array], one: dict[str, Array]) -> Array:
        fast, slow = jnp.exp(theta["lrc1"] + eta["lrc1"]), jnp.exp(theta["lrc2"])
        early = (theta["A1"] + eta["A1"]) * jnp.exp(-fast * one["time"])
        return early + (theta["A2"] + eta["A2"]) * jnp.exp(-slow * one["time"])

    theta = {name: Theta(s, "identity") for name, s in {"A1": 2.8, "lrc1": 0.8, "A2": 0.5, "lrc2": -1.3}.items()}
    return Model(predict, theta, {"A1": 0.3, "lrc1": 0.03, "A2": 0.01}, Additive(0.08))


def warfarin(path: Path, kind: str = "cp") -> Patients:
    """Return concentrations (cp, mg/L) or prothrombin activity (pca, %) against hours, with dose and weight."""
    rows = records(path)
    seen = [r for r in rows if r["dvid"] == kind and float(r["evid"]) == 0]
    own = {
        "dose": {r["id"]: float(r["amt"]) for r in rows if float(r["amt"]) > 0},
        "weight": {r["id"]: float(r["wt"]) for r in rows},
    }
    time = [float(r["time"]) for r in seen]
    return gather_patients([r["id"] for r in seen], [float(r["dv"]) for r in seen], rows={"time": time}, own=own)


def warfarin_model() -> Model:
    """Lag, absorption, CL and V with allometric weight; combined error."""

    def predict(theta: dict[str, Array], eta: dict[str, Array], one: dict[str, Array]) -> Array:
        size = one["weight"] / 70
        cl = theta["cl"] * jnp.exp(eta["cl"]) * size**0.75
        v = theta["v"] * jnp.exp(eta["v"]) * size
        return oral(theta["ka"] * jnp.exp(eta["ka"]), cl, v, one["dose"], one["time"] - theta["lag"])

    theta = {"ka": 1.0, "cl": 0.13, "v": 8.0, "lag": 0.8}
    return Model(predict, theta, {"ka": 0.3, "cl": 0.07, "v": 0.03}, Combined(0.3, 0.1))


def warfarin_effect(path: Path, kinetics: Fit) -> Patients:
    """Return prothrombin activity with each patient's own estimated concentrations on a grid of half hours."""
    patients = warfarin(path, "pca")
    grid = jnp.arange(0.0, 144.5, 0.5)
    theta = kinetics.model.unpack(jnp.asarray(kinetics.maximum.position))[0]
    effects = kinetics.individual_effects()
    curves = []
    for k, name in enumerate(patients.ids):
        # a patient without measured concentrations gets the typical ones
        eta = {e: jnp.asarray(v) for e, v in effects.get(name, dict.fromkeys(kinetics.model.omega, 0.0)).items()}
        own = {n: patients.inputs[n][k] for n in ("dose", "weight")}
        curves.append(kinetics.model.predict(theta, eta, own | {"time": grid}))
    inputs = patients.inputs | {"curve": jnp.stack(curves), "grid": jnp.broadcast_to(grid, (len(curves), len(grid)))}
    return Patients(patients.ids, patients.value, patients.measured, patients.below, inputs)


def warfarin_effect_model() -> Model:
    """dE/dt = kout E0 (1 − Imax C/(IC50 + C)) − kout E, solved by the trapezoid rule on the grid; Imax is 1."""

    def predict(theta: dict[str, Array], eta: dict[str, Array], one: dict[str, Array]) -> Array:
        start, turnover, half = (theta[n] * jnp.exp(eta[n]) for n in ("start", "turnover", "half"))
        grid, curve = one["grid"], one["curve"]
        push = turnover * start * half / (half + curve) * jnp.exp(turnover * grid)
        total = jnp.concatenate([jnp.zeros(1), jnp.cumsum(0.5 * jnp.diff(grid) * (push[1:] + push[:-1]))])
        return jnp.interp(one["time"], grid, (start + total) * jnp.exp(-turnover * grid))

    theta = {"start": 96.0, "turnover": 0.05, "half": 1.2}
    return Model(predict, theta, {"start": 0.01, "turnover": 0.02, "half": 0.15}, Additive(4.0))
