r"""Cox's proportional-hazards model: strata, ties after Efron or Breslow or exact, and a robust variance.

The partial likelihood is ``cox_likelihood``'s. With score residuals Uᵢ the robust variance is I⁻¹ (Σ Uᵢ Uᵢᵀ) I⁻¹.

Sources: Cox DR (1972), doi:10.1111/j.2517-6161.1972.tb00899.x; Lin DY, Wei LJ (1989),
doi:10.1080/01621459.1989.10478874.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import chi2

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.cox_likelihood import TIES, Point, RiskSets
from trialtwin.stats.modelmatrix import ModelMatrix, contrast_weights
from trialtwin.stats.survival import require_times
from trialtwin.stats.wald import wald_estimate

VARIANCES = ("model", "robust")
_STEPS, _HALVINGS, _DONE = 50, 30, 1e-12
_ROUNDING = 1e-13
_FLAT = 1e-10  # of an eigenvalue of the information, columns standardised
_FADED = 1e-5  # share of the information at zero that must be left at the maximum


class Overall(NamedTuple):
    """A chi-squared test that all coefficients are zero."""

    statistic: float
    df: int
    p: float


@dataclass(frozen=True, eq=False)
class CoxFit:
    """A fitted proportional-hazards model; immutable.

    Parameters
    ----------
    names, coefficients
        Log hazard ratios for one unit of each column.
    information, meat : shape (column, column)
        Observed information, and Σ Uᵢ Uᵢᵀ of the score residuals; these do not exist with exact ties.
    log_likelihood, log_likelihood_null
        Partial, at the estimates and at zero.
    score
        Score test at zero.
    n, events
        Patients and events.
    ties
        How tied events were treated.
    """

    names: tuple[str, ...]
    coefficients: Float[np.ndarray, " column"]
    information: Float[np.ndarray, "column column"]
    meat: Float[np.ndarray, "column column"] | None
    log_likelihood: float
    log_likelihood_null: float
    score: Overall
    n: int
    events: int
    ties: str

    def __post_init__(self) -> None:
        for name in ("coefficients", "information", "meat"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def likelihood_ratio(self) -> Overall:
        """Likelihood-ratio test that all coefficients are zero."""
        statistic, df = 2 * (self.log_likelihood - self.log_likelihood_null), len(self.names)
        return Overall(statistic, df, float(chi2.sf(statistic, df)))

    @property
    def wald(self) -> Overall:
        """Wald test that all coefficients are zero."""
        statistic, df = float(self.coefficients @ self.information @ self.coefficients), len(self.names)
        return Overall(statistic, df, float(chi2.sf(statistic, df)))

    def coefficient(self, name: str) -> float:
        """Return one log hazard ratio by name."""
        return float(contrast_weights(self.names, {name: 1.0}) @ self.coefficients)

    def covariance(self, kind: str = "model") -> Float[np.ndarray, "column column"]:
        """Return the covariance of the coefficients.

        Raises
        ------
        ConfigError
            If ``kind`` is neither "model" nor "robust", or it is robust and ties are exact.
        """
        inverse = np.linalg.inv(self.information)
        if kind == "model":
            return inverse
        if kind == "robust":
            if self.meat is None:
                raise ConfigError("exact ties have no robust variance", do="use Efron's ties")
            return inverse @ self.meat @ inverse
        raise ConfigError(f"no variance estimator {kind!r}", exists=VARIANCES)

    def estimate(
        self,
        weights: Mapping[str, float],
        label: str,
        *,
        variance: str = "model",
        level: float = 0.95,
        estimand: Estimand | None = None,
    ) -> Estimate:
        """Return a log hazard ratio, with normal inference; exponentiate value and limits for the ratio.

        Raises
        ------
        MismatchError
            If a weight names a coefficient that the model does not have.
        """
        contrast = contrast_weights(self.names, weights)
        return wald_estimate(
            float(contrast @ self.coefficients),
            float(np.sqrt(contrast @ self.covariance(variance) @ contrast)),
            contrast=label,
            n=self.n,
            level=level,
            method=f"Cox model, ties {'exact' if self.ties == 'exact' else f'after {self.ties}'}, log hazard ratio",
            variance=variance,
            unit="log hazard ratio",
            estimand=estimand,
        )


def cox(
    design: ModelMatrix,
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    *,
    strata: Int[np.ndarray, " patient"] | None = None,
    ties: str = "Efron",
) -> CoxFit:
    """Fit a proportional-hazards model.

    Parameters
    ----------
    design
        Columns, without an intercept.
    time, event : shape (patient,)
        Times, and whether they ended in the event.
    strata : shape (patient,)
        Codes of groups with a baseline hazard each.
    ties
        "Efron", "Breslow", or "exact": times are discrete, and those who have the event at one are a sample of those at
        risk; the coefficient is then a log odds ratio.

    Raises
    ------
    ConfigError
        If there is no such treatment of ties.
    DataError
        If times are impossible or lengths differ.
    FitError
        If nobody had the event, or columns depend on each other among those at risk.
    ConvergenceError
        If the likelihood has no maximum: a column tells events from others without error.

    Examples
    --------
    >>> from trialtwin.stats.modelmatrix import continuous_columns
    >>> arm = continuous_columns({"arm": np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])})
    >>> fit = cox(arm, np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.ones(6, dtype=bool))
    >>> round(fit.coefficient("arm"), 3)
    -0.632
    """
    _require(design, time, event, strata, ties)
    codes = np.zeros(len(time), dtype=int) if strata is None else strata
    scale = design.values.std(axis=0)
    x = (design.values - design.values.mean(axis=0)) / scale
    risks = [RiskSets(x[rows], time[rows], event[rows], ties) for rows in _groups(codes, event)]
    beta, null, at = _maximise(risks, x.shape[1], design.names)
    score = float(null.gradient @ np.linalg.solve(null.information, null.gradient))
    return CoxFit(
        names=design.names,
        coefficients=beta / scale,
        information=at.information * np.outer(scale, scale),
        meat=None if ties == "exact" else sum(risk.meat(beta) for risk in risks) * np.outer(scale, scale),
        log_likelihood=at.value,
        log_likelihood_null=null.value,
        score=Overall(score, len(beta), float(chi2.sf(score, len(beta)))),
        n=len(time),
        events=int(event.sum()),
        ties=ties,
    )


def _maximise(
    risks: list[RiskSets], columns: int, names: tuple[str, ...]
) -> tuple[Float[np.ndarray, " column"], Point, Point]:
    """Return the maximum by Newton steps, halved until the likelihood rises; and the points at zero and there."""

    def evaluate(beta: np.ndarray) -> Point:
        parts = [risk.point(beta) for risk in risks]
        return Point(*(sum(column[1:], column[0]) for column in zip(*parts, strict=True)))

    beta = np.zeros(columns)
    null = at = evaluate(beta)
    values, vectors = np.linalg.eigh(null.information)
    if values[0] <= _FLAT * max(values[-1], 1.0):
        share = np.abs(vectors[:, 0])
        raise FitError(
            "columns depend on each other among patients at risk",
            where=", ".join(names[k] for k in np.argsort(-share) if share[k] > 0.3),
            do="drop one of these columns",
        )
    for _ in range(_STEPS):
        step = np.linalg.solve(at.information, at.gradient)
        if at.gradient @ step < _DONE:
            _require_maximum(beta, null, at, names)
            return beta, null, at
        for halved in range(_HALVINGS):
            moved = beta + 0.5**halved * step
            new = evaluate(moved)
            # Near the maximum a likelihood of thousands of terms rises by less than its own rounding.
            if np.isfinite(new.value) and new.value >= at.value - _ROUNDING * abs(at.value):
                break
        else:
            raise ConvergenceError("the partial likelihood does not rise along its own gradient")
        beta, at = moved, new
        _require_maximum(beta, null, at, names)
    raise ConvergenceError(f"the Cox model did not converge in {_STEPS} steps", where=", ".join(names))


def _require_maximum(beta: Float[np.ndarray, " column"], null: Point, at: Point, names: tuple[str, ...]) -> None:
    """Refuse a likelihood that rises without end: the curvature fades as coefficients grow."""
    flat = np.linalg.eigvalsh(at.information)[0] < _FADED * np.linalg.eigvalsh(null.information)[0]
    if flat and np.abs(beta).max() > 1:
        name = names[int(np.argmax(np.abs(beta)))]
        raise ConvergenceError(
            f"the partial likelihood has no maximum: the hazard ratio of {name!r} goes to 0 or infinity",
            do="pool levels that hold no event, or leave the column out",
        )


def _groups(codes: Int[np.ndarray, " patient"], event: Bool[np.ndarray, " patient"]) -> list[np.ndarray]:
    """Return the rows of each stratum that has an event."""
    found = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    return [rows for rows in found if event[rows].any()]


def _require(
    design: ModelMatrix,
    time: Float[np.ndarray, " patient"],
    event: Bool[np.ndarray, " patient"],
    strata: np.ndarray | None,
    ties: str,
) -> None:
    """Refuse what cannot be fitted."""
    if ties not in TIES:
        raise ConfigError(f"no treatment of ties {ties!r}", exists=TIES)
    require_times(time, event)
    if len(design.values) != len(time) or (strata is not None and len(strata) != len(time)):
        raise DataError(f"{len(design.values)} rows of columns for {len(time)} times to an event")
    if not event.any():
        raise FitError("nobody had the event: there is no hazard to compare")
    same = np.flatnonzero(design.values.std(axis=0) == 0)
    if len(same):
        raise FitError(
            f"column {design.names[same[0]]!r} is the same for all patients", do="leave it out: there is no intercept"
        )
