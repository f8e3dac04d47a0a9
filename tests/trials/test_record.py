"""The analysis set refuses what cannot be analysed, and says whose numbers are missing."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from trialtwin.core.errors import DataError
from trialtwin.trials.record import Factor, Record


def test_missing_covariate_names_covariate_and_subjects(small: Record) -> None:
    base = small.covariates["BASE"].copy()
    base[[3, 7]] = np.nan
    with pytest.raises(DataError, match=r"(?s)'BASE' is missing or infinite for 2 of 60.*S003, S007"):
        replace(small, covariates={"BASE": base})


def test_missing_endpoint_names_endpoint_and_subject(small: Record) -> None:
    value = small.value.copy()
    value[5] = np.inf
    with pytest.raises(DataError, match=r"(?s)endpoint 'change'.*S005"):
        replace(small, value=value)


def test_arm_with_one_patient_is_named(small: Record) -> None:
    arm = small.arm.copy()
    arm[arm == 2] = 1
    arm[0] = 2
    with pytest.raises(DataError, match=r"(?s)fewer than two patients.*High \(1\)"):
        replace(small, arm=arm)


def test_empty_arm_is_named(small: Record) -> None:
    with pytest.raises(DataError, match=r"Very high \(0\)"):
        replace(small, arms=(*small.arms, "Very high"))


def test_constant_covariates_and_factors_are_named(small: Record) -> None:
    covariates = {**small.covariates, "AGE": np.full(60, 70.0)}
    factors = {**small.factors, "SITE": Factor(("1", "2"), np.ones(60, dtype=int))}
    with pytest.raises(DataError, match="AGE, SITE"):
        replace(small, covariates=covariates, factors=factors)


def test_repeated_subject_is_named(small: Record) -> None:
    with pytest.raises(DataError, match="S001"):
        replace(small, ids=("S001", *small.ids[1:]))


def test_factor_code_without_level_names_subject(small: Record) -> None:
    codes = small.factors["SEX"].codes.copy()
    codes[4] = -1
    with pytest.raises(DataError, match=r"(?s)factor 'SEX'.*S004.*F, M"):
        replace(small, factors={"SEX": Factor(("F", "M"), codes)})


def test_covariate_of_another_length_is_refused(small: Record) -> None:
    # With annotations checked at run time the shape is refused before the message is made.
    with pytest.raises((DataError, TypeCheckError), match=r"'BASE'.*59"):
        replace(small, covariates={"BASE": small.covariates["BASE"][:-1]})


def test_one_name_for_covariate_and_factor_is_refused(small: Record) -> None:
    with pytest.raises(DataError, match="SEX is given as a covariate and as a factor"):
        replace(small, covariates={"SEX": small.covariates["BASE"]})


@pytest.mark.parametrize("arms", [("Placebo",), ("Placebo", "Placebo", "High")])
def test_arms_need_different_names(arms: tuple[str, ...], small: Record) -> None:
    with pytest.raises(DataError, match="different arms"):
        replace(small, arms=arms)


def test_record_cannot_be_changed(small: Record) -> None:
    with pytest.raises(ValueError, match="read-only"):
        small.value[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        small.covariates["BASE"][0] = 1.0
    with pytest.raises(TypeError):
        small.covariates["AGE"] = small.value  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        small.unit = "kg"  # type: ignore[misc]


def test_pairs_compare_each_arm_with_those_before_it(small: Record) -> None:
    assert [small.label(*pair) for pair in small.pairs()] == ["Low − Placebo", "High − Placebo", "High − Low"]
    assert small.counts() == (20, 20, 20)
