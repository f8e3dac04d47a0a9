"""Bayesian PROCOVA: quadrature and Gibbs sampling, limits, coverage with good and wrong scores, refusals."""

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import gammaln

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.bayesian_procova import (
    BayesianProcova,
    bayesian_procova,
    calibrated_prior,
    history_prior,
    weak_prior,
    weakened,
)
from trialtwin.stats.conjugate import NormalInverseGamma
from trialtwin.stats.learned_score import learned_correlation, learned_score_variance
from trialtwin.stats.modelmatrix import continuous_columns, intercept, join


def _trial(seed: int, n: int = 24, effect: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    treated = rng.permutation(np.arange(n) % 2 == 1)
    return shift + score + effect * treated + rng.normal(0, 0.8, n), treated, score


INFORMATIVE = calibrated_prior(0.8, patients=10, intercept_sd=0.3, slope_sd=0.2, wide=50.0)
WEAK = weak_prior(1.0, wide=50.0)


def _marginal(prior: NormalInverseGamma, X: np.ndarray, y: np.ndarray) -> float:
    """Return p(y) by quadrature over σ² of the normal law with β integrated out."""
    K = np.eye(len(y)) + X @ prior.scale @ X.T
    values, vectors = np.linalg.eigh(K)
    z = (vectors.T @ (y - X @ prior.mean)) ** 2 / values

    def density(logarithm: float) -> float:
        s2 = np.exp(logarithm)
        log_normal = -0.5 * (len(y) * np.log(2 * np.pi * s2) + np.log(values).sum() + z.sum() / s2)
        return np.exp(log_normal + stats.invgamma.logpdf(s2, prior.shape, scale=prior.rate) + logarithm + 30)

    return integrate.quad(density, -6, 6, epsabs=0, epsrel=1e-10, limit=400)[0] * np.exp(-30)


def test_independent_posterior_by_quadrature() -> None:
    """Evidence, π, the density of the effect and of ω: integrals over σ² and ω, no conjugate formula."""
    y, treated, score = _trial(1)
    X = np.column_stack([np.ones(24), treated, score])
    posterior = bayesian_procova(y, treated, score, INFORMATIVE, WEAK, beta=(2.0, 3.0))
    p = [_marginal(prior, X, y) for prior in (INFORMATIVE, WEAK)]
    assert np.log(p[0]) == pytest.approx(INFORMATIVE.posterior(X, y)[1], abs=1e-8)
    prior = stats.beta(2, 3).pdf
    whole, _ = integrate.quad(lambda w: prior(w) * (w * p[0] + (1 - w) * p[1]), 0, 1)
    informative, _ = integrate.quad(lambda w: prior(w) * w * p[0], 0, 1)
    mixing, _ = integrate.quad(lambda w: w * prior(w) * (w * p[0] + (1 - w) * p[1]), 0, 1)
    assert posterior.informative == pytest.approx(informative / whole, rel=1e-8)
    assert posterior.mixing == pytest.approx(mixing / whole, rel=1e-8)

    def slab(value: float) -> float:
        """Return ω-averaged p(y, β₁ = value): the other coefficients integrated out, the effect held."""
        total = 0.0
        for weight, law in zip((0.4, 0.6), (INFORMATIVE, WEAK), strict=True):
            rest = NormalInverseGamma(law.mean[[0, 2]], law.scale[np.ix_([0, 2], [0, 2])], law.shape, law.rate)
            K = np.eye(24) + X[:, [0, 2]] @ rest.scale @ X[:, [0, 2]].T
            r = y - X[:, 1] * value - X[:, [0, 2]] @ rest.mean
            quadratic = r @ np.linalg.solve(K, r)

            def density(u: float, law: NormalInverseGamma = law, q: float = quadratic, K: np.ndarray = K) -> float:
                s2 = np.exp(u)
                logs = -0.5 * (24 * np.log(2 * np.pi * s2) + np.linalg.slogdet(K)[1] + q / s2)
                effect = stats.norm.logpdf(value, law.mean[1], np.sqrt(s2 * law.scale[1, 1]))
                return float(np.exp(logs + effect + stats.invgamma.logpdf(s2, law.shape, scale=law.rate) + u + 30))

            total += weight * integrate.quad(density, -5, 5, epsabs=0, epsrel=1e-8, limit=200)[0]
        return total

    grid = np.linspace(posterior.mean - 7 * posterior.sd, posterior.mean + 7 * posterior.sd, 141)
    density = np.array([slab(v) for v in grid])
    density /= integrate.simpson(density, x=grid)
    assert integrate.simpson(density * grid, x=grid) == pytest.approx(posterior.mean, abs=1e-5)
    variance = integrate.simpson(density * (grid - posterior.mean) ** 2, x=grid)
    assert np.sqrt(variance) == pytest.approx(posterior.sd, rel=1e-3)
    half = grid <= grid[70]
    below = integrate.simpson(density[half], x=grid[half])
    assert below == pytest.approx(posterior.probability_below(grid[70]), abs=1e-5)


def test_independent_posterior_by_gibbs_sampling() -> None:
    """Indicator, ω, σ² and β in turn, 20,000 sweeps: mean and π within 4 Monte-Carlo standard errors (batches of 500).

    The chain jumps between priors given (β, σ²), which it can where both are of like width.
    """
    y, treated, score = _trial(2, shift=0.4)
    X = np.column_stack([np.ones(24), treated, score])
    laws = (INFORMATIVE, weak_prior(1.0, wide=5.0))
    posterior = bayesian_procova(y, treated, score, *laws, beta=(1.0, 1.0))
    rng = np.random.default_rng(0)
    precisions = [np.linalg.inv(law.scale) for law in laws]
    dets = [np.linalg.slogdet(law.scale)[1] for law in laws]
    V = [np.linalg.inv(P + X.T @ X) for P in precisions]
    roots = [np.linalg.cholesky(v) for v in V]
    centres = [v @ (P @ law.mean + X.T @ y) for v, P, law in zip(V, precisions, laws, strict=True)]
    k, omega, s2, beta = 0, 0.5, 1.0, np.zeros(3)
    sweeps = np.empty((20_000, 2))
    for i in range(len(sweeps)):
        beta = centres[k] + np.sqrt(s2) * roots[k] @ rng.normal(size=3)
        d, r = beta - laws[k].mean, y - X @ beta
        shape = laws[k].shape + (24 + 3) / 2
        s2 = (laws[k].rate + (d @ precisions[k] @ d + r @ r) / 2) / rng.gamma(shape)
        logs = []
        for law, P, det in zip(laws, precisions, dets, strict=True):
            e = beta - law.mean
            normal = -0.5 * (det + e @ P @ e / s2)
            variance = law.shape * np.log(law.rate / s2) - gammaln(law.shape) - law.rate / s2
            logs.append(normal + variance)
        odds = logs[1] - logs[0] + np.log1p(-omega) - np.log(omega)
        k = int(rng.random() > 1 / (1 + np.exp(odds)))
        omega = np.clip(rng.beta(2 - k, 1 + k), 1e-12, 1 - 1e-12)
        sweeps[i] = beta[1], k == 0
    batches = sweeps.reshape(40, 500, 2).mean(axis=1)
    error = batches.std(axis=0, ddof=1) / np.sqrt(40)
    assert 0.1 < posterior.informative < 0.99  # both priors matter here
    assert abs(sweeps[:, 0].mean() - posterior.mean) < 4 * error[0]
    assert abs(sweeps[:, 1].mean() - posterior.informative) < 4 * error[1]


def test_weak_priors_give_least_squares() -> None:
    """As the prior widens, centre, scale and degrees of freedom go to ANCOVA's (plus the prior's one)."""
    y, treated, score = _trial(3, 60)
    weak = weak_prior(1e-3, wide=1e10)
    posterior = bayesian_procova(y, treated, score, weak, weak)
    design = join(intercept(60), continuous_columns({"w": treated.astype(float), "m": score}))
    fit = least_squares(design, y).estimate({"w": 1.0}, "w")
    assert posterior.mean == pytest.approx(fit.value, rel=1e-6)
    assert posterior.scales[0] * np.sqrt(posterior.dfs[0] / 57) == pytest.approx(fit.se, rel=1e-4)
    assert posterior.informative == pytest.approx(0.5)


def test_history_prior_is_its_posterior() -> None:
    """The prior of history, then the trial's controls, is one regression of both; a discount halves its weight."""
    rng = np.random.default_rng(4)
    score = rng.normal(3, 1, 40)
    outcome = 0.2 + 0.9 * score + rng.normal(0, 0.5, 40)
    prior = history_prior(score, outcome, centre=3.0)
    design = join(intercept(40), continuous_columns({"m": score - 3}))
    fit = least_squares(design, outcome)
    assert prior.mean[[0, 2]] == pytest.approx(fit.coefficients, rel=1e-10)
    scale = prior.scale[np.ix_([0, 2], [0, 2])] * prior.rate / prior.shape
    assert scale == pytest.approx(fit.covariance(), rel=1e-9, abs=1e-15)
    half = history_prior(score, outcome, centre=3.0, discount=0.5)
    assert half.df == pytest.approx(prior.df / 2)
    assert half.rate / half.shape == pytest.approx(prior.rate / prior.shape)


def test_a_weakened_prior_is_worth_one_patient() -> None:
    weak = weakened(INFORMATIVE, 10.0)
    assert weak.df == pytest.approx(1.0)
    assert weak.rate / weak.shape == pytest.approx(0.64)
    assert np.diag(weak.scale) == pytest.approx(np.diag(INFORMATIVE.scale) * [10, 1, 10])


def test_one_law_with_all_the_weight_has_its_own_quantiles() -> None:
    posterior = BayesianProcova(1e-30, (5.0, 1.0), (0.1, 0.4), (9.0, 9.0), (1.0, 1.0), 40)
    assert posterior.quantile(0.975) == pytest.approx(1 + 0.4 * stats.t.ppf(0.975, 9), rel=1e-12)


def test_quantiles_and_estimate_agree_with_the_mixture() -> None:
    posterior = BayesianProcova(0.3, (1.0, 3.0), (0.4, 0.8), (9.0, 21.0), (1.0, 1.0), 40)
    for q in (0.025, 0.3, 0.5, 0.975):
        assert posterior.probability_below(posterior.quantile(q)) == pytest.approx(q, abs=1e-10)
    effect = posterior.estimate("effect", level=0.9)
    assert (effect.lower, effect.upper) == pytest.approx((posterior.quantile(0.05), posterior.quantile(0.95)))
    assert effect.p == pytest.approx(2 * posterior.probability_below(0.0))
    draws = np.where(
        np.random.default_rng(0).random(200_000) < 0.3,
        1.0 + 0.4 * np.random.default_rng(1).standard_t(9, 200_000),
        3.0 + 0.8 * np.random.default_rng(2).standard_t(21, 200_000),
    )
    assert posterior.mean == pytest.approx(draws.mean(), abs=4 * posterior.sd / np.sqrt(200_000))
    assert posterior.sd == pytest.approx(draws.std(), rel=0.01)


SIZES = [pytest.param(1000, id="1,000 trials"), pytest.param(10_000, id="10,000 trials", marks=pytest.mark.slow)]


def _rates(shift: float, trials: int, seed: int, effect: float = 0.0) -> tuple[float, float, float, float]:
    """Return coverage, rejections, mean π and mean width relative to ANCOVA's, over histories and trials of 60."""
    rng = np.random.default_rng(seed)
    covered = rejected = 0
    weight = width = 0.0
    for _ in range(trials):
        past = rng.normal(size=200)
        prior = history_prior(past, past + rng.normal(0, 1, 200))
        weak = weakened(prior, 200.0)
        score = rng.normal(size=60)
        treated = rng.permutation(np.arange(60) % 2 == 1)
        y = shift + score + effect * treated + rng.normal(0, 1, 60)
        posterior = bayesian_procova(y, treated, score, prior, weak)
        lower, upper = posterior.quantile(0.025), posterior.quantile(0.975)
        covered += lower <= effect <= upper
        rejected += not lower <= 0 <= upper
        weight += posterior.informative
        width += (upper - lower) / (2 * 1.96 * np.sqrt(4 / 60))
    return covered / trials, rejected / trials, weight / trials, width / trials


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_a_good_history_covers_and_is_narrower(trials: int) -> None:
    """Same law in history and trial: coverage at least 95 % − 3 standard errors (.0207 at 1,000), a fifth narrower."""
    coverage, level, weight, width = _rates(0.0, trials, 301)
    error = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert abs(coverage - 0.95) < error + 0.01
    assert level < 0.05 + error
    assert weight > 0.95
    assert width < 0.8


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_a_wrong_history_is_overruled(trials: int) -> None:
    """Controls three standard deviations off: the weak prior takes over, level and coverage are those of ANCOVA."""
    coverage, level, weight, _ = _rates(3.0, trials, 302)
    error = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert weight < 0.01
    assert abs(coverage - 0.95) < error
    assert level < 0.05 + error


@pytest.mark.law
def test_law_a_slightly_wrong_history_inflates_the_level() -> None:
    """Controls .4 of a standard deviation off: too little to be seen in 60 patients, but over 15 % are rejected."""
    _, level, weight, _ = _rates(0.4, 400, 303)
    assert weight > 0.5
    assert level > 0.15


@pytest.mark.law
@pytest.mark.parametrize("predictors", [1, 8, 20])
def test_law_variance_of_a_score_learned_from_sixty_patients(predictors: int) -> None:
    """4,000 histories and trials of 60 + 60: mean residual variance within 2 %, spread of the effect within 4 errors.

    Four standard errors of a variance are 4 √(2/3999) = 9 %; what the history's fit shows would be off by more.
    """
    rng = np.random.default_rng(304)
    trials, n, sd, rho = 4000, 120, 5.0, 0.6
    theta = np.full(predictors, rho * sd / np.sqrt(predictors))
    noise = sd * np.sqrt(1 - rho**2)
    effects, left = np.empty(trials), np.empty(trials)
    for i in range(trials):
        past = rng.normal(size=(60, predictors))
        response = past @ theta + rng.normal(0, noise, 60)
        centred = past - past.mean(axis=0)
        learned = np.linalg.solve(centred.T @ centred, centred.T @ response)
        x = rng.normal(size=(n, predictors))
        X = np.column_stack([np.ones(n), np.arange(n) % 2, x @ learned])
        y = x @ theta + rng.normal(0, noise, n)
        beta, rss, *_ = np.linalg.lstsq(X, y, rcond=None)
        effects[i], left[i] = beta[1], rss[0] / (n - 3)
    correlation = learned_correlation(rho, predictors, 60)
    assert left.mean() == pytest.approx(sd**2 * (1 - correlation**2), rel=0.02)
    expected = learned_score_variance(sd, rho, 60, 60, predictors=predictors, history=60)
    assert effects.var(ddof=1) == pytest.approx(expected, rel=4 * np.sqrt(2 / 3999))


def test_bad_input_is_refused() -> None:
    y, treated, score = _trial(5)
    with pytest.raises(DataError, match="one arm"):
        bayesian_procova(y, np.ones(24, dtype=bool), score, INFORMATIVE, WEAK)
    with pytest.raises(DataError, match="not finite"):
        bayesian_procova(np.where(treated, np.nan, y), treated, score, INFORMATIVE, WEAK)
    with pytest.raises(ConfigError, match="Beta"):
        bayesian_procova(y, treated, score, INFORMATIVE, WEAK, beta=(0.0, 1.0))
    with pytest.raises(ConfigError, match="wanted"):
        bayesian_procova(y, treated, score, NormalInverseGamma(np.zeros(2), np.eye(2), 1.0, 1.0), WEAK)
    with pytest.raises(ConfigError, match="positive definite"):
        NormalInverseGamma(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]), 1.0, 1.0)
    with pytest.raises(ConfigError, match="does not exist"):
        NormalInverseGamma(np.zeros(1), np.eye(1), -1.0, 1.0)
    with pytest.raises(ConfigError, match="shape"):
        NormalInverseGamma(np.zeros(2), np.eye(3), 1.0, 1.0)
    with pytest.raises(ConfigError, match="does not weaken"):
        weakened(INFORMATIVE, 0.5)
    with pytest.raises(ConfigError, match="no law"):
        weak_prior(-1.0)
    with pytest.raises(ConfigError, match="not all positive"):
        calibrated_prior(1.0, patients=0, intercept_sd=1.0, slope_sd=1.0)
    with pytest.raises(ConfigError, match="discount"):
        history_prior(score, y, discount=1.5)
    with pytest.raises(FitError, match="make no prior"):
        history_prior(np.ones(10), np.arange(10.0))
    with pytest.raises(FitError, match="exactly"):
        history_prior(np.arange(4.0), np.zeros(4))
    with pytest.raises(ConfigError, match="quantile"):
        bayesian_procova(y, treated, score, INFORMATIVE, WEAK).quantile(1.0)
    with pytest.raises(FitError, match="no variance"):
        _ = BayesianProcova(0.5, (0.0, 0.0), (1.0, 1.0), (2.0, 5.0), (1.0, 1.0), 4).sd
    with pytest.raises(ConfigError, match="correlation"):
        learned_correlation(1.0, 3, 50)
    with pytest.raises(ConfigError, match="too few"):
        learned_correlation(0.5, 10, 12)
    with pytest.raises(ConfigError, match="standard deviation"):
        learned_score_variance(0.0, 0.5, 60, 60, predictors=3, history=50)
    with pytest.raises(ConfigError, match="too small"):
        learned_score_variance(1.0, 0.5, 2, 60, predictors=3, history=50)
