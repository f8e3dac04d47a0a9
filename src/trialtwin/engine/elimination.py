"""Sparse Jacobians and Gaussian elimination written out on scalars, so that both compile to elementwise arithmetic."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array

from trialtwin.engine.system import Scalar, State

type Matrix = list[list[Array | None]]  # None is a structural zero


class Factors(NamedTuple):
    """A matrix as lower and upper triangles, the reciprocals of the pivots, and the order of elimination."""

    order: tuple[int, ...]
    lower: Matrix
    upper: Matrix
    reciprocal: list[Array]


def jacobian(
    flow: Callable[[Scalar, State], State], t: Scalar, state: State
) -> tuple[Matrix, list[Array | None] | None]:
    """Return ∂flow/∂state and ∂flow/∂t, with None for what is zero whatever the values are."""
    n = len(state)
    depends = dependencies(flow, t, state)
    matrix: Matrix = [[None] * n for _ in range(n)]
    for j in range(n):

        def along(x: Array, j: int = j) -> State:
            return flow(t, (*state[:j], x, *state[j + 1 :]))

        _, slopes = jax.jvp(along, (state[j],), (jnp.ones_like(state[j]),))
        for i in range(n):
            if depends[i][j + 1]:
                matrix[i][j] = slopes[i]
    if not any(row[0] for row in depends):
        return matrix, None
    _, slopes = jax.jvp(lambda when: flow(when, state), (jnp.asarray(t),), (jnp.ones_like(jnp.asarray(t)),))
    return matrix, [slope if row[0] else None for slope, row in zip(slopes, depends, strict=True)]


def dependencies(flow: Callable[[Scalar, State], State], t: Scalar, state: State) -> list[list[bool]]:
    """Tell which of time and the states each derivative can depend on: rows derivatives, columns time, then states."""
    arguments = [jnp.zeros((), dtype=jnp.asarray(x).dtype) for x in (t, *state)]
    jaxpr: Any = jax.make_jaxpr(lambda when, *y: flow(when, y))(*arguments).jaxpr
    touches: dict[Any, frozenset[int]] = {v: frozenset((i,)) for i, v in enumerate(jaxpr.invars)}

    def of(variable: Any) -> frozenset[int]:
        return frozenset() if isinstance(variable, Literal) else touches.get(variable, frozenset())

    for equation in jaxpr.eqns:
        union = frozenset().union(*(of(v) for v in equation.invars))
        for variable in equation.outvars:
            touches[variable] = union
    return [[i in of(v) for i in range(len(arguments))] for v in jaxpr.outvars]


def factorise(matrix: Matrix) -> Factors:
    """Eliminate without pivoting, in an order that keeps fill-in small (least row times column count first).

    The matrix of a step, 1/(hγ) − J, has a dominant diagonal once h is small: a step on which elimination breaks down
    gives numbers that are not finite or an error that is too large, and is refused.
    """
    n = len(matrix)
    work = [list(row) for row in matrix]
    left = list(range(n))
    order: list[int] = []
    lower: Matrix = [[None] * n for _ in range(n)]
    reciprocal: list[Array] = []
    while left:
        pivot = min(left, key=lambda p: _fill(work, left, p))
        left.remove(pivot)
        order.append(pivot)
        diagonal = work[pivot][pivot]
        assert diagonal is not None  # noqa: S101 - 1/(hγ) is on every diagonal
        inverse = 1 / diagonal
        reciprocal.append(inverse)
        for i in left:
            entry = work[i][pivot]
            if entry is None:
                continue
            factor = entry * inverse
            lower[i][pivot] = factor
            for j in left:
                above = work[pivot][j]
                if above is not None:
                    own = work[i][j]
                    work[i][j] = -factor * above if own is None else own - factor * above
    return Factors(tuple(order), lower, work, reciprocal)


def solve_factors(factors: Factors, right: Sequence[Array]) -> State:
    """Solve by forward and back substitution."""
    b = list(right)
    for k, pivot in enumerate(factors.order):
        for i in factors.order[k + 1 :]:
            factor = factors.lower[i][pivot]
            if factor is not None:
                b[i] = b[i] - factor * b[pivot]
    for k in range(len(b) - 1, -1, -1):
        pivot = factors.order[k]
        total = b[pivot]
        for j in factors.order[k + 1 :]:
            above = factors.upper[pivot][j]
            if above is not None:
                total = total - above * b[j]
        b[pivot] = total * factors.reciprocal[k]
    return tuple(b)


def _fill(work: Matrix, left: list[int], pivot: int) -> int:
    """Count the products that eliminating a pivot takes (Markowitz)."""
    rows = sum(work[i][pivot] is not None for i in left if i != pivot)
    columns = sum(work[pivot][j] is not None for j in left if j != pivot)
    return rows * columns
