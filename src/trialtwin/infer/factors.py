"""Group factor analysis: a joint latent space of several blocks of features, with anything missing.

For patient i and feature d of block m, standardised,

    y = μ_d + w_dᵀ zᵢ + ε,   zᵢ ~ N(0, I),   w_dk ~ N(0, 1/α_mk),   ε ~ N(0, 1/τ_d),   α, τ ~ Gamma(10⁻³, 10⁻³)

The relevance α of each factor in each block switches off what the block does not need, so that a factor may be shared
or belong to one block; a factor without which the evidence bound is higher is dropped. Inference is variational
(factors of a patient, loadings of a feature, relevances, noises), in closed-form updates of which none can lower the
bound, with a change of basis of the factors that raises it (``factors_basis.py``). A missing cell is integrated out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import linalg

from trialtwin.core.errors import ConvergenceError, DataError, FitError
from trialtwin.infer.factors_basis import turn_basis
from trialtwin.infer.factors_bound import evidence_bound
from trialtwin.infer.factors_posterior import (
    Given,
    State,
    given_cells,
    update_factors,
    update_loadings,
    update_noise,
    update_relevance,
)

type View = Float[np.ndarray, "patient _"]

SHAPE = 1e-3
TURN_EVERY = 5


@dataclass(frozen=True, eq=False)
class Factors:
    """The factors of each patient given what was measured: posterior mean and covariance.

    Of a patient with nothing measured they are 0 and the identity: the prior.
    """

    mean: Float[np.ndarray, "patient factor"]
    covariance: Float[np.ndarray, "patient factor factor"]

    @property
    def known(self) -> Float[np.ndarray, " patient"]:
        """Share of the prior variance of the factors that the measurements took away: 0 knows nothing, 1 all."""
        size = self.mean.shape[1]
        if size == 0:
            return np.zeros(len(self.mean))
        return 1.0 - np.trace(self.covariance, axis1=1, axis2=2) / size


@dataclass(frozen=True, eq=False)
class FactorModel:
    """A fitted joint latent space; arrays only.

    Parameters
    ----------
    widths
        Number of features of each block, as given.
    used : shape (feature,)
        Positions, over all blocks side by side, of features that varied where the model was fitted; the others say
        nothing.
    block : shape (feature,)
        Block of each used feature.
    centre, scale, mean : shape (feature,)
        Standardisation of each used feature, and μ on the standardised scale.
    loadings : shape (feature, factor)
        Posterior mean of w.
    second : shape (feature, factor, factor)
        E[w wᵀ].
    cross : shape (feature, factor)
        E[μ w].
    noise : shape (feature,)
        E[τ], the precision of the noise.
    relevance : shape (block, factor)
        E[α]; large where a factor does nothing in a block.
    explained : shape (block, factor)
        Share of the variance of a block's measured cells that a factor explains.
    bound : shape (sweep,)
        The evidence bound after each sweep; it starts anew, possibly lower, where a factor was dropped.
    """

    widths: tuple[int, ...]
    used: Int[np.ndarray, " feature"]
    block: Int[np.ndarray, " feature"]
    centre: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    mean: Float[np.ndarray, " feature"]
    loadings: Float[np.ndarray, "feature factor"]
    second: Float[np.ndarray, "feature factor factor"]
    cross: Float[np.ndarray, "feature factor"]
    noise: Float[np.ndarray, " feature"]
    relevance: Float[np.ndarray, "block factor"]
    explained: Float[np.ndarray, "block factor"]
    bound: Float[np.ndarray, " sweep"]

    @property
    def size(self) -> int:
        """Number of factors."""
        return self.loadings.shape[1]

    def posterior(self, views: Sequence[View]) -> Factors:
        """Return each patient's factors given whichever cells are measured (not NaN).

        Raises
        ------
        DataError
            If the blocks are not those that the model was fitted to, or a value is infinite.
        """
        together = _side_by_side(views)
        if tuple(view.shape[1] for view in views) != self.widths:
            raise DataError(
                f"blocks of {[view.shape[1] for view in views]} features for a factor model of {list(self.widths)}"
            )
        standard = (together[:, self.used] - self.centre) / self.scale
        given = given_cells(standard, self.block, len(self.widths))
        mean, covariance = update_factors(given, self.noise, self.loadings, self.second, self.cross)
        return Factors(mean, covariance[given.row_of])

    def expected(self, factors: Factors) -> Float[np.ndarray, "patient feature"]:
        """Return what each used feature is expected to be given the factors, in the units it came in."""
        return self.centre + self.scale * (self.mean + factors.mean @ self.loadings.T)


def fit_factors(
    views: Sequence[View],
    *,
    factors: int = 15,
    least_share: float = 0.005,
    tolerance: float = 1e-7,
    sweeps: int = 5000,
) -> FactorModel:
    """Fit a joint latent space to blocks of features measured in the same patients, NaN where missing.

    Deterministic: it starts from the singular vectors of the standardised cells, missing ones at the mean.

    Parameters
    ----------
    views
        One matrix a block; rows are the same patients in all.
    factors
        The most factors to start from; relevance decides how many are left.
    least_share
        A factor that explains less than this share of the variance of every block is dropped.
    tolerance
        Converged when a sweep raises the evidence bound by less than this a measured cell.
    sweeps
        The most sweeps.

    Raises
    ------
    DataError
        If the blocks are of different patients, or a value is infinite.
    FitError
        If fewer than two patients have anything that varies.
    ConvergenceError
        If the bound falls, or still rises after ``sweeps``.

    References
    ----------
    Klami A et al. (2015), doi:10.1109/TNNLS.2014.2376974; Argelaguet R et al. (2018), doi:10.15252/msb.20178124.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> z = rng.normal(size=(200, 1))
    >>> genes, proteins = z + 0.5 * rng.normal(size=(200, 6)), z + 0.5 * rng.normal(size=(200, 4))
    >>> proteins[:100] = np.nan
    >>> model = fit_factors([genes, proteins])
    >>> model.size
    1
    >>> known = model.posterior([genes, proteins]).known
    >>> bool(known[0] < known[-1])
    True
    """
    together = _side_by_side(views)
    widths = tuple(view.shape[1] for view in views)
    used, centre, scale = _varying(together)
    block = np.repeat(np.arange(len(widths)), widths)[used]
    given = given_cells((together[:, used] - centre) / scale, block, len(widths))
    state = _start(given, min(factors, len(together) - 1, len(used)))
    state, bound = _supported(given, state, least_share, tolerance, sweeps)
    return _model(given, state, widths, used, centre, scale, np.array(bound))


def _supported(
    given: Given, state: State, least_share: float, tolerance: float, sweeps: int
) -> tuple[State, list[float]]:
    """Climb, then drop the smallest factor for as long as the bound is higher without it."""
    state, bound = _climb(given, state, least_share, tolerance, sweeps)
    while state.size:
        least = _shares(given, state).sum(axis=0).argmin()
        fewer, further = _climb(given, state.take(np.arange(state.size) != least), least_share, tolerance, sweeps)
        if further[-1] <= bound[-1]:
            break
        state, bound = fewer, bound + further
    return state, bound


def _climb(given: Given, state: State, least_share: float, tolerance: float, sweeps: int) -> tuple[State, list[float]]:
    """Raise the evidence bound until a sweep gains nothing, dropping on the way what no block needs."""
    bound: list[float] = []
    last = -np.inf
    for sweep in range(sweeps):
        state = _sweep(given, state)
        turned = sweep % TURN_EVERY == TURN_EVERY - 1
        if turned:
            state = turn_basis(given, state, SHAPE)
        value = evidence_bound(given, state, SHAPE)
        if value < last - 1e-8 * abs(last):
            raise ConvergenceError(
                f"the evidence bound of the factor model fell from {last:.6f} to {value:.6f}",
                where=f"sweep {sweep + 1}",
                do="look for features of extreme scale",
            )
        bound.append(value)
        keep = (_shares(given, state) >= least_share).any(axis=0) if turned else np.ones(state.size, dtype=bool)
        if not keep.all():
            state, last = state.take(keep), -np.inf
        elif value - last < tolerance * given.measured.sum():
            return state, bound
        else:
            last = value
    raise ConvergenceError(
        f"the factor model still gained {bound[-1] - bound[-2]:.3g} after {sweeps} sweeps",
        where=f"{given.values.shape[0]} patients, {given.values.shape[1]} features, {state.size} factors",
        do="ask for fewer factors, or allow more sweeps",
    )


def _side_by_side(views: Sequence[View]) -> Float[np.ndarray, "patient feature"]:
    """Return all blocks in one matrix, after checking that they can stand side by side."""
    rows = {len(view) for view in views}
    if len(rows) != 1:
        raise DataError(f"blocks of {sorted(rows)} patients cannot be one cohort's", do="give each block the same rows")
    together = np.concatenate([np.asarray(view, dtype=float) for view in views], axis=1)
    if np.isinf(together).any():
        raise DataError(f"{int(np.isinf(together).sum())} value(s) are infinite", do="use NaN for a missing value")
    return together


def _varying(
    together: Float[np.ndarray, "patient feature"],
) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
    """Return the features that vary, with their means and SDs over what was measured."""
    measured = np.isfinite(together)
    count = np.maximum(measured.sum(axis=0), 1)
    centre = np.where(measured, together, 0.0).sum(axis=0) / count
    away = np.where(measured, together - centre, 0.0)
    scale = np.sqrt((away**2).sum(axis=0) / count)
    used = np.flatnonzero(scale > 1e-9 * np.maximum(1.0, np.abs(centre)))
    if len(used) == 0:
        raise FitError(
            "no feature varies between patients: there is no latent space to learn",
            where=f"{together.shape[0]} patients, {together.shape[1]} features",
        )
    return used, centre[used], scale[used]


def _start(given: Given, size: int) -> State:
    """Start from the singular vectors, each feature weighing as much as its block has cells to share."""
    weight = 1.0 / np.sqrt(np.bincount(given.block, minlength=given.blocks))[given.block]
    left, _, _ = linalg.svd(given.values * weight, full_matrices=False)
    size = max(1, min(size, left.shape[1]))
    mean = left[:, :size] * np.sqrt(len(left))
    signs = np.sign(mean[np.abs(mean).argmax(axis=0), np.arange(size)])
    features = given.values.shape[1]
    state = State(
        mean * signs,
        np.tile(0.1 * np.eye(size), (len(given.patterns), 1, 1)),
        np.zeros((features, size + 1)),
        np.zeros((features, size + 1, size + 1)),
        np.full(given.blocks, 1.0),
        np.ones((given.blocks, size)),
        np.full(features, 1.0),
        np.full(features, 1.0),
    )
    return update_noise(given, update_relevance(given, update_loadings(given, state), SHAPE), SHAPE)


def _sweep(given: Given, state: State) -> State:
    """Update each part in turn; each raises the bound given the others."""
    mean, covariance = update_factors(given, state.noise, *state.moments)
    state = state.replaced(mean, covariance)
    state = update_loadings(given, state)
    return update_noise(given, update_relevance(given, state, SHAPE), SHAPE)


def _shares(given: Given, state: State) -> Float[np.ndarray, "block factor"]:
    """Return the share of the variance of each block's measured cells that each factor alone explains."""
    shares = np.zeros((given.blocks, state.size))
    away = np.where(given.measured, given.values - state.loadings[:, 0], 0.0)
    for m in range(given.blocks):
        columns = given.block == m
        total = float((away[:, columns] ** 2).sum())
        for k in range(state.size if total > 0 else 0):
            part = given.measured[:, columns] * np.outer(state.mean[:, k], state.loadings[columns, 1 + k])
            shares[m, k] = 1.0 - float(((away[:, columns] - part) ** 2).sum()) / total
    return shares


def _model(
    given: Given,
    state: State,
    widths: tuple[int, ...],
    used: Int[np.ndarray, " feature"],
    centre: Float[np.ndarray, " feature"],
    scale: Float[np.ndarray, " feature"],
    bound: Float[np.ndarray, " sweep"],
) -> FactorModel:
    """Put the largest factor first, and turn each so that its largest loading is positive."""
    shares = _shares(given, state)
    order = np.argsort(-shares.sum(axis=0), kind="stable")
    loadings, second, cross = (part[..., order] for part in state.moments)
    second = second[:, order]
    signs = np.ones(state.size)
    if state.size:
        signs = np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(state.size)])
    return FactorModel(
        widths=widths,
        used=used,
        block=given.block,
        centre=centre,
        scale=scale,
        mean=state.loadings[:, 0],
        loadings=loadings * signs,
        second=second * np.outer(signs, signs),
        cross=cross * signs,
        noise=state.noise,
        relevance=((SHAPE + np.bincount(given.block, minlength=given.blocks) / 2)[:, None] / state.spread)[:, order],
        explained=shares[:, order],
        bound=bound,
    )
