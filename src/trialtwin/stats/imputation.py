r"""Pooling of multiply imputed analyses by Rubin's rules, with Barnard and Rubin's degrees of freedom.

From m completed data sets with estimates Q_j and variances U_j,

    Q̄ = mean Q_j,   Ū = mean U_j,   B = Σ (Q_j − Q̄)² / (m − 1),   T = Ū + (1 + 1/m) B
    r = (1 + 1/m) B / Ū,   λ = (1 + 1/m) B / T
    ν_old = (m − 1) / λ²,   ν_obs = (ν_com + 1) / (ν_com + 3) · ν_com (1 − λ),   ν = ν_old ν_obs / (ν_old + ν_obs)

and the fraction of missing information is (r + 2 / (ν + 3)) / (r + 1). Under reference-based imputation T is not the
variance of Q̄ over trials: it is larger, on purpose or not (Bartlett 2023, doi:10.1080/19466315.2021.1983455).

Sources: Rubin DB (1987), doi:10.1002/9780470316696; Barnard J, Rubin DB (1999), doi:10.1093/biomet/86.4.948.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.arrays import require_finite
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.wald import wald_estimate


@dataclass(frozen=True)
class Pooled:
    """A pooled quantity; ``df`` is Barnard and Rubin's, ``df_large`` Rubin's of 1987 for large samples.

    ``within`` and ``between`` are Ū and B, ``total`` is T, ``increase`` is r, ``missing`` the fraction of missing
    information, ``missing_large`` the same with ``df_large``.
    """

    value: float
    within: float
    between: float
    total: float
    increase: float
    df: float
    df_large: float
    missing: float
    missing_large: float
    imputations: int

    def estimate(
        self,
        contrast: str,
        *,
        n: int,
        method: str,
        null: float = 0.0,
        level: float = 0.95,
        unit: str = "",
        estimand: Estimand | None = None,
    ) -> Estimate:
        """Return it with t inference on Barnard and Rubin's degrees of freedom."""
        return wald_estimate(
            self.value,
            float(np.sqrt(self.total)),
            contrast=contrast,
            n=n,
            df=self.df,
            null=null,
            level=level,
            method=f"{method}, {self.imputations} imputations",
            variance="Rubin",
            unit=unit,
            estimand=estimand,
        )


def pool(
    values: Float[np.ndarray, " imputation"],
    variances: Float[np.ndarray, " imputation"],
    *,
    df_complete: float = np.inf,
) -> Pooled:
    """Pool one quantity over imputations.

    Parameters
    ----------
    values, variances : shape (imputation,)
        Estimates, and squares of their standard errors.
    df_complete
        Degrees of freedom that the analysis would have without missing data; infinite for a large sample.

    Raises
    ------
    ConfigError
        If there are fewer than two imputations, or the degrees of freedom are not positive.
    DataError
        If lengths differ, a number is missing, or a variance is negative or zero.

    Examples
    --------
    >>> found = pool(np.array([1.0, 1.2, 0.8]), np.array([0.04, 0.05, 0.045]), df_complete=50)
    >>> round(found.value, 2), round(found.total, 4), round(found.df, 1)
    (1.0, 0.0983, 5.2)
    """
    _require(values, variances, df_complete)
    m = len(values)
    mean, within, between = float(values.mean()), float(variances.mean()), float(values.var(ddof=1))
    added = (1 + 1 / m) * between
    total = within + added
    increase, share = added / within, added / total
    df_large = (m - 1) / share**2 if share > 0 else np.inf
    df = _barnard_rubin(df_large, df_complete, share)
    return Pooled(
        value=mean,
        within=within,
        between=between,
        total=total,
        increase=increase,
        df=df,
        df_large=df_large,
        missing=_missing(increase, df),
        missing_large=_missing(increase, df_large),
        imputations=m,
    )


def _require(values: np.ndarray, variances: np.ndarray, df_complete: float) -> None:
    """Refuse what cannot be pooled."""
    m = len(values)
    if m < 2:
        raise ConfigError(
            f"{m} imputation(s) cannot be pooled", do="impute at least twice; 50 times or more for a report"
        )
    if not df_complete > 0:
        raise ConfigError(f"{df_complete:g} degrees of freedom of the complete data")
    if len(variances) != m:
        raise DataError(f"{m} estimates and {len(variances)} variances")
    require_finite("the estimates of imputed data", values)
    require_finite("the variances of imputed data", variances)
    if (variances <= 0).any():
        raise DataError(
            f"a variance of imputed data is {variances.min():g}", do="give squares of standard errors, above 0"
        )


def _barnard_rubin(df_large: float, df_complete: float, share: float) -> float:
    """Return degrees of freedom that never exceed those of the complete data."""
    if np.isinf(df_complete):
        return df_large
    observed = (df_complete + 1) / (df_complete + 3) * df_complete * (1 - share)
    return observed if np.isinf(df_large) else df_large * observed / (df_large + observed)


def _missing(increase: float, df: float) -> float:
    return (increase + 2 / (df + 3)) / (increase + 1)
