"""An arm of a replay programmed twice: scipy integrates the published equations for some of its patients."""

import numpy as np
import pytest
from scipy import integrate, special

from trialtwin.core.backend import enable_compilation_cache
from trialtwin.study.replay.load import load_trial
from trialtwin.study.replay.parameters import shipped_calibration
from trialtwin.study.replay.simulate import EngineSimulator

# lecanemab: Majid 2024 as in the drug's file; typed in again here
CL, V1, Q, V2 = 0.0154 * 24, 3.24, 0.00718 * 24, 2.0
CV_CL, CV_V1, CV_V2 = 0.349, 0.122, 0.946


@pytest.fixture(scope="module")
def simulator() -> EngineSimulator:
    """Return the simulator of the other tests, so that nothing is compiled anew."""
    enable_compilation_cache()
    return EngineSimulator(seed=1, patients=256)


def _slopes(t, y, rate, person, values):  # type: ignore[no-untyped-def]
    """Return derivatives per day of C (mg), P (mg), A, X, T, z, from the equations of the documentation."""
    central, peripheral, amyloid, driver, tau, _ = y
    cl, v1, v2 = person["cl"], person["v1"], person["v2"]
    c = max(central, 0.0) / v1
    removal = person["kd"] * c**1.36 / (300**1.36 + c**1.36)
    theta = values["θ"] * (1 - values["κ"] * tau)
    per_year = np.array(
        [
            0.55 + 0.195 * amyloid * (1 - amyloid / person["capacity"]) - removal * amyloid,
            4 * (amyloid / 90 - driver),
            0.25 * (1 - 0.4 + 0.4 * driver) * tau * (1 - tau),
            values["kz"] * person["rate"] * (tau / 0.35) ** values["γ"] * (1 - theta + theta * driver),
        ]
    )
    kinetics = [
        rate - (cl / v1 + Q / v1) * central + Q / v2 * peripheral,
        Q / v1 * central - Q / v2 * peripheral,
    ]
    return [*kinetics, *(per_year / 365.25)]


def _course(person, start, weeks, values, dose):  # type: ignore[no-untyped-def]
    """Integrate from dose to dose, each an infusion of an hour every two weeks."""
    state, found = np.array(start), {0.0: (start[2], start[5])}
    for number in range(39):
        begin = 14.0 * number
        for left, right, rate in ((begin, begin + 1 / 24, dose * 24), (begin + 1 / 24, begin + 14, 0.0)):
            solved = integrate.solve_ivp(
                _slopes, (left, right), state, args=(rate, person, values), method="LSODA", rtol=1e-9, atol=1e-9
            )
            state = solved.y[:, -1]
            inside = [7 * w for w in weeks if left < 7 * w <= right]
            if inside:
                at = integrate.solve_ivp(
                    _slopes,
                    (left, inside[0]),
                    solved.y[:, 0],
                    args=(rate, person, values),
                    method="LSODA",
                    rtol=1e-9,
                    atol=1e-9,
                ).y[:, -1]
                found[inside[0] / 7] = (at[2], at[5])
    return found


def test_independent_scipy_integration_of_lecanemab(simulator: EngineSimulator) -> None:
    """Amyloid within 0.05 CL and severity within 0.0005 of LSODA at a tolerance of 1e-9, in three patients."""
    trial, _ = load_trial("clarity-ad")
    arm, calibration = trial.arms[1], shipped_calibration()
    values = calibration.natural()
    courses = simulator.courses(trial, "all", arm, values)
    entry = courses.entry
    omega = {name: np.sqrt(np.log1p(cv**2)) for name, cv in (("cl", CV_CL), ("v1", CV_V1), ("v2", CV_V2))}
    tie = np.tanh(values["capacity by amyloid"])
    for who in (0, 5, 23):
        weight, female = entry.weight[who], entry.female[who]
        effects = dict(zip(("cl", "v1", "v2", "removal"), entry.treatment[who], strict=False))
        person = {
            "cl": CL * (weight / 72) ** 0.353 * 0.791**female * np.exp(omega["cl"] * effects["cl"]),
            "v1": V1 * (weight / 72) ** 0.513 * 0.868**female * np.exp(omega["v1"] * effects["v1"]),
            "v2": V2 * np.exp(omega["v2"] * effects["v2"]),
            "kd": values["removal by lecanemab"] * np.exp(0.75 * effects["removal"] - 0.75**2 / 2),
            "rate": np.exp(
                0.75 * entry.rate[who]
                - 0.75**2 / 2
                + values["APOE4"] * (entry.alleles[who] - 0.72)
                + values["sex"] * (female - 0.5)
                + values["age"] * (entry.age[who] - 75)
            ),
            "capacity": values["K"]
            * np.exp(
                0.25
                * (tie * np.clip((entry.amyloid[who] - 80) / 38, -3, 3) + np.sqrt(1 - tie**2) * entry.capacity[who])
            ),
        }
        amyloid = max(entry.amyloid[who], 0.0)
        start = [0.0, 0.0, amyloid, amyloid / 90, special.expit(-0.6 + 0.8 * entry.tau[who]), entry.severity[who]]
        found = _course(person, start, courses.weeks[1:], values, 10 * weight)
        for column, week in enumerate(courses.weeks):
            assert abs(courses.amyloid[who, column] - found[week][0]) < 0.05
            assert abs(courses.severity[who, column] - found[week][1]) < 5e-4
