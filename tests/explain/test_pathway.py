"""Shapley's axioms, and a closed form."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialtwin.core.errors import DataError
from trialtwin.explain.pathway import decompose

ROUTES = ("amyloid", "tau", "synapses", "symptoms")
SUBSETS = 2 ** len(ROUTES)


def game(values: list[float], routes: tuple[str, ...] = ROUTES) -> Callable[[frozenset[str]], np.ndarray]:
    """Return a set function with a value for every subset."""
    return lambda open_: np.array(values[sum(2**i for i, r in enumerate(routes) if r in open_)])


values = st.lists(st.floats(-10, 10), min_size=SUBSETS, max_size=SUBSETS)


@given(values)
def test_shares_add_up_to_the_whole_effect(numbers: list[float]) -> None:
    parts = decompose(ROUTES, game(numbers))
    assert sum(parts.shares.values()) == pytest.approx(float(parts.total), abs=1e-9)
    assert float(parts.total) == pytest.approx(numbers[-1] - numbers[0])


@given(values)
def test_a_route_that_changes_nothing_has_no_share(numbers: list[float]) -> None:
    value = game(numbers)
    parts = decompose(ROUTES, lambda open_: value(open_ - {"tau"}))
    assert parts.shares["tau"] == parts.alone["tau"] == parts.last["tau"] == 0


@given(values)
def test_routes_that_do_the_same_have_the_same_share(numbers: list[float]) -> None:
    value = game(numbers)
    swap = {"amyloid": "tau", "tau": "amyloid"}

    def symmetric(open_: frozenset[str]) -> np.ndarray:
        return value(open_) + value(frozenset(swap.get(r, r) for r in open_))

    parts = decompose(ROUTES, symmetric)
    assert float(parts.shares["amyloid"]) == pytest.approx(float(parts.shares["tau"]), abs=1e-9)


@given(values, values)
def test_shares_of_a_sum_are_sums_of_shares(first: list[float], second: list[float]) -> None:
    both = decompose(ROUTES, game([a + b for a, b in zip(first, second, strict=True)]))
    apart = [decompose(ROUTES, game(numbers)) for numbers in (first, second)]
    for route in ROUTES:
        assert float(both.shares[route]) == pytest.approx(sum(float(p.shares[route]) for p in apart), abs=1e-9)


def test_routes_that_need_each_other_share_what_they_do_together() -> None:
    """The product of two: each alone does nothing, without each all is lost, and each has half."""
    parts = decompose(("a", "b"), lambda open_: np.array(6.0 * (len(open_) == 2)))
    assert parts.shares == {"a": 3.0, "b": 3.0}
    assert parts.alone == {"a": 0.0, "b": 0.0}
    assert parts.last == {"a": 6.0, "b": 6.0}


@pytest.mark.parametrize("routes", [(), ("a", "a"), tuple("abcdefghi")])
def test_routes_that_cannot_be_tried_are_refused(routes: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="cannot decompose"):
        decompose(routes, lambda open_: np.array(0.0))
