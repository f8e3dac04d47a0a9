"""Generalised linear models by iteratively reweighted least squares (IRLS), with model-based and robust variances.

With linear predictor η = Xβ (+ offset), mean μ(η), slope d = dμ/dη and variance function V(μ), each step solves

    minimise Σ cᵢ (ηᵢ + uᵢ/cᵢ − xᵢᵀβ)²,    uᵢ = (yᵢ − μᵢ) dᵢ/V(μᵢ),    cᵢ = −∂uᵢ/∂ηᵢ,

Newton's step for the likelihood. With wᵢ = dᵢ²/V(μᵢ) = E cᵢ, B = (XᵀWX)⁻¹, leverage hᵢ = wᵢ xᵢᵀBxᵢ, scale φ, n rows
and p coefficients,

    V_model = φ B,      V_HC = B Xᵀ diag(ωᵢ) X B,
    ωᵢ = uᵢ² (HC0),   uᵢ² n/(n − p) (HC1),   uᵢ²/(1 − hᵢ) (HC2),   uᵢ²/(1 − hᵢ)² (HC3).

Sources: Nelder and Wedderburn (1972), doi:10.2307/2344614; Zeileis (2006), doi:10.18637/jss.v016.i09.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.arrays import frozen, require_finite, require_length
from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.stats.ancova import require_rank
from trialtwin.stats.families import AbstractFamily, Gaussian, NegativeBinomial, Poisson
from trialtwin.stats.modelmatrix import ModelMatrix
from trialtwin.stats.separation import separated_columns

GLM_VARIANCES = ("model", "HC0", "HC1", "HC2", "HC3")
_MOST_STEPS = 100
_STEP = 1e-9  # change of a linear predictor at which IRLS has converged; the error left is far smaller
_FAR = 18.0  # a linear predictor this far out raises the suspicion of separation
_SATURATED = 1e-10
_ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class GLMFit:
    """A fitted generalised linear model; immutable.

    Parameters
    ----------
    names
        Coefficients.
    family
        Distribution and link, with the dispersion of a negative binomial as estimated or given.
    coefficients : shape (column,)
        Maximum likelihood estimates.
    fitted, residuals, scores, leverage : shape (row,)
        Means μ, y − μ, uᵢ and hᵢ of the module's equations.
    scale
        φ: residual variance of the gaussian family, 1 elsewhere.
    design : shape (row, column), bread : shape (column, column)
        X and (XᵀWX)⁻¹.
    deviance, log_likelihood
        At the estimates.
    steps
        Steps that IRLS took.
    rows
        Names of the rows for messages.
    """

    names: tuple[str, ...]
    family: AbstractFamily
    coefficients: Float[np.ndarray, " column"]
    fitted: Float[np.ndarray, " row"]
    residuals: Float[np.ndarray, " row"]
    scores: Float[np.ndarray, " row"]
    leverage: Float[np.ndarray, " row"]
    scale: float
    design: Float[np.ndarray, "row column"]
    bread: Float[np.ndarray, "column column"]
    deviance: float
    log_likelihood: float
    steps: int
    rows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("coefficients", "fitted", "residuals", "scores", "leverage", "design", "bread"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.fitted)

    @property
    def df(self) -> int:
        """Residual degrees of freedom."""
        return self.n - len(self.names)

    def predict(self, design: ModelMatrix) -> Float[np.ndarray, " row"]:
        """Return the mean at other rows of the same columns, without an offset.

        Raises
        ------
        DataError
            If the columns are not those of the fit.
        """
        if design.names != self.names:
            raise DataError("the rows to predict have other columns than the model", exists=self.names)
        return self.family.mean(design.values @ self.coefficients)

    def covariance(self, kind: str = "model") -> Float[np.ndarray, "column column"]:
        """Return the covariance matrix of the coefficients.

        Raises
        ------
        ConfigError
            If ``kind`` is not one of "model", "HC0", "HC1", "HC2", "HC3".
        FitError
            If a row has leverage 1, which leaves HC2 and HC3 undefined; the message names the rows.
        """
        if kind == "model":
            return self.scale * self.bread
        square = self.scores**2
        match kind:
            case "HC0":
                pass
            case "HC1":
                square = square * (self.n / self.df)
            case "HC2" | "HC3":
                square = square / self._free(kind) ** (1 if kind == "HC2" else 2)
            case _:
                raise ConfigError(f"no variance estimator {kind!r}", exists=GLM_VARIANCES)
        half = self.design @ self.bread
        return (half.T * square) @ half

    def _free(self, kind: str) -> Float[np.ndarray, " row"]:
        """Return 1 − leverage, or refuse rows that the model fits whatever their response is."""
        free = 1 - self.leverage
        full = np.flatnonzero(free < _SATURATED)
        if len(full):
            names = [self.rows[i] if self.rows else f"row {i}" for i in full[:10]]
            raise FitError(
                f"{kind} is undefined: {len(full)} patient(s) have leverage 1",
                where=", ".join(names),
                do="pool factor levels that hold one patient, or use 'model', 'HC0' or 'HC1'",
            )
        return free


def fit_glm(
    design: ModelMatrix,
    response: Float[np.ndarray, " row"],
    family: AbstractFamily,
    *,
    offset: Float[np.ndarray, " row"] | None = None,
    rows: Sequence[str] = (),
    name: str = "the response",
) -> GLMFit:
    """Fit a generalised linear model by maximum likelihood.

    Parameters
    ----------
    design
        Columns of the model.
    response : shape (row,)
        What is modelled.
    family
        Distribution and link; the dispersion of a negative binomial is taken as known.
    offset : shape (row,)
        Added to the linear predictor, such as the logarithm of the time at risk.
    rows, name
        Names of the rows and of the response, for messages.

    Raises
    ------
    DataError
        If lengths differ, or the response is not one that the family can have.
    FitError
        If there are no residual degrees of freedom, the design is singular, or the likelihood has no maximum
        (separation); the message names the columns.
    ConvergenceError
        If IRLS has not converged after 100 steps.

    Examples
    --------
    >>> from trialtwin.stats.families import Binomial
    >>> from trialtwin.stats.modelmatrix import continuous_columns, intercept, join
    >>> x = continuous_columns({"x": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])})
    >>> fit = fit_glm(join(intercept(6), x), np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]), Binomial())
    >>> fit.coefficients.round(4).tolist(), fit.covariance("HC0").diagonal().round(3).tolist()
    ([-1.2646, 0.3613], [3.316, 0.211])
    """
    X = design.values
    require_length(name, response, len(X))
    added = np.zeros(len(X)) if offset is None else offset
    _require_rows(design, response, added, family, rows, name)
    require_rank(design, np.linalg.qr(X, mode="r"))
    beta, steps = _maximise(design, response, added, family)
    fit = _fitted(design, response, family, beta, family.mean(X @ beta + added), steps, tuple(rows))
    if family.free_scale and fit.deviance <= _ROUNDING**2 * float(response @ response):
        raise FitError(
            f"the model fits {name} exactly in every row: no variation is left to judge by",
            where=", ".join(design.names[:20]),
            do="check that it is not constant and not one of the covariates",
        )
    return fit


def fit_negative_binomial(
    design: ModelMatrix,
    response: Float[np.ndarray, " row"],
    *,
    offset: Float[np.ndarray, " row"] | None = None,
    rows: Sequence[str] = (),
    name: str = "the response",
) -> GLMFit:
    """Fit a negative binomial model with its dispersion α, by maximum likelihood over coefficients and α.

    The profile likelihood of log α is maximised. Counts whose spread about the Poisson fit is not larger than the
    Poisson law's have their maximum at α = 0, and the fit says so: ``fit.family.dispersion`` is 0. Standard errors
    take α as known, as R's ``glm.nb`` does; α and β are asymptotically independent.

    Raises
    ------
    DataError, FitError, ConvergenceError
        As for ``fit_glm``; ConvergenceError as well where α has no finite maximum.

    Examples
    --------
    >>> from trialtwin.stats.modelmatrix import intercept
    >>> fit = fit_negative_binomial(intercept(6), np.array([0.0, 0.0, 1.0, 2.0, 5.0, 12.0]))
    >>> round(float(fit.fitted[0]), 4), round(fit.family.dispersion, 2)
    (3.3333, 1.74)
    """
    from scipy.optimize import minimize_scalar

    def fit(family: AbstractFamily) -> GLMFit:
        return fit_glm(design, response, family, offset=offset, rows=rows, name=name)

    poisson = fit(Poisson())
    if np.sum(poisson.residuals**2 - response) <= 0:
        return fit(NegativeBinomial(0.0))

    def profile(logarithm: float) -> float:
        return -fit(NegativeBinomial(float(np.exp(logarithm)))).log_likelihood

    moment = max(float(np.sum(poisson.residuals**2 - response) / np.sum(poisson.fitted**2)), 1e-6)
    middle, wide = float(np.log(moment)), 6.0
    found = minimize_scalar(profile, bounds=(middle - wide, middle + wide), method="bounded", options={"xatol": 1e-9})
    if not found.success or abs(found.x - middle) > wide - 1e-3:
        raise ConvergenceError(
            f"the dispersion of {name} has no maximum likelihood near its moment estimate {moment:g}",
            do="use the poisson family with a robust variance",
        )
    return fit(NegativeBinomial(float(np.exp(found.x))))


def _fitted(
    design: ModelMatrix,
    y: Float[np.ndarray, " row"],
    family: AbstractFamily,
    beta: Float[np.ndarray, " column"],
    mu: Float[np.ndarray, " row"],
    steps: int,
    rows: tuple[str, ...],
) -> GLMFit:
    """Put together what a fit says at its coefficients."""
    slope, variance = family.slope(mu), family.variance(mu)
    Q, R = np.linalg.qr(np.sqrt(slope**2 / variance)[:, None] * design.values)
    inverse = np.linalg.solve(R, np.eye(len(beta)))
    deviance = family.deviance(y, mu)
    return GLMFit(
        names=design.names,
        family=family,
        coefficients=beta,
        fitted=mu,
        residuals=y - mu,
        scores=(y - mu) * slope / variance,
        leverage=np.einsum("ij,ij->i", Q, Q),
        scale=deviance / (len(y) - len(beta)) if family.free_scale else 1.0,
        design=design.values,
        bread=inverse @ inverse.T,
        deviance=deviance,
        log_likelihood=family.log_likelihood(y, mu),
        steps=steps,
        rows=rows,
    )


def _require_rows(
    design: ModelMatrix,
    response: Float[np.ndarray, " row"],
    offset: Float[np.ndarray, " row"],
    family: AbstractFamily,
    rows: Sequence[str],
    name: str,
) -> None:
    """Refuse a response that does not belong to the design or the family, and a design with too few rows."""
    n, p = design.values.shape
    require_length("the offset", offset, n)
    require_finite("the offset", offset)
    family.require_response(name, response)
    if rows and len(rows) != n:
        raise DataError(f"{len(rows)} row names for {n} rows")
    if n <= p:
        raise FitError(
            f"{n} patients leave no residual degrees of freedom for {p} coefficients",
            where=", ".join(design.names[:20]),
            do="drop covariates or pool factor levels",
        )


def _maximise(
    design: ModelMatrix, y: Float[np.ndarray, " row"], offset: Float[np.ndarray, " row"], family: AbstractFamily
) -> tuple[Float[np.ndarray, " column"], int]:
    """Return the coefficients at the maximum and the number of steps, or say why there is none."""
    X = design.values
    if isinstance(family, Gaussian):
        return np.linalg.lstsq(X, y - offset, rcond=None)[0], 1
    eta, beta, deviance, checked = family.start(y), np.zeros(X.shape[1]), np.inf, False
    for step in range(1, _MOST_STEPS + 1):
        mu = family.mean(eta)
        # Newton's weights: those of Fisher scoring for a canonical link, and faster than them for another
        curvature = family.curvature(y, mu)
        target = eta - offset + (y - mu) * family.slope(mu) / family.variance(mu) / curvature
        root = np.sqrt(curvature)
        new = np.linalg.lstsq(root[:, None] * X, root * target, rcond=None)[0]
        beta, reached, deviance = _shortened(X, y, offset, family, beta, new, deviance)
        change, eta = float(np.abs(reached - eta).max()), reached
        far = float(np.abs(eta - offset).max()) > _FAR
        if far and not checked:
            _refuse_separation(design, y, family)
            checked = True
        if change < _STEP:
            return beta, step
    _refuse_separation(design, y, family)
    raise ConvergenceError(
        f"the {family.name} model has not converged after {_MOST_STEPS} steps",
        where=", ".join(design.names[:20]),
        do="rescale covariates that span many orders of magnitude, or drop terms",
    )


def _shortened(
    X: Float[np.ndarray, "row column"],
    y: Float[np.ndarray, " row"],
    offset: Float[np.ndarray, " row"],
    family: AbstractFamily,
    old: Float[np.ndarray, " column"],
    new: Float[np.ndarray, " column"],
    before: float,
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " row"], float]:
    """Halve a step until the deviance is finite and does not rise; Poisson steps can overshoot by orders."""
    for _ in range(40):
        eta = X @ new + offset
        with np.errstate(over="ignore", invalid="ignore"):
            deviance = family.deviance(y, family.mean(eta))
        if np.isfinite(deviance) and deviance <= before + 1e-9 * (1 + abs(before)):
            return new, eta, deviance
        new = (old + new) / 2
    raise ConvergenceError(
        f"no step of the {family.name} model lowers its deviance of {before:g}",
        do="rescale covariates that span many orders of magnitude, or drop terms",
    )


def _refuse_separation(design: ModelMatrix, y: Float[np.ndarray, " row"], family: AbstractFamily) -> None:
    columns = separated_columns(design, y, family.endpoint)
    if columns:
        raise FitError(
            f"the {family.name} likelihood has no maximum: the response is separated by a combination of columns",
            where=", ".join(columns[:20]),
            do="pool or drop the terms that predict the response perfectly in a group of patients",
        )
