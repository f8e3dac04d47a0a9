"""Sizes: independent maximisation, quadrature and solvers, round trips, and refusals."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from statsmodels.stats.power import TTestIndPower

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.samplesize import Size, power_t, proportions_under_null, size_means, size_proportions, size_t
from trialtwin.stats.samplesize_prognostic import (
    ancova_variance,
    deflated_sd,
    power_gs,
    power_marginaleffect,
    power_nc,
    reduction_table,
    samplesize_gs,
    size_asymptotic,
    size_procova,
)
from trialtwin.stats.samplesize_survival import (
    expected_events,
    schoenfeld_events,
    size_survival_accrual,
    size_survival_rate,
)


@settings(max_examples=30, deadline=None)
@given(
    effect=st.floats(0.1, 1.0),
    power=st.floats(0.7, 0.99),
    ratio=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    alpha=st.sampled_from([0.01, 0.05, 0.1]),
)
def test_size_t_has_exactly_the_power(effect: float, power: float, ratio: float, alpha: float) -> None:
    size = size_t(effect, 1.0, ratio=ratio, alpha=alpha, power=power)
    assert size.treated / size.control == pytest.approx(ratio)
    assert power_t(size, effect, 1.0, alpha=alpha) == pytest.approx(power, rel=1e-9)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("effect", [0.25, 0.6, 1.1])
def test_independent_size_t_statsmodels(effect: float, ratio: float) -> None:
    """One-sided at half of alpha, which is what rejection on the right side only amounts to."""
    other = TTestIndPower().solve_power(effect, power=0.9, alpha=0.025, ratio=ratio, alternative="larger")
    assert size_t(effect, 1.0, ratio=ratio).control == pytest.approx(other, rel=1e-6)


def test_t_size_approaches_the_normal_one() -> None:
    assert size_t(0.01, 1.0).total == pytest.approx(size_means(0.01, 1.0).total, rel=1e-4)
    assert size_t(0.5, 1.0).total > size_means(0.5, 1.0).total


@settings(max_examples=40, deadline=None)
@given(
    control=st.floats(0.05, 0.95),
    treated=st.floats(0.05, 0.95),
    ratio=st.sampled_from([0.5, 1.0, 2.0]),
    null=st.floats(-0.3, 0.3),
    scale=st.sampled_from(["difference", "risk ratio", "odds ratio"]),
)
def test_independent_restricted_proportions_maximise_the_likelihood(
    control: float, treated: float, ratio: float, null: float, scale: str
) -> None:
    """Farrington–Manning's roots against a numerical maximum over the line on which the null holds."""
    value = null if scale == "difference" else exp(null)

    def partner(c: float) -> float:
        if scale == "difference":
            return c + value
        return c * value if scale == "risk ratio" else value * c / (1 + c * (value - 1))

    def loss(c: float) -> float:
        t = partner(c)
        if not (0 < c < 1 and 0 < t < 1):
            return 1e9
        return -(
            control * log(c) + (1 - control) * log(1 - c) + ratio * (treated * log(t) + (1 - treated) * log(1 - t))
        )

    low, high = 0.0, 1.0
    if scale == "difference":
        low, high = max(0.0, -value), min(1.0, 1 - value)
    elif scale == "risk ratio":
        high = min(1.0, 1 / value)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x
    c, t = proportions_under_null(control, treated, scale=scale, null=value, ratio=ratio)
    assert c == pytest.approx(best, abs=2e-6)
    assert t == pytest.approx(partner(c), rel=1e-12)
    assert loss(c) <= loss(best) + 1e-12


@pytest.mark.parametrize("scale", ["difference", "risk ratio", "odds ratio"])
def test_law_swapping_arms_at_no_difference_changes_nothing(scale: str) -> None:
    first = size_proportions(0.3, 0.45, scale=scale, ratio=2.0)
    second = size_proportions(0.45, 0.3, scale=scale, ratio=0.5)
    assert (first.control, first.treated) == pytest.approx((second.treated, second.control), rel=1e-10)


@pytest.mark.parametrize(("scale", "null"), [("difference", 0.05), ("risk ratio", 1.2), ("odds ratio", 1.3)])
def test_law_proportions_size_has_the_power(scale: str, null: float) -> None:
    """Simulated score test of non-inferiority at the size, 20,000 trials.

    Within ±3 binomial standard errors (0.0085), and one percentage point for the normal approximation.
    """
    control, treated, power = 0.3, 0.3, 0.8
    n0, n1 = size_proportions(control, treated, scale=scale, null=null, ratio=2.0, power=power).whole
    rng = np.random.default_rng(9)
    trials = 20_000
    a, b = rng.binomial(n0, control, trials) / n0, rng.binomial(n1, treated, trials) / n1
    rejected = 0
    cache: dict[tuple[float, float], bool] = {}
    for x, y in zip(a, b, strict=True):
        if (x, y) not in cache:
            c, t = proportions_under_null(x, y, scale=scale, null=null, ratio=n1 / n0)
            if scale == "odds ratio":
                z = log(y * (1 - x) / (x * (1 - y)) / null) / np.sqrt(1 / (n0 * c * (1 - c)) + 1 / (n1 * t * (1 - t)))
            else:
                k = null if scale == "risk ratio" else 1.0
                z = (y - k * x - (null if scale == "difference" else 0.0)) / np.sqrt(
                    k**2 * c * (1 - c) / n0 + t * (1 - t) / n1
                )
            cache[x, y] = z < -1.959964
        rejected += cache[x, y]
    error = 3 * np.sqrt(power * (1 - power) / trials)
    assert abs(rejected / trials - power) < error + 0.01


@settings(max_examples=20, deadline=None)
@given(
    hazard=st.floats(0.01, 0.5),
    dropout=st.floats(0.0, 0.2),
    accrual=st.floats(1.0, 30.0),
    follow_up=st.floats(0.0, 30.0),
)
def test_independent_expected_events_by_quadrature(
    hazard: float, dropout: float, accrual: float, follow_up: float
) -> None:
    end = accrual + follow_up
    leaving = hazard + dropout
    value, _ = quad(lambda entry: hazard / leaving * (1 - exp(-leaving * (end - entry))), 0.0, accrual)
    ours = expected_events(hazard=hazard, dropout=dropout, rate=7.0, accrual=accrual, duration=end)
    assert ours == pytest.approx(7.0 * value, rel=1e-7)


@settings(max_examples=20, deadline=None)
@given(
    ratio=st.sampled_from([0.5, 1.0, 2.0]),
    hazard_ratio=st.sampled_from([0.5, 0.7, 1.4]),
    null=st.sampled_from([1.0, 1.2]),
    dropout=st.floats(0.0, 0.05),
)
def test_rate_and_accrual_solve_the_same_equation(
    ratio: float, hazard_ratio: float, null: float, dropout: float
) -> None:
    shared = {"dropout": dropout, "ratio": ratio, "null": null, "power": 0.8}
    by_rate = size_survival_rate(0.05, hazard_ratio, accrual=18.0, duration=30.0, **shared)
    back = size_survival_accrual(0.05, hazard_ratio, accrual_rate=by_rate.accrual_rate, follow_up=12.0, **shared)
    assert back.accrual == pytest.approx(18.0, rel=1e-8)
    assert back.events == pytest.approx(by_rate.events, rel=1e-8)
    assert by_rate.total == pytest.approx(by_rate.accrual_rate * 18.0)
    assert by_rate.control_events + by_rate.treated_events == pytest.approx(by_rate.events)


def test_accrual_with_the_root_at_the_bracket() -> None:
    """The search starts at one unit of time and must also find shorter accruals."""
    fast = size_survival_accrual(0.5, 0.5, accrual_rate=1e4, follow_up=2.0)
    assert 0 < fast.accrual < 1
    assert fast.total == pytest.approx(1e4 * fast.accrual)


def test_lachin_foulkes_needs_about_the_events_of_schoenfeld() -> None:
    events = size_survival_rate(0.05, 0.7, accrual=20.0, duration=40.0).events
    assert events == pytest.approx(schoenfeld_events(0.7), rel=0.02)


@settings(max_examples=30, deadline=None)
@given(
    variance=st.floats(0.5, 50.0),
    effect=st.floats(0.5, 3.0),
    ratio=st.floats(0.3, 3.0),
    margin=st.floats(-1.0, 0.2),
    power=st.floats(0.5, 0.99),
)
def test_samplesize_gs_inverts_power_gs(
    variance: float, effect: float, ratio: float, margin: float, power: float
) -> None:
    size = samplesize_gs(variance, effect, ratio=ratio, margin=margin, power=power)
    assert power_gs(variance, effect, size.total, ratio=ratio, margin=margin) == pytest.approx(power, rel=1e-9)


def test_gs_is_close_to_the_noncentral_t() -> None:
    n = samplesize_gs(9.0, 2.0).total
    assert power_nc(9.0, n - 2, 2.0, n) == pytest.approx(0.9, abs=2e-3)


def test_ancova_variance_at_equal_arms_is_the_textbook_one() -> None:
    """4 σ² (1 − ρ²) at 1:1."""
    assert ancova_variance(3.0, 3.0, 0.6, 0.6) == pytest.approx(4 * 9 * (1 - 0.36))
    assert ancova_variance(3.0, 3.0, 0.6, 0.6, exposure=0.2) == pytest.approx(9 * (1 - 0.36) / 0.16)


@settings(max_examples=30, deadline=None)
@given(
    sd0=st.floats(0.5, 5.0),
    sd1=st.floats(0.5, 5.0),
    rho=st.tuples(st.floats(-0.99, 0.99), st.floats(-0.99, 0.99)),
    exposure=st.floats(0.1, 0.9),
)
def test_law_adjustment_with_interaction_never_costs_asymptotically(
    sd0: float, sd1: float, rho: tuple[float, float], exposure: float
) -> None:
    adjusted = ancova_variance(sd0, sd1, *rho, exposure=exposure)
    assert 0 < adjusted <= ancova_variance(sd0, sd1, 0.0, 0.0, exposure=exposure) * (1 + 1e-12)


def test_size_asymptotic_splits_by_exposure() -> None:
    size = size_asymptotic(100.0, 2.0, exposure=2 / 3)
    assert size.treated == pytest.approx(2 * size.control)
    assert size.total == pytest.approx(size_means(2.0, 5.0).total)


def test_perfect_marginal_predictions_leave_the_variance_of_the_means() -> None:
    """κ = 0: only Var(Y) is left, v² = σ₀² + σ₁²."""
    y = np.array([1.0, 2.0, 3.0, 6.0])
    result = power_marginaleffect(y, y, 2.0, exposure=0.3, n=100)
    assert result.variance_bound == pytest.approx(2 * y.var(ddof=1))


def test_marginal_power_at_the_margin_is_the_one_sided_level() -> None:
    y = np.array([1.0, 2.0, 3.0, 6.0])
    result = power_marginaleffect(y, y + 0.5, 1.3, exposure=0.5, estimand="rate ratio", margin=1.3)
    assert result.power == pytest.approx(0.025)


def test_conservative_sizes_are_larger() -> None:
    bold = size_procova(2.0, 6.0, 0.5).total
    assert size_procova(2.0, 6.0, 0.5, deflation=0.9).total > bold
    assert size_procova(2.0, 6.0, 0.5, inflation=1.05).total > bold
    assert size_procova(2.0, 6.0, 0.5, deflation=0.0).total == pytest.approx(size_t(2.0, 6.0).total)


def test_reduction_table_is_what_the_sizes_say() -> None:
    rows = reduction_table(2.0, 6.0, (0.0, 0.5))
    assert rows[1].size.total == pytest.approx(size_procova(2.0, 6.0, 0.5).total)
    assert rows[1].variance_factor * rows[1].ess_factor == pytest.approx(1.0)


@pytest.mark.parametrize(("control", "whole"), [(190.1, 191), (191.0, 191), (191.0 + 1e-12, 191), (191.0 + 1e-6, 192)])
def test_arms_are_rounded_up_but_not_for_rounding_error(control: float, whole: int) -> None:
    assert Size(control, control).whole == (whole, whole)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: size_means(1.0, -1.0), "sd is -1"),
        (lambda: size_means(1.0, 1.0, null=1.0), "equals the null"),
        (lambda: size_means(1.0, 1.0, power=1.0), "power is 1"),
        (lambda: size_means(1.0, 1.0, alpha=0.0), "alpha is 0"),
        (lambda: size_means(1.0, 1.0, power=0.02), "what no effect at all gives"),
        (lambda: size_t(100.0, 1.0), "two patients in the smaller arm"),
        (lambda: size_proportions(0.0, 0.5), "control is 0"),
        (lambda: size_proportions(0.2, 0.5, scale="hazard"), "no scale 'hazard'"),
        (lambda: size_proportions(0.2, 0.5, null=1.5), "null difference"),
        (lambda: size_proportions(0.2, 0.5, scale="odds ratio", null=-1.0), "null is -1"),
        (lambda: size_proportions(0.2, 0.2), "equals the null"),
        (lambda: schoenfeld_events(1.0), "equals the null"),
        (lambda: size_survival_rate(0.1, 0.7, accrual=20.0, duration=10.0), "outlasts"),
        (lambda: size_survival_rate(0.1, 0.7, accrual=2.0, duration=10.0, dropout=-0.1), "dropout is -0.1"),
        (lambda: size_survival_accrual(0.1, 0.7, accrual_rate=1.0, follow_up=-1.0), "follow_up is -1"),
        (lambda: deflated_sd(1.0, 1.0), "correlation is 1"),
        (lambda: deflated_sd(1.0, 0.5, deflation=1.1), "deflation is 1.1"),
        (lambda: deflated_sd(1.0, 0.5, inflation=0.9), "inflation is 0.9"),
        (lambda: power_gs(1.0, 1.0, 1.0), "z²/2"),
        (lambda: power_nc(1.0, 0.0, 1.0, 10.0), "df is 0"),
        (lambda: ancova_variance(1.0, 1.0, 0.5, 1.5), "correlation is 1.5"),
        (lambda: ancova_variance(1.0, 1.0, 0.5, 0.5, exposure=1.0), "exposure is 1"),
        (lambda: size_asymptotic(1.0, 0.0), "effect"),
        (lambda: power_marginaleffect(np.ones(3), np.ones(3), 1.0, exposure=0.5), "variances 0"),
        (lambda: power_marginaleffect(-np.ones(3), np.ones(3), 1.2, exposure=0.5, estimand="rate ratio"), "mean"),
        (lambda: power_marginaleffect(np.ones(3), np.ones(3), 1.2, exposure=0.5, estimand="hazard"), "no estimand"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()  # type: ignore[operator]


def test_predictions_belong_to_responses() -> None:
    with pytest.raises((DataError, TypeCheckError)):
        power_marginaleffect(np.arange(3.0), np.arange(4.0), 1.0, exposure=0.5)
    with pytest.raises(DataError, match="at least two"):
        power_marginaleffect(np.ones(1), np.ones(1), 1.0, exposure=0.5)
