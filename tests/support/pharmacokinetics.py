"""A two-compartment model of the engine, and its closed form, written down on its own."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from trialtwin.engine.system import Equations


class Table(NamedTuple):
    """Doses as the engine reads them."""

    time: np.ndarray
    amount: np.ndarray
    duration: np.ndarray
    input: np.ndarray


def doses(time: Any, amount: Any, duration: Any = 0.0) -> Table:
    """Return doses into the first input."""
    time = np.atleast_1d(np.asarray(time, dtype=float))
    full = np.ones_like(time)
    return Table(time, amount * full, duration * full, np.zeros(len(time), dtype=int))


RATES = {"k10": 0.3, "k12": 0.4, "k21": 0.2}
TWO_COMPARTMENTS = Equations(
    states=("central", "peripheral"),
    inputs=("central",),
    start=lambda p: (jnp.zeros_like(p["k10"]), jnp.zeros_like(p["k10"])),
    rhs=lambda t, y, r, p: (
        r[0] - (p["k10"] + p["k12"]) * y[0] + p["k21"] * y[1],
        p["k12"] * y[0] - p["k21"] * y[1],
    ),
)


def closed_form(times: np.ndarray, given: Table) -> np.ndarray:
    """Return the central amount by superposition of biexponentials; just before a bolus at its own time."""
    k10, k12, k21 = RATES.values()
    total = k10 + k12 + k21
    root = np.sqrt(total**2 - 4 * k10 * k21)
    alpha, beta = (total + root) / 2, (total - root) / 2
    parts = ((alpha, (alpha - k21) / (alpha - beta)), (beta, (k21 - beta) / (alpha - beta)))
    central = np.zeros_like(times)
    for when, amount, duration in zip(given.time, given.amount, given.duration, strict=True):
        since = times - when
        for rate, weight in parts:
            if duration == 0:
                central += np.where(since > 0, amount * weight * np.exp(-rate * np.maximum(since, 0)), 0)
            else:
                on = np.clip(since, 0, duration)
                after = np.maximum(since - duration, 0)
                central += amount / duration * weight / rate * (1 - np.exp(-rate * on)) * np.exp(-rate * after)
    return central
