"""What a residual learned, in a few terms that a person can read.

The residual r is evaluated at every state that patients were seen in, for draws of its weights, and its mean is written
as a sum of few terms of the states, z = (state − mean) / SD: forward selection among 1, z_k, z_k² and z_j z_k takes the
term that explains most, as long as it adds 2 % of the variation and there are at most three. Coefficients are by least
squares; their SD is over the draws. Sparse regression on a library of terms: Brunton SL et al. (2016),
doi:10.1073/pnas.1517384113.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.twins.hybrid_disease import Residual

MOST = 3  # terms beside the constant
LEAST = 0.02  # share of variation that a term must add
DRAWS = 200


class Reading(eqx.Module):
    """A residual in a few terms.

    ``terms`` pair with ``coefficients`` and their ``errors`` (posterior SD), in units of r per SD of the states named;
    ``centres`` and ``scales`` say what those SDs are; ``explained`` is the share of the variation of r over the states
    seen that the terms give back, ``low`` and ``high`` the 5th and 95th percentile of r there.
    """

    channel: str
    multiplies: bool
    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    errors: tuple[float, ...]
    centres: tuple[tuple[str, float, float], ...]
    explained: float
    low: float
    high: float

    def __str__(self) -> str:
        pieces = [
            f"{c:+.2g} (SD {e:.1g})" + ("" if t == "1" else f" · {t}")
            for t, c, e in zip(self.terms, self.coefficients, self.errors, strict=True)
        ]
        what = (
            f"log multiplier of {self.channel}" if self.multiplies else f"slope added to {self.channel}, typical slopes"
        )
        named = "; ".join(f"z[{name}] = ({name} − {mean:.3g}) / {sd:.3g}" for name, mean, sd in self.centres)
        return (
            f"{what} = {' '.join(pieces)}"
            + (f", {named}" if named else "")
            + f"; {self.explained:.0%} of its variation"
            f" where patients were seen, 90 % of it between {self.low:+.2f} and {self.high:+.2f}"
        )


class _Term(NamedTuple):
    name: str
    parts: tuple[int, ...]


def read(
    residual: Residual,
    states: Float[np.ndarray, "row state"],
    names: tuple[str, ...],
    weights: Float[np.ndarray, " term"],
    covariance: Float[np.ndarray, "term term"],
    *,
    multiplies: bool,
) -> Reading:
    """Return the residual of the chosen channel as a sum of few terms.

    ``states`` are those that patients were seen in, ``weights`` and ``covariance`` the posterior of ω.
    """
    channel = residual.channels[int(np.argmax(np.asarray(residual.chosen)))]
    drawn = np.random.default_rng(0).multivariate_normal(weights, covariance, DRAWS, method="cholesky")
    values = np.asarray(_values(residual, jnp.asarray(states), jnp.asarray(np.concatenate([weights[None], drawn]))))
    mean, sd = states.mean(axis=0), states.std(axis=0)
    moves = np.flatnonzero(sd > 1e-9 * np.maximum(np.abs(states).max(axis=0), 1e-12))
    z = np.zeros_like(states)
    z[:, moves] = (states[:, moves] - mean[moves]) / sd[moves]
    chosen = _select(z, values[0], _library(moves, names))
    design = _columns(z, chosen)
    found = np.linalg.lstsq(design, values.T, rcond=None)[0]
    left = values[0] - design @ found[:, 0]
    varies = float(values[0].var())
    used = sorted({part for term in chosen for part in term.parts})
    return Reading(
        channel=channel,
        multiplies=multiplies,
        terms=("1", *(term.name for term in chosen)),
        coefficients=tuple(found[:, 0].tolist()),
        errors=tuple(found[:, 1:].std(axis=1).tolist()),
        centres=tuple((names[k], float(mean[k]), float(sd[k])) for k in used),
        explained=1.0 - float(left.var()) / varies if varies > 0 else 1.0,
        low=float(np.quantile(values[0], 0.05)),
        high=float(np.quantile(values[0], 0.95)),
    )


def _library(moves: np.ndarray, names: tuple[str, ...]) -> list[_Term]:
    """Return the terms that may be chosen, simple ones first."""
    lines = [_Term(f"z[{names[k]}]", (int(k),)) for k in moves]
    squares = [_Term(f"z[{names[k]}]²", (int(k), int(k))) for k in moves]
    pairs = [_Term(f"z[{names[j]}] z[{names[k]}]", (int(j), int(k))) for j in moves for k in moves if j < k]
    return [*lines, *squares, *pairs]


def _select(z: Float[np.ndarray, "row state"], values: Float[np.ndarray, " row"], library: list[_Term]) -> list[_Term]:
    """Return the terms that forward selection takes."""
    total = float(((values - values.mean()) ** 2).sum())
    chosen: list[_Term] = []
    left = total
    while len(chosen) < MOST and total > 0:
        candidates = [term for term in library if term not in chosen]
        sums = [_unexplained(z, values, [*chosen, term]) for term in candidates]
        best = int(np.argmin(sums)) if sums else 0
        if not sums or left - sums[best] < LEAST * total:
            break
        chosen.append(candidates[best])
        left = sums[best]
    return chosen


def _unexplained(z: np.ndarray, values: np.ndarray, terms: list[_Term]) -> float:
    design = _columns(z, terms)
    return float(((values - design @ np.linalg.lstsq(design, values, rcond=None)[0]) ** 2).sum())


def _columns(z: Float[np.ndarray, "row state"], terms: list[_Term]) -> Float[np.ndarray, "row column"]:
    return np.column_stack([np.ones(len(z)), *(np.prod(z[:, list(term.parts)], axis=1) for term in terms)])


@jax.jit
def _values(
    residual: Residual, states: Float[Array, "row state"], weights: Float[Array, "draw term"]
) -> Float[Array, "draw row"]:
    """Return the residual at baseline time of each state, for each draw of the weights."""

    def one(w: Array, y: Array) -> Array:
        return residual.value(jnp.zeros(()), tuple(y), w)

    return jax.vmap(lambda w: jax.vmap(lambda y: one(w, y))(states))(weights)
