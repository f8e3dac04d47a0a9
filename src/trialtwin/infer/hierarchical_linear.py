"""Linear Gaussian models of many units whose coefficients come from a mixture of normal distributions.

    y_ij = x_ijᵀ θ_i + e_ij,   e_ij ~ N(0, σ²),   θ_i ~ Σ_k w_k N(μ_k, Σ_k)

Everything about one unit is closed form: its posterior is a mixture too. The population (w, μ, Σ, σ) is found by
maximum likelihood with expectation-maximisation over units, so that a population that is skewed, truncated or made of
kinds is learned as well as a normal one. One more observation of a unit may be known by its bounds only (a value that
reached the edge of what is recorded), so that leaving at the edge does not bias the population.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from trialtwin.core.errors import ConvergenceError, FitError

_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, eq=False)
class LinearUnits:
    """What the likelihood keeps of the rows of each unit, and a row whose value is known by its bounds.

    Parameters
    ----------
    gram : shape (unit, coefficient, coefficient)
        Σ_j x_ij x_ijᵀ.
    moment : shape (unit, coefficient)
        Σ_j x_ij y_ij.
    square, count : shape (unit,)
        Σ_j y_ij², and how many rows there are.
    bounded : shape (unit, coefficient)
        The x of the bounded row; zeros where a unit has none.
    lower, upper : shape (unit,)
        Its bounds; −∞ and ∞ where a unit has none.
    """

    gram: Float[np.ndarray, "unit coefficient coefficient"]
    moment: Float[np.ndarray, "unit coefficient"]
    square: Float[np.ndarray, " unit"]
    count: Float[np.ndarray, " unit"]
    bounded: Float[np.ndarray, "unit coefficient"]
    lower: Float[np.ndarray, " unit"]
    upper: Float[np.ndarray, " unit"]


@dataclass(frozen=True, eq=False)
class MixturePopulation:
    """A population of coefficients: w, μ, factors L_k with Σ_k = L_k L_kᵀ, σ, and the log likelihood per unit."""

    weights: Float[np.ndarray, " component"]
    means: Float[np.ndarray, "component coefficient"]
    factors: Float[np.ndarray, "component coefficient coefficient"]
    noise: float
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class MixturePosterior:
    """Coefficients of each unit given its rows: a mixture with weights, means and factors F, covariance F Fᵀ."""

    weights: Float[np.ndarray, "unit component"]
    means: Float[np.ndarray, "unit component coefficient"]
    factors: Float[np.ndarray, "unit component coefficient coefficient"]
    log_density: Float[np.ndarray, " unit"]

    @property
    def expected(self) -> Float[np.ndarray, "unit coefficient"]:
        """The posterior mean."""
        return np.einsum("nk,nkp->np", self.weights, self.means)


def summarise_rows(
    rows: Float[np.ndarray, "unit row coefficient"],
    values: Float[np.ndarray, "unit row"],
    bounded: Float[np.ndarray, "unit coefficient"] | None = None,
    lower: Float[np.ndarray, " unit"] | None = None,
    upper: Float[np.ndarray, " unit"] | None = None,
) -> LinearUnits:
    """Return what the likelihood keeps of rows; a value that is not a number is a row that a unit does not have.

    Raises
    ------
    FitError
        If a row that has a value has an x that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> units = summarise_rows(np.ones((1, 3, 1)), np.array([[1.0, 2.0, np.nan]]))
    >>> float(units.gram[0, 0, 0]), float(units.moment[0, 0]), float(units.count[0])
    (2.0, 3.0, 2.0)
    """
    there = ~np.isnan(values)
    x = np.where(there[..., None], rows, 0.0)
    y = np.where(there, values, 0.0)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise FitError("rows with a value must have finite x", do="look for empty or infinite cells in the data")
    n, _, p = rows.shape
    return LinearUnits(
        gram=np.einsum("nrp,nrq->npq", x, x, optimize=True),
        moment=np.einsum("nrp,nr->np", x, y),
        square=(y**2).sum(1),
        count=there.sum(1).astype(float),
        bounded=np.zeros((n, p)) if bounded is None else bounded,
        lower=np.full(n, -np.inf) if lower is None else lower,
        upper=np.full(n, np.inf) if upper is None else upper,
    )


def infer_units(population: MixturePopulation, units: LinearUnits) -> MixturePosterior:
    """Return the posterior of each unit's coefficients given its rows with values, in closed form.

    With A = XᵀX/σ², M = I + Lᵀ A L: covariance L M⁻¹ Lᵀ, mean μ + L M⁻¹ Lᵀ (Xᵀy/σ² − A μ), and the weights go as
    w_k N(y; Xμ_k, σ² I + X Σ_k Xᵀ). Bounded rows are left out: they matter when the population is fitted.

    References
    ----------
    Lindley DV, Smith AFM (1972), Bayes estimates for the linear model, doi:10.1111/j.2517-6161.1972.tb00885.x.

    Examples
    --------
    >>> import numpy as np
    >>> population = MixturePopulation(np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)), 1.0, 0.0)
    >>> posterior = infer_units(population, summarise_rows(np.ones((1, 1, 1)), np.array([[2.0]])))
    >>> round(float(posterior.expected[0, 0]), 6)
    1.0
    """
    n, p = units.moment.shape
    variance = population.noise**2
    log_parts = np.empty((n, len(population.weights)))
    means = np.empty((n, len(population.weights), p))
    factors = np.empty((n, len(population.weights), p, p))
    for k, (mean, factor) in enumerate(zip(population.means, population.factors, strict=True)):
        inner = np.eye(p) + factor.T @ units.gram @ factor / variance
        root = np.linalg.cholesky((inner + inner.transpose(0, 2, 1)) / 2)
        inverse = np.linalg.inv(root)
        factors[:, k] = factor @ inverse.transpose(0, 2, 1)
        residual = (units.moment - units.gram @ mean) / variance
        half = np.einsum("npq,np->nq", factors[:, k], residual)
        means[:, k] = mean + np.einsum("npq,nq->np", factors[:, k], half)
        misfit = units.square - 2 * units.moment @ mean + np.einsum("npq,p,q->n", units.gram, mean, mean)
        log_det = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1) + units.count * (np.log(variance) + _LOG_2PI)
        log_parts[:, k] = np.log(population.weights[k]) - 0.5 * (log_det + misfit / variance - (half**2).sum(1))
    log_density = special.logsumexp(log_parts, axis=1)
    return MixturePosterior(np.exp(log_parts - log_density[:, None]), means, factors, log_density)


def draw_units(
    posterior: MixturePosterior,
    uniforms: Float[np.ndarray, " draw"],
    normals: Float[np.ndarray, "draw coefficient"],
) -> Float[np.ndarray, "unit draw coefficient"]:
    """Return draws of every unit's coefficients from common uniforms (which component) and normals (where in it).

    Points of a low-discrepancy sequence give expectations with far smaller error than independent ones.

    Examples
    --------
    >>> import numpy as np
    >>> posterior = MixturePosterior(np.ones((1, 1)), np.zeros((1, 1, 1)), np.ones((1, 1, 1, 1)), np.zeros(1))
    >>> draw_units(posterior, np.array([0.5]), np.array([[1.5]])).ravel().tolist()
    [1.5]
    """
    edges = np.cumsum(posterior.weights, axis=1)[:, None, :-1]
    chosen: Int[np.ndarray, "unit draw"] = (uniforms[None, :, None] > edges).sum(-1)
    every = np.arange(len(chosen))[:, None]
    drawn = np.zeros((*chosen.shape, normals.shape[1]))
    for k in range(posterior.weights.shape[1]):
        unit, draw = np.nonzero(chosen == k)
        drawn[unit, draw] = np.einsum("mpq,mq->mp", posterior.factors[unit, k], normals[draw])
    return posterior.means[every, chosen] + drawn


@dataclass(frozen=True, eq=False)
class _Moments:
    """What the maximisation needs: shares, first and second moments of θ, and the sum of squared noise."""

    shares: Float[np.ndarray, "unit component"]
    first: Float[np.ndarray, "unit component coefficient"]
    factors: Float[np.ndarray, "unit component coefficient coefficient"]
    shrunk: Float[np.ndarray, "unit component"]
    along: Float[np.ndarray, "unit component coefficient"]
    squares: float
    rows: float
    log_likelihood: float


def _expect(population: MixturePopulation, units: LinearUnits) -> _Moments:
    """Return expectations given rows and bounds.

    Given the component, the bounded value is y ~ N(m, s²) cut to its bounds, θ is linear in y, and so is the noise:
    E[θ] gains c (E[y] − m)/s² with c = Cov(θ, y), and Cov(θ) loses c cᵀ (1 − Var[y]/s²)/s².
    """
    posterior = infer_units(population, units)
    variance = population.noise**2
    has = np.isfinite(units.lower) | np.isfinite(units.upper)
    half = np.einsum("nkpq,np->nkq", posterior.factors, units.bounded)
    along = np.einsum("nkpq,nkq->nkp", posterior.factors, half)
    spread2 = variance + (half**2).sum(-1)
    middle = np.einsum("nkp,np->nk", posterior.means, units.bounded)
    low = (units.lower[:, None] - middle) / np.sqrt(spread2)
    high = (units.upper[:, None] - middle) / np.sqrt(spread2)
    log_mass, shift, second = _cut_normal(low, high)
    log_parts = np.log(posterior.weights + 1e-300) + np.where(has[:, None], log_mass, 0.0)
    log_mass_unit = special.logsumexp(log_parts, axis=1)
    shares = np.exp(log_parts - log_mass_unit[:, None])
    shift = np.where(has[:, None], shift, 0.0)
    left = np.where(has[:, None], second - shift**2, 1.0)
    first = posterior.means + along * (shift / np.sqrt(spread2))[..., None]
    seen = np.einsum("npq,nkp,nkq->nk", units.gram, first, first, optimize=True)
    seen += units.square[:, None] - 2 * np.einsum("np,nkp->nk", units.moment, first)
    seen += np.einsum("npq,nkpr,nkqr->nk", units.gram, posterior.factors, posterior.factors, optimize=True)
    shrunk = (1 - left) / spread2
    seen -= np.einsum("npq,nkp,nkq->nk", units.gram, along, along, optimize=True) * shrunk
    edge = variance**2 / spread2 * second + variance * (1 - variance / spread2)
    squares = (shares * (seen + np.where(has[:, None], edge, 0.0))).sum()
    return _Moments(
        shares=shares,
        first=first,
        factors=posterior.factors,
        shrunk=shrunk,
        along=along,
        squares=float(squares),
        rows=float(units.count.sum() + has.sum()),
        log_likelihood=float((posterior.log_density + log_mass_unit).mean()),
    )


def _cut_normal(
    low: Float[np.ndarray, "unit component"], high: Float[np.ndarray, "unit component"]
) -> tuple[
    Float[np.ndarray, "unit component"], Float[np.ndarray, "unit component"], Float[np.ndarray, "unit component"]
]:
    """Return the log mass, the mean and the second moment of a standard normal value between bounds."""
    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    log_b, log_a = special.log_ndtr(b), special.log_ndtr(a)
    log_mass = log_b + np.log1p(-np.exp(np.minimum(log_a - log_b, -1e-15)))
    at_a = np.where(np.isfinite(a), np.exp(stats.norm.logpdf(a) - log_mass), 0.0)
    at_b = np.where(np.isfinite(b), np.exp(stats.norm.logpdf(b) - log_mass), 0.0)
    mean = at_a - at_b
    second = 1 + np.where(np.isfinite(a), a, 0.0) * at_a - np.where(np.isfinite(b), b, 0.0) * at_b
    return log_mass, np.where(flip, -mean, mean), np.maximum(second, mean**2)


def _maximise(moments: _Moments, floor: Float[np.ndarray, " coefficient"]) -> MixturePopulation:
    """Return the population that maximises the expected log likelihood; ``floor`` keeps covariances invertible."""
    total = moments.shares.sum(0)
    if total.min() < 1e-6:
        raise FitError("one of the components holds no unit", do="ask for fewer components")
    means = np.einsum("nk,nkp->kp", moments.shares, moments.first) / total[:, None]
    off = moments.first - means
    spread = np.einsum("nk,nkp,nkq->kpq", moments.shares, off, off, optimize=True)
    spread += np.einsum("nk,nkpr,nkqr->kpq", moments.shares, moments.factors, moments.factors, optimize=True)
    lost = moments.shares * moments.shrunk
    spread -= np.einsum("nk,nkp,nkq->kpq", lost, moments.along, moments.along, optimize=True)
    covariances = spread / total[:, None, None] + np.diag(floor)
    noise = float(np.sqrt(moments.squares / moments.rows))
    return MixturePopulation(total / total.sum(), means, np.linalg.cholesky(covariances), noise, np.nan)


def _split(one: MixturePopulation, units: LinearUnits, components: int, rng: np.random.Generator) -> MixturePopulation:
    """Return a start with several components: centres far from each other among the units' own posterior means."""
    found = infer_units(one, units).expected
    white = np.linalg.solve(one.factors[0], (found - one.means[0]).T).T
    scale = np.maximum(white.std(0), 1e-6)
    white = white / scale
    chosen = [int(rng.integers(len(white)))]
    while len(chosen) < components:
        gap = ((white[:, None] - white[chosen][None]) ** 2).sum(-1).min(1)
        if gap.sum() == 0:
            raise FitError(f"units show only {len(chosen)} different coefficients", do="ask for fewer components")
        chosen.append(int(rng.choice(len(white), p=gap / gap.sum())))
    centres = white[chosen]
    for _ in range(20):
        nearest = ((white[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        for k in np.unique(nearest):
            centres[k] = white[nearest == k].mean(0)
    size = np.bincount(nearest, minlength=components) + 1.0
    means = one.means[0] + (centres * scale) @ one.factors[0].T
    factors = np.repeat(one.factors, components, axis=0) * components ** (-1 / 3)
    return MixturePopulation(size / size.sum(), means, factors, one.noise, np.nan)


def fit_population(
    units: LinearUnits,
    *,
    components: int = 1,
    seed: int = 0,
    tolerance: float = 1e-4,
    most: int = 500,
) -> MixturePopulation:
    """Return the population of coefficients by maximum likelihood over units.

    Expectation-maximisation, first with one component from pooled least squares, then with all from centres spread
    among the units. It stops when a step gains less than ``tolerance`` in log likelihood per unit. Covariances are
    kept above 1e-12 of the pooled scale of each coefficient, so that one that does not vary between units stays fixed.

    Parameters
    ----------
    units
        The rows of all units.
    components
        How many normal distributions the population is a mixture of.
    seed
        For the centres from which several components start.
    tolerance, most
        Gain in mean log likelihood per step at which to stop, and the most steps.

    Raises
    ------
    FitError
        If units are fewer or less different than components, or pooled rows do not determine the coefficients.
    ConvergenceError
        If ``most`` steps did not suffice.

    References
    ----------
    Dempster AP, Laird NM, Rubin DB (1977), doi:10.1111/j.2517-6161.1977.tb01600.x; Bovy J, Hogg DW, Roweis ST (2011),
    doi:10.1214/10-AOAS439.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> theta = rng.normal(2.0, 0.5, 400)
    >>> values = theta[:, None] + rng.normal(0.0, 1.0, (400, 8))
    >>> found = fit_population(summarise_rows(np.ones((400, 8, 1)), values))
    >>> round(float(found.means[0, 0]), 1), round(float(found.factors[0, 0, 0]), 1), round(found.noise, 1)
    (2.0, 0.5, 1.0)
    """
    if len(units.count) < components:
        raise FitError(f"{len(units.count)} units cannot show {components} kinds", do="ask for fewer components")
    population, floor = _pool(units)
    population = _climb(population, units, floor, tolerance, most)
    if components > 1:
        begun = _split(population, units, components, np.random.default_rng(seed))
        population = _climb(begun, units, floor, tolerance, most)
    return population


def _pool(units: LinearUnits) -> tuple[MixturePopulation, Float[np.ndarray, " coefficient"]]:
    """Return a start from least squares over all rows of all units, and the floor of covariances."""
    gram, moment = units.gram.sum(0), units.moment.sum(0)
    scale = np.sqrt(np.diag(gram) / units.count.sum())
    scaled = gram / np.outer(np.where(scale > 0, scale, 1.0), np.where(scale > 0, scale, 1.0))
    if (scale <= 0).any() or np.linalg.cond(scaled) > 1e12:
        raise FitError("the rows of all units together do not determine the coefficients", do="leave out columns")
    pooled = np.linalg.solve(gram, moment)
    left = max(float(units.square.sum() - pooled @ moment), 1e-300) / units.count.sum()
    start = np.diag(np.sqrt(left) / scale)
    floor = 1e-12 * left / scale**2
    return MixturePopulation(np.ones(1), pooled[None], start[None], float(np.sqrt(left / 2)), np.nan), floor


def _climb(
    population: MixturePopulation,
    units: LinearUnits,
    floor: Float[np.ndarray, " coefficient"],
    tolerance: float,
    most: int,
) -> MixturePopulation:
    """Return where expectation-maximisation stops gaining."""
    before = -np.inf
    for _ in range(most):
        moments = _expect(population, units)
        gain = moments.log_likelihood - before
        if gain < tolerance:
            return MixturePopulation(
                population.weights, population.means, population.factors, population.noise, moments.log_likelihood
            )
        before = moments.log_likelihood
        population = _maximise(moments, floor)
    raise ConvergenceError(
        f"the population was still gaining {gain:.2g} per unit after {most} steps",
        do="ask for fewer components, or allow more steps",
    )
