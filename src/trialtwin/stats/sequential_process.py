r"""When a test statistic that is looked at repeatedly first crosses its boundaries: by recursive numerical integration.

At look k with information I_k, and drift θ, the score S_k = Z_k √I_k is a Brownian motion with drift,

    S_k − S_{k−1} ~ N(θ (I_k − I_{k−1}), I_k − I_{k−1}).

The density of S_k on the part where no boundary was crossed is carried from look to look by Gauss–Legendre quadrature
(Armitage P, McPherson CK, Rowe BC (1969), doi:10.2307/2343787; Jennison C, Turnbull BW (2000), ch. 19).
"""

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, roots_legendre

from trialtwin.core.errors import ConfigError

_REACH = 9.0  # SDs beyond which the density counts as nothing
_PER_STEP = 6.0  # nodes for each SD of the next step
_FEWEST, _MOST = 60, 1000


class Crossing(NamedTuple):
    """Probability that each boundary is the first to be crossed, at each look."""

    upper: Float[np.ndarray, " look"]
    lower: Float[np.ndarray, " look"]


def require_information(information: Float[np.ndarray, " look"], *, name: str = "information") -> None:
    """Refuse information that does not grow from look to look.

    Raises
    ------
    ConfigError
        Naming the first look at which it does not.
    """
    steps = np.diff(information, prepend=0.0)
    if len(information) == 0 or not np.isfinite(information).all():
        raise ConfigError(f"{name} is {information.tolist()}", do="give one positive number a look")
    bad = np.flatnonzero(steps <= 0)
    if len(bad):
        raise ConfigError(
            f"{name} must grow from look to look: it is {information[bad[0]]:g} at look {bad[0] + 1}",
            where=", ".join(f"{value:g}" for value in information),
            do="give looks in order of time",
        )


def crossing(
    upper: Float[np.ndarray, " look"],
    lower: Float[np.ndarray, " look"],
    information: Float[np.ndarray, " look"],
    drift: float = 0.0,
) -> Crossing:
    """Return with which probability each boundary is crossed first, at each look.

    Parameters
    ----------
    upper, lower : shape (look,)
        Boundaries of Z; infinite where there is none. At a look where they meet, everything is decided.
    information : shape (look,)
        Growing; Z has mean ``drift`` √information.
    drift
        Mean of Z a root of information.

    Raises
    ------
    ConfigError
        If information does not grow, or a lower boundary lies above its upper one.

    Examples
    --------
    >>> never = np.array([-np.inf, -np.inf])
    >>> found = crossing(np.array([2.7965, 1.9774]), never, np.array([0.5, 1.0]))
    >>> round(float(found.upper.sum()), 4)
    0.025
    """
    require_information(information)
    if (lower > upper).any():
        look = int(np.flatnonzero(lower > upper)[0])
        raise ConfigError(f"at look {look + 1} the lower boundary {lower[look]:g} is above the upper {upper[look]:g}")
    above, below = np.zeros(len(upper)), np.zeros(len(upper))
    walk = Walk(drift)
    for k, now in enumerate(information.tolist()):
        above[k], below[k] = walk.leaves(now, float(lower[k]), float(upper[k]))
        if k + 1 < len(upper):
            walk = walk.on(now, float(lower[k]), float(upper[k]), float(information[k + 1]))
    return Crossing(above, below)


@dataclass(frozen=True, eq=False)
class Walk:
    """The score of a test that was not stopped so far: the density at the last look as nodes with their mass."""

    drift: float
    information: float = 0.0
    nodes: Float[np.ndarray, " node"] = field(default_factory=lambda: np.zeros(1))
    mass: Float[np.ndarray, " node"] = field(default_factory=lambda: np.ones(1))

    def leaves(self, now: float, lower: float, upper: float) -> tuple[float, float]:
        """Return the probability to lie above and below boundaries of Z at the next look."""
        step = now - self.information
        root, middle = np.sqrt(step), self.nodes + self.drift * step
        above = self.mass @ ndtr((middle - upper * np.sqrt(now)) / root)
        return float(above), float(self.mass @ ndtr((lower * np.sqrt(now) - middle) / root))

    def on(self, now: float, lower: float, upper: float, after: float) -> "Walk":
        """Return the walk between boundaries of Z at the next look; ``after`` is the information at the one after."""
        step = now - self.information
        root, middle = np.sqrt(step), self.nodes + self.drift * step
        centre, spread = self.drift * now, _REACH * np.sqrt(now)
        low, high = max(lower * np.sqrt(now), centre - spread), min(upper * np.sqrt(now), centre + spread)
        if not high > low:
            return Walk(self.drift, now, np.array([0.5 * (low + high)]), np.zeros(1))
        # fine enough for this step and for the next one
        count = int(np.clip(_PER_STEP * (high - low) / min(root, np.sqrt(after - now)), _FEWEST, _MOST))
        x, w = _legendre(count)
        nodes = 0.5 * (high - low) * x + 0.5 * (high + low)
        density = np.exp(-0.5 * ((nodes[:, None] - middle) / root) ** 2) @ self.mass / (root * np.sqrt(2 * np.pi))
        return Walk(self.drift, now, nodes, 0.5 * (high - low) * w * density)


@cache
def _legendre(count: int) -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, " node"]]:
    """Return nodes and weights of Gauss–Legendre quadrature on [−1, 1]."""
    x, w = roots_legendre(count)
    return np.asarray(x), np.asarray(w)
