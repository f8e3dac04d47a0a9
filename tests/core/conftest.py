"""A small cohort with everything that a cohort can carry."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from trialtwin.core.cohort import Block, Cohort, Doses, Events
from trialtwin.core.variables import Kind, Variable

type MakeCohort = Callable[..., Cohort]


@pytest.fixture(scope="session")
def make_cohort() -> MakeCohort:
    """Return a function that builds the same five patients each time, with any field replaced."""
    return build


@pytest.fixture(scope="session")
def make_unchecked() -> MakeCohort:
    """Return the same function, past the annotations that the tests check: what a user without them meets."""

    def unchecked(**changes: Any) -> Cohort:
        cohort = object.__new__(Cohort)
        for name, value in (vars(build()) | changes).items():
            object.__setattr__(cohort, name, value)
        cohort.__post_init__()
        return cohort

    return unchecked


def build(**changes: Any) -> Cohort:
    values = np.arange(5 * 3 * 2, dtype=float).reshape(5, 3, 2)
    values[1, 2] = np.nan
    values[3, 1, 0] = np.nan
    nominal = np.array([0.0, 84.0, 168.0])
    fields: dict[str, Any] = {
        "ids": ("a", "b", "c", "d", "e"),
        "variables": (
            Variable("AGE", unit="years", concept="age"),
            Variable("SEX", kind=Kind.CATEGORICAL, levels=("M", "F"), concept="sex"),
        ),
        "covariates": np.array([[60.0, 0], [70, 1], [np.nan, 1], [80, np.nan], [90, 0]]),
        "outcomes": (Variable("ACTOT", concept="ADAS-Cog11"), Variable("MMSETOT", concept="MMSE")),
        "visits": ("Baseline", "Week 12", "Week 24"),
        "nominal": nominal,
        "times": nominal + np.array([[0, 1, 2.5], [0, 0, 0], [0, -3, 4], [0, 0, 1], [0, 2, 2]]),
        "values": values,
        "observed": np.isfinite(values),
        "treatments": ("Placebo", "High"),
        "received": np.array([0, 1, 0, 1, 1]),
        "events": Events(
            patient=np.array([3, 0, 3, 4]),
            time=np.array([10.0, 100, 168, 200]),
            name=("rash", "fall", "death", "rash"),
            observed=np.array([True, True, True, False]),
            followed=np.array([False, False, True, True]),
        ),
        "doses": Doses(
            patient=np.array([1, 1, 4]),
            time=np.array([0.0, 84, 168]),
            amount=np.array([10.0, 20, 30]),
            duration=np.array([0.0, 0.5, 0]),
            compartment=np.array([1, 1, 2]),
        ),
        "blocks": MappingProxyType(
            {"csf": Block(("p1", "p2"), np.arange(10.0).reshape(5, 2), np.array([True, True, False, True, True]))}
        ),
    }
    return Cohort(**(fields | changes))
