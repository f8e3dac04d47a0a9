"""What a fitted model for repeated measures answers: estimates, least-squares means, differences and joint tests."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import fdtrc

from trialtwin.core.arrays import require_length
from trialtwin.core.errors import ConfigError, FitError, MismatchError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats import mmrm_df
from trialtwin.stats.ancova import LinearFit
from trialtwin.stats.meanmodel import MeanModel
from trialtwin.stats.mmrm_covariance import Structure
from trialtwin.stats.mmrm_data import Patterns, RepeatedMeasures
from trialtwin.stats.mmrm_fit import Optimum, likelihood_constant, padded
from trialtwin.stats.mmrm_likelihood import Likelihood
from trialtwin.stats.mmrm_sandwich import Sandwich, sandwich
from trialtwin.stats.modelmatrix import INTERCEPT, contrast_weights
from trialtwin.stats.wald import wald_estimate

type Square = Float[np.ndarray, "_ _"]

DF_METHODS = ("Kenward-Roger-linear", "Kenward-Roger", "Satterthwaite", "between-within", "residual")
VARIANCES = ("model", "CR0", "CR2", "CR3")


@dataclass(frozen=True)
class JointTest:
    """An F test that several contrasts are zero.

    Parameters
    ----------
    contrast
        What is tested.
    statistic
        F, scaled where the method scales it.
    numerator_df, denominator_df
        Degrees of freedom.
    p
        Upper tail probability.
    n
        Subjects.
    df_method, variance
        How degrees of freedom and covariance were come by.
    """

    contrast: str
    statistic: float
    numerator_df: int
    denominator_df: float
    p: float
    n: int
    df_method: str
    variance: str


@dataclass(frozen=True, eq=False)
class RepeatedFit:
    """A fitted model for repeated measures; immutable.

    Parameters
    ----------
    model
        Terms of the mean, over all rows given.
    used : shape (row,)
        Rows that had an outcome.
    data, patterns
        Observed rows, and which visits subjects have.
    ordinary
        Ordinary least squares of the same rows, whose orthonormal columns the likelihood is computed in.
    likelihood, optimum
        The likelihood and where it is largest.
    structure
        Covariance structure.
    """

    model: MeanModel
    used: Bool[np.ndarray, " row"]
    data: RepeatedMeasures
    patterns: Patterns
    ordinary: LinearFit
    likelihood: Likelihood
    optimum: Optimum
    structure: Structure

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return self.data.design.names

    @property
    def coefficients(self) -> Float[np.ndarray, " column"]:
        """Estimates of the coefficients, in the unit of the response."""
        return self.ordinary.coefficients + self.ordinary.inverse @ self.optimum.point.coefficients

    @property
    def n(self) -> int:
        """Number of subjects with an outcome."""
        return len(self.data.subjects)

    @property
    def rows(self) -> int:
        """Number of outcomes."""
        return len(self.data.response)

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood; restricted where the fit is, with the terms that R mmrm and SAS count."""
        constant = likelihood_constant(self.data, self.ordinary, restricted=self.likelihood.restricted)
        return -(self.optimum.point.value + constant)

    @property
    def aic(self) -> float:
        """Akaike's criterion with the covariance parameters counted, as in R mmrm."""
        return 2 * len(self.theta) - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Bayesian information criterion with the number of subjects as sample size, as in R mmrm."""
        return float(np.log(self.n)) * len(self.theta) - 2 * self.log_likelihood

    @property
    def theta(self) -> Float[np.ndarray, " parameter"]:
        """Covariance parameters, in the parametrisation of the structure."""
        return self.optimum.point.theta

    def visit_covariance(
        self, group: str | None = None, *, times: Float[np.ndarray, " visit"] | None = None
    ) -> Float[np.ndarray, "visit visit"]:
        """Return the covariance matrix of the visits, of one group where each has its own.

        For the spatial structure, the matrix is that of the times given.
        """
        groups = self.data.groups
        if group is None and len(groups) > 1:
            raise MismatchError("each group has a covariance matrix of its own", exists=groups, do="name the group")
        if group is not None and group not in groups:
            raise MismatchError(f"no covariance group {group!r}", exists=groups)
        if times is None and self.structure.spatial:
            raise ConfigError("a spatial covariance depends on times", do="give the times of the visits")
        k = 0 if group is None else groups.index(group)
        each = len(self.theta) // len(groups)
        where = np.arange(float(len(self.data.visits))) if times is None else times
        return self.structure.covariance(self.theta[k * each : (k + 1) * each], where)

    def covariance(self, variance: str = "model", *, df: str = "Satterthwaite") -> Float[np.ndarray, "column column"]:
        """Return the covariance matrix of the coefficients that a variance and a method of df lead to.

        Raises
        ------
        ConfigError
            If there is no such method or variance, or the two do not go together.
        FitError
            If a subject has leverage 1, which leaves CR2 and CR3 undefined.
        """
        return self.ordinary.inverse @ self._inner(df, variance) @ self.ordinary.inverse.T

    def estimate(
        self,
        weights: Mapping[str, float] | Float[np.ndarray, " column"],
        label: str,
        *,
        df: str = "Kenward-Roger-linear",
        variance: str = "model",
        level: float = 0.95,
        null: float = 0.0,
        unit: str = "",
        estimand: Estimand | None = None,
    ) -> Estimate:
        """Estimate a linear combination of coefficients.

        Parameters
        ----------
        weights
            By name, or one a coefficient.
        label
            What is estimated.
        df
            "Kenward-Roger-linear" (default), "Kenward-Roger", "Satterthwaite", "between-within" or "residual".
        variance
            "model", or "CR0", "CR2", "CR3" with any but Kenward and Roger's degrees of freedom.
        level, null, unit, estimand
            As for every estimate.

        Raises
        ------
        MismatchError
            If a weight names a coefficient that the model does not have.
        ConfigError, FitError
            As for ``covariance``.
        """
        contrast = contrast_weights(self.names, weights) if isinstance(weights, Mapping) else weights
        require_length("the contrast", contrast, len(self.names))
        half = contrast @ self.ordinary.inverse
        robust = self._robust(df, variance)
        inner = robust.covariance if robust else self._inner(df, variance)
        return wald_estimate(
            float(contrast @ self.coefficients),
            float(np.sqrt(half @ inner @ half)),
            contrast=label,
            n=self.n,
            df=self._df(half, contrast, df, robust),
            null=null,
            level=level,
            method=f"MMRM, {self.structure.name} covariance, {'REML' if self.likelihood.restricted else 'ML'}, {df}",
            variance="Kenward-Roger" if df.startswith("Kenward") else variance,
            unit=unit,
            estimand=estimand,
        )

    def joint_test(
        self,
        contrasts: Float[np.ndarray, "contrast column"],
        label: str,
        *,
        df: str = "Kenward-Roger-linear",
        variance: str = "model",
    ) -> JointTest:
        """Test that several contrasts are all zero.

        Raises
        ------
        FitError
            If the contrasts depend on each other.
        ConfigError
            As for ``covariance``.
        """
        half = contrasts @ self.ordinary.inverse
        if np.linalg.matrix_rank(half) < len(half):
            raise FitError(f"the {len(half)} contrasts of {label!r} depend on each other", do="leave one out")
        robust = self._robust(df, variance)
        inner = robust.covariance if robust else self._inner(df, variance)
        values = contrasts @ self.coefficients
        if df.startswith("Kenward"):
            found = mmrm_df.kenward_roger_f(self.optimum, half)
        elif df == "Satterthwaite":
            several = robust.df_several(half) if robust else None
            found = mmrm_df.satterthwaite_f(self.optimum, half) if several is None else mmrm_df.FScale(several)
        else:
            named = (contrasts != 0).any(axis=0)
            found = mmrm_df.FScale(self._df(half[0], named.astype(float), df, None))
        statistic = found.scale * float(values @ np.linalg.solve(half @ inner @ half.T, values)) / len(half)
        return JointTest(
            contrast=label,
            statistic=statistic,
            numerator_df=len(half),
            denominator_df=found.df,
            p=float(fdtrc(len(half), found.df, statistic)),
            n=self.n,
            df_method=df,
            variance="Kenward-Roger" if df.startswith("Kenward") else variance,
        )

    def mean_row(self, at: Mapping[str, str], *, margins: str = "equal") -> Float[np.ndarray, " column"]:
        """Return the contrast of a least-squares mean: factors fixed at levels, the others averaged over.

        See ``MeanModel.mean_row``; means and margins are taken over the rows that had an outcome.
        """
        return self.model.mean_row(at, margins=margins, used=self.used)

    def least_squares_mean(
        self,
        at: Mapping[str, str],
        *,
        margins: str = "equal",
        df: str = "Kenward-Roger-linear",
        variance: str = "model",
        level: float = 0.95,
        unit: str = "",
    ) -> Estimate:
        """Estimate the mean at levels of factors, such as an arm at a visit; averaged over visits if none is named."""
        label = ", ".join(f"{name} {value}" for name, value in at.items()) or "all"
        row = self.mean_row(at, margins=margins)
        return self.estimate(row, label, df=df, variance=variance, level=level, unit=unit)

    def difference(
        self,
        factor: str,
        first: str,
        second: str,
        *,
        at: Mapping[str, str] | None = None,
        margins: str = "equal",
        df: str = "Kenward-Roger-linear",
        variance: str = "model",
        level: float = 0.95,
        unit: str = "",
        estimand: Estimand | None = None,
    ) -> Estimate:
        """Estimate the difference of two levels in least-squares means, at a visit or averaged over visits."""
        fixed = dict(at or {})
        rows = [self.mean_row({factor: name, **fixed}, margins=margins) for name in (first, second)]
        where = ", ".join(f"{name} {value}" for name, value in fixed.items())
        return self.estimate(
            rows[0] - rows[1],
            f"{first} − {second}" + (f", {where}" if where else ""),
            df=df,
            variance=variance,
            level=level,
            unit=unit,
            estimand=estimand,
        )

    def _inner(self, df: str, variance: str) -> Square:
        """Return the covariance of the coefficients of the orthonormal columns."""
        robust = self._robust(df, variance)
        if robust:
            return robust.covariance
        if df.startswith("Kenward"):
            linear = df == "Kenward-Roger-linear"
            return mmrm_df.kenward_roger_covariance(self.likelihood, self.optimum, linear=linear)
        return self.optimum.point.inverse

    def _robust(self, df: str, variance: str) -> Sandwich | None:
        """Return the sandwich that a variance names, ``None`` for the model's; refuse what does not exist."""
        if df not in DF_METHODS:
            raise ConfigError(f"no degrees of freedom {df!r}", exists=DF_METHODS)
        if variance not in VARIANCES:
            raise ConfigError(f"no variance estimator {variance!r}", exists=VARIANCES)
        if variance == "model":
            return None
        if df.startswith("Kenward"):
            raise ConfigError(
                f"{df} adjusts the model's variance, not {variance}", exists=DF_METHODS[2:], do="use 'Satterthwaite'"
            )
        columns = np.column_stack([self.ordinary.orthonormal, self.ordinary.residuals])
        z = padded(self.data, self.patterns, columns)
        return sandwich(variance, self.optimum.point, z, self.patterns.of_subject, self.data.subjects)

    def _df(
        self,
        half: Float[np.ndarray, " column"],
        contrast: Float[np.ndarray, " column"],
        df: str,
        robust: Sandwich | None,
    ) -> float:
        """Return the degrees of freedom of one contrast."""
        if df == "residual":
            return float(self.rows - len(self.names))
        if df == "between-within":
            intercept = np.array([name == INTERCEPT for name in self.names])
            each = mmrm_df.between_within_df(self.data.design.values, self.data.subject, intercept=intercept)
            return float(each[contrast != 0].min())
        return robust.df(half) if robust else mmrm_df.satterthwaite_df(self.optimum, half)
