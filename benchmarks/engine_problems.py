"""The three problems of the engine's benchmark: equations for every solver, doses, patients, and a tight reference.

The right-hand sides use nothing but + − · / on whatever they are given, so that the same function serves JAX, NumPy,
SciPy and heyoka's expressions. Time is in days, all amounts are in the dose's unit.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp


class Doses(NamedTuple):
    """Doses in the engine's form."""

    time: np.ndarray
    amount: np.ndarray
    duration: np.ndarray
    input: np.ndarray


class Problem(NamedTuple):
    """One problem: names, equations, doses every ``every`` days, outputs, typical parameters and their spread."""

    key: str
    title: str
    states: tuple[str, ...]
    start: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    rhs: Callable[[Any, tuple[Any, ...], Any, Mapping[str, Any]], tuple[Any, ...]]
    every: float
    count: int
    amount: float
    duration: float
    outputs: np.ndarray
    typical: Mapping[str, float]
    formulas: str

    @property
    def doses(self) -> Doses:
        """Return the doses, all into the first state."""
        n = self.count
        return Doses(
            self.every * np.arange(n), np.full(n, self.amount), np.full(n, self.duration), np.zeros(n, dtype=int)
        )

    def patients(self, n: int, seed: int = 20) -> dict[str, np.ndarray]:
        """Draw patients: every parameter lognormal about its typical value with a standard deviation of 0.2."""
        rng = np.random.default_rng(seed)
        # one row a patient, so that fewer patients are the first of many
        spread = np.exp(0.2 * rng.standard_normal((n, len(self.typical))))
        return {name: value * spread[:, i] for i, (name, value) in enumerate(self.typical.items())}


def _response(t: Any, y: Any, rate: Any, p: Any) -> tuple[Any, ...]:
    del t
    central, peripheral, response = y
    exchange = p["k12"] * central - p["k21"] * peripheral
    drive = p["Emax"] * central / (p["A50"] + central)
    return rate - p["k10"] * central - exchange, exchange, p["kout"] * (p["base"] - (1 + drive) * response)


RESPONSE = Problem(
    key="i",
    title="two-compartment PK, 20 infusions, indirect response",
    states=("central", "peripheral", "response"),
    start=lambda p: (0 * p["base"], 0 * p["base"], p["base"]),
    rhs=_response,
    every=14.0,
    count=20,
    amount=700.0,
    duration=1 / 24,
    outputs=np.arange(7.0, 281.0, 7.0),
    typical={"k10": 0.125, "k12": 0.156, "k21": 0.208, "kout": 0.12, "base": 10.0, "Emax": 3.0, "A50": 128.0},
    formulas="""
      central = 0; peripheral = 0; response = base; rate = 0;
      central' = rate - k10 * central - k12 * central + k21 * peripheral;
      peripheral' = k12 * central - k21 * peripheral;
      response' = kout * (base - (1 + Emax * central / (A50 + central)) * response);
    """,
)


def _cascade(t: Any, y: Any, rate: Any, p: Any) -> tuple[Any, ...]:
    del t
    central, peripheral, soluble, plaque, tau, tangles, loss, severity = y
    exchange = p["k12"] * central - p["k21"] * peripheral
    bound = central / (p["A50"] + central)
    return (
        rate - p["k10"] * central - exchange,
        exchange,
        p["ks"] * (1 - (1 + p["Es"] * bound) * soluble),
        p["kp"] * (soluble - (1 + p["Ep"] * bound) * plaque),
        p["kt"] * (1 + p["at"] * plaque - tau),
        p["kg"] * tau * tangles * (1 - tangles),
        p["kn"] * (p["an"] * tangles + plaque) * (1 - loss),
        p["kc"] * loss * severity * (1 - severity),
    )


CASCADE = Problem(
    key="ii",
    title="amyloid-tau-neurodegeneration-cognition cascade, antibody every 2 weeks for 78 weeks",
    states=("central", "peripheral", "soluble", "plaque", "tau", "tangles", "loss", "severity"),
    start=lambda p: (
        0 * p["at"],
        0 * p["at"],
        1 + 0 * p["at"],
        1 + 0 * p["at"],
        1 + p["at"],
        p["g0"],
        p["n0"],
        p["c0"],
    ),
    rhs=_cascade,
    every=14.0,
    count=39,
    amount=700.0,
    duration=1 / 24,
    outputs=13 * 7.0 * np.arange(1, 7),
    typical={
        "k10": 0.125,
        "k12": 0.156,
        "k21": 0.208,
        "A50": 96.0,
        "ks": 0.05,
        "Es": 1.5,
        "kp": 1.5e-3,
        "Ep": 5.0,
        "kt": 0.01,
        "at": 1.5,
        "kg": 6e-4,
        "g0": 0.25,
        "kn": 3e-4,
        "an": 2.0,
        "n0": 0.2,
        "kc": 6e-3,
        "c0": 0.18,
    },
    formulas="""
      central = 0; peripheral = 0; soluble = 1; plaque = 1; tau = 1 + at; tangles = g0; loss = n0; severity = c0;
      rate = 0;
      bound := central / (A50 + central);
      central' = rate - k10 * central - k12 * central + k21 * peripheral;
      peripheral' = k12 * central - k21 * peripheral;
      soluble' = ks * (1 - (1 + Es * bound) * soluble);
      plaque' = kp * (soluble - (1 + Ep * bound) * plaque);
      tau' = kt * (1 + at * plaque - tau);
      tangles' = kg * tau * tangles * (1 - tangles);
      loss' = kn * (an * tangles + plaque) * (1 - loss);
      severity' = kc * loss * severity * (1 - severity);
    """,
)


def _disposition(t: Any, y: Any, rate: Any, p: Any) -> tuple[Any, ...]:
    del t
    central, peripheral, target, bound = y
    exchange = p["k12"] * central - p["k21"] * peripheral
    binding = p["kon"] * central * target - p["koff"] * bound
    return (
        rate - p["k10"] * central - exchange - binding,
        exchange,
        p["kdeg"] * (p["R0"] - target) - binding,
        binding - p["kint"] * bound,
    )


DISPOSITION = Problem(
    key="iii",
    title="target-mediated disposition with fast binding, 6 infusions every 3 weeks",
    states=("central", "peripheral", "target", "bound"),
    start=lambda p: (0 * p["R0"], 0 * p["R0"], p["R0"], 0 * p["R0"]),
    rhs=_disposition,
    every=21.0,
    count=6,
    amount=300.0,
    duration=1 / 24,
    outputs=np.arange(1.75, 126.5, 1.75),
    typical={
        "k10": 0.1,
        "k12": 0.167,
        "k21": 0.2,
        "kon": 700.0,
        "koff": 40.0,
        "kdeg": 1.0,
        "kint": 0.4,
        "R0": 6.0,
    },
    formulas="""
      central = 0; peripheral = 0; target = R0; bound = 0; rate = 0;
      binding := kon * central * target - koff * bound;
      central' = rate - k10 * central - k12 * central + k21 * peripheral - binding;
      peripheral' = k12 * central - k21 * peripheral;
      target' = kdeg * (R0 - target) - binding;
      bound' = binding - kint * bound;
    """,
)

PROBLEMS = (RESPONSE, CASCADE, DISPOSITION)


def segments(problem: Problem) -> list[tuple[float, float, float]]:
    """Return the stretches between infusion starts and ends: begin, end, and the rate of infusion."""
    last = float(problem.outputs[-1])
    edges = np.concatenate([problem.doses.time, problem.doses.time + problem.duration, [0.0, last]])
    edges = np.unique(edges[edges <= last])
    middle = (edges[1:] + edges[:-1]) / 2
    on = (middle[:, None] > problem.doses.time) & (middle[:, None] < problem.doses.time + problem.duration)
    rates = on.any(axis=1) * problem.amount / problem.duration
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), rates.tolist(), strict=True))


def by_scipy(problem: Problem, p: Mapping[str, float], method: str, rtol: float, atol: float) -> np.ndarray:
    """Solve one patient with SciPy, stopped and started at every edge of an infusion; shape (output, state)."""
    p = {name: float(value) for name, value in p.items()}
    y = np.array(problem.start(p), dtype=float)
    rows = []
    for begin, end, rate in segments(problem):
        inside = problem.outputs[(problem.outputs > begin) & (problem.outputs <= end)]
        read = np.unique(np.append(inside, end))
        found = solve_ivp(
            lambda t, y, rate=rate: problem.rhs(t, tuple(y), rate, p),
            (begin, end),
            y,
            method=method,
            t_eval=read,
            rtol=rtol,
            atol=atol,
        )
        rows.append(found.y.T[: len(inside)])
        y = found.y[:, -1]
    return np.concatenate(rows)


def reference(problem: Problem, patients: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Solve the first patients tightly, with a method of its own for stiff problems; shape (patient, output, state)."""
    method = "Radau" if problem.key == "iii" else "DOP853"
    return np.stack([by_scipy(problem, {k: v[i] for k, v in patients.items()}, method, 1e-11, 1e-13) for i in range(n)])


def discrepancy(values: np.ndarray, truth: np.ndarray) -> float:
    """Return the largest error at any output, relative to the largest value of the state in that patient's course."""
    size = np.abs(truth).max(axis=1, keepdims=True)
    return float((np.abs(values[: len(truth)] - truth) / size).max())
