"""G-computation, AIPW and plug-in means: identities, independent derivations, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.errors import ConfigError, DataError, FitError, MismatchError
from trialtwin.stats.aipw import aipw, augmented_means
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.families import AbstractFamily, Binomial, Gaussian, Poisson
from trialtwin.stats.gcomputation import gcomputation
from trialtwin.stats.influence import link_score, plugin_means, with_score
from trialtwin.stats.marginal import CONTRASTS, MarginalMeans
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns, factor_columns, join
from trialtwin.stats.randomisation import Randomisation, unconditional_covariance
from trialtwin.stats.twosample import two_sample_t

ARMS = ("control", "low", "high")


def _trial(seed: int, family: AbstractFamily, n: int = 150) -> tuple[ArmModel, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.integers(0, 2, n)
    arm = rng.permutation(np.arange(n) % 3)
    covariates = join(continuous_columns({"x": x}), factor_columns("z", ("n", "y"), z))
    eta = -0.2 + 0.5 * x + 0.4 * z + 0.3 * arm
    mu = family.mean(eta)
    draws = {
        "gaussian": lambda: mu + rng.normal(size=n),
        "binomial": lambda: (rng.random(n) < mu).astype(float),
        "poisson": lambda: rng.poisson(mu).astype(float),
    }
    return ArmModel(ARMS, arm, covariates), draws[family.name]()


@pytest.mark.parametrize("family", [Gaussian(), Binomial(), Poisson()], ids=lambda f: f.name)
def test_canonical_aipw_is_gcomputation(family: AbstractFamily) -> None:
    model, y = _trial(1, family)
    first, second = aipw(model, y, family), gcomputation(model, y, family)
    assert first.means == pytest.approx(second.means, rel=1e-10)
    assert first.covariance == pytest.approx(second.covariance, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("kind", ["model", "HC0", "HC1", "HC2", "HC3"])
def test_linear_gcomputation_is_ancova(kind: str) -> None:
    """With the identity link, Ge's error of a difference is the coefficient's own."""
    model, y = _trial(2, Gaussian())
    effect = gcomputation(model, y, Gaussian(), variance=kind).contrast("high", "control")
    fit = least_squares(model.design(), y).estimate({"arm[high]": 1.0}, "high", variance=kind)
    assert effect.value == pytest.approx(fit.value, rel=1e-10)
    assert effect.se == pytest.approx(fit.se, rel=1e-9)


def test_without_covariates_all_are_the_arm_means() -> None:
    _, y = _trial(3, Gaussian())
    model = ArmModel(ARMS, np.arange(150) % 3)
    groups = [y[model.arm == a] for a in range(3)]
    welch = two_sample_t(groups[2], groups[0], "high − control")
    for means in (aipw(model, y, Gaussian()), gcomputation(model, y, Gaussian(), decomposed=False)):
        effect = means.contrast("high", "control")
        assert means.means == pytest.approx([g.mean() for g in groups], rel=1e-12)
        # the divisor n − 1 with shares n_a/n is Welch's error
        assert [effect.value, effect.se] == pytest.approx([welch.value, welch.se], rel=1e-10)


def test_hand_values_of_two_proportions() -> None:
    """30/100 against 50/100: Ge's HC0 is Σ p(1 − p)/n, and the logs follow by the delta method."""
    model = ArmModel(("a", "b"), np.repeat([0, 1], 100))
    y = np.repeat([1.0, 0.0, 1.0, 0.0], [30, 70, 50, 50])
    means = gcomputation(model, y, Binomial(), variance="HC0")
    v = np.array([0.3 * 0.7, 0.5 * 0.5]) / 100
    assert means.contrast("b", "a").se == pytest.approx(np.sqrt(v.sum()))
    ratio = means.contrast("b", "a", "log ratio")
    assert [ratio.value, ratio.se] == pytest.approx([np.log(5 / 3), np.sqrt(v[0] / 0.09 + v[1] / 0.25)])
    odds = means.contrast("b", "a", "log odds ratio")
    assert [odds.value, odds.se] == pytest.approx([np.log(7 / 3), np.sqrt(1 / 30 + 1 / 70 + 2 / 50)])
    natural = means.contrast("b", "a", "odds ratio")
    assert [natural.value, natural.se] == pytest.approx([7 / 3, odds.se * 7 / 3])
    assert natural.statistic == pytest.approx((7 / 3 - 1) / natural.se)
    assert means.mean("a").value == pytest.approx(0.3)


def test_independent_delta_method_by_finite_differences() -> None:
    """Ge's Jacobian and every contrast's gradient, differentiated numerically."""
    from trialtwin.stats.glm import fit_glm

    model, y = _trial(4, Binomial())
    fit = fit_glm(model.design(), y, Binomial())
    designs = [model.design_under(arm).values for arm in ARMS]

    def risks(beta: np.ndarray) -> np.ndarray:
        return np.array([(1 / (1 + np.exp(-X @ beta))).mean() for X in designs])

    def gradient(f, at: np.ndarray) -> np.ndarray:
        steps = 1e-6 * np.eye(len(at))
        return np.array([(f(at + s) - f(at - s)) / 2e-6 for s in steps]).T

    means = gcomputation(model, y, Binomial(), variance="HC1")
    functions = {
        "difference": lambda r: r[2] - r[0],
        "log ratio": lambda r: np.log(r[2] / r[0]),
        "ratio": lambda r: r[2] / r[0],
        "log odds ratio": lambda r: np.log(r[2] / (1 - r[2]) / (r[0] / (1 - r[0]))),
        "odds ratio": lambda r: r[2] / (1 - r[2]) / (r[0] / (1 - r[0])),
    }
    assert set(functions) == set(CONTRASTS["binary"])
    for kind, f in functions.items():
        slope = gradient(lambda beta, f=f: f(risks(beta)), fit.coefficients)
        effect = means.contrast("high", "control", kind)
        assert effect.value == pytest.approx(f(means.means), rel=1e-9)
        assert effect.se == pytest.approx(np.sqrt(slope @ fit.covariance("HC1") @ slope), rel=1e-6)


def test_independent_stratified_covariance_by_loops() -> None:
    """The published formulas for simple randomisation and permuted blocks, a stratum and an arm at a time."""
    model, y = _trial(5, Gaussian(), 90)
    rng = np.random.default_rng(5)
    predictions = rng.normal(size=(90, 3)) + 0.5 * y[:, None]
    strata = rng.integers(3, 7, 90)
    pi = model.shares
    V = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            A, B = model.arm == a, model.arm == b
            both = np.cov(predictions[:, a], predictions[:, b])[0, 1]
            V[a, b] = (
                np.cov(y[A], predictions[A, b])[0, 1] + np.cov(y[B], predictions[B, a])[0, 1] - both
                if a != b
                else np.var(y[A] - predictions[A, a], ddof=1) / pi[a] + 2 * np.cov(y[A], predictions[A, a])[0, 1] - both
            )
    simple = unconditional_covariance(model, y, predictions, Randomisation(), decomposed=False)
    assert simple == pytest.approx(V / 90, rel=1e-10)
    for z in np.unique(strata):
        R = np.zeros((3, 3))
        for a in range(3):
            cell = (strata == z) & (model.arm == a)
            R[a, a] = np.mean(y[cell] - predictions[cell, a]) / pi[a]
        V -= np.mean(strata == z) * R @ (np.diag(pi) - np.outer(pi, pi)) @ R
    scheme = Randomisation("permuted block", strata)
    assert unconditional_covariance(model, y, predictions, scheme, decomposed=False) == pytest.approx(V / 90, rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_law_order_of_arms_and_shift_change_nothing(seed: int) -> None:
    model, y = _trial(seed, Gaussian(), 60)
    turned = ArmModel(("high", "control", "low"), (model.arm + 1) % 3, model.covariates)
    first, second = aipw(model, y, Gaussian()), aipw(turned, y + 7, Gaussian())
    for pair in (("high", "control"), ("low", "high")):
        a, b = first.contrast(*pair), second.contrast(*pair)
        assert [a.value, a.se] == pytest.approx([b.value, b.se], rel=1e-7, abs=1e-9)


def test_minimisation_needs_a_model_that_explains_the_strata() -> None:
    """With the joint strata interacted the residuals average to zero, and simple and minimisation agree."""
    model, y = _trial(6, Gaussian())
    assert model.covariates is not None
    strata = model.covariates.values[:, 1].astype(np.int64)
    scheme = Randomisation("minimisation", strata)
    with pytest.raises(ConfigError, match="joint strata"):
        aipw(model, y, Gaussian(), randomisation=scheme)
    full = ArmModel(ARMS, model.arm, model.covariates, interacted=("z[y]",))
    minimised, simple = aipw(full, y, Gaussian(), randomisation=scheme), aipw(full, y, Gaussian())
    assert minimised.covariance == pytest.approx(simple.covariance, rel=1e-10)


def test_forecasts_of_a_twin_may_serve_as_predictions() -> None:
    """Any predictions keep the estimate unbiased; a constant gives the arm means."""
    model, y = _trial(7, Gaussian())
    means = augmented_means(model, y, np.tile([5.0, 1.0, -2.0], (150, 1)), "continuous")
    assert means.means == pytest.approx([y[model.arm == a].mean() for a in range(3)], rel=1e-12)


def test_negative_binomial_needs_aipw_for_the_unconditional_variance() -> None:
    rng = np.random.default_rng(8)
    model, _ = _trial(8, Poisson())
    y = rng.poisson(rng.gamma(1.0, 2.0, 150)).astype(float)
    with pytest.raises(FitError, match="aipw"):
        gcomputation(model, y, "negative binomial")
    ours = aipw(model, y, "negative binomial")
    fixed = gcomputation(model, y, "negative binomial", variance="HC0")
    assert ours.endpoint == fixed.endpoint == "count"
    with pytest.raises(ConfigError, match="negative binomial"):
        aipw(model, y, "quasipoisson")


def test_rates_for_one_unit_of_exposure() -> None:
    """Without covariates a rate is events over time, and its model variance is events over time squared."""
    rng = np.random.default_rng(9)
    years = rng.uniform(0.5, 2.0, 60)
    model = ArmModel(("a", "b"), np.arange(60) % 2)
    y = rng.poisson(1.5 * years).astype(float)
    means = gcomputation(model, y, Poisson(), variance="model", exposure=years)
    sums = [(y[model.arm == a].sum(), years[model.arm == a].sum()) for a in range(2)]
    assert means.means == pytest.approx([e / t for e, t in sums])
    ratio = means.contrast("b", "a", "log ratio")
    assert ratio.se == pytest.approx(np.sqrt(sum(1 / e for e, _ in sums)))


def test_known_allocation_probability() -> None:
    """The influence function by hand for arm means, at a probability other than the share."""
    y = np.array([1.0, 2.0, 6.0, 4.0, 5.0, 9.0])
    arm = np.array([0, 0, 0, 0, 1, 1])
    p = np.array([0.5, 0.5])
    means = plugin_means(ArmModel(("a", "b"), arm), y, Gaussian(), p)
    m = np.array([3.25, 7.0])
    phi = np.array([(y[i] - m[arm[i]]) / 0.5 * (1 if arm[i] else -1) for i in range(6)])
    assert means.means == pytest.approx(m)
    assert means.contrast("b", "a").se == pytest.approx(phi.std(ddof=1) / np.sqrt(6))


def test_score_joins_the_model_on_the_link_scale() -> None:
    model, _ = _trial(10, Binomial())
    score = link_score(np.full(150, 0.25), Binomial())
    assert score.values[0, 0] == pytest.approx(np.log(1 / 3))
    assert with_score(model, score).design().names[-1] == "score"
    assert with_score(ArmModel(ARMS, model.arm), score, interaction=True).interacted == ("score",)
    with pytest.raises(DataError, match="link scale"):
        link_score(np.array([0.0, 0.5]), Binomial())


def test_contrasts_that_an_endpoint_does_not_admit() -> None:
    model, y = _trial(11, Gaussian())
    means = gcomputation(model, y, Gaussian())
    with pytest.raises(ConfigError, match="odds ratio"):
        means.contrast("high", "control", "odds ratio")
    with pytest.raises(ConfigError, match="itself"):
        means.contrast("high", "high")
    with pytest.raises(MismatchError, match="control, low, high"):
        means.contrast("placebo", "control")
    below = MarginalMeans(("a", "b"), np.array([-1.0, 2.0]), np.eye(2), 9, "continuous", "", "")
    with pytest.raises(FitError, match="not defined"):
        below.contrast("b", "a", "ratio")


def test_bad_input_is_refused() -> None:
    model, y = _trial(12, Gaussian())
    assert model.covariates is not None
    with pytest.raises(DataError, match="fewer than two patients"):
        ArmModel(ARMS, np.arange(40) % 2)
    with pytest.raises(DataError, match="two different"):
        ArmModel(("a",), np.zeros(5, dtype=np.int64))
    with pytest.raises(DataError, match="outside"):
        ArmModel(("a", "b"), np.array([0, 0, 1, 2]))
    with pytest.raises(MismatchError, match="interact"):
        ArmModel(ARMS, model.arm, model.covariates, interacted=("age",))
    with pytest.raises(DataError, match="not finite"):
        gcomputation(model, np.where(model.arm == 1, np.nan, y), Gaussian())
    twice = ModelMatrix((*model.covariates.names, "copy"), model.covariates.values[:, [0, 1, 0]])
    with pytest.raises(FitError, match="singular"):
        aipw(ArmModel(ARMS, model.arm, twice), y, Gaussian())
    with pytest.raises(ConfigError, match="no variance"):
        gcomputation(model, y, Gaussian(), variance="HC7")
    with pytest.raises(ConfigError, match="uses no randomisation"):
        gcomputation(model, y, Gaussian(), variance="HC3", strata=Randomisation())
    with pytest.raises(ConfigError, match="exposure"):
        gcomputation(model, y, Gaussian(), variance="HC3", exposure=np.ones(150))
    with pytest.raises(ConfigError, match="not defined with an exposure"):
        gcomputation(model, np.abs(np.round(y)), Poisson(), exposure=np.ones(150))
    with pytest.raises(ConfigError, match="positive"):
        gcomputation(model, np.abs(np.round(y)), Poisson(), variance="HC0", exposure=np.zeros(150))
    with pytest.raises(ConfigError, match="urn"):
        Randomisation("urn")
    with pytest.raises(ConfigError, match="does not use strata"):
        Randomisation("simple", np.zeros(4, dtype=np.int64))
    with pytest.raises(ConfigError, match="joint strata"):
        Randomisation("minimisation")
    alone = np.where(model.arm == 1, 1, 0)
    with pytest.raises(DataError, match=r"stratum 0, arm 'low'"):
        aipw(model, y, Gaussian(), randomisation=Randomisation("permuted block", alone))
    with pytest.raises(DataError, match="arm"):
        augmented_means(model, y, np.zeros((150, 2)), "continuous")


@pytest.mark.parametrize("p", [(0.0, 1.0), (-0.2, 1.2), (0.5, 0.4), (0.2, 0.3, 0.5)])
def test_impossible_allocation_probabilities(p: tuple[float, ...]) -> None:
    model = ArmModel(("a", "b"), np.array([0, 0, 1, 1]))
    with pytest.raises(ConfigError, match="allocation"):
        plugin_means(model, np.array([1.0, 2.0, 3.0, 5.0]), Gaussian(), np.array(p))


def test_impossible_means_are_refused() -> None:
    with pytest.raises(FitError, match="negative variance"):
        MarginalMeans(("a", "b"), np.array([0.1, 0.2]), np.diag([0.1, -0.1]), 9, "binary", "", "")
    turned = MarginalMeans(("a", "b"), np.array([0.1, 0.2]), np.array([[0.1, 0.2], [0.2, 0.1]]), 9, "binary", "", "")
    with pytest.raises(FitError, match="decomposed=False"):
        turned.contrast("b", "a")
    with pytest.raises(FitError, match="finite"):
        MarginalMeans(("a", "b"), np.array([0.1, np.nan]), np.eye(2), 9, "binary", "", "")
