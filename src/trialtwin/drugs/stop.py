"""A rule that ends treatment by what scans show: one value below a threshold, or two in a row below another.

A treatment sees the disease when a dose is due, so a scan takes place at the first dose at or after its planned week;
scans planned after the last dose do not happen. How many scans were done and what the last one showed are states of
the treatment that only ``decide`` changes.
"""

from collections.abc import Mapping
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.errors import MismatchError
from trialtwin.drugs.page import AmyloidStop
from trialtwin.drugs.pk import State
from trialtwin.drugs.quantity import Scalar

_NEVER = 1e6  # shown by a scan before the first one: above any threshold
_EARLY = 1e-6  # days by which rounding may put a dose before its scan


@final
class ScanRule(eqx.Module):
    """Stops below a value at one scan, or below another at two in a row.

    Parameters
    ----------
    state
        Of the disease, that the scan reads.
    scans : shape (scan,)
        Planned days.
    below, twice_below
        Thresholds, in the state's unit.

    Examples
    --------
    >>> rule = ScanRule("amyloid", np.array([168.0, 364.0]), np.array(11.0), np.array(25.0))
    >>> state, stopped = rule.decide(jnp.asarray(168.0), {"amyloid": jnp.asarray(20.0)}, rule.initial())
    >>> bool(stopped), bool(rule.decide(jnp.asarray(364.0), {"amyloid": jnp.asarray(24.0)}, state)[1])
    (False, True)
    """

    state: str = eqx.field(static=True)
    scans: Float[np.ndarray, " scan"]
    below: np.ndarray
    twice_below: np.ndarray

    @property
    def states(self) -> tuple[str, ...]:
        """Names of what it remembers."""
        return ("scans done", "last scan")

    def initial(self) -> State:
        """Return no scan."""
        return (jnp.zeros(()), jnp.asarray(_NEVER))

    def decide(self, t: Scalar, disease_state: Mapping[str, Scalar], memory: State) -> tuple[State, Bool[Array, ""]]:
        """Scan if one is due, and tell whether treatment ends.

        Raises
        ------
        MismatchError
            If the disease has no such state.
        """
        if self.state not in disease_state:
            raise MismatchError(f"the rule that ends treatment reads {self.state!r}", exists=disease_state)
        now = disease_state[self.state]
        done, last = memory
        due = (jnp.asarray(self.scans) <= t + _EARLY).sum()
        scanned = due > done
        stopped = scanned & ((now < self.below) | ((now < self.twice_below) & (last < self.twice_below)))
        return (jnp.where(scanned, due * 1.0, done), jnp.where(scanned, now, last)), stopped


def rule_of(page: AmyloidStop | None) -> ScanRule | None:
    """Return the rule that a drug file describes, if it does."""
    if page is None:
        return None
    days = np.array(page.scans, dtype=np.float64) * 7
    return ScanRule(page.state, days, np.array(page.below.value), np.array(page.twice_below.value))
