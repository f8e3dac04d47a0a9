"""Analyses: independent recomputation, invariances, contracts and refusals."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trialtwin.core.errors import ConfigError, DataError, FitError, MismatchError
from trialtwin.core.estimate import Estimate
from trialtwin.trials.analyse import ANALYSES, SCORE, ancova, dose_response, find_analysis, procova, unadjusted
from trialtwin.trials.record import Factor, Record

type Simulate = Callable[..., Record]


def _take(record: Record, order: np.ndarray) -> Record:
    return replace(
        record,
        ids=tuple(record.ids[i] for i in order),
        arm=record.arm[order],
        value=record.value[order],
        covariates={name: values[order] for name, values in record.covariates.items()},
        factors={name: Factor(levels, codes[order]) for name, (levels, codes) in record.factors.items()},
        dose=None if record.dose is None else record.dose[order],
    )


def _numbers(estimates: tuple[Estimate, ...]) -> np.ndarray:
    return np.array([[e.value, e.se, e.lower, e.upper, e.p] for e in estimates])


def _score(record: Record, seed: int = 0) -> np.ndarray:
    return record.covariates["BASE"] + np.random.default_rng([seed, 1]).normal(size=len(record))


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_contract_of_every_analysis(name: str, small: Record) -> None:
    """One signature; estimates with question, method, variance, level and all patients."""
    own: dict[str, Any] = {"score": _score(small)} if name == "procova" else {}
    covariates = () if name == "unadjusted" else ("BASE", "SEX")
    estimates = find_analysis(name)(small, covariates=covariates, variance="HC3", level=0.9, **own)
    assert len(estimates) == (1 if name == "dose_response" else 3)
    for estimate in estimates:
        assert estimate.estimand is not None
        assert estimate.estimand.variable == small.estimand.variable
        assert (estimate.variance, estimate.level, estimate.n) == ("HC3", 0.9, 60)
        assert estimate.unit.startswith("points")
        for covariate in covariates:
            assert covariate in estimate.method


def test_independent_welch_scipy(small: Record) -> None:
    low, high, high_low = unadjusted(small, variance="Welch")
    for estimate, (i, j) in zip((low, high, high_low), small.pairs(), strict=True):
        other = stats.ttest_ind(small.value[small.arm == j], small.value[small.arm == i], equal_var=False)
        assert estimate.statistic == pytest.approx(other.statistic, rel=1e-10)
        assert estimate.p == pytest.approx(other.pvalue, rel=1e-9)
        assert estimate.df == pytest.approx(other.df, rel=1e-10)
        assert estimate.n == 40


def test_independent_unadjusted_model_is_one_way_analysis_of_variance(small: Record) -> None:
    groups = [small.value[small.arm == k] for k in range(3)]
    pooled = np.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / 57)
    assert unadjusted(small)[1].se == pytest.approx(pooled * np.sqrt(2 / 20), rel=1e-12)


def test_independent_procova_by_partialling_out(small: Record) -> None:
    """Frisch–Waugh–Lovell: the effect is that of the arm residuals on the endpoint residuals."""
    two = replace(small, arms=("Placebo", "active"), arm=np.minimum(small.arm, 1))
    score = _score(two)
    Z = np.column_stack([np.ones(len(two)), score, two.covariates["BASE"]])
    hat = Z @ np.linalg.pinv(Z)
    a, y = two.arm - hat @ two.arm, two.value - hat @ two.value
    effect = (a @ y) / (a @ a)
    rss = ((y - effect * a) ** 2).sum()
    (estimate,) = procova(two, score=score, covariates=("BASE",))
    assert estimate.value == pytest.approx(effect, rel=1e-9)
    assert estimate.se == pytest.approx(np.sqrt(rss / (len(two) - 4) / (a @ a)), rel=1e-9)


@pytest.mark.parametrize("with_covariates", [False, True])
def test_independent_interaction_contrast_is_the_mean_difference_of_predictions(
    with_covariates: bool, small: Record
) -> None:
    """g-computation: fit each arm on its own, predict everybody under both, average the difference."""
    score = _score(small)
    covariates = ("BASE", "SEX") if with_covariates else ()
    columns = [np.ones(len(small)), score]
    if with_covariates:
        columns += [small.covariates["BASE"], small.factors["SEX"].codes.astype(float)]
    X = np.column_stack(columns)
    means = []
    for arm in range(3):
        own = small.arm == arm
        coefficients = np.linalg.lstsq(X[own], small.value[own], rcond=None)[0]
        means.append((X @ coefficients).mean())
    estimates = procova(
        small, score=score, covariates=covariates, interaction=True, interact_covariates=with_covariates
    )
    expected = [means[j] - means[i] for i, j in small.pairs()]
    assert [e.value for e in estimates] == pytest.approx(expected, rel=1e-8)


def test_dose_response_is_the_regression_slope(small: Record) -> None:
    (slope,) = dose_response(small)
    other = stats.linregress(small.dose, small.value)
    assert slope.value == pytest.approx(other.slope, rel=1e-10)
    assert slope.p == pytest.approx(other.pvalue, rel=1e-9)
    assert slope.estimand is not None
    assert "slope" in slope.estimand.summary


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), shift=st.floats(-1e4, 1e4), scale=st.floats(1e-3, 1e3))
def test_law_shift_and_scale_of_the_endpoint(simulate: Simulate, seed: int, shift: float, scale: float) -> None:
    record = simulate(seed)
    score = _score(record)
    moved = replace(record, value=shift + scale * record.value)
    for variance in ("model", "HC3"):
        before = procova(record, score=score, covariates=("BASE", "SEX"), variance=variance)
        after = procova(moved, score=score, covariates=("BASE", "SEX"), variance=variance)
        # A large shift of a small endpoint leaves fewer digits of it.
        slack = 1e-13 * abs(shift)
        for a, b in zip(before, after, strict=True):
            assert b.value == pytest.approx(scale * a.value, rel=1e-7, abs=slack)
            assert b.se == pytest.approx(scale * a.se, rel=1e-7, abs=slack)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    shift=st.floats(-1e3, 1e3),
    scale=st.floats(1e-3, 1e3),
    sign=st.sampled_from([-1.0, 1.0]),
    interaction=st.booleans(),
)
def test_law_score_may_be_on_any_scale(
    simulate: Simulate, seed: int, shift: float, scale: float, sign: float, interaction: bool
) -> None:
    """A biased, stretched or reversed score gives the same analysis."""
    record = simulate(seed)
    score = _score(record)
    other = shift + sign * scale * score
    first = procova(record, score=score, covariates=("SEX",), interaction=interaction)
    second = procova(record, score=other, covariates=("SEX",), interaction=interaction)
    assert _numbers(second) == pytest.approx(_numbers(first), rel=1e-6, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_law_order_of_patients_does_not_matter(simulate: Simulate, seed: int) -> None:
    record = simulate(seed)
    order = np.random.default_rng(seed).permutation(len(record))
    shuffled = _take(record, order)
    for name, own in (("unadjusted", {}), ("ancova", {"covariates": ("SEX", "BASE")})):
        first = find_analysis(name)(record, variance="HC2", **own)
        assert _numbers(find_analysis(name)(shuffled, variance="HC2", **own)) == pytest.approx(
            _numbers(first), rel=1e-8
        )
    score = _score(record)
    assert _numbers(procova(shuffled, score=score[order])) == pytest.approx(
        _numbers(procova(record, score=score)), rel=1e-8
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), variance=st.sampled_from(["model", "HC0", "HC3", "HC4"]))
def test_law_relabelling_of_arms_and_levels(simulate: Simulate, seed: int, variance: str) -> None:
    """With arms in reverse order contrasts change sign; the order of a factor's levels does not matter."""
    record = simulate(seed)
    levels, codes = record.factors["SEX"]
    turned = replace(
        record,
        arms=record.arms[::-1],
        arm=2 - record.arm,
        factors={"SEX": Factor(levels[::-1], 1 - codes)},
    )
    first = {e.contrast: e for e in ancova(record, covariates=("BASE", "SEX"), variance=variance)}
    for estimate in ancova(turned, covariates=("BASE", "SEX"), variance=variance):
        treated, control = estimate.contrast.split(" − ")
        same = first[f"{control} − {treated}"]
        assert estimate.value == pytest.approx(-same.value, rel=1e-8)
        assert estimate.se == pytest.approx(same.se, rel=1e-8)
        assert (estimate.lower, estimate.upper) == pytest.approx((-same.upper, -same.lower), rel=1e-8)


def test_unused_level_of_a_factor_changes_nothing(small: Record) -> None:
    levels, codes = small.factors["SEX"]
    wider = replace(small, factors={"SEX": Factor(("unknown", *levels), codes + 1)})
    assert _numbers(ancova(wider, covariates=("SEX",))) == pytest.approx(
        _numbers(ancova(small, covariates=("SEX",))), rel=1e-12
    )


def test_unadjusted_refuses_covariates(small: Record) -> None:
    with pytest.raises(ConfigError, match=r"(?s)covariates: BASE.*ancova"):
        unadjusted(small, covariates=("BASE",))


def test_ancova_without_covariates_says_which_there_are(small: Record) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no covariates.*BASE, SEX"):
        ancova(small)


def test_unknown_covariate_says_which_there_are(small: Record) -> None:
    with pytest.raises(MismatchError, match=r"(?s)no covariate 'AGE'.*BASE, SEX"):
        ancova(small, covariates=("AGE",))


def test_unknown_analysis_says_which_there_are() -> None:
    with pytest.raises(MismatchError, match=r"(?s)no analysis 'mmrm'.*ancova, dose_response, procova"):
        find_analysis("mmrm")


@pytest.mark.parametrize("variance", ["robust", "Welch"])
def test_unknown_variance_says_which_there_are(variance: str, small: Record) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no variance estimator.*HC4"):
        ancova(small, covariates=("BASE",), variance=variance)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_level_outside_0_1_is_refused(level: float, small: Record) -> None:
    with pytest.raises(ConfigError, match="confidence level"):
        unadjusted(small, level=level)


def test_covariate_named_twice_is_refused(small: Record) -> None:
    with pytest.raises(DataError, match="BASE"):
        ancova(small, covariates=("BASE", "BASE"))


def test_collinear_score_is_named_with_its_partners(small: Record) -> None:
    score = 2.0 * small.covariates["BASE"] - 5.0
    with pytest.raises(FitError, match=rf"'BASE' is a linear combination of \(Intercept\), {SCORE}"):
        procova(small, score=score, covariates=("SEX", "BASE"))


def test_score_of_another_length_is_refused(small: Record) -> None:
    with pytest.raises(DataError, match=r"shape \(59,\) for 60 subjects"):
        procova(small, score=_score(small)[:-1])


def test_missing_score_names_the_subject(small: Record) -> None:
    score = _score(small)
    score[8] = np.nan
    with pytest.raises(DataError, match="S008"):
        procova(small, score=score)


def test_constant_score_is_refused(small: Record) -> None:
    with pytest.raises(DataError, match="same for all patients"):
        procova(small, score=np.ones(60))


def test_interacting_covariates_need_the_interaction(small: Record) -> None:
    with pytest.raises(ConfigError, match="interact_covariates"):
        procova(small, score=_score(small), interact_covariates=True)


def test_patient_alone_in_a_site_is_named_for_hc3_and_allowed_for_hc1(small: Record) -> None:
    codes = np.arange(60) % 2
    codes[17] = 2
    record = replace(small, factors={"SITE": Factor(("1", "2", "3"), codes)})
    with pytest.raises(FitError, match=r"(?s)HC3 is undefined.*S017"):
        ancova(record, covariates=("SITE",), variance="HC3")
    assert ancova(record, covariates=("SITE",), variance="HC1")[0].se > 0


def test_dose_response_needs_doses(small: Record) -> None:
    with pytest.raises(DataError, match="no dose"):
        dose_response(replace(small, dose=None))
    with pytest.raises(DataError, match="all patients have dose 10"):
        dose_response(replace(small, dose=np.full(60, 10.0)))


def test_constant_endpoint_is_an_error(small: Record) -> None:
    with pytest.raises(FitError, match="'change' exactly"):
        unadjusted(replace(small, value=np.full(60, 3.0)))
    with pytest.raises(FitError, match="no value differs"):
        unadjusted(replace(small, value=np.full(60, 3.0)), variance="Welch")
