"""The published primary analysis of the xanomeline trial (Table 14-3.01 of the CDISC pilot submission, SAS)."""

import numpy as np
import pytest

from trialtwin.stats.ancova import VARIANCES
from trialtwin.trials.analyse import ancova, dose_response, find_analysis, procova, unadjusted
from trialtwin.trials.gain import gain
from trialtwin.trials.record import Record

pytestmark = pytest.mark.reference

PRIMARY = ("SITEGR1", "BASE")


def test_reference_table_14_3_01_arms(xanomeline: Record) -> None:
    assert xanomeline.counts() == (79, 81, 74)
    means = [xanomeline.value[xanomeline.arm == k].mean() for k in range(3)]
    spread = [xanomeline.value[xanomeline.arm == k].std(ddof=1) for k in range(3)]
    assert [round(m, 1) for m in means] == [2.5, 2.0, 1.5]
    assert [round(s, 2) for s in spread] == [5.80, 5.55, 4.26]


def test_reference_table_14_3_01_pairwise(xanomeline: Record) -> None:
    low, high, high_low = ancova(xanomeline, covariates=PRIMARY)
    assert [e.contrast for e in (low, high, high_low)] == ["Low − Placebo", "High − Placebo", "High − Low"]
    assert (round(low.value, 4), round(low.se, 4), round(low.p, 3)) == (-0.4668, 0.8180, 0.569)
    assert (round(high.value, 4), round(high.se, 4), round(high.p, 3)) == (-1.0060, 0.8405, 0.233)
    assert (round(high.lower, 1), round(high.upper, 1)) == (-2.7, 0.7)
    assert (round(high_low.value, 4), round(high_low.se, 4), round(high_low.p, 3)) == (-0.5392, 0.8361, 0.520)
    assert high.n == 234
    assert high.df == 234 - 3 - 10 - 1


def test_reference_table_14_3_01_dose_response(xanomeline: Record) -> None:
    (slope,) = dose_response(xanomeline, covariates=PRIMARY)
    assert round(slope.p, 4) == 0.2447
    assert slope.unit == "points/mg"


@pytest.mark.parametrize(
    ("name", "covariates", "se"),
    [
        ("unadjusted", (), 0.853),
        ("ancova", ("BASE",), 0.858),
        ("ancova", ("SITEGR1", "BASE"), 0.841),
        ("ancova", ("SITEGR1", "BASE", "MMSETOT", "AGE", "DURDIS"), 0.817),
    ],
)
def test_reference_standard_errors_of_high_against_placebo(
    name: str, covariates: tuple[str, ...], se: float, xanomeline: Record
) -> None:
    estimates = find_analysis(name)(xanomeline, covariates=covariates)
    assert round(estimates[1].se, 3) == se


@pytest.mark.parametrize("variance", VARIANCES)
def test_every_estimate_carries_question_unit_method_and_variance(variance: str, xanomeline: Record) -> None:
    score = xanomeline.covariates["MMSETOT"]
    estimates = [
        *unadjusted(xanomeline, variance=variance),
        *ancova(xanomeline, covariates=PRIMARY, variance=variance),
        *procova(xanomeline, score=score, covariates=PRIMARY, variance=variance, interaction=True),
    ]
    assert len(estimates) == 9
    for estimate in estimates:
        assert estimate.estimand == xanomeline.estimand
        assert (estimate.unit, estimate.variance, estimate.n) == ("points", variance, 234)
        assert estimate.method


def test_gain_of_a_real_covariate_used_as_score(xanomeline: Record) -> None:
    """MMSE as a score: the achieved ratio is 1 − r² times the factor of degrees of freedom and imbalance."""
    score = -xanomeline.covariates["MMSETOT"]
    gains = gain(xanomeline, score=score, covariates=PRIMARY)
    high = gains[1]
    adjusted = high.against("adjusted")
    assert round(adjusted.comparator.se, 4) == 0.8405
    assert adjusted.variance_ratio == pytest.approx((high.estimate.se / 0.84049) ** 2, rel=1e-4)
    assert adjusted.expected_lower is not None
    assert adjusted.expected_upper is not None
    assert adjusted.expected_lower < adjusted.expected_ratio < adjusted.expected_upper <= 1
    assert np.isclose(adjusted.effective_n, (79 + 74) / adjusted.variance_ratio)
