"""Bayesian PROCOVA: history enters through a prior that the trial itself may overrule.

With treatment indicator w, prognostic score m and patients i of the trial,

    yᵢ = β₀ + β₁ wᵢ + β₂ (mᵢ − c) + εᵢ,      εᵢ ~ N(0, σ²),      c fixed,

the prior of θ = (β₀, β₁, β₂, σ²) is a mixture of an informative and a weak normal-inverse-gamma law,

    θ | ω ~ ω NIG_I + (1 − ω) NIG_W,      ω ~ Beta(α, δ),

NIG_I from history (its intercept and slope; 0 and 1 for a calibrated forecast of the outcome at c = 0), NIG_W wide, and
the effect β₁ wide in both: history says what controls do and never what the treatment does. With evidences p_I(y) and
p_W(y) in closed form (``conjugate``) everything is exact:

    π = P(informative | y) = α p_I / (α p_I + δ p_W),
    β₁ | y ~ π t_I + (1 − π) t_W,      ω | y ~ π Beta(α + 1, δ) + (1 − π) Beta(α, δ + 1).

A history that fits buys precision. One that is far off loses its weight. One that is off by a little does neither, and
biases the effect: with controls .4 of a residual standard deviation away from 200 historical ones, a nominal 5 % test
of 60 patients rejects in a quarter of trials without any effect. PROCOVA itself has no such risk.

Sources: Walsh, Schuler, Hall, Walsh and Fisher (2020), arXiv:2012.13112; and additive mixture priors, arXiv:2310.18027.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from trialtwin.core.arrays import require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.conjugate import NormalInverseGamma
from trialtwin.stats.wald import require_level

EFFECT = 1
_WIDE = 1e4  # prior variance of the effect, in units of σ²: a hundred residual standard deviations


def weak_prior(spread: float, *, wide: float = _WIDE) -> NormalInverseGamma:
    """Return a prior that says next to nothing of intercept, effect and slope.

    Parameters
    ----------
    spread
        A rough standard deviation of the outcome; its weight is that of one patient.
    wide
        Variance of each coefficient, in units of σ².

    Raises
    ------
    ConfigError
        If a number is not positive.
    """
    if not (0 < spread < np.inf and 0 < wide < np.inf):
        raise ConfigError(f"a prior of spread {spread:g} and variance {wide:g} is no law")
    return NormalInverseGamma(np.zeros(3), wide * np.eye(3), 0.5, 0.5 * spread**2)


def weakened(prior: NormalInverseGamma, factor: float) -> NormalInverseGamma:
    """Return a prior of the same centre that is worth 1/factor of another: the robust companion of an informative one.

    Intercept and slope have ``factor`` times the variance; the residual variance has 1/factor of the degrees of
    freedom, but no fewer than one. A factor of the size of the history makes a prior worth one patient. The vaguer the
    weak prior, the longer the mixture clings to a history that is off: this one lets go sooner than ``weak_prior``.

    Raises
    ------
    ConfigError
        If the factor is below 1.
    """
    if not 1 <= factor < np.inf:
        raise ConfigError(f"a factor of {factor:g} does not weaken a prior")
    scale = prior.scale.copy()
    others = np.arange(len(scale)) != EFFECT
    scale[np.ix_(others, others)] *= factor
    shape = max(prior.shape / factor, 0.5)
    return NormalInverseGamma(prior.mean, scale, shape, prior.rate / prior.shape * shape)


def calibrated_prior(
    spread: float, *, patients: float, intercept_sd: float, slope_sd: float, wide: float = _WIDE
) -> NormalInverseGamma:
    """Return the informative prior of a score that forecasts the outcome itself: intercept about 0, slope about 1.

    Parameters
    ----------
    spread
        Residual standard deviation that history lets expect.
    patients
        How many patients' worth of knowledge of it there is.
    intercept_sd, slope_sd
        Prior standard deviations, in the unit of the outcome and of the slope.
    wide
        Variance of the effect, in units of σ².

    Raises
    ------
    ConfigError
        If a number is not positive.
    """
    numbers = (spread, patients, intercept_sd, slope_sd, wide)
    if not all(0 < v < np.inf for v in numbers):
        raise ConfigError(
            f"spread, patients, standard deviations and variance of a prior are not all positive: {numbers}"
        )
    scale = np.diag([(intercept_sd / spread) ** 2, wide, (slope_sd / spread) ** 2])
    return NormalInverseGamma(np.array([0.0, 0.0, 1.0]), scale, patients / 2, patients / 2 * spread**2)


def history_prior(
    score: Float[np.ndarray, " patient"],
    outcome: Float[np.ndarray, " patient"],
    *,
    centre: float = 0.0,
    discount: float = 1.0,
    wide: float = _WIDE,
) -> NormalInverseGamma:
    """Return the informative prior that historical controls make: their posterior of intercept, slope and variance.

    Parameters
    ----------
    score, outcome : shape (patient,)
        Of historical controls. The score must not have been trained on them, or else be cross-fitted.
    centre
        c of the trial's model.
    discount
        Worth of a historical patient in trial patients, in (0, 1]: a power prior.
    wide
        Variance of the effect, in units of σ².

    Raises
    ------
    DataError
        If lengths differ or a number is not finite.
    FitError
        If there are fewer than four patients, or the score does not vary.
    ConfigError
        If the discount is outside (0, 1].

    Examples
    --------
    >>> score = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> history_prior(score, 2 + score + np.array([0.5, -0.5, 0.0, -0.5, 0.5])).mean.round(6).tolist()
    [2.0, 0.0, 1.0]
    """
    require_length("the outcome", outcome, len(score))
    require_finite("the score", score)
    require_finite("the outcome", outcome)
    if not 0 < discount <= 1:
        raise ConfigError(f"a discount of {discount:g} is not in (0, 1]")
    n = len(score)
    if n < 4 or np.ptp(score) == 0:
        raise FitError(f"{n} historical patients with scores that span {np.ptp(score) if n else 0:g} make no prior")
    X = np.column_stack([np.ones(n), score - centre])
    beta, *_ = np.linalg.lstsq(X, outcome, rcond=None)
    rss = float(np.sum((outcome - X @ beta) ** 2))
    if rss == 0:
        raise FitError("the score gives every historical outcome exactly: no variation is left to judge by")
    scale = np.zeros((3, 3))
    scale[np.ix_([0, 2], [0, 2])] = np.linalg.inv(X.T @ X) / discount
    scale[EFFECT, EFFECT] = wide
    return NormalInverseGamma(np.array([beta[0], 0.0, beta[1]]), scale, discount * (n - 2) / 2, discount * rss / 2)


@dataclass(frozen=True)
class BayesianProcova:
    """The posterior of the treatment effect, a mixture of two t laws, and what became of the prior; immutable.

    Parameters
    ----------
    informative
        π, the posterior probability of the informative prior.
    centres, scales, dfs
        Of the t laws of the effect, under the informative and the weak prior.
    beta
        α and δ of the prior of ω.
    n
        Patients of the trial.
    """

    informative: float
    centres: tuple[float, float]
    scales: tuple[float, float]
    dfs: tuple[float, float]
    beta: tuple[float, float]
    n: int

    @property
    def weights(self) -> tuple[float, float]:
        """Weights of the two laws."""
        return self.informative, 1 - self.informative

    @property
    def mean(self) -> float:
        """Posterior mean of the effect."""
        return float(np.dot(self.weights, self.centres))

    @property
    def sd(self) -> float:
        """Posterior standard deviation of the effect.

        Raises
        ------
        FitError
            If a law has no variance, at two or fewer degrees of freedom.
        """
        if min(self.dfs) <= 2:
            raise FitError("the posterior of the effect has no variance: too few patients")
        variances = [s**2 * df / (df - 2) for s, df in zip(self.scales, self.dfs, strict=True)]
        spread = [(c - self.mean) ** 2 for c in self.centres]
        return float(np.sqrt(np.dot(self.weights, np.add(variances, spread))))

    @property
    def mixing(self) -> float:
        """Posterior mean of ω: π (α + 1)/(α + δ + 1) + (1 − π) α/(α + δ + 1)."""
        a, d = self.beta
        return (a + self.informative) / (a + d + 1)

    def probability_below(self, value: float) -> float:
        """Return the posterior probability that the effect is below a value."""
        tails = [stdtr(df, (value - c) / s) for c, s, df in zip(self.centres, self.scales, self.dfs, strict=True)]
        return float(np.dot(self.weights, tails))

    def quantile(self, q: float) -> float:
        """Return a quantile of the effect.

        Raises
        ------
        ConfigError
            If q is not inside (0, 1).
        """
        if not 0 < q < 1:
            raise ConfigError(f"no quantile {q:g}: give one between 0 and 1")
        ends = [c + s * stdtrit(df, q) for c, s, df in zip(self.centres, self.scales, self.dfs, strict=True)]
        low, high = float(min(ends)), float(max(ends))
        # one law with all the weight has its quantile at an end, where rounding decides the sign
        if self.probability_below(low) >= q:
            return low
        if self.probability_below(high) <= q:
            return high
        return float(brentq(lambda v: self.probability_below(v) - q, low, high, xtol=1e-13))

    def estimate(
        self, label: str, *, level: float = 0.95, unit: str = "", estimand: Estimand | None = None
    ) -> Estimate:
        """Summarise the posterior: mean, standard deviation, equal-tailed interval, and twice the smaller tail at 0.

        Raises
        ------
        ConfigError, FitError
            If the level is not inside (0, 1), or the posterior has no variance.
        """
        require_level(level)
        below, sd = self.probability_below(0.0), self.sd
        lower, upper = self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)
        return Estimate(
            contrast=label,
            value=self.mean,
            se=sd,
            lower=min(lower, self.mean),
            upper=max(upper, self.mean),
            statistic=self.mean / sd,
            p=min(1.0, 2 * min(below, 1 - below)),
            n=self.n,
            level=level,
            method=f"Bayesian PROCOVA, informative prior at {self.informative:.3f}",
            variance="posterior",
            unit=unit,
            estimand=estimand,
        )


def bayesian_procova(
    outcome: Float[np.ndarray, " patient"],
    treated: Bool[np.ndarray, " patient"],
    score: Float[np.ndarray, " patient"],
    informative: NormalInverseGamma,
    weak: NormalInverseGamma,
    *,
    beta: tuple[float, float] = (1.0, 1.0),
    centre: float = 0.0,
) -> BayesianProcova:
    """Return the posterior of the treatment effect.

    Parameters
    ----------
    outcome, treated, score : shape (patient,)
        Of the trial.
    informative, weak
        Laws of (intercept, effect, slope) and σ².
    beta
        α and δ of the prior of ω, the weight of the informative law.
    centre
        c of the model, as the informative law has it.

    Raises
    ------
    DataError
        If lengths differ, a number is not finite, or an arm is empty.
    ConfigError
        If a law is not one of three coefficients, or α or δ is not positive.

    Examples
    --------
    >>> prior, score = calibrated_prior(0.2, patients=20, intercept_sd=0.1, slope_sd=0.05), np.arange(6.0)
    >>> y = score + np.array([0.2, 1.1, -0.1, 0.8, 0.1, 1.2])
    >>> round(bayesian_procova(y, np.arange(6) % 2 == 1, score, prior, weak_prior(1.0)).mean, 3)
    0.992
    """
    require_length("the treatment", treated, len(outcome))
    require_length("the score", score, len(outcome))
    if treated.all() or not treated.any():
        raise DataError("one arm has no patients", do="both arms are needed for an effect")
    if not all(0 < v < np.inf for v in beta):
        raise ConfigError(f"the law of the mixture weight, Beta{beta}, needs two positive numbers")
    for name, prior in (("informative", informative), ("weak", weak)):
        if len(prior.mean) != 3:
            raise ConfigError(
                f"the {name} prior has {len(prior.mean)} coefficients: intercept, effect, slope are wanted"
            )
    X = np.column_stack([np.ones(len(outcome)), treated, score - centre])
    laws, evidences = zip(*(prior.posterior(X, outcome) for prior in (informative, weak)), strict=True)
    odds = evidences[1] - evidences[0] + float(np.log(beta[1] / beta[0]))
    effects = [law.coefficient(EFFECT) for law in laws]
    return BayesianProcova(
        informative=float(1 / (1 + np.exp(np.clip(odds, -700, 700)))),
        centres=(effects[0][0], effects[1][0]),
        scales=(effects[0][1], effects[1][1]),
        dfs=(laws[0].df, laws[1].df),
        beta=beta,
        n=len(outcome),
    )
