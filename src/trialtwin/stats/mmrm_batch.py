"""Repeated-measures analysis of many simulated trials of one design at once.

Every covariate, arm included, has a coefficient at every visit, and the covariance is unstructured: the analysis that
simulations of trials use most. Each trial is fitted to the same optimum as by `mmrm`, by the same method, with all
trials in the same arrays; a trial that cannot be fitted is flagged, and its numbers are NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtr, stdtrit

from trialtwin.core.arrays import frozen, require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.stats.mmrm_batch_likelihood import BatchCurvature, BatchLikelihood, BatchMoments, BatchPoint
from trialtwin.stats.modelmatrix import INTERCEPT
from trialtwin.stats.wald import require_level

type Trials = Float[np.ndarray, "trial ..."]

DF_METHODS = ("Kenward-Roger-linear", "Satterthwaite")
_CHUNK = 32  # trials whose arrays stay in the processor's cache together
_ITERATIONS = 200
_CLOSE = 1e-8  # decrement of −log L at which what is left is one full step
_DONE = 1e-14
_LONGEST = 4.0
_HALVINGS = 40
_SINGULAR = 1e-10


@dataclass(frozen=True, eq=False)
class BatchFit:
    """Estimates of chosen coefficients at each visit, in each trial; immutable.

    Parameters
    ----------
    columns
        Covariates whose coefficients are reported.
    converged : shape (trial,)
        Whether the fit ended at an optimum with a positive definite Hessian.
    estimate, se, df : shape (trial, column, visit)
        Coefficients with standard errors and degrees of freedom; NaN where a trial was not fitted.
    covariance : shape (trial, visit, visit)
        Covariance matrix of the visits.
    coefficients : shape (trial, visit, coefficient)
        All coefficients: the intercept, then the covariates in their order.
    """

    columns: tuple[str, ...]
    converged: Bool[np.ndarray, " trial"]
    estimate: Float[np.ndarray, "trial column visit"]
    se: Float[np.ndarray, "trial column visit"]
    df: Float[np.ndarray, "trial column visit"]
    covariance: Float[np.ndarray, "trial visit visit"]
    coefficients: Float[np.ndarray, "trial visit coefficient"]

    def __post_init__(self) -> None:
        for name in ("converged", "estimate", "se", "df", "covariance", "coefficients"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def p(self) -> Float[np.ndarray, "trial column visit"]:
        """Two-sided p-values against no effect."""
        return 2 * stdtr(self.df, -np.abs(self.estimate / self.se))

    def interval(
        self, level: float = 0.95
    ) -> tuple[Float[np.ndarray, "trial column visit"], Float[np.ndarray, "trial column visit"]]:
        """Return the limits of confidence intervals."""
        require_level(level)
        half = stdtrit(self.df, 0.5 + level / 2) * self.se
        return self.estimate - half, self.estimate + half


def batch_mmrm(
    covariates: Float[np.ndarray, "trial patient covariate"],
    outcomes: Float[np.ndarray, "trial patient visit"],
    *,
    names: Sequence[str],
    columns: Sequence[str],
    df: str = "Kenward-Roger-linear",
) -> BatchFit:
    """Fit many trials of one design by restricted maximum likelihood.

    Parameters
    ----------
    covariates : shape (trial, patient, covariate)
        Arm and baseline covariates; an intercept is added. Each has a coefficient at every visit.
    outcomes : shape (trial, patient, visit)
        NaN where a patient was not seen.
    names
        Names of the covariates.
    columns
        Those whose coefficients are wanted.
    df
        "Kenward-Roger-linear" (default) or "Satterthwaite", for standard errors and degrees of freedom alike.

    Raises
    ------
    DataError
        If lengths differ, or a covariate or an outcome is infinite.
    MismatchError
        If a column does not exist.
    ConfigError
        If there is no such method.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> arm = np.tile(np.arange(40.0) % 2, (100, 1))
    >>> y = rng.normal(size=(100, 40, 3)) + arm[:, :, None]
    >>> fit = batch_mmrm(arm[:, :, None], y, names=["arm"], columns=["arm"])
    >>> fit.estimate.shape, bool(fit.converged.all()), abs(float(fit.estimate.mean()) - 1) < 0.1
    ((100, 1, 3), True, True)
    """
    _require_batch(covariates, outcomes, names, df)
    absent = [name for name in columns if name not in names]
    if absent:
        raise MismatchError(f"no covariate {absent[0]!r}", exists=names, do=f"{INTERCEPT} is not reported")
    places = [1 + list(names).index(name) for name in columns]
    parts = [
        _fit_chunk(covariates[k : k + _CHUNK], outcomes[k : k + _CHUNK], places, kenward_roger=df != "Satterthwaite")
        for k in range(0, len(covariates), _CHUNK)
    ]
    return BatchFit(tuple(columns), *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _require_batch(covariates: np.ndarray, outcomes: np.ndarray, names: Sequence[str], df: str) -> None:
    """Refuse arrays that are not a batch of trials, and methods that do not exist."""
    if df not in DF_METHODS:
        raise ConfigError(f"no degrees of freedom {df!r} for a batch", exists=DF_METHODS)
    if len(covariates) == 0:
        raise DataError("the batch holds no trial", do="give one trial at least")
    require_length("outcomes", outcomes, len(covariates))
    if outcomes.shape[1] != covariates.shape[1] or covariates.shape[2] != len(names):
        raise DataError(
            f"outcomes of {outcomes.shape[1]} patients, covariates of {covariates.shape[1]}; "
            f"{len(names)} names of {covariates.shape[2]} covariates",
            do="give (trial, patient, covariate) and (trial, patient, visit)",
        )
    require_finite("covariates", covariates)
    require_finite("outcomes", np.where(np.isnan(outcomes), 0.0, outcomes))


def _fit_chunk(
    covariates: Trials, outcomes: Trials, places: list[int], *, kenward_roger: bool
) -> tuple[np.ndarray, ...]:
    """Fit some trials: converged, estimates, standard errors, degrees of freedom, covariances, all coefficients."""
    trials, patients, visits = outcomes.shape
    seen = ~np.isnan(outcomes)
    z, back, whole = _orthonormal(np.concatenate([np.ones((trials, patients, 1)), covariates], axis=2))
    ordinary, residuals, solved = _least_squares(z, outcomes, seen)
    patterns, of_patient = np.unique(_codes(seen), return_inverse=True)
    observed = _visits_of(patterns, visits)
    likelihood = BatchLikelihood(observed[observed.any(axis=1)])
    moments = _moments(z, residuals, of_patient.reshape(trials, patients), observed)
    fitted = whole & solved & (seen.sum(axis=(1, 2)) > visits * z.shape[2])
    theta = np.zeros((trials, visits * (visits + 1) // 2))
    theta[fitted] = _start(residuals[fitted], seen[fitted])
    converged = np.zeros(trials, bool)
    converged[fitted], point, curvature = _newton(likelihood, moments.of(fitted), theta[fitted])
    good = np.flatnonzero(converged)
    shape = (trials, len(places), visits)
    estimate, se, df = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    covariance = np.full((trials, visits, visits), np.nan)
    everything = np.full((trials, visits, z.shape[2]), np.nan)
    if len(good):
        within = np.flatnonzero(converged[fitted])
        point, curvature = point.of(within), _curvature_of(curvature, within)
        coefficients = ordinary[good] + point.coefficients.reshape(len(good), visits, -1)
        contrasts = back[good][:, places]
        everything[good] = coefficients @ back[good].mT
        estimate[good] = everything[good][:, :, places].mT
        for k in range(len(places)):
            square, df[good, k] = _inference(
                likelihood, moments.of(good), point, curvature, contrasts[:, k], kenward_roger=kenward_roger
            )
            se[good, k] = np.sqrt(square)
        covariance[good] = point.factor @ point.factor.mT
    return converged, estimate, se, df, covariance, everything


def _orthonormal(z: Trials) -> tuple[Trials, Trials, Bool[np.ndarray, " trial"]]:
    """Return orthonormal covariates, R⁻¹ that leads back, and whether the covariates have full rank."""
    Q, R = np.linalg.qr(z)
    size = np.sqrt((z**2).sum(axis=1))
    left = np.abs(np.diagonal(R, axis1=1, axis2=2))
    whole = (left > 1e-10 * np.maximum(size, 1e-300)).all(axis=1)
    R = np.where(whole[:, None, None], R, np.eye(R.shape[-1]))
    return Q, np.linalg.inv(R), whole


def _least_squares(
    z: Trials, outcomes: Trials, seen: Bool[np.ndarray, "trial patient visit"]
) -> tuple[Trials, Trials, Bool[np.ndarray, " trial"]]:
    """Fit each visit on its own: coefficients (trial, visit, covariate), residuals, and whether they exist."""
    y = np.where(seen, outcomes, 0.0)
    r = z.shape[2]
    products = (z[..., :, None] * z[..., None, :]).reshape(*z.shape[:2], r * r)
    grams = (seen.mT.astype(float) @ products).reshape(len(z), -1, r, r)
    solved = np.linalg.eigvalsh(grams)[..., 0].min(axis=1) > _SINGULAR
    grams = np.where(solved[:, None, None, None], grams, np.eye(r))
    coefficients = np.linalg.solve(grams, (y.mT @ z)[..., None])[..., 0]
    residuals = np.where(seen, y - z @ coefficients.mT, 0.0)
    spread = (residuals**2).sum(axis=1)
    solved &= (spread > 1e-20 * (y**2).sum(axis=1)).all(axis=1)
    return coefficients, residuals, solved


def _codes(seen: Bool[np.ndarray, "trial patient visit"]) -> np.ndarray:
    """Return numbers whose bits are the visits of a pattern."""
    return seen @ (1 << np.arange(seen.shape[2], dtype=np.int64))


def _visits_of(codes: np.ndarray, visits: int) -> Bool[np.ndarray, "pattern visit"]:
    """Return the visits of numbered patterns."""
    return (codes[:, None] >> np.arange(visits)) & 1 == 1


def _moments(z: Trials, y: Trials, of_patient: np.ndarray, observed: Bool[np.ndarray, "pattern visit"]) -> BatchMoments:
    """Sum products over the patients of each pattern; patients never seen are left out."""
    r, width = z.shape[2], z.shape[2] + y.shape[2]
    used = np.flatnonzero(observed.any(axis=1))
    member = (of_patient[:, None, :] == used[:, None]).astype(float)
    u = np.concatenate([z, y], axis=2)
    upper, right = np.triu_indices(width)
    # One matrix product for all patterns of a trial.
    packed = member @ (u[..., upper] * u[..., right])
    sums = np.empty((*packed.shape[:2], width, width))
    sums[..., upper, right] = packed
    sums[..., right, upper] = packed
    return BatchMoments(member.sum(axis=2), sums[..., :r, :r], sums[..., :r, r:], sums[..., r:, r:])


def _start(residuals: Trials, seen: Bool[np.ndarray, "trial patient visit"]) -> Trials:
    """Return parameters from the residuals of each visit on its own, as `mmrm_fit.start_values` does."""
    visits = residuals.shape[2]
    together = seen.mT.astype(float) @ seen.astype(float)
    covariance = residuals.mT @ residuals / np.maximum(together, 1)
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    diagonal = variances[:, :, None] * np.eye(visits)
    for _ in range(_HALVINGS):
        bad = np.linalg.eigvalsh(covariance)[:, 0] < 1e-2 * variances.min(axis=1)
        if not bad.any():
            break
        covariance[bad] = (covariance[bad] + diagonal[bad]) / 2
    lower = np.linalg.cholesky(covariance)
    scale = np.diagonal(lower, axis1=1, axis2=2)
    row, column = np.tril_indices(visits, -1)
    return np.concatenate([np.log(scale), lower[:, row, column] / scale[:, row]], axis=1)


def _newton(
    likelihood: BatchLikelihood, moments: BatchMoments, theta: Trials
) -> tuple[Bool[np.ndarray, " trial"], BatchPoint, BatchCurvature]:
    """Maximise each likelihood as `mmrm_fit.maximise` does; trials that are done leave the iteration."""
    point = likelihood.point(moments, theta)
    curvature = likelihood.curvature(moments, point)
    converged = np.zeros(len(theta), bool)
    active = np.flatnonzero(np.isfinite(point.value))
    for _ in range(_ITERATIONS):
        if len(active) == 0:
            break
        gradient = curvature.gradient[active]
        step, exact = _solve(curvature.hessian[active], gradient)
        other, usable = _solve(curvature.information[active], gradient)
        step = np.where(exact[:, None], step, other)
        decrement = np.einsum("tq,tq->t", gradient, step)
        done = exact & (decrement < _DONE)
        converged[active[done]] = True
        going = ~done & (exact | usable)
        active, step, decrement, exact = active[going], step[going], decrement[going], exact[going]
        if len(active) == 0:
            break
        own = moments.of(active)
        found = _descend(likelihood, own, point.of(active), step, decrement, free=exact & (decrement < _CLOSE))
        kept = np.isfinite(found.value)
        active, found, own = active[kept], found.of(kept), own.of(kept)
        _write(point, active, found)
        _write(curvature, active, likelihood.curvature(own, found))
    return converged, point, curvature


def _descend(
    likelihood: BatchLikelihood,
    moments: BatchMoments,
    point: BatchPoint,
    step: Trials,
    decrement: Trials,
    *,
    free: Bool[np.ndarray, " trial"],
) -> BatchPoint:
    """Take steps, halved until the likelihood rises enough; infinite values mark trials in which it does not.

    Trials that are ``free`` take the whole step: what they gain is below rounding.
    """
    size = np.minimum(1.0, _LONGEST / np.maximum(np.abs(step).max(axis=1), 1e-300))
    found = likelihood.point(moments, point.theta - size[:, None] * step)
    for _ in range(_HALVINGS):
        short = ~free & (found.value > point.value - 1e-4 * size * decrement)
        if not short.any():
            return found
        size[short] /= 2
        again = likelihood.point(moments.of(short), point.theta[short] - size[short][:, None] * step[short])
        _write(found, np.flatnonzero(short), again)
    found.value[~free & (found.value > point.value - 1e-4 * size * decrement)] = np.inf
    return found


def _solve(matrix: Trials, vector: Trials) -> tuple[Trials, Bool[np.ndarray, " trial"]]:
    """Solve by positive definite matrices, and say which are; the others' solutions are zero."""
    diagonal = np.diagonal(matrix, axis1=1, axis2=2)
    usable = np.isfinite(matrix).all(axis=(1, 2)) & (diagonal > 0).all(axis=1)
    size = np.sqrt(np.where(usable[:, None], diagonal, 1.0))
    scaled = np.where(usable[:, None, None], matrix, np.eye(matrix.shape[-1])) / (size[:, :, None] * size[:, None, :])
    usable &= np.linalg.eigvalsh(scaled)[:, 0] > _SINGULAR
    scaled = np.where(usable[:, None, None], scaled, np.eye(matrix.shape[-1]))
    solution = np.linalg.solve(scaled, (vector / size)[..., None])[..., 0] / size
    return np.where(usable[:, None], solution, 0.0), usable


def _write(target: BatchPoint | BatchCurvature, trials: np.ndarray, source: BatchPoint | BatchCurvature) -> None:
    """Put the arrays of some trials in place."""
    for field in fields(target):
        getattr(target, field.name)[trials] = getattr(source, field.name)


def _curvature_of(curvature: BatchCurvature, trials: np.ndarray) -> BatchCurvature:
    """Return the derivatives of some trials."""
    return BatchCurvature(*(getattr(curvature, field.name)[trials] for field in fields(curvature)))


def _inference(
    likelihood: BatchLikelihood,
    moments: BatchMoments,
    point: BatchPoint,
    curvature: BatchCurvature,
    contrast: Float[np.ndarray, "trial covariate"],
    *,
    kenward_roger: bool,
) -> tuple[Trials, Trials]:
    """Return squared standard errors and degrees of freedom of one contrast of covariates at each visit."""
    trials, visits, r = len(contrast), likelihood.visits, contrast.shape[1]
    rows = (np.eye(visits)[None, :, :, None] * contrast[:, None, None, :]).reshape(trials, visits, visits * r)
    turned = rows @ point.inverse  # Φ c, one row a visit
    square = np.einsum("tvp,tvp->tv", turned, rows)
    W = curvature.jacobian @ np.linalg.inv(curvature.hessian) @ curvature.jacobian.mT
    # Pₖ Φ c for each element and visit
    pulled = curvature.slopes @ turned.mT[:, None]
    slope = np.einsum("tvp,tkpv->tvk", turned, pulled, optimize=True)
    df = 2 * square**2 / np.einsum("tvk,tkl,tvl->tv", slope, W, slope, optimize=True)
    if not kenward_roger:
        return square, df
    elements, S = likelihood.elements, point.precision
    adjusted = square.copy()
    for v in range(visits):
        t = turned[:, v].reshape(trials, 1, visits, r)
        inner = S @ (t @ moments.covariates @ t.mT) @ S
        P = pulled[..., v]
        bracket = elements.traces(S, inner) - P @ point.inverse @ P.mT
        adjusted[:, v] += 2 * (W * bracket).sum(axis=(1, 2))
    return adjusted, df
