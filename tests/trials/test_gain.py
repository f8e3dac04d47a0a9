"""What a score bought: identities recomputed by hand, and honest signs."""

from dataclasses import replace

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError
from trialtwin.stats.samplesize import size_t
from trialtwin.stats.samplesize_prognostic import size_procova
from trialtwin.trials.analyse import ancova, procova, unadjusted
from trialtwin.trials.gain import Plan, gain
from trialtwin.trials.record import Record


def _two_arms(seed: int, *, n0: int = 40, n1: int = 60, rho: float = 0.6, small: Record) -> tuple[Record, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = n0 + n1
    score = rng.normal(size=n)
    return (
        replace(
            small,
            ids=tuple(map(str, range(n))),
            arms=("control", "active"),
            arm=np.repeat([0, 1], [n0, n1]),
            value=rho * score + np.sqrt(1 - rho**2) * rng.normal(size=n),
            covariates={"AGE": rng.normal(70.0, 8.0, n)},
            factors={},
            dose=None,
        ),
        score,
    )


def test_independent_achieved_ratio_is_correlation_freedom_and_imbalance(small: Record) -> None:
    """With the model variance: (1 − r²) (n − 2)/(n − 3) / (1 − R² of the score on arm)."""
    record, score = _two_arms(3, small=small)
    (bought,) = gain(record, score=score)
    n, arm = len(record), record.arm.astype(float)
    within = [v - np.array([v[arm == k].mean() for k in (0, 1)])[record.arm] for v in (record.value, score)]
    r = (within[0] @ within[1]) / np.sqrt((within[0] @ within[0]) * (within[1] @ within[1]))
    imbalance = 1 - np.corrcoef(arm, score)[0, 1] ** 2
    comparison = bought.against("unadjusted")
    assert bought.rho.value == pytest.approx(r, rel=1e-10)
    assert comparison.expected_ratio == pytest.approx(1 - r**2, rel=1e-10)
    assert comparison.variance_ratio == pytest.approx((1 - r**2) * (n - 2) / (n - 3) / imbalance, rel=1e-10)


def test_patients_saved_give_back_the_comparators_standard_error(small: Record) -> None:
    record, score = _two_arms(4, small=small)
    (bought,) = gain(record, score=score)
    comparison = bought.against("unadjusted")
    assert (bought.control, bought.treated) == (40, 60)
    assert comparison.effective_n == pytest.approx(100 / comparison.variance_ratio)
    kept = 100 - comparison.saved_total
    assert comparison.variance_ratio * 100 / kept == pytest.approx(1.0)
    assert comparison.saved_control is not None
    fewer = 40 - comparison.saved_control
    assert comparison.variance_ratio * (1 / fewer + 1 / 60) == pytest.approx(1 / 40 + 1 / 60)


def test_ratios_come_from_the_analyses_themselves(small: Record) -> None:
    record, score = _two_arms(5, small=small)
    (bought,) = gain(record, score=score, covariates=("AGE",), variance="HC3", level=0.9)
    (with_score,) = procova(record, score=score, covariates=("AGE",), variance="HC3", level=0.9)
    (without,) = ancova(record, covariates=("AGE",), variance="HC3", level=0.9)
    (plain,) = unadjusted(record, variance="HC3", level=0.9)
    assert bought.estimate == with_score
    assert bought.against("adjusted").comparator == without
    assert bought.against("unadjusted").comparator == plain
    assert bought.against("adjusted").variance_ratio == pytest.approx((with_score.se / without.se) ** 2)
    assert bought.rho.level == 0.9


def test_independent_expected_ratio_with_covariates(small: Record) -> None:
    """Against the unadjusted analysis the share left is of covariates and score together."""
    record, score = _two_arms(6, small=small)
    record = replace(record, value=record.value + 0.1 * record.covariates["AGE"])
    (bought,) = gain(record, score=score, covariates=("AGE",))
    arms = np.column_stack([np.ones(100), record.arm])
    full = np.column_stack([arms, record.covariates["AGE"], score])
    rss = [
        ((record.value - X @ np.linalg.lstsq(X, record.value, rcond=None)[0]) ** 2).sum()
        for X in (arms, full[:, :3], full)
    ]
    assert bought.against("unadjusted").expected_ratio == pytest.approx(rss[2] / rss[0], rel=1e-9)
    assert bought.against("adjusted").expected_ratio == pytest.approx(rss[2] / rss[1], rel=1e-9)
    assert bought.against("unadjusted").expected_lower is None
    assert bought.against("adjusted").expected_lower is not None
    assert bought.rho_adjusted.df == 100 - 2 - 2


def test_useless_score_is_shown_to_cost(small: Record) -> None:
    record, _ = _two_arms(7, small=small)
    useless = np.random.default_rng(70).normal(size=100)
    comparison = gain(record, score=useless)[0].against("unadjusted")
    assert comparison.variance_ratio > 1
    assert comparison.saved_total < 0
    assert comparison.saved_control is None
    assert comparison.effective_n < 100
    assert comparison.expected_upper == 1.0


def test_every_contrast_has_a_gain(small: Record) -> None:
    gains = gain(small, score=small.covariates["BASE"] + 0.0, covariates=("SEX",))
    assert [g.contrast for g in gains] == ["Low − Placebo", "High − Placebo", "High − Low"]
    assert {g.control + g.treated for g in gains} == {40}


def test_prospect_deflates_and_inflates(small: Record) -> None:
    record, score = _two_arms(8, small=small)
    plan = Plan(effect=0.5, power=0.8, deflation=0.9, inflation=1.05)
    (bought,) = gain(record, score=score, plan=plan)
    prospect = bought.prospect
    assert prospect is not None
    groups = [record.value[record.arm == k] for k in (0, 1)]
    sd = np.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / 98)
    assert prospect.sd == pytest.approx(sd)
    assert prospect.unadjusted == size_t(0.5, prospect.sd * 1.05, power=0.8)
    assert prospect.with_score == size_procova(
        0.5, prospect.sd, bought.rho.value, deflation=0.9, inflation=1.05, power=0.8
    )
    assert prospect.saved == sum(prospect.unadjusted.whole) - sum(prospect.with_score.whole) > 0
    bold = gain(record, score=score, plan=replace(plan, deflation=1.0, inflation=1.0))[0].prospect
    assert bold is not None
    assert bold.with_score.total < prospect.with_score.total


def test_welch_has_no_gain(small: Record) -> None:
    with pytest.raises(ConfigError, match="one variance estimator"):
        gain(small, score=small.value, variance="Welch")


def test_unknown_comparator_says_which_there_are(small: Record) -> None:
    record, score = _two_arms(9, small=small)
    with pytest.raises(ConfigError, match=r"(?s)'adjusted'.*unadjusted"):
        gain(record, score=score)[0].against("adjusted")
