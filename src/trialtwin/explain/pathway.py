"""How much of an effect runs along each route: Shapley values over routes that are open or closed.

With v(A) the effect when only the routes in A carry the treated patient's signal, and the others that of the same
patient untreated, route r's share is its mean gain over all orders in which routes can be opened:

    φ_r = Σ_{A ∌ r} |A|! (R − |A| − 1)! / R! · [v(A ∪ r) − v(A)]

The shares add up to v(all) − v(none); a route that changes nothing has none; two that do the same have the same. Beside
them stand what a route does alone, v({r}) − v(none), and what is lost without it, v(all) − v(all ∖ r): where the three
differ, routes work together or stand in for one another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import DataError

type Value = Callable[[frozenset[str]], Float[np.ndarray, "..."]]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """An effect by route, each an array of the effect's shape: patients, draws.

    Parameters
    ----------
    total
        The whole effect, v(all) − v(none).
    shares
        By route, its Shapley value; they add up to ``total``.
    alone, last
        By route, what it does when it alone is open, and what is lost when it alone is closed.
    """

    total: Float[np.ndarray, "..."]
    shares: Mapping[str, Float[np.ndarray, "..."]]
    alone: Mapping[str, Float[np.ndarray, "..."]]
    last: Mapping[str, Float[np.ndarray, "..."]]


def decompose(routes: Sequence[str], value: Value) -> Decomposition:
    """Decompose an effect over routes by all of their subsets.

    Parameters
    ----------
    routes
        Names, at most eight: the effect is asked for at every subset.
    value
        The effect where only the routes of a set are open.

    Raises
    ------
    DataError
        If routes repeat, or are too many to try all subsets of.

    References
    ----------
    Shapley LS (1953). A value for n-person games. doi:10.1515/9781400881970-018

    Examples
    --------
    >>> import numpy as np
    >>> sizes = {"amyloid": 2.0, "tau": 1.0}
    >>> parts = decompose(("amyloid", "tau"), lambda open_: np.array(sum(sizes[r] for r in open_)))
    >>> {name: float(share) for name, share in parts.shares.items()}
    {'amyloid': 2.0, 'tau': 1.0}
    """
    if len(set(routes)) != len(routes) or not 0 < len(routes) <= 8:
        raise DataError(f"cannot decompose over routes {list(routes)}", do="give from one to eight, each once")
    values = {
        frozenset(chosen): np.asarray(value(frozenset(chosen)), dtype=float)
        for size in range(len(routes) + 1)
        for chosen in combinations(routes, size)
    }
    none, everything = frozenset[str](), frozenset(routes)
    count = len(routes)
    shares = {}
    for route in routes:
        share = np.zeros_like(values[none])
        for chosen, before in values.items():
            if route not in chosen:
                weight = factorial(len(chosen)) * factorial(count - len(chosen) - 1) / factorial(count)
                share = share + weight * (values[chosen | {route}] - before)
        shares[route] = share
    return Decomposition(
        total=values[everything] - values[none],
        shares=shares,
        alone={r: values[frozenset({r})] - values[none] for r in routes},
        last={r: values[everything] - values[everything - {r}] for r in routes},
    )
