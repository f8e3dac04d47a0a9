"""The arms of the dexamethasone benchmark: what each is told, fitted to some patients, forecasting others.

All are told the dosing plan. ``neural`` knows no equation; ``expert`` knows the four published ones with their rates,
and takes them for the whole; ``residual`` corrects them by a network; ``hybrid`` adds learned states beside them, by a
network with one hidden layer, and is told how many there are; ``ensemble`` weighs neural and expert by the validation
patients. Those with equations know the law of initial states, as the published ones do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hybrid_simulator import SEEN, TIMES, Simulated, errors
from jaxtyping import Array

from trialtwin.core.errors import ConvergenceError
from trialtwin.infer.latent_dynamics import Fit, Panel, Structure, fit_latent_dynamics
from trialtwin.infer.latent_forecast import forecast_latent_dynamics

DRAWS = 50
STEPS = 1500
NEURAL_UNITS = 32
NEURAL_STATES = (3, 6)  # tried besides as many as there are
CEILING = 10.0  # of the four known states, all below 4 in every patient
ARMS = ("neural", "expert", "residual", "ensemble", "hybrid")
TOLD = {
    "neural": "no mechanism",
    "expert": "mechanism known, taken for the whole",
    "residual": "mechanism known + learned residual on its equations",
    "ensemble": "expert and neural, weighed on validation patients",
    "hybrid": "mechanism known + learned further states",
}


@dataclass(frozen=True, eq=False)
class Answer:
    """Forecasts from t = 5 on, and draws of them; ``size`` is the effective number of posterior points a patient.

    ``tried`` is the validation error of each number of states that was tried.
    """

    mean: np.ndarray
    draws: np.ndarray
    size: np.ndarray
    tried: dict[str, float] = field(default_factory=dict)


def dose(t: Array, inputs: Any) -> Array:
    """Return the dosing rate at a time."""
    day, amount = inputs
    return jnp.where(t >= day, amount * jnp.exp(jnp.minimum(day - t, 0.0)), 0.0)


def expert(t: Array, y: Array, inputs: Any) -> Array:
    """Return the published equations."""
    d, i, m, x = y
    return jnp.stack([d - d * m**2 - d * i, d - i + d * i + i**2 / (1 + i**2) - x * i, i, dose(t, inputs) - x])


def dose_signal(t: Array, inputs: Any) -> Array:
    """Return the dosing rate on a scale of one, for a network."""
    return dose(t, inputs)[None] / 3.0


def structure_of(arm: str, states: int) -> Structure:
    """Return what an arm knows and learns; ``neural`` has as many states as said."""
    if arm == "neural":
        return Structure(
            None, 0, states, hidden=NEURAL_UNITS, signal=dose_signal, signals=1, start="normal", substeps=3
        )
    extra = states - 4 if arm == "hybrid" else 0
    return Structure(expert, 4, extra, residual=arm == "residual", start="exponential", scale=0.01, ceiling=CEILING)


def panel_of(simulated: Simulated, rows: slice, times: int) -> Panel:
    """Return patients as known up to a time."""
    return Panel(
        jnp.asarray(simulated.values[rows, :times]),
        jnp.asarray(simulated.observed[rows, :times]),
        (jnp.asarray(simulated.day[rows]), jnp.asarray(simulated.amount[rows])),
    )


def answer(arm: str, simulated: Simulated, states: int, size: int, key: Array, done: dict[str, Any]) -> Answer:
    """Fit an arm to the first patients and forecast the test patients; ``done`` holds arms of the same cell."""
    fit_key, ask_key = jax.random.split(key)
    if arm == "ensemble":
        return _ensemble(simulated, done)
    learning = panel_of(simulated, simulated.part("train", size), TIMES)

    def ask(fit: Fit, name: str) -> Answer:
        known = panel_of(simulated, simulated.part(name), SEEN)
        found = forecast_latent_dynamics(fit, known, times=TIMES, draws=DRAWS, key=ask_key)
        return Answer(found.expected[:, SEEN:], found.draws[:, :, SEEN:], found.size)

    if arm == "neural":
        ranked, tried = _rank(states, learning, fit_key, ask, simulated)
        for fit, held in ranked:
            try:
                found = ask(fit, "test")
            except ConvergenceError:
                continue  # a test patient's start was not found; what they turned out to be is not looked at
            done["neural, validation"] = held
            return replace(found, tried=tried)
        raise ConvergenceError("no network without a mechanism forecasts all patients", do="allow more steps")
    fit = fit_latent_dynamics(structure_of(arm, states), learning, key=fit_key, steps=STEPS)
    if arm == "expert":
        done["expert, validation"] = ask(fit, "validation")
    return ask(fit, "test")


def _rank(
    states: int, learning: Panel, key: Array, ask: Callable[[Fit, str], Answer], simulated: Simulated
) -> tuple[list[tuple[Fit, Answer]], dict[str, float]]:
    """Fit networks of several numbers of states; those that forecast the validation patients best come first."""
    found: list[tuple[float, Fit, Answer]] = []
    tried = {}
    for count in sorted({*NEURAL_STATES, states}):
        try:
            fit = fit_latent_dynamics(structure_of("neural", count), learning, key=key, steps=STEPS)
            held = ask(fit, "validation")
        except ConvergenceError:
            tried[str(count)] = float("nan")  # said in the cell's file, and never chosen
            continue
        tried[str(count)] = float(np.sqrt(errors(held.mean, simulated, "validation").mean()))
        found.append((tried[str(count)], fit, held))
    return [(fit, held) for _, fit, held in sorted(found, key=lambda one: one[0])], tried


def _ensemble(simulated: Simulated, done: dict[str, Any]) -> Answer:
    """Weigh expert and neural by least squares on the validation patients."""
    rows = simulated.part("validation")
    seen = simulated.observed[rows, SEEN:]
    target = simulated.values[rows, SEEN:][seen]
    both = np.column_stack([done[f"{name}, validation"].mean[seen] for name in ("expert", "neural")])
    weights = np.linalg.lstsq(both, target, rcond=None)[0]
    parts = [done[name] for name in ("expert", "neural")]
    mix: Callable[[str], np.ndarray] = lambda field: sum(  # noqa: E731
        w * getattr(part, field) for w, part in zip(weights, parts, strict=True)
    )
    return Answer(mix("mean"), mix("draws"), np.minimum(parts[0].size, parts[1].size))
