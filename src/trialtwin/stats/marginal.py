"""Marginal means of the arms with their covariance, and contrasts of them by the delta method.

With means m and covariance V, a contrast c = g(m_a) − g(m_b) has variance ∇cᵀ V ∇c:

    difference         g(m) = m                 risk difference, difference in means or rates
    log ratio          g(m) = log m             log risk ratio, log rate ratio
    log odds ratio     g(m) = log(m/(1 − m))    binary endpoints only
    ratio, odds ratio  exp of the last two, with the delta method on their own scale
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.armmodel import arm_position
from trialtwin.stats.families import Endpoint
from trialtwin.stats.wald import wald_estimate

CONTRASTS: dict[Endpoint, tuple[str, ...]] = {
    "continuous": ("difference", "log ratio", "ratio"),
    "binary": ("difference", "log ratio", "ratio", "log odds ratio", "odds ratio"),
    "count": ("difference", "log ratio", "ratio"),
}
_SIGNS = {"difference": "−", "log ratio": "/", "ratio": "/", "log odds ratio": "/", "odds ratio": "/"}


@dataclass(frozen=True, eq=False)
class MarginalMeans:
    """Mean outcome had everybody been in each arm; immutable.

    Parameters
    ----------
    arms
        Names.
    means : shape (arm,)
        Probability, mean or rate.
    covariance : shape (arm, arm)
        Of the means.
    n
        Number of patients.
    endpoint
        "continuous", "binary" or "count".
    method, variance
        How the means and their covariance were come by.
    unit
        Of the outcome.
    estimand
        The question, carried into every contrast.

    Raises
    ------
    FitError
        If a mean or a covariance is not finite, or a variance is negative.
    """

    arms: tuple[str, ...]
    means: Float[np.ndarray, " arm"]
    covariance: Float[np.ndarray, "arm arm"]
    n: int
    endpoint: Endpoint
    method: str
    variance: str
    unit: str = ""
    estimand: Estimand | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.means).all() and np.isfinite(self.covariance).all()):
            raise FitError("a marginal mean or its variance is not a finite number", where=", ".join(self.arms))
        if (np.diag(self.covariance) < 0).any():
            raise FitError(
                f"a marginal mean has a negative variance: {np.diag(self.covariance).min():g}",
                where=", ".join(self.arms),
                do="the strata take out more variance than there is: check them, or assume simple randomisation",
            )
        object.__setattr__(self, "means", frozen(self.means))
        object.__setattr__(self, "covariance", frozen(self.covariance))

    def mean(self, arm: str, *, level: float = 0.95) -> Estimate:
        """Estimate one arm's mean.

        Raises
        ------
        MismatchError
            If there is no such arm.
        """
        k = arm_position(self.arms, arm)
        return self._wald(float(self.means[k]), float(self.covariance[k, k]), arm, level, 0.0, self.unit)

    def contrast(self, arm: str, reference: str, kind: str = "difference", *, level: float = 0.95) -> Estimate:
        """Estimate a contrast of two arms, with normal inference.

        Raises
        ------
        MismatchError
            If there is no such arm.
        ConfigError
            If the endpoint does not admit the kind of contrast, or the two arms are one.
        FitError
            If a mean lies outside the range of the transformation, or the variance is not positive.

        Examples
        --------
        >>> means = MarginalMeans(
        ...     ("placebo", "active"), np.array([0.4, 0.6]), np.diag([0.01, 0.01]), 100, "binary", "known", "known"
        ... )
        >>> effect = means.contrast("active", "placebo", "log odds ratio")
        >>> round(effect.value, 4), round(effect.se, 4)
        (0.8109, 0.5893)
        """
        values, covariance = self.contrasts([(arm, reference)], kind)
        null = 1.0 if kind in ("ratio", "odds ratio") else 0.0
        label = f"{arm} {_SIGNS[kind]} {reference}" + ("" if kind == "difference" else f" ({kind})")
        unit = self.unit if kind == "difference" else ""
        return self._wald(float(values[0]), float(covariance[0, 0]), label, level, null, unit)

    def contrasts(
        self, pairs: Sequence[tuple[str, str]], kind: str = "difference"
    ) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, "pair pair"]]:
        """Return contrasts of pairs (arm, reference) and their joint covariance.

        Raises
        ------
        MismatchError, ConfigError, FitError
            As for ``contrast``.
        """
        if kind not in CONTRASTS[self.endpoint]:
            raise ConfigError(f"a {self.endpoint} endpoint has no contrast {kind!r}", exists=CONTRASTS[self.endpoint])
        g, slope = self._transformed(kind)
        gradient = np.zeros((len(pairs), len(self.arms)))
        for row, (arm, reference) in zip(gradient, pairs, strict=True):
            a, b = arm_position(self.arms, arm), arm_position(self.arms, reference)
            if a == b:
                raise ConfigError(f"arm {arm!r} is compared with itself", exists=self.arms)
            row[a], row[b] = 1.0, -1.0
        values, gradient = gradient @ g, gradient * slope
        if kind in ("ratio", "odds ratio"):
            values = np.exp(values)
            gradient = values[:, None] * gradient
        return values, gradient @ self.covariance @ gradient.T

    def _transformed(self, kind: str) -> tuple[Float[np.ndarray, " arm"], Float[np.ndarray, " arm"]]:
        """Return g(m) and g′(m), or refuse means on which g is not defined."""
        m = self.means
        if kind == "difference":
            return m, np.ones_like(m)
        inside = m > 0
        if "odds" in kind:
            inside &= m < 1
        if not inside.all():
            bad = [f"{arm} ({mean:g})" for arm, mean, ok in zip(self.arms, m, inside, strict=True) if not ok]
            raise FitError(f"a {kind} is not defined for mean(s) {', '.join(bad)}", do="estimate the difference")
        if "odds" in kind:
            return np.log(m / (1 - m)), 1 / (m * (1 - m))
        return np.log(m), 1 / m

    def _wald(self, value: float, square: float, label: str, level: float, null: float, unit: str) -> Estimate:
        if square < 0:
            raise FitError(
                f"{label!r} has a negative variance: {square:g}",
                do="the decomposed variance can do so where a few predictions are extreme: give decomposed=False",
            )
        return wald_estimate(
            value,
            float(np.sqrt(square)),
            contrast=label,
            n=self.n,
            null=null,
            level=level,
            method=self.method,
            variance=self.variance,
            unit=unit,
            estimand=self.estimand,
        )
