"""Covariates as columns: standardised as they were learned, missing ones at the mean."""

from dataclasses import replace

import numpy as np
import pytest

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import MismatchError
from trialtwin.core.variables import Kind, Variable
from trialtwin.twins.features import Encoder, encode

SITE = Variable("SITE", kind=Kind.CATEGORICAL, levels=("A", "B", "C"))
COVARIATES = np.array([[60.0, 0, 1], [70, 1, 1], [80, 2, 1], [np.nan, 1, 1], [70, np.nan, 1]])


def build(**changes: object) -> Cohort:
    values = np.array([[[1.0, 5.0]], [[2.0, 6.0]], [[3.0, 7.0]], [[4.0, np.nan]], [[5.0, 9.0]]])
    fields = {
        "ids": tuple("abcde"),
        "variables": (Variable("AGE"), SITE, Variable("ONE")),
        "covariates": COVARIATES,
        "outcomes": (Variable("Y"), Variable("W")),
        "visits": ("Baseline",),
        "nominal": np.zeros(1),
        "times": np.zeros((5, 1)),
        "values": values,
        "observed": np.isfinite(values),
        "treatments": ("placebo",),
        "received": np.zeros(5, dtype=np.int64),
    }
    return Cohort(**(fields | changes))  # type: ignore[arg-type]


LEARNED = Encoder.learn(build(), modelled=("Y",))


def test_every_level_but_the_first_and_every_outcome_that_is_not_modelled_has_a_column() -> None:
    """What does not vary has none."""
    assert list(zip(LEARNED.names, LEARNED.levels, strict=True)) == [
        ("AGE", ""),
        ("SITE", "B"),
        ("SITE", "C"),
        ("W", ""),
    ]


def test_columns_have_mean_0_and_sd_1_over_what_is_known() -> None:
    columns = encode(LEARNED, build())
    known = np.column_stack(
        [
            np.isfinite(COVARIATES[:, 0]),
            np.isfinite(COVARIATES[:, 1]),
            np.isfinite(COVARIATES[:, 1]),
            build().observed[:, 0, 1],
        ]
    )
    for column, there in zip(columns.T, known.T, strict=True):
        assert column[there].mean() == pytest.approx(0.0, abs=1e-12)
        assert column[there].std() == pytest.approx(1.0)
        assert (column[~there] == 0).all()


def test_other_patients_are_encoded_as_those_that_were_learned_from() -> None:
    other = build(covariates=COVARIATES + np.array([10.0, 0, 0]))
    np.testing.assert_allclose(encode(LEARNED, other)[:3, 0], encode(LEARNED, build())[:3, 0] + 10 / np.sqrt(50))


def test_levels_are_known_by_name_and_not_by_number() -> None:
    turned = replace(SITE, levels=("C", "B", "A"))
    codes = np.array(COVARIATES)
    codes[:, 1] = 2 - codes[:, 1]
    other = build(variables=(Variable("AGE"), turned, Variable("ONE")), covariates=codes)
    np.testing.assert_array_equal(encode(LEARNED, other), encode(LEARNED, build()))


def test_a_covariate_that_is_not_there_is_an_error() -> None:
    bare = build(variables=(SITE,), covariates=COVARIATES[:, 1:2])
    with pytest.raises(
        MismatchError, match=r"the twin needs 'AGE', which these patients do not have\n  exists: SITE, Y, W"
    ):
        encode(LEARNED, bare)


def test_a_level_that_these_patients_cannot_have_is_an_error() -> None:
    two = build(
        variables=(Variable("AGE"), replace(SITE, levels=("A", "B")), Variable("ONE")),
        covariates=np.where(COVARIATES == 2, 1, COVARIATES),
    )
    with pytest.raises(MismatchError, match=r"'SITE' has no level 'C' in these patients\n  exists: A, B"):
        encode(LEARNED, two)


def test_a_level_that_was_never_seen_is_taken_as_missing() -> None:
    """Nobody of site C was learned from: a patient of C stands at the mean, and is not taken for one of site A."""
    seen = np.array(COVARIATES)
    seen[:, 1] = [0, 1, 0, 1, 1]
    learned = Encoder.learn(build(covariates=seen), modelled=("Y",))
    assert ("SITE", "B") in zip(learned.names, learned.levels, strict=True)
    newcomers = np.array(seen)
    newcomers[:, 1] = 2
    unknown = np.array(seen)
    unknown[:, 1] = np.nan
    np.testing.assert_array_equal(
        encode(learned, build(covariates=newcomers)), encode(learned, build(covariates=unknown))
    )


def test_an_outcome_measured_after_baseline_only_is_no_covariate() -> None:
    """The first visit's value is one of baseline if it took place by then; later it would be the future."""
    late = build(nominal=np.array([84.0]), times=np.full((5, 1), 84.0))
    assert not {"Y", "W"} & set(Encoder.learn(late).names)
    mixed = build(times=np.array([[0.0], [0], [-2], [84], [0]]))
    columns = encode(Encoder.learn(mixed), mixed)
    names = Encoder.learn(mixed).names
    assert (columns[:, names.index("Y")] == 0).tolist() == [False, False, False, True, False]


def test_nothing_to_encode_is_no_columns() -> None:
    bare = build(variables=(), covariates=np.zeros((5, 0)))
    assert encode(Encoder.learn(bare, modelled=("Y", "W")), bare).shape == (5, 0)
