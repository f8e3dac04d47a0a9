"""The covariate-adjusted log-rank test: programmed twice, identities, its level by simulation, and what is refused."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.stats.adjusted_logrank import adjusted_hazard_ratio, adjusted_log_rank
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.cox import cox
from trialtwin.stats.logrank import log_rank
from trialtwin.stats.modelmatrix import continuous_columns, factor_columns, join
from trialtwin.stats.randomisation import Randomisation

ARMS = ("control", "active")
type Trial = tuple[ArmModel, np.ndarray, np.ndarray, np.ndarray]


def trial(n: int, seed: int, effect: float = 0.0, blocks: bool = False) -> Trial:
    """Return arms with two covariates, times rounded to tie, events, and strata that matter."""
    rng = np.random.default_rng(seed)
    strata, x, arm = rng.integers(0, 3, n), rng.normal(size=(n, 2)), rng.integers(0, 2, n)
    if blocks:
        for z in range(3):
            rows = np.flatnonzero(strata == z)
            arm[rows] = rng.permuted(np.tile([0, 0, 1, 1], (len(rows) // 4 + 1, 1)), axis=1).ravel()[: len(rows)]
    time = rng.exponential(10 * np.exp(-effect * arm - 0.7 * x[:, 0] - 0.3 * x[:, 0] ** 2 + 0.6 * strata))
    stop = rng.uniform(3, 25, n)
    covariates = continuous_columns({"age": 60 + 9 * x[:, 0], "score": x[:, 1]})
    return ArmModel(ARMS, arm, covariates), np.ceil(np.minimum(time, stop)), time <= stop, strata


def plain(
    model: ArmModel, time: np.ndarray, event: np.ndarray, strata: np.ndarray, theta: float, tied: bool
) -> tuple[float, float, np.ndarray]:
    """Return score, information and derived outcomes by loops over patients and events."""
    u = information = 0.0
    outcome = np.zeros(model.n)
    for z in np.unique(strata):
        own = strata == z
        for t in np.unique(time[own & event]):
            y0, y1 = (np.sum(own & (time >= t) & (model.arm == a)) for a in (0, 1))
            d = np.sum(own & event & (time == t))
            mu = np.exp(theta) * y1 / (np.exp(theta) * y1 + y0)
            u += np.sum(own & event & (time == t) & (model.arm == 1)) - d * mu
            information += d * mu * (1 - mu) * ((y0 + y1 - d) / (y0 + y1 - 1) if tied and d > 1 else 1)
            for i in np.flatnonzero(own & (time >= t)):
                happened = float(event[i] and time[i] == t)
                if model.arm[i]:
                    outcome[i] += (1 - mu) * (happened - np.exp(theta) * d / (np.exp(theta) * y1 + y0))
                else:
                    outcome[i] += mu * (happened - d / (np.exp(theta) * y1 + y0))
    return float(u), float(information), outcome


def adjustment(model: ArmModel, outcome: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Return what covariates take from score and variance, with slopes by least squares on indicators of strata."""
    assert model.covariates is not None
    x, levels = model.covariates.values, np.unique(strata)
    fixed = (strata[:, None] == levels).astype(float)
    slopes = []
    for a in (0, 1):
        rows = model.arm == a
        columns = np.column_stack([x, fixed])[rows]
        slopes.append(np.linalg.lstsq(columns, outcome[rows], rcond=None)[0][: x.shape[1]])
    centred = x - np.stack([x[strata == z].mean(axis=0) for z in levels])[np.searchsorted(levels, strata)]
    sign = 2.0 * model.arm - 1
    score = sum(sign[i] * centred[i] @ slopes[model.arm[i]] for i in range(model.n))
    both = slopes[0] + slopes[1]
    spread = sum(np.mean(strata == z) * both @ np.cov(x[strata == z], rowvar=False) @ both for z in levels)
    return float(score), float(model.n * np.prod(model.shares) * spread)


@pytest.mark.parametrize("stratified", [False, True])
def test_independent_the_test_and_the_estimate_programmed_twice(stratified: bool) -> None:
    model, time, event, groups = trial(120, 4, 0.4)
    strata = groups if stratified else np.zeros(120, dtype=int)
    given = groups if stratified else None
    found = adjusted_log_rank(model, time, event, strata=given)
    u, information, outcome = plain(model, time, event, strata, 0.0, True)
    off, less = adjustment(model, outcome, strata)
    assert (found.score, found.variance) == pytest.approx((u - off, information - less), rel=1e-9)
    start = adjusted_hazard_ratio(ArmModel(ARMS, model.arm), time, event, strata=given).value
    off, less = adjustment(model, plain(model, time, event, strata, start, False)[2], strata)
    effect = adjusted_hazard_ratio(model, time, event, strata=given)
    u, information, _ = plain(model, time, event, strata, effect.value, False)
    assert u == pytest.approx(off, abs=1e-8)
    assert effect.se == pytest.approx(np.sqrt(information - less) / information, rel=1e-9)


def test_without_covariates_it_is_the_log_rank_test_and_breslows_cox() -> None:
    model, time, event, strata = trial(100, 5)
    bare = ArmModel(ARMS, model.arm)
    for given in (None, strata):
        told = log_rank(time, event, model.arm, strata=given)
        found = adjusted_log_rank(bare, time, event, strata=given)
        assert (found.z, found.p) == pytest.approx((told.z, told.p), rel=1e-10)
        fit = cox(continuous_columns({"arm": model.arm.astype(float)}), time, event, strata=given, ties="Breslow")
        effect = adjusted_hazard_ratio(bare, time, event, strata=given)
        assert (effect.value, effect.se) == pytest.approx(
            (fit.coefficient("arm"), fit.estimate({"arm": 1.0}, "arm").se), rel=1e-7
        )


def test_units_of_covariates_change_nothing_and_swapped_arms_the_sign() -> None:
    model, time, event, strata = trial(100, 6, 0.5)
    assert model.covariates is not None
    x = model.covariates.values
    turned = continuous_columns({"a": 1e4 * (x[:, 0] + x[:, 1]), "b": x[:, 1] - 7})
    other = ArmModel(ARMS, model.arm, turned)
    first, second = (adjusted_log_rank(m, time, event, strata=strata) for m in (model, other))
    assert first.z == pytest.approx(second.z, rel=1e-9)
    swapped = ArmModel(ARMS[::-1], 1 - model.arm, model.covariates)
    assert adjusted_log_rank(swapped, time, event, strata=strata).z == pytest.approx(-first.z, rel=1e-9)
    one, two = (adjusted_hazard_ratio(m, time, event, strata=strata) for m in (model, swapped))
    assert (one.value, one.se) == pytest.approx((-two.value, two.se), rel=1e-9)


def test_a_covariate_that_foretells_survival_makes_the_error_smaller() -> None:
    model, time, event, strata = trial(400, 7)
    bare = ArmModel(ARMS, model.arm)
    for given in (None, strata):
        adjusted = adjusted_hazard_ratio(model, time, event, strata=given)
        assert adjusted.se < 0.95 * adjusted_hazard_ratio(bare, time, event, strata=given).se


def test_strata_that_were_balanced_have_to_be_used() -> None:
    model, time, event, strata = trial(90, 8, blocks=True)
    assert model.covariates is not None
    scheme = Randomisation("permuted block", strata)
    with pytest.raises(ConfigError, match="put an indicator of each joint stratum among the covariates"):
        adjusted_log_rank(model, time, event, randomisation=scheme)
    within = adjusted_log_rank(model, time, event, strata=strata, randomisation=scheme)
    assert within == adjusted_log_rank(model, time, event, strata=strata)
    finer = 2 * strata + (np.arange(90) % 2)
    assert adjusted_log_rank(model, time, event, strata=finer, randomisation=scheme).n == 90
    columns = join(model.covariates, factor_columns("z", ("0", "1", "2"), strata))
    known = ArmModel(ARMS, model.arm, columns)
    found = adjusted_hazard_ratio(known, time, event, randomisation=scheme)
    assert found.variance == "permuted block within strata"


def test_what_cannot_be_compared_is_refused() -> None:
    model, time, event, strata = trial(40, 9)
    assert model.covariates is not None
    with pytest.raises(DataError, match="two arms, not 3"):
        adjusted_log_rank(ArmModel(("a", "b", "c"), np.arange(40) % 3), time, event)
    with pytest.raises(FitError, match="there is nothing to compare"):
        adjusted_log_rank(model, time, event, strata=model.arm)
    with pytest.raises(DataError, match="the times has 39 rows"):
        adjusted_log_rank(model, time[1:], event[1:])
    twice = join(model.covariates, continuous_columns({"again": 2 * model.covariates.values[:, 0]}))
    with pytest.raises(FitError, match="depend on each other within an arm"):
        adjusted_log_rank(ArmModel(ARMS, model.arm, twice), time, event)
    same = continuous_columns({"site": strata.astype(float)})
    with pytest.raises(FitError, match="covariate 'site' does not vary within strata"):
        adjusted_log_rank(ArmModel(ARMS, model.arm, same), time, event, strata=strata)
    with pytest.raises(FitError, match="no hazard ratio has the score 0"):
        adjusted_hazard_ratio(ArmModel(ARMS, model.arm), time, event & (model.arm == 1))
    few, time, event, _ = trial(20, 1)
    noise = np.random.default_rng(1).normal(size=(20, 6))
    many = continuous_columns({f"x{k}": column for k, column in enumerate(noise.T)})
    with pytest.raises(FitError, match="no variance"):
        adjusted_log_rank(ArmModel(ARMS, few.arm, many), time, event)


SIZES = [pytest.param(400, id="400 trials"), pytest.param(10_000, id="10,000 trials", marks=pytest.mark.slow)]


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_the_adjusted_test_keeps_its_level_under_simple_and_blocked_randomisation(trials: int) -> None:
    """Trials of 200 without effect: p < 5 % in 5 % of them, within 3.5 Monte-Carlo standard errors (0.038; 0.0076)."""
    counts = np.zeros(3)
    for seed in range(trials):
        model, time, event, strata = trial(200, seed)
        counts[0] += adjusted_log_rank(model, time, event).p < 0.05
        model, time, event, strata = trial(200, seed, blocks=True)
        scheme = Randomisation("permuted block", strata)
        assert model.covariates is not None
        known = join(model.covariates, factor_columns("z", ("0", "1", "2"), strata))
        counts[1] += adjusted_log_rank(ArmModel(ARMS, model.arm, known), time, event, randomisation=scheme).p < 0.05
        counts[2] += adjusted_log_rank(model, time, event, strata=strata, randomisation=scheme).p < 0.05
    print(f"\nsize over {trials} trials: {counts / trials}")  # noqa: T201
    assert (np.abs(counts / trials - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / trials)).all(), counts
