"""Power and sample size of a trial that adjusts for a prognostic score (PROCOVA).

A score whose correlation with the outcome within arms is ρ leaves the share 1 − ρ² of the variance. Prospectively ρ
is deflated (the score will predict less well in the new trial) and the standard deviation inflated.

``alpha`` is two-sided; ``ratio`` is treated : control; effects are treated − control.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from trialtwin.core.arrays import require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.samplesize import (
    Size,
    power_t,
    quantiles,
    require_positive,
    require_probability,
    size_t,
)

ESTIMANDS = ("difference", "rate ratio")


@dataclass(frozen=True)
class Reduction:
    """What a score of a given correlation saves.

    ``variance_factor`` = 1 − ρ², ``reduction_percent`` = 100 ρ², ``ess_factor`` = 1 / (1 − ρ²), and the exact size.
    """

    correlation: float
    variance_factor: float
    reduction_percent: float
    ess_factor: float
    size: Size


@dataclass(frozen=True)
class MarginalPower:
    """Power for a marginal effect, and what it was computed from.

    ``control_mean`` ψ₀ and ``treated_mean`` ψ₁ are the planned means, ``squared_error`` κ₀² the mean squared error of
    the predictions, ``variance_bound`` the asymptotic variance of √n × the estimate.
    """

    control_mean: float
    treated_mean: float
    squared_error: float
    variance_bound: float
    power: float


def deflated_sd(sd: float, correlation: float, *, deflation: float = 1.0, inflation: float = 1.0) -> float:
    """Return the standard deviation that is left after adjustment: inflation · σ √(1 − (deflation · ρ)²).

    Raises
    ------
    ConfigError
        If ρ is not inside (−1, 1), the deflation is not in [0, 1], or the inflation is below 1.

    Examples
    --------
    >>> deflated_sd(10.0, 0.6)
    8.0
    """
    require_positive(sd=sd)
    if not -1 < correlation < 1:
        raise ConfigError(f"correlation is {correlation:g}", do="give a correlation between −1 and 1")
    if not 0 <= deflation <= 1:
        raise ConfigError(
            f"deflation is {deflation:g}", do="give a factor for ρ between 0 and 1; 0.9 takes off a tenth"
        )
    if not inflation >= 1:
        raise ConfigError(f"inflation is {inflation:g}", do="give a factor for the sd of 1 or more")
    return float(sd * inflation * np.sqrt(1 - (deflation * correlation) ** 2))


def size_procova(
    effect: float,
    sd: float,
    correlation: float,
    *,
    deflation: float = 1.0,
    inflation: float = 1.0,
    ratio: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.9,
) -> Size:
    """Size a trial with an adjusted analysis: the exact two-sample t size at the deflated standard deviation.

    Degrees of freedom are n − 2, as in the two-sample test; the one that the score costs is left out.

    Raises
    ------
    ConfigError
        If a parameter is out of range.

    Examples
    --------
    >>> round(size_procova(2.0, 6.0, 0.5, deflation=0.9, inflation=1.05).control, 3)
    167.261
    """
    left = deflated_sd(sd, correlation, deflation=deflation, inflation=inflation)
    return size_t(effect, left, ratio=ratio, alpha=alpha, power=power)


def reduction_table(
    effect: float,
    sd: float,
    correlations: Sequence[float],
    *,
    ratio: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.9,
) -> tuple[Reduction, ...]:
    """Return what scores of several correlations would save.

    Examples
    --------
    >>> [row.size.whole[0] for row in reduction_table(2.0, 6.0, [0.0, 0.5])]
    [191, 143]
    """
    return tuple(
        Reduction(
            correlation=rho,
            variance_factor=1 - rho**2,
            reduction_percent=100 * rho**2,
            ess_factor=1 / (1 - rho**2),
            size=size_procova(effect, sd, rho, ratio=ratio, alpha=alpha, power=power),
        )
        for rho in correlations
    )


def power_gs(
    variance: float, effect: float, n: float, *, ratio: float = 1.0, margin: float = 0.0, alpha: float = 0.05
) -> float:
    """Return the power of an adjusted analysis by Guenther and Schouten.

    Φ(√[r/(1 + r)² (effect − margin)² / V (n − z²/2)] − z) with z at 1 − α/2, V the variance left after adjustment and n
    the total. Sources: Guenther (1981), doi:10.1080/00031305.1981.10479363; Schouten (1999).

    Raises
    ------
    ConfigError
        If a parameter is out of range, or n does not exceed z²/2.

    Examples
    --------
    >>> round(power_gs(6.0, 1.0, 200.0, ratio=2.0, margin=0.5), 7)
    0.2723615
    """
    require_positive(variance=variance, n=n, ratio=ratio)
    require_probability(alpha=alpha)
    z = float(-ndtri(alpha / 2))
    require_positive(**{"n − z²/2": n - z**2 / 2})
    information = ratio / (1 + ratio) ** 2 * (effect - margin) ** 2 / variance * (n - z**2 / 2)
    return float(ndtr(np.sqrt(information) - z))


def samplesize_gs(
    variance: float,
    effect: float,
    *,
    ratio: float = 1.0,
    margin: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.9,
) -> Size:
    """Size an adjusted analysis by Guenther and Schouten, the inverse of ``power_gs``.

    n = (1 + r)²/r (z₁₋α/₂ + z_power)² V / (effect − margin)² + z²₁₋α/₂ / 2, the total.

    Raises
    ------
    ConfigError
        If a parameter is out of range, or the effect equals the margin.

    Examples
    --------
    >>> round(samplesize_gs(27.3, 2.0, ratio=2 / 3, margin=-1.0).total, 4)
    134.7229
    """
    require_positive(variance=variance, ratio=ratio, **{"|effect − margin|": abs(effect - margin)})
    z_alpha, z_power = quantiles(alpha, power)
    total = (1 + ratio) ** 2 / ratio * (z_alpha + z_power) ** 2 * variance / (effect - margin) ** 2 + z_alpha**2 / 2
    return Size.of(float(total), ratio)


def power_nc(
    variance: float,
    df: float,
    effect: float,
    n: float,
    *,
    ratio: float = 1.0,
    margin: float = 0.0,
    alpha: float = 0.05,
) -> float:
    """Return the power of an adjusted analysis from the noncentral t distribution with given degrees of freedom.

    The noncentrality is √(r n) / (1 + r) |effect − margin| / √V (Kieser 2020, doi:10.1007/978-3-030-49528-2).

    Raises
    ------
    ConfigError
        If a parameter is out of range.

    Examples
    --------
    >>> round(power_nc(6.0, 197.0, 1.0, 200.0), 7)
    0.8192964
    """
    require_positive(variance=variance, n=n, ratio=ratio)
    return power_t(Size.of(n, ratio), effect, float(np.sqrt(variance)), null=margin, alpha=alpha, df=df)


def ancova_variance(
    sd_control: float, sd_treated: float, rho_control: float, rho_treated: float, *, exposure: float = 0.5
) -> float:
    """Return the asymptotic variance of √n × the effect, adjusted with an arm-by-score interaction.

    V = σ₀²/p₀ + σ₁²/p₁ − (ρ₀ σ₀ p₁ + ρ₁ σ₁ p₀)² / (p₀ p₁), with p₁ = ``exposure`` the share treated and p₀ = 1 − p₁;
    arms may differ in spread and in how well the score predicts (ANCOVA II: Yang and Tsiatis 2001,
    doi:10.1198/000313001753272466). The unadjusted variance is the one at ρ₀ = ρ₁ = 0; the size of a trial is
    (z₁₋α/₂ + z_power)² V / effect².

    Raises
    ------
    ConfigError
        If a parameter is out of range.

    Examples
    --------
    >>> round(ancova_variance(6.0, 6.6, 0.5, 0.45), 4)
    123.4791
    """
    require_positive(sd_control=sd_control, sd_treated=sd_treated)
    require_probability(exposure=exposure)
    for rho in (rho_control, rho_treated):
        if not -1 <= rho <= 1:
            raise ConfigError(f"correlation is {rho:g}", do="give a correlation between −1 and 1")
    p0, p1 = 1 - exposure, exposure
    explained = (rho_control * sd_control * p1 + rho_treated * sd_treated * p0) ** 2 / (p0 * p1)
    return sd_control**2 / p0 + sd_treated**2 / p1 - explained


def size_asymptotic(
    variance: float, effect: float, *, exposure: float = 0.5, alpha: float = 0.05, power: float = 0.9
) -> Size:
    """Size a trial from the asymptotic variance V of √n × the effect: n = (z₁₋α/₂ + z_power)² V / effect².

    Examples
    --------
    >>> round(size_asymptotic(123.4791, 2.0).total, 2)
    324.36
    """
    require_positive(variance=variance, **{"|effect|": abs(effect)})
    require_probability(exposure=exposure)
    return Size.of(sum(quantiles(alpha, power)) ** 2 * variance / effect**2, exposure / (1 - exposure))


def power_marginaleffect(
    response: Float[np.ndarray, " patient"],
    predictions: Float[np.ndarray, " patient"],
    target: float,
    *,
    exposure: float,
    estimand: str = "difference",
    var_treated: Callable[[float], float] | float | None = None,
    squared_error_treated: Callable[[float], float] | float | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    n: int | None = None,
) -> MarginalPower:
    """Return a lower bound of the power for a marginal effect, from historical controls and their predictions.

    v² = d₀² σ₀² + d₁² σ₁² + π₀ π₁ (|d₀| κ₀/π₀ + |d₁| κ₁/π₁)², with dₐ the derivatives of the estimand at the planned
    means, σₐ² the variances and κₐ² the mean squared errors of prediction;
    power = 1 − Φ(z₁₋α/₂ − (target − margin) √n / v). Source: Højbjerre-Frandsen et al. (2025), arXiv:2503.22284.

    Parameters
    ----------
    response, predictions : shape (patient,)
        Outcomes of comparator patients and what was predicted of them.
    target
        Effect to detect, on the scale of the estimand, above the margin.
    exposure
        Share of patients treated, π₁.
    estimand
        "difference" ψ₁ − ψ₀ or "rate ratio" ψ₁ / ψ₀.
    var_treated, squared_error_treated
        σ₁² and κ₁²: a number, or a function of the control's; the control's where not given.
    margin, n
        Superiority margin and patients in the trial; no effect (0 or 1) and the number of responses where not given.

    Raises
    ------
    DataError, ConfigError
        If lengths differ, a value is not finite, a parameter is out of range, or a ratio has a mean of 0 or less.

    Examples
    --------
    >>> y = np.array([1.0, 2.0, 3.0, 6.0])
    >>> round(power_marginaleffect(y, y - np.array([0.1, -0.1, 0.1, -0.1]), 2.0, exposure=0.5).control_mean, 3)
    3.0
    """
    _require_history(response, predictions)
    require_probability(exposure=exposure, alpha=alpha)
    mean = float(response.mean())
    treated, d0, d1, none = _marginal_means(mean, target, estimand)
    var0, error0 = float(response.var(ddof=1)), float(np.mean((response - predictions) ** 2))
    var1, error1 = _transformed(var_treated, var0), _transformed(squared_error_treated, error0)
    if min(var0, var1) <= 0 or min(error0, error1) < 0:
        raise ConfigError(f"variances {var0:g} and {var1:g}, squared errors {error0:g} and {error1:g}")
    p0, p1 = 1 - exposure, exposure
    root = abs(d0) * np.sqrt(error0) / p0 + abs(d1) * np.sqrt(error1) / p1
    bound = float(d0**2 * var0 + d1**2 * var1 + p0 * p1 * root**2)
    distance = target - (none if margin is None else margin)
    signal = distance * np.sqrt((len(response) if n is None else n) / bound)
    return MarginalPower(mean, treated, error0, bound, float(ndtr(signal + ndtri(alpha / 2))))


def _require_history(response: Float[np.ndarray, " patient"], predictions: Float[np.ndarray, " patient"]) -> None:
    """Refuse historical controls without a prediction each, or too few of them."""
    require_length("predictions", predictions, len(response))
    require_finite("the response", response)
    require_finite("predictions", predictions)
    if len(response) < 2:
        raise DataError(f"{len(response)} response(s), at least two are needed for a variance")


def _marginal_means(control: float, target: float, estimand: str) -> tuple[float, float, float, float]:
    """Return the treated mean, the estimand's derivatives in the control's and the treated mean, and its null value."""
    if estimand not in ESTIMANDS:
        raise ConfigError(f"no estimand {estimand!r} for a marginal effect", exists=ESTIMANDS)
    if estimand == "difference":
        return control + target, -1.0, 1.0, 0.0
    require_positive(**{"mean response": control, "target": target})
    return control * target, -target / control, 1 / control, 1.0


def _transformed(change: Callable[[float], float] | float | None, default: float) -> float:
    """Return the treated arm's quantity: given, a function of the control's, or the control's."""
    if change is None:
        return default
    return float(change(default)) if callable(change) else float(change)
