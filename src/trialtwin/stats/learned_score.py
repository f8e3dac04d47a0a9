"""What PROCOVA's variance becomes when the score itself is learned from a small history.

A score is a covariate fixed before randomisation: given it, PROCOVA's usual variance holds however badly it was
learned, and analysis needs no correction. What a small history costs is correlation, which a design must not take from
the fit in the history. With true score m = xᵀθ of p covariates, standard deviation σ of the outcome and correlation ρ,
a score fitted by least squares to n_h patients errs across the direction of θ by

    τ² = σ² (1 − ρ²) (p − 1)/(n_h − p − 2)        (normal covariates; along θ only the scale of the score changes)

so that the correlation left and the variance of the effect in arms of n₀ and n₁, n = n₀ + n₁, are

    ρ_h² = ρ² / (1 + τ²/(ρ²σ²)),      Var = σ² (1 − ρ_h²) (1/n₀ + 1/n₁) (1 + 1/(n − 4)).

The last factor is chance imbalance of the score between arms. Sources: Schuler et al. (2022),
doi:10.1515/ijb-2021-0072; Copas (1983), doi:10.1111/j.2517-6161.1983.tb01258.x, on the loss of a learned predictor.
"""

from trialtwin.core.errors import ConfigError


def learned_correlation(correlation: float, predictors: int, history: int) -> float:
    """Return the correlation that a score learned from a history is expected to have with the outcome in a trial.

    Parameters
    ----------
    correlation
        Of the best score of these covariates; not the one seen in the fit, which is too large.
    predictors
        p, covariates that the score is learned from.
    history
        n_h, patients whom it is learned from.

    Raises
    ------
    ConfigError
        If the correlation is not inside (0, 1), there is no covariate, or the history is no larger than p + 2.

    Examples
    --------
    >>> round(learned_correlation(0.6, 10, 60), 3), learned_correlation(0.6, 1, 60)
    (0.52, 0.6)
    """
    if not 0 < correlation < 1:
        raise ConfigError(f"a correlation of {correlation:g} is not between 0 and 1")
    if predictors < 1 or history <= predictors + 2:
        raise ConfigError(
            f"{history} historical patients are too few for a score of {predictors} covariate(s)",
            do=f"more than {predictors + 2} are needed, and many more to be of use",
        )
    square = correlation**2
    lost = (1 - square) * (predictors - 1) / (history - predictors - 2)
    return float((square / (1 + lost / square)) ** 0.5)


def learned_score_variance(
    sd: float, correlation: float, control: int, treated: int, *, predictors: int, history: int
) -> float:
    """Return the variance of PROCOVA's effect that a design should expect of a score learned from a small history.

    Parameters
    ----------
    sd
        σ of the outcome.
    correlation, predictors, history
        As for ``learned_correlation``.
    control, treated
        Patients of the trial's arms.

    Raises
    ------
    ConfigError
        If the spread is not positive or an arm has fewer than three patients; and as for ``learned_correlation``.

    Examples
    --------
    >>> large = learned_score_variance(5.0, 0.6, 60, 60, predictors=10, history=100_000)
    >>> small = learned_score_variance(5.0, 0.6, 60, 60, predictors=10, history=60)
    >>> round(large, 3), round(small, 3)
    (0.538, 0.614)
    """
    if not 0 < sd < float("inf"):
        raise ConfigError(f"a standard deviation of {sd:g} is not positive")
    if min(control, treated) < 3:
        raise ConfigError(f"arms of {control} and {treated} patients are too small for an adjusted analysis")
    rho = learned_correlation(correlation, predictors, history)
    return sd**2 * (1 - rho**2) * (1 / control + 1 / treated) * (1 + 1 / (control + treated - 4))
