"""Many patients at once: blocks of patients solved one block after another by the same compiled code."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from trialtwin.core.errors import DataError
from trialtwin.engine.grid import Grid
from trialtwin.engine.method import AbstractMethod, Solution
from trialtwin.engine.system import AbstractSystem

BLOCK = 64
# whole vector registers where the processor has 512-bit ones; elsewhere the compiler splits them
COMPILER = {"xla_cpu_prefer_vector_width": "512"}


def solve_ensemble(
    system: AbstractSystem, parameters: Any, grid: Grid, method: AbstractMethod, *, block: int = BLOCK
) -> Solution:
    """Solve for every patient of an ensemble.

    Blocks of patients are what the processor's caches hold; within a block every operation runs over its patients, and
    a patient's result does not depend on who else is in the block or how many there are, to the last bit; another size
    of block is other code, and may round differently.

    Parameters
    ----------
    system
        Compiled once for its structure.
    parameters
        Arrays with a leading patient axis.
    grid
        One for all patients, or with a leading patient axis (`trialtwin.engine.grid.stack`).
    block
        Patients solved together.

    Returns
    -------
    Solution
        With a leading patient axis.

    Raises
    ------
    DataError
        If there are no patients, or arrays disagree about how many there are.

    Examples
    --------
    >>> import numpy as np
    >>> from trialtwin.engine.fixed import Fixed
    >>> from trialtwin.engine.grid import align
    >>> from trialtwin.engine.system import Equations
    >>> decay = Equations(
    ...     states=("x",), inputs=(), start=lambda p: (jnp.ones_like(p),), rhs=lambda t, y, r, p: (-p * y[0],)
    ... )
    >>> grid = align(None, np.array([1.0]), inputs=0, longest=0.1)
    >>> solve_ensemble(decay, jnp.array([1.0, 2.0]), grid, Fixed()).values[0].round(4).tolist()
    [[0.3679], [0.1353]]
    """
    sizes = {len(leaf) for leaf in jax.tree.leaves(parameters)}
    if len(sizes) != 1 or 0 in sizes:
        raise DataError(
            f"parameters of {sorted(sizes) or 'no'} patients",
            do="give arrays with one leading axis of patients, 1 or more",
        )
    own = grid.times.ndim == 2
    if own and len(grid.times) not in sizes:
        raise DataError(f"grids of {len(grid.times)} patients for parameters of {sizes.pop()}")
    # a caller who compiles, differentiates or maps this call compiles it with what is around it
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((system, parameters, grid)))
    solve = _solve if traced else _compiled
    return solve(system, parameters, grid, method, block, own)


def _solve(
    system: AbstractSystem,
    parameters: Any,
    grid: Grid,
    method: AbstractMethod,
    block: int,
    own: bool,
) -> Solution:
    n = len(jax.tree.leaves(parameters)[0])
    blocks = -(-n // block)

    def cut(array: Any) -> Any:
        # the last block is filled up with the last patient: one size of block, one rounding
        index = jnp.minimum(jnp.arange(blocks * block), n - 1)
        return array[index].reshape(blocks, block, *array.shape[1:])

    def one(p: Any, g: Grid) -> Solution:
        return method.solve(system, p, g)

    if own:
        rows = jax.tree.map(cut, (parameters, grid))
        solved = jax.lax.map(lambda row: jax.vmap(one)(*row), rows)
    else:
        rows = jax.tree.map(cut, parameters)
        solved = jax.lax.map(lambda row: jax.vmap(one, in_axes=(0, None))(row, grid), rows)
    return jax.tree.map(lambda x: x.reshape(blocks * block, *x.shape[2:])[:n], solved)


_compiled: Callable[..., Solution] = eqx.filter_jit(_solve, compiler_options=COMPILER)  # type: ignore[call-overload]
