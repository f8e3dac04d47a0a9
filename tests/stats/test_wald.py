"""From a value and its error to an estimate."""

import pytest
from scipy import stats

from trialtwin.core.errors import ConfigError, FitError
from trialtwin.stats.wald import critical_value, wald_estimate

WORDS = {"contrast": "B − A", "n": 30, "method": "test", "variance": "known"}


@pytest.mark.parametrize("df", [None, 1.0, 3.7, 28.0, 4000.0])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_independent_interval_and_p_scipy(df: float | None, level: float) -> None:
    law = stats.norm if df is None else stats.t(df)
    estimate = wald_estimate(1.3, 0.6, df=df, null=0.2, level=level, **WORDS)
    assert estimate.p == pytest.approx(2 * law.sf(1.1 / 0.6), rel=1e-10)
    half = law.ppf(0.5 + level / 2) * 0.6
    assert (estimate.lower, estimate.upper) == pytest.approx((1.3 - half, 1.3 + half), rel=1e-10)
    assert estimate.statistic == pytest.approx(1.1 / 0.6)


@pytest.mark.parametrize("df", [None, 12.0])
def test_interval_excludes_the_null_exactly_when_p_is_below_alpha(df: float | None) -> None:
    critical = critical_value(0.95, df)
    for statistic, rejects in ((critical * 1.0001, True), (critical * 0.9999, False)):
        estimate = wald_estimate(statistic, 1.0, df=df, **WORDS)
        assert (estimate.p < 0.05) is rejects
        assert (estimate.lower > 0) is rejects


@pytest.mark.parametrize(("value", "se"), [(1.0, 0.0), (1.0, -1.0), (1.0, float("nan")), (float("inf"), 1.0)])
def test_no_error_no_inference(value: float, se: float) -> None:
    with pytest.raises(FitError, match="no inference for 'B − A'"):
        wald_estimate(value, se, **WORDS)


def test_no_degrees_of_freedom_no_inference() -> None:
    with pytest.raises(FitError, match="0 degrees of freedom"):
        wald_estimate(1.0, 1.0, df=0.0, **WORDS)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.5])
def test_level_is_between_0_and_1(level: float) -> None:
    with pytest.raises(ConfigError, match="confidence level"):
        wald_estimate(1.0, 1.0, level=level, **WORDS)
