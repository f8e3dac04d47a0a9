"""A treated course integrated by scipy, from dose to dose: an oracle that shares no code with the engine."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from trialtwin.core.treatment import AbstractTreatment


def scalars(values: np.ndarray) -> tuple[jax.Array, ...]:
    """Return numbers as the scalars of which states consist."""
    return tuple(jnp.asarray(value) for value in values)


type Disease = Callable[[float, np.ndarray, Mapping[str, float]], np.ndarray]


def follow(
    treatment: AbstractTreatment,
    times: np.ndarray,
    *,
    effects: np.ndarray | None = None,
    covariates: Mapping[str, float] | None = None,
    start: Mapping[str, float] | None = None,
    disease: Disease | None = None,
    rtol: float = 1e-9,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the disease's states and the treatment's at times, before a dose that falls on one.

    ``disease`` gives the derivative of the states named in ``start`` from their values and the modulation.
    """
    draws = jnp.zeros(len(treatment.effects)) if effects is None else jnp.asarray(effects)
    own = treatment.individual(draws, {k: jnp.asarray(v) for k, v in (covariates or {}).items()})
    names = tuple(start or {})
    m = len(names)
    y = np.array([*(start or {}).values(), *(float(s) for s in treatment.initial(own))], dtype=np.float64)

    @jax.jit
    def flow(t, state, rates):
        return jnp.stack([jnp.asarray(s, dtype=float) for s in treatment.flow(t, tuple(state), tuple(rates), own)])

    @jax.jit
    def modulation(t, state):
        return treatment.modulation(t, tuple(state), own)

    doses = [np.asarray(getattr(treatment.doses, k)) for k in ("time", "amount", "duration", "input")]
    marks = np.unique(np.concatenate([[0.0], doses[0], doses[0] + doses[2], times]))
    given, ended, kept = np.zeros(len(doses[0]), bool), False, {}
    for begin, end in zip(marks, [*marks[1:], marks[-1]], strict=True):
        if begin in times:
            kept[float(begin)] = y.copy()
        due = np.flatnonzero(doses[0] == begin)
        if len(due):
            now = {name: jnp.asarray(value) for name, value in zip(names, y[:m], strict=True)}
            state, flag = treatment.decide(jnp.asarray(begin), now, scalars(y[m:]), own)
            y[m:] = [float(s) for s in state]
            ended = ended or bool(flag)
            given[due] = not ended
        bolus = np.zeros(len(treatment.inputs))
        for i in due[given[due] & (doses[2][due] == 0)]:
            bolus[doses[3][i]] += doses[1][i]
        if bolus.any():
            y[m:] = [float(s) for s in treatment.receive(scalars(y[m:]), scalars(bolus), own)]
        rates = np.zeros(len(treatment.inputs))
        for i in np.flatnonzero(given & (doses[2] > 0) & (doses[0] <= begin) & (doses[0] + doses[2] > begin + 1e-12)):
            rates[doses[3][i]] += doses[1][i] / doses[2][i]

        def slope(t, y, rates=rates):
            own_flow = np.asarray(flow(t, y[m:], rates))
            if disease is None:
                return own_flow
            now = jax.device_get(modulation(t, y[m:]))
            return np.concatenate([disease(t, y[:m], now), own_flow])

        if end > begin:
            solved = solve_ivp(slope, (begin, end), y, method="LSODA", rtol=rtol, atol=rtol * 1e-3)
            assert solved.success, solved.message
            y = solved.y[:, -1]
    rows = np.array([kept[float(t)] for t in times])
    return rows[:, :m], rows[:, m:]
