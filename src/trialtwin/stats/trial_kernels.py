"""The arithmetic of many small regressions at once: a trial to a lane of the processor's vectors, patients in rows.

Arrays are [column, row, lane]. Each step is elementwise over lanes, so that a vector instruction serves eight trials; a
sum over rows adds eight rows at a time, which the compiler turns into vector additions, where a plain reduction would
go through rows one number after the other. Rows beyond the trial's patients are zero in every column.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

LANES = 32
GROUP = 8
MOST_STEPS = 25
_ROUNDING = 1e-13
_WIDE = {"xla_cpu_prefer_vector_width": 512}  # eight numbers to an instruction, where the processor has it
STEP = 1e-5  # of a linear predictor; Newton's error after it is its square

type Columns = Float[Array, "column row lane"]
type Rows = Float[Array, "row lane"]
type Lanes = Float[Array, " lane"]


def _hold[T](x: T) -> T:
    """Keep a result in memory, where fusing would compute it again for every use."""
    held: T = jax.lax.optimization_barrier(x)  # type: ignore[no-untyped-call]
    return held


def padded(rows: int) -> int:
    """Return the number of rows that hold a trial: the next multiple of eight."""
    return -(-rows // GROUP) * GROUP


def total(x: Float[Array, "*batch row lane"]) -> Float[Array, "*batch lane"]:
    """Sum over rows."""
    while x.shape[-2] > 1:
        rows = x.shape[-2]
        pieces = min(GROUP, rows)
        if rows % pieces:
            x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, -rows % pieces), (0, 0)])
        size = x.shape[-2] // pieces
        parts = [x[..., k * size : (k + 1) * size, :] for k in range(pieces)]
        x = _hold(sum(parts[1:], parts[0]))
    return x[..., 0, :]


def highest(x: Float[Array, "*batch row lane"]) -> Float[Array, "*batch lane"]:
    """Return the largest of the rows."""
    size = x.shape[-2] // GROUP
    largest = x[..., :size, :]
    for k in range(1, GROUP):
        largest = jnp.maximum(largest, x[..., k * size : (k + 1) * size, :])
    return jnp.max(_hold(largest), axis=-2)


def folded(x: Rows) -> Float[Array, "part lane"]:
    """Add eighths of the rows: the first step of a sum, left to be fused with what makes the rows."""
    size = x.shape[0] // GROUP
    parts = [x[k * size : (k + 1) * size] for k in range(GROUP)]
    return sum(parts[1:], parts[0])


def sums(rows: list[Rows]) -> Float[Array, "sum lane"]:
    """Sum several columns over rows at once."""
    return total(_hold(jnp.stack([folded(x) for x in rows])))


def cholesky(gram: dict[tuple[int, int], Lanes], size: int) -> list[list[Lanes]]:
    """Factor a matrix given by its lower triangle, in scalars of each lane."""
    L: list[list[Lanes]] = []
    for i in range(size):
        row: list[Lanes] = []
        for j in range(i + 1):
            above = row if i == j else L[j]
            rest = gram[i, j]
            for k in range(j):
                rest = rest - row[k] * above[k]
            row.append(jnp.sqrt(rest) if i == j else rest / above[j])
        L.append(row)
    return L


def inverted(L: list[list[Lanes]]) -> list[list[Lanes]]:
    """Invert a lower triangle."""
    inverse: list[list[Lanes]] = []
    for i, row in enumerate(L):
        own = 1 / row[i]
        inverse.append([-own * sum(row[k] * inverse[k][j] for k in range(j, i)) for j in range(i)] + [own])
    return inverse


def _within(x: Float[Array, "..."], n: int, other: float = 0.0) -> Float[Array, "..."]:
    """Return rows of the trial as they are, and another number beyond them."""
    rows = x.shape[-2]
    return x if rows == n else jnp.where((jnp.arange(rows) < n)[:, None], x, other)


@partial(jax.jit, static_argnames="n", compiler_options=_WIDE)
def ancova_lanes(data: Float[Array, "chunk row column lane"], n: int) -> Float[Array, "chunk statistic lane"]:
    """Return effect, HC3 error, smallest pivot share, residual share and largest leverage of every trial.

    The last two columns of the data are arm and outcome; see ``ancova_trials`` for the equations.
    """
    return jax.lax.map(partial(_ancova, n=n), data)


def _ancova(data: Float[Array, "row column lane"], n: int) -> Float[Array, "statistic lane"]:
    D = jnp.moveaxis(data, 1, 0)
    q = D.shape[0] - 1
    means = total(D) / n
    D = _hold(_within(D - means[:, None], n))
    pairs = [(i, j) for i in range(q + 1) for j in range(i + 1)]
    gram = dict(zip(pairs, sums([D[i] * D[j] for i, j in pairs]), strict=True))
    L = cholesky(gram, q + 1)
    inverse, L = _hold((inverted(L), L))
    shares = [_share(L[j][j], gram[j, j], n * means[j] ** 2) for j in range(q + 1)]
    free = 1 - 1 / n - jnp.zeros_like(D[0])
    for i in range(q):
        part = sum(inverse[i][j] * D[j] for j in range(i + 1))
        free = free - part * part
    arm = sum(inverse[q - 1][j] * D[j] for j in range(q))
    residual = sum(inverse[q][j] * D[j] for j in range(q + 1))
    ratio = arm * residual / free
    square = total(_hold(ratio * ratio))
    own = inverse[q - 1][q - 1]
    least = -highest(-_within(free, n, other=1.0))
    return jnp.stack([L[q][q - 1] * own, own * L[q][q] * jnp.sqrt(square), _least(shares[:q]), shares[q], 1 - least])


def _share(pivot: Lanes, square: Lanes, away: Lanes | float = 0.0) -> Lanes:
    """Return a pivot over its column's length, 0 where it is NaN or but the rounding of a mean far away."""
    share = pivot / jnp.sqrt(square)
    # a minimum over lanes may pass over NaN, and the compiler takes a number over itself for 1: hence both are asked
    sound = (share > 0) & (pivot > _ROUNDING * jnp.sqrt(square + away))
    return jnp.where(sound, share, 0.0)


def _least(values: list[Lanes]) -> Lanes:
    least = values[0]
    for value in values[1:]:
        least = jnp.minimum(least, value)
    return least


@partial(jax.jit, static_argnames="n", compiler_options=_WIDE)
def logistic_lanes(data: Float[Array, "chunk row column lane"], n: int) -> Float[Array, "chunk statistic lane"]:
    """Return the two marginal means, Ye's covariance (00, 01, 11), last Newton step and smallest pivot share."""
    return jax.lax.map(partial(_logistic, n=n), data)


def _logistic(data: Float[Array, "row column lane"], n: int) -> Float[Array, "statistic lane"]:
    D = jnp.moveaxis(data, 1, 0)
    p = D.shape[0] - 2
    ones = _within(jnp.ones_like(D[0]), n)
    centred = _within(D[:p] - (total(D[:p]) / n)[:, None], n)
    X, y = _hold((jnp.concatenate([ones[None], centred, D[p : p + 1]]), D[p + 1]))
    reach = highest(jnp.abs(X))

    def ahead(state: tuple[Array, Array, Array, Array]) -> Bool[Array, ""]:
        _, change, _, step = state
        return (step < MOST_STEPS) & ~(jnp.max(change) < STEP)

    def newton(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        beta, _, _, step = state
        move, pivot = _newton_step(X, y, beta)
        return beta + move, jnp.sum(jnp.abs(move) * reach, axis=0), pivot, step + 1

    unknown = jnp.full(D.shape[2], jnp.inf)
    begin = jnp.zeros((p + 2, D.shape[2])), unknown, unknown, jnp.array(0)
    beta, change, pivot, _ = jax.lax.while_loop(ahead, newton, begin)
    control = _hold(sum(beta[j] * X[j] for j in range(p + 1)))
    treated = control + beta[p + 1]
    means = _hold((_within(1 / (1 + jnp.exp(-control)), n), _within(1 / (1 + jnp.exp(-treated)), n)))
    return jnp.concatenate([_ye(X[0], X[p + 1], y, means, n), change[None], pivot[None]])


def _newton_step(X: Columns, y: Rows, beta: Float[Array, "column lane"]) -> tuple[Float[Array, "column lane"], Lanes]:
    """Solve the weighted normal equations of one Newton step; also return their smallest pivot share."""
    q = X.shape[0]
    mu = 1 / (1 + jnp.exp(-sum(beta[j] * X[j] for j in range(q))))
    left, weight = _hold((y - mu, mu * (1 - mu)))
    pairs = [(i, j) for i in range(q) for j in range(i + 1)]
    found = sums([weight * X[i] * X[j] for i, j in pairs] + [X[j] * left for j in range(q)])
    hessian, score = dict(zip(pairs, found, strict=False)), found[len(pairs) :]
    L = cholesky(hessian, q)
    pivot = _least([_share(L[j][j], hessian[j, j]) for j in range(q)])
    inverse = _hold(inverted(L))
    half = [sum(inverse[i][j] * score[j] for j in range(i + 1)) for i in range(q)]
    return jnp.stack([sum(inverse[i][j] * half[i] for i in range(j, q)) for j in range(q)]), pivot


def _ye(ones: Rows, arm: Rows, y: Rows, means: tuple[Rows, Rows], n: int) -> Float[Array, "statistic lane"]:
    """Return marginal means and their decomposed unconditional covariance, see ``randomisation``."""
    arms = (ones - arm, arm)
    m = [total(mu) / n for mu in means]
    # rows beyond the trial are taken out by the arms' indicators, which are zero there
    away = [(mu - centre) * ones for mu, centre in zip(means, m, strict=True)]
    overall = sums([away[0] * away[0], away[0] * away[1], away[1] * away[1]]) / (n - 1)
    within = []
    for a in arms:
        count, events = sums([a, a * y])
        own = events / count
        spread = sums([a * (y - own) * (y - own), a * (y - own) * away[0], a * (y - own) * away[1]])
        within.append((count, spread / (count - 1)))
    (n0, (v0, c00, c01)), (n1, (v1, c10, c11)) = within
    V00 = (v0 + overall[0] - 2 * c00) * (n / n0) + 2 * c00 - overall[0]
    V11 = (v1 + overall[2] - 2 * c11) * (n / n1) + 2 * c11 - overall[2]
    return jnp.stack([m[0], m[1], V00 / n, (c01 + c10 - overall[1]) / n, V11 / n])
