"""An explicit Runge–Kutta method that chooses its own steps between the points of a grid."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from trialtwin.engine.control import Attempt, march
from trialtwin.engine.fixed import runge_kutta
from trialtwin.engine.grid import Grid
from trialtwin.engine.method import AbstractMethod, Solution
from trialtwin.engine.system import AbstractSystem, Scalar, State
from trialtwin.engine.tableaus import TSITOURAS


@final
class Adaptive(AbstractMethod):
    """Tsitouras's pair of orders 5 and 4, each patient with steps of its own.

    A step is taken where the root mean square over states of gap / (atol + rtol · size) is at most 1.

    Differentiable forward, not in reverse, as the number of steps is not known beforehand.

    Parameters
    ----------
    rtol
        Relative tolerance of a step.
    atol
        Absolute tolerance of a step: one for all states, or one a state.
    most
        Most steps, taken or refused, over the whole grid; a patient who needs more is not ``ok``.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float | tuple[float, ...] = eqx.field(static=True, default=1e-9)
    most: int = eqx.field(static=True, default=100_000)

    def solve(self, system: AbstractSystem, parameters: Any, grid: Grid) -> Solution:
        """Solve for one patient."""

        def attempt(t: Scalar, h: Scalar, state: State, rates: State) -> tuple[State, State, Array]:
            after, gap, _, _ = runge_kutta(TSITOURAS, system, t, h, state, rates, parameters)
            return after, gap, jnp.ones((), dtype=bool)

        return march(Attempt(attempt, 5, self.rtol, self.atol, self.most), system, parameters, grid)
