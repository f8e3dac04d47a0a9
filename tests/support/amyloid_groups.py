"""Groups of patients on a drug, by a half-day midpoint rule with doses as boluses: an oracle beside the engine."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from trialtwin.core.treatment import AbstractTreatment

STEP = 0.5


def follow_group(
    treatment: AbstractTreatment,
    start: jax.Array,
    slope: Callable[[jax.Array, Mapping[str, jax.Array], jax.Array], jax.Array],
    own: jax.Array,
    covariates: Mapping[str, jax.Array],
    weeks: tuple[int, ...],
    *,
    state: str = "amyloid",
    draws: jax.Array | None = None,
) -> np.ndarray:
    """Return one disease state of every patient at weeks, shape (week, patient).

    ``draws`` are the treatment's random effects. ``slope`` gives the state's derivative per day from its value, the
    modulation and the patient's ``own`` numbers.
    """
    n = len(start)
    if draws is None:
        draws = jax.random.normal(jax.random.key(1), (n, len(treatment.effects)))
    steps = round(max(weeks) * 7 / STEP) + 1
    amounts = np.zeros((steps, len(treatment.inputs)))
    asked = np.zeros(steps, dtype=bool)
    for time, amount, place in zip(
        *(np.asarray(getattr(treatment.doses, k)) for k in ("time", "amount", "input")), strict=True
    ):
        at = round(float(time) / STEP)
        if at < steps:
            amounts[at, place] += amount
            asked[at] = True

    def one(effects: jax.Array, patient: Mapping[str, jax.Array], first: jax.Array, numbers: jax.Array) -> jax.Array:
        person = treatment.individual(effects, patient)

        def derivative(t: jax.Array, y: jax.Array, s: tuple) -> tuple:
            none = tuple(jnp.zeros(()) for _ in treatment.inputs)
            return slope(y, treatment.modulation(t, s, person), numbers), treatment.flow(t, s, none, person)

        def step(carry: tuple, row: tuple) -> tuple:
            t, y, s, ended = carry
            given, ask = row
            after, stop = treatment.decide(t, {state: y}, s, person)
            s = tuple(jnp.where(ask, a, b) for a, b in zip(after, s, strict=True))
            ended = ended | (ask & stop)
            s = treatment.receive(s, tuple(given * jnp.where(ended, 0.0, 1.0)), person)
            dy, ds = derivative(t, y, s)
            half = tuple(a + STEP / 2 * b for a, b in zip(s, ds, strict=True))
            dy2, ds2 = derivative(t, y + STEP / 2 * dy, half)
            later = tuple(a + STEP * b for a, b in zip(s, ds2, strict=True))
            return (t + STEP, y + STEP * dy2, later, ended), y

        begin = (jnp.zeros(()), first, treatment.initial(person), jnp.zeros((), dtype=bool))
        return lax.scan(step, begin, (jnp.asarray(amounts), jnp.asarray(asked)))[1]

    course = jax.jit(jax.vmap(one))(draws, dict(covariates), start, own)
    return np.asarray(course)[:, [round(week * 7 / STEP) for week in weeks]].T
