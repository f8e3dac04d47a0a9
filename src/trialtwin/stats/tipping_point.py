r"""The shift of imputed values at which the conclusion of a trial turns.

Imputed values are moved by δ₀ in the reference arm and by δ₁ in the other, in the unit of the outcome, and the effect
is tested again: the conclusion is that it is above 0, below 0, or neither, by a two-sided p against α. Over a grid of
shifts the conclusion is compared with that without a shift. Along one arm the shift at which it turns, p(δ) = α, is
then found between the two points of the grid nearest to 0 that differ; a conclusion that turns and returns between two
points is not seen.

The imputation is not done again: only what was imputed moves.

Source: Ratitch B, O'Kelly M, Tosiello R (2013), doi:10.1002/pst.1549.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq

from trialtwin.core.arrays import frozen, require_finite
from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimate
from trialtwin.stats.multiple_imputation import MultiplyImputed
from trialtwin.stats.reference_imputation import Imputed

_NAMES = {1: "above 0", 0: "not different from 0", -1: "below 0"}


@dataclass(frozen=True, eq=False)
class Tipping:
    """What became of the effect under each shift; immutable.

    Parameters
    ----------
    shift_reference : shape (row,)
        Shifts of the reference arm.
    shift_other : shape (column,)
        Shifts of the other arm.
    effect, p : shape (row, column)
        Other minus reference, and two-sided p-values.
    turned : shape (row, column)
        Where the conclusion differs from that without a shift.
    unshifted
        The estimate without a shift.
    delta
        The shift nearest to 0 at which the conclusion turns, where one arm was shifted, or ``None``: it does not turn
        in the range, or two arms were shifted.
    statement
        The result in a sentence.
    """

    shift_reference: Float[np.ndarray, " row"]
    shift_other: Float[np.ndarray, " column"]
    effect: Float[np.ndarray, "row column"]
    p: Float[np.ndarray, "row column"]
    turned: Bool[np.ndarray, "row column"]
    unshifted: Estimate
    delta: float | None
    statement: str

    def __post_init__(self) -> None:
        for name in ("shift_reference", "shift_other", "effect", "p", "turned"):
            object.__setattr__(self, name, frozen(getattr(self, name)))


def tipping_point(
    imputed: Imputed | MultiplyImputed,
    visit: int,
    *,
    shift_other: Sequence[float],
    shift_reference: Sequence[float] = (0.0,),
    alpha: float = 0.05,
) -> Tipping:
    """Shift what was imputed by a grid of δ, and find where the conclusion turns.

    Parameters
    ----------
    imputed
        From ``conditional_mean``, ``multiple_imputation`` or ``retrieved_dropout``.
    visit
        Visit whose effect is concluded from.
    shift_other, shift_reference
        Shifts of each arm, growing, in the unit of the outcome, 0 within their range. Where only one arm has a range,
        the tipping shift is found between its points.
    alpha
        Two-sided level of the conclusion.

    Raises
    ------
    ConfigError
        If shifts do not grow or their range does not hold 0, if the level is not between 0 and 1, or if there is no
        such visit or nothing was imputed there.

    Examples
    --------
    >>> from trialtwin.stats.reference_imputation import conditional_mean
    >>> rng = np.random.default_rng(0)
    >>> arm, base = np.arange(60) % 2, rng.normal(size=(60, 1))
    >>> y = base + rng.normal(size=(60, 2)) + arm[:, None] * [1.0, 1.5]
    >>> y[(arm == 1) & (rng.random(60) < 0.4), 1] = np.nan
    >>> tipping_point(conditional_mean(y, arm, base), 1, shift_other=[-6.0, 0.0]).turned.tolist()
    [[True, False]]
    """
    grid = {"reference": np.asarray(shift_reference, float), "other": np.asarray(shift_other, float)}
    _require(imputed, visit, grid, alpha)

    def at(reference: float, other: float) -> Estimate:
        shifts = np.where(imputed.plan.other, other, reference)
        return imputed.shifted(shifts).estimate(visit, contrast="other − reference", level=1 - alpha)

    unshifted = at(0.0, 0.0)
    found = [[at(a, b) for b in grid["other"].tolist()] for a in grid["reference"].tolist()]
    first = _conclusion(unshifted, alpha)
    turned = np.array([[_conclusion(one, alpha) != first for one in row] for row in found])
    along = [name for name in grid if len(grid[name]) > 1]
    delta = None
    if len(along) == 1:
        delta = _nearest(lambda shift: at(**{"reference": 0.0, "other": 0.0, along[0]: shift}), grid[along[0]], alpha)
    effect, p = (np.array([[getattr(one, name) for one in row] for row in found]) for name in ("value", "p"))
    statement = _statement(grid, along, turned, delta, unshifted, alpha)
    return Tipping(grid["reference"], grid["other"], effect, p, turned, unshifted, delta, statement)


def _require(
    imputed: Imputed | MultiplyImputed, visit: int, grid: Mapping[str, Float[np.ndarray, " _"]], alpha: float
) -> None:
    """Refuse shifts, levels and visits from which nothing can be learned."""
    if not 0 < alpha < 1:
        raise ConfigError(f"a level of {alpha:g}", do="give the two-sided level, such as 0.05")
    for name, shifts in grid.items():
        require_finite(f"the shifts of the {name} arm", shifts)
        if len(shifts) == 0 or (np.diff(shifts) <= 0).any() or not shifts[0] <= 0 <= shifts[-1]:
            raise ConfigError(
                f"shifts of the {name} arm: {shifts.tolist()}", do="give growing numbers with 0 in their range"
            )
    missing = imputed.plan.missing
    if not 0 <= visit < missing.shape[1]:
        raise ConfigError(f"no visit {visit}", exists=[str(k) for k in range(missing.shape[1])])
    for name, own in (("reference", ~imputed.plan.other), ("other", imputed.plan.other)):
        if len(grid[name]) > 1 and not missing[own, visit].any():
            raise ConfigError(f"nothing was imputed in the {name} arm at visit {visit}", do="shift the other arm only")


def _conclusion(one: Estimate, alpha: float) -> int:
    return int(np.sign(one.value)) if one.p < alpha else 0


def _nearest(at: Callable[[float], Estimate], shifts: Float[np.ndarray, " shift"], alpha: float) -> float | None:
    """Return the shift nearest to 0 at which the conclusion turns, or ``None``."""
    first = _conclusion(at(0.0), alpha)

    def margin(shift: float) -> float:
        one = at(shift)
        if first == 0:
            return one.p - alpha
        return alpha - (one.p if np.sign(one.value) == first else 2 - one.p)

    found = []
    for side in (shifts[shifts > 0], shifts[shifts < 0][::-1]):
        before = 0.0
        for shift in side.tolist():
            if _conclusion(at(shift), alpha) != first:
                found.append(float(brentq(margin, before, shift, xtol=1e-9)))
                break
            before = shift
    return min(found, key=abs) if found else None


def _statement(
    grid: Mapping[str, Float[np.ndarray, " _"]],
    along: Sequence[str],
    turned: Bool[np.ndarray, "row column"],
    delta: float | None,
    unshifted: Estimate,
    alpha: float,
) -> str:
    """Say what was found."""
    concluded = _NAMES[_conclusion(unshifted, alpha)]
    said = f"Without a shift the effect is {unshifted.value:.4g}, {concluded} (p = {unshifted.p:.3g})"
    ranges = " and ".join(f"{grid[name][0]:g} to {grid[name][-1]:g} in the {name} arm" for name in along)
    if delta is not None:
        return f"{said}; the conclusion turns where imputed values of the {along[0]} arm are shifted by {delta:.4g}."
    if turned.any():
        return f"{said}; the conclusion turns under {int(turned.sum())} of {turned.size} shifts, {ranges}."
    return f"{said}; the conclusion does not turn under shifts of {ranges}."
