"""What neural twins read: outcomes followed over time, standardised, on a smooth basis of time, with covariates.

A course is written in a few functions of time, f(t) = Σ_k φ_k(t) c_k. The φ are orthogonal polynomials on the cohort's
visits (knots), interpolated linearly between them. Higher degrees are scaled down, so that a prior on c of one width
prefers smooth courses. After the last knot only the straight line goes on.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.backend import enable_float64
from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError
from trialtwin.core.variables import Kind, Variable
from trialtwin.twins.features import Encoder, encode

enable_float64()

KNOTS = 8
TERMS = 6
LEAST = 4  # patients with an outcome after baseline, below which it is not modelled
BUCKET = 32
LARGE = 1024


class Frame(eqx.Module):
    """How a cohort's outcomes are standardised and its time is written.

    ``binary`` outcomes keep their codes 0 and 1. ``knots`` are days; ``basis`` has a row a knot and a column a term.
    """

    variables: tuple[Variable, ...]
    encoder: Encoder
    binary: tuple[bool, ...]
    centres: Float[np.ndarray, " outcome"]
    scales: Float[np.ndarray, " outcome"]
    knots: Float[np.ndarray, " knot"]
    basis: Float[np.ndarray, "knot term"]

    @property
    def horizon(self) -> float:
        """Last knot, in days; the unit of time that networks see."""
        return float(max(self.knots[-1], 1e-6))


class Panel(NamedTuple):
    """Patients as a neural twin sees them; ``weight`` is 1 where a value was measured and 0 elsewhere."""

    x: Float[Array, "patient column"]
    phi: Float[Array, "patient visit term"]
    times: Float[Array, "patient visit"]
    values: Float[Array, "patient visit outcome"]
    weight: Float[Array, "patient visit outcome"]


def learn_frame(cohort: Cohort) -> Frame:
    """Learn which outcomes were followed, their standardisation, and the knots of time.

    Raises
    ------
    FitError
        If no outcome was measured after baseline in at least four patients, one is the same for all, is categorical,
        or is binary with codes other than 0 and 1.
    """
    followed = [k for k in range(len(cohort.outcomes)) if _followers(cohort, k) >= LEAST]
    if not followed:
        raise FitError(
            "no outcome was measured after baseline in at least four patients",
            where=f"{len(cohort)} patients, outcomes {', '.join(v.name for v in cohort.outcomes) or 'none'}",
            do="give the twin a cohort with follow-up to learn from",
        )
    moments = [_standardise(cohort, k) for k in followed]
    variables = tuple(cohort.outcomes[k] for k in followed)
    seen = cohort.observed[..., followed].any(axis=-1)
    knots = _knots(cohort.times[seen], cohort.nominal[seen.any(axis=0)])
    return Frame(
        variables=variables,
        encoder=Encoder.learn(cohort, modelled=tuple(v.name for v in variables)),
        binary=tuple(v.kind is Kind.BINARY for v in variables),
        centres=np.array([m for m, _ in moments]),
        scales=np.array([s for _, s in moments]),
        knots=knots,
        basis=_basis(knots),
    )


def time_terms(frame: Frame, times: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch term"]:
    """Return φ at times in days: interpolated between knots, a straight line after the last, constant before."""
    columns = [np.interp(times, frame.knots, column) for column in frame.basis.T]
    if len(columns) > 1:
        low, high = frame.basis[0, 1], frame.basis[-1, 1]
        slope = (high - low) / (frame.knots[-1] - frame.knots[0])
        columns[1] = columns[1] + slope * np.maximum(times - frame.knots[-1], 0.0)
    return np.stack(columns, axis=-1)


def panel_of(frame: Frame, cohort: Cohort) -> Panel:
    """Return a cohort as a panel; missing values are 0 with weight 0.

    Raises
    ------
    MismatchError
        If the cohort lacks an outcome or a covariate.
    """
    columns = [cohort.outcome(v.name) for v in frame.variables]
    seen = cohort.observed[..., columns]
    values = np.where(seen, (cohort.values[..., columns] - frame.centres) / frame.scales, 0.0)
    parts = (
        encode(frame.encoder, cohort),
        time_terms(frame, cohort.times),
        cohort.times / frame.horizon,
        values,
        seen.astype(float),
    )
    return Panel(*map(jnp.asarray, parts))


def pad[T](tree: T) -> T:
    """Add patients who were never measured up to a round number, so that few shapes are compiled."""

    def longer(a: Array) -> Array:
        extra = -len(a) % (BUCKET if len(a) <= LARGE else LARGE)
        return jnp.concatenate([a, jnp.zeros((extra, *a.shape[1:]), a.dtype)])

    return jax.tree.map(longer, tree)


def _followers(cohort: Cohort, k: int) -> int:
    later = cohort.observed[..., k] & (cohort.times > 0)
    return int(later.any(axis=1).sum())


def _standardise(cohort: Cohort, k: int) -> tuple[float, float]:
    """Return centre and scale of an outcome."""
    variable, seen = cohort.outcomes[k], cohort.values[..., k][cohort.observed[..., k]]
    spread = float(np.std(seen))
    if spread < 1e-9 * max(1.0, float(np.max(np.abs(seen)))):
        raise FitError(
            f"outcome {variable.name} is {seen[0]:g} for all patients at all visits",
            do="leave it out: there is nothing to forecast",
        )
    if variable.kind is Kind.CATEGORICAL:
        raise FitError(f"outcome {variable.name} is categorical", do="give each level as a binary outcome")
    if variable.kind is not Kind.BINARY:
        return float(np.mean(seen)), spread
    if not np.isin(seen, (0.0, 1.0)).all():
        raise FitError(f"binary outcome {variable.name} has codes other than 0 and 1", do="code it as 0 and 1")
    return 0.0, 1.0


def _knots(times: Float[np.ndarray, " seen"], nominal: Float[np.ndarray, " visit"]) -> Float[np.ndarray, " knot"]:
    """Return planned visits where they are few, else quantiles of the times, at least 1 % of the range apart."""
    few = len(np.unique(nominal)) <= KNOTS
    wanted = np.unique(nominal) if few else np.quantile(times, np.linspace(0, 1, KNOTS))
    apart = 0.01 * max(float(wanted[-1] - wanted[0]), 1e-6)
    knots = [float(wanted[0])]
    for t in wanted[1:].tolist():
        if t - knots[-1] >= apart:
            knots.append(t)
    return np.array(knots)


def _basis(knots: Float[np.ndarray, " knot"]) -> Float[np.ndarray, "knot term"]:
    """Return orthogonal polynomials on the knots of root mean square 1, ½, ½², … from the straight line on."""
    terms = min(len(knots), TERMS)
    s = (knots - knots.mean()) / max(float(np.ptp(knots)), 1e-6)
    q, r = np.linalg.qr(np.vander(s, terms, increasing=True))
    scale = np.array([1.0, 1.0, *(0.5 ** np.arange(1, TERMS - 1))])[:terms]
    return q * np.sign(np.diag(r)) * np.sqrt(len(knots)) * scale
