"""ANCOVA and PROCOVA against R 4.2.2 (lm, sandwich 3.0.2, estimatr 1.0.0) and statsmodels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.ancova import VARIANCES, LinearFit, least_squares
from trialtwin.stats.calibration import correlation
from trialtwin.stats.modelmatrix import (
    ModelMatrix,
    centred,
    continuous_columns,
    crossed,
    factor_columns,
    intercept,
    join,
)
from trialtwin.stats.twosample import two_sample_t
from trialtwin.trials.analyse import procova, unadjusted
from trialtwin.trials.gain import gain
from trialtwin.trials.record import Factor, Record

pytestmark = pytest.mark.reference

CASE = "ancova_procova_sim1_1to1"
QUESTION = Estimand(
    treatment="active against control",
    population="all randomised",
    variable="change from baseline",
    intercurrent_events=(),
    summary="difference in means",
)

type Columns = dict[str, np.ndarray]


def _summary(fit: LinearFit, names: dict[str, str]) -> dict[str, Any]:
    effects = {kind: fit.estimate({"TRT": 1.0}, "TRT", variance=kind) for kind in VARIANCES}
    return {
        "n": fit.n,
        "df_resid": fit.df,
        "estimate": effects["model"].value,
        "sigma": fit.sigma,
        "r_squared": fit.r_squared,
        "se": {kind: effect.se for kind, effect in effects.items()},
        "ci95_t": {kind: [effect.lower, effect.upper] for kind, effect in effects.items()},
        "p_t": {kind: effect.p for kind, effect in effects.items()},
        "coefficients": {names.get(name, name): fit.coefficient(name) for name in fit.names},
    }


def _two_sample(effect: Estimate) -> dict[str, float | None]:
    return {"se": effect.se, "df": effect.df, "p": effect.p}


def test_reference_ancova_r_4_2_2_sandwich_3_0_2(
    match_all: Callable[[str, Any], None], case_data: Callable[[str, str], Columns]
) -> None:
    data = case_data(CASE, "data.csv")
    y, treated, score = data["CHG"], data["TRT"] == 1, data["PROG"]
    arm = continuous_columns({"TRT": data["TRT"]})
    constant = intercept(len(y))
    covariates = continuous_columns({name: data[name] for name in ("PROG", "BASE", "SEX")})
    about_mean = centred(covariates, suffix="_C")
    anhecova = least_squares(join(constant, arm, about_mean, crossed(arm, about_mean)), y)
    only_score = least_squares(join(constant, arm, continuous_columns({"PROG": score})), y)
    welch = two_sample_t(y[treated], y[~treated], "TRT")
    plain = least_squares(join(constant, arm), y).estimate({"TRT": 1.0}, "TRT", variance="HC3").se ** 2
    reduced = only_score.estimate({"TRT": 1.0}, "TRT", variance="HC3").se ** 2
    lin = anhecova.estimate({"TRT": 1.0}, "TRT", variance="HC2")
    match_all(
        CASE,
        {
            "unadjusted": {
                "diff": welch.value,
                "welch": {**_two_sample(welch), "ci95": [welch.lower, welch.upper]},
                "pooled": _two_sample(two_sample_t(y[treated], y[~treated], "TRT", equal_variances=True)),
            },
            "procova": _summary(only_score, {}),
            "adjusted": _summary(least_squares(join(constant, arm, covariates), y), {}),
            "anhecova": _summary(anhecova, {}),
            "lin_hc2": {"estimate": lin.value, "se": lin.se, "df": lin.df, "p": lin.p},
            "prognostic_correlation": {
                "pooled": correlation(y, score).value,
                "control": correlation(y[~treated], score[~treated]).value,
                "treated": correlation(y[treated], score[treated]).value,
                "partial_within_arm": correlation(y, score, given=join(constant, arm)).value,
            },
            "variance": {
                "unadjusted_HC3_var": plain,
                "procova_HC3_var": reduced,
                "variance_reduction": 1 - reduced / plain,
                "effective_sample_size_factor": plain / reduced,
            },
        },
    )


@pytest.fixture
def trial(case_data: Callable[[str, str], Columns]) -> tuple[Record, np.ndarray]:
    """Return the case as a record, and its score."""
    data = case_data(CASE, "data.csv")
    record = Record(
        ids=tuple(str(i) for i in range(len(data["CHG"]))),
        arms=("control", "active"),
        arm=data["TRT"].astype(np.int64),
        value=data["CHG"],
        endpoint="change",
        visit="end",
        population="all randomised",
        unit="points",
        estimand=QUESTION,
        covariates={"BASE": data["BASE"]},
        factors={"SEX": Factor(("0", "1"), data["SEX"].astype(np.int64))},
    )
    return record, data["PROG"]


@pytest.mark.parametrize("variance", VARIANCES)
def test_reference_trial_analyses_print_the_same_numbers(
    variance: str, trial: tuple[Record, np.ndarray], shared: Path
) -> None:
    """The analyses that a study calls give what R gives, through their own designs."""
    expected = json.loads((shared / "reference" / CASE / "expected.json").read_text())["expected"]
    record, score = trial
    adjusted = {"covariates": ("BASE", "SEX"), "variance": variance}
    results = {
        "procova": procova(record, score=score, variance=variance),
        "adjusted": procova(record, score=score, **adjusted),
        "anhecova": procova(record, score=score, interaction=True, interact_covariates=True, **adjusted),
    }
    for name, (effect,) in results.items():
        assert effect.value == pytest.approx(expected[name]["estimate"], rel=1e-7)
        assert effect.se == pytest.approx(expected[name]["se"][variance], rel=1e-7)
        assert [effect.lower, effect.upper] == pytest.approx(expected[name]["ci95_t"][variance], rel=1e-7)
        assert effect.p == pytest.approx(expected[name]["p_t"][variance], rel=1e-7)
        assert effect.df == expected[name]["df_resid"]


def test_reference_unadjusted_and_gain(trial: tuple[Record, np.ndarray], shared: Path) -> None:
    expected = json.loads((shared / "reference" / CASE / "expected.json").read_text())["expected"]
    record, score = trial
    (welch,) = unadjusted(record, variance="Welch")
    (pooled,) = unadjusted(record, variance="model")
    assert [welch.se, welch.df, welch.p] == pytest.approx(
        [expected["unadjusted"]["welch"][key] for key in ("se", "df", "p")], rel=1e-7
    )
    assert [pooled.se, pooled.df, pooled.p] == pytest.approx(
        [expected["unadjusted"]["pooled"][key] for key in ("se", "df", "p")], rel=1e-7
    )
    (bought,) = gain(record, score=score, variance="HC3")
    comparison = bought.against("unadjusted")
    assert 1 - comparison.variance_ratio == pytest.approx(expected["variance"]["variance_reduction"], rel=1e-7)
    assert comparison.effective_n / 240 == pytest.approx(expected["variance"]["effective_sample_size_factor"], rel=1e-7)
    assert bought.rho.value == pytest.approx(expected["prognostic_correlation"]["partial_within_arm"], rel=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_reference_least_squares_statsmodels_0_15(seed: int) -> None:
    """Coefficients, leverage and HC0–HC3 on random data with factors and unequal spread."""
    rng = np.random.default_rng(seed)
    n = 80
    site = factor_columns("site", tuple("abcd"), rng.integers(0, 4, n))
    arm = factor_columns("arm", ("control", "low", "high"), rng.integers(0, 3, n))
    x = rng.normal(50, 9, n)
    design = join(intercept(n), arm, site, continuous_columns({"x": x}))
    y = 0.3 * x + design.values[:, 1] + rng.normal(size=n) * (1 + design.values[:, 2])
    fit = least_squares(design, y)
    other = sm.OLS(y, design.values).fit()
    assert fit.coefficients == pytest.approx(other.params, rel=1e-9)
    assert fit.df == other.df_resid
    assert fit.r_squared == pytest.approx(other.rsquared, rel=1e-10)
    assert fit.leverage == pytest.approx(other.get_influence().hat_matrix_diag, rel=1e-9)
    assert fit.covariance() == pytest.approx(other.cov_params(), rel=1e-8, abs=1e-14)
    for kind in ("HC0", "HC1", "HC2", "HC3"):
        assert fit.covariance(kind) == pytest.approx(getattr(other, f"cov_{kind}"), rel=1e-8, abs=1e-14)


@pytest.mark.parametrize("kind", ["HC0", "HC1", "HC2", "HC3"])
def test_reference_contrast_statsmodels_0_15(kind: str) -> None:
    """A contrast of two coefficients with t inference."""
    rng = np.random.default_rng(11)
    n = 45
    design = join(intercept(n), factor_columns("arm", ("p", "l", "h"), np.arange(n) % 3))
    y = rng.normal(size=n) * (1 + design.values[:, 1])
    ours = least_squares(design, y).estimate({"arm[h]": 1.0, "arm[l]": -1.0}, "h − l", variance=kind)
    other = sm.OLS(y, design.values).fit().get_robustcov_results(kind, use_t=True).t_test([[0.0, -1.0, 1.0]])
    assert ours.value == pytest.approx(float(np.squeeze(other.effect)), rel=1e-9)
    assert ours.se == pytest.approx(float(np.squeeze(other.sd)), rel=1e-9)
    assert ours.p == pytest.approx(float(np.squeeze(other.pvalue)), rel=1e-8)


def test_reference_no_intercept_statsmodels_0_15() -> None:
    """R² is about zero where the columns do not hold the constant."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(30, 2))
    y = X @ [1.0, -2.0] + rng.normal(size=30) + 3
    fit = least_squares(ModelMatrix(("a", "b"), X), y)
    assert fit.r_squared == pytest.approx(sm.OLS(y, X).fit().rsquared, rel=1e-10)
