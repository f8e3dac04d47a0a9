"""A linearly implicit method for stiff systems, each patient with steps of its own."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from trialtwin.engine.control import Attempt, march
from trialtwin.engine.elimination import Factors, factorise, jacobian, solve_factors
from trialtwin.engine.grid import Grid
from trialtwin.engine.method import AbstractMethod, Solution, once
from trialtwin.engine.system import AbstractSystem, Scalar, State

# RODAS: Hairer & Wanner, Solving Ordinary Differential Equations II (1996), section IV.7, doi:10.1007/978-3-642-05221-7
GAMMA = 0.25
NODES = (0.0, 0.386, 0.21, 0.63, 1.0, 1.0)
SHIFTS = (0.25, -0.1043, 0.1035, -0.03620000000000023, 0.0, 0.0)
STAGES = (
    (),
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
)
COUPLINGS = (
    (),
    (-5.6688,),
    (-2.430093356833875, -0.2063599157091915),
    (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
    (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
    (8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054),
)


@final
class Stiff(AbstractMethod):
    """RODAS, an L-stable, stiffly accurate Rosenbrock method of orders 4 and 3.

    The Jacobian is exact, by forward differentiation; its structural zeros are found once, and the linear systems are
    eliminated symbolically, so that the step compiles to elementwise arithmetic over patients.

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
            def flow(when: Scalar, y: State) -> State:
                return system.flow(when, y, rates, parameters)

            return _rodas(flow, t, h, state)

        return march(Attempt(attempt, 4, self.rtol, self.atol, self.most), system, parameters, grid)


def _rodas(flow: Any, t: Scalar, h: Scalar, state: State) -> tuple[State, State, Array]:
    """Return the state after a step, its error, and whether the elimination worked."""
    matrix, by_time = once(jacobian(flow, t, state))
    scale = 1 / (h * GAMMA)
    n = len(state)
    system = [
        [_entry(matrix[i][j], scale if i == j else None) for j in range(n)] for i in range(n)
    ]  # 1/(hγ) − J, None where it is zero
    factors = factorise(system)
    lower, upper, reciprocal = once((factors.lower, factors.upper, factors.reciprocal))
    factors = Factors(factors.order, lower, upper, reciprocal)
    stages: list[State] = []
    inner = state
    for k, couplings in enumerate(COUPLINGS):
        if k < len(STAGES):
            inner = _moved(state, STAGES[k], stages)
        else:
            inner = tuple(y + s for y, s in zip(inner, stages[-1], strict=True))
        slope = once(flow(t + NODES[k] * h, inner))
        right = _moved(slope, tuple(c / h for c in couplings), stages)
        if by_time is not None and SHIFTS[k] != 0.0:
            right = tuple(r if d is None else r + SHIFTS[k] * h * d for r, d in zip(right, by_time, strict=True))
        stages.append(once(solve_factors(factors, right)))
    after = tuple(y + s for y, s in zip(inner, stages[-1], strict=True))
    worked = jnp.stack([jnp.isfinite(y) for y in after]).all()
    return after, stages[-1], worked


def _entry(slope: Array | None, diagonal: Array | None) -> Array | None:
    if slope is None:
        return diagonal
    return -slope if diagonal is None else diagonal - slope


def _moved(base: State, weights: tuple[Any, ...], stages: list[State]) -> State:
    moved = []
    for i, y in enumerate(base):
        total = y
        for w, stage in zip(weights, stages, strict=False):
            total = total + w * stage[i]
        moved.append(total)
    return tuple(moved)
