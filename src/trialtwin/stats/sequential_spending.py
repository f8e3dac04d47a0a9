r"""How the error of a group-sequential test is spent over information: spending functions and boundary families.

Spent by the fraction t of the final information, of an error α on one side:

    Lan–DeMets O'Brien–Fleming   2 (1 − Φ(z_{1−α/2} / √t))           Lan–DeMets Pocock   α log(1 + (e − 1) t)
    Hwang–Shih–DeCani            α (1 − e^{−γt}) / (1 − e^{−γ})      power               α t^ρ

Boundary families with one constant c:  O'Brien–Fleming c/√t,  Pocock c,  Wang–Tsiatis c t^{Δ − 1/2}.

Sources: Lan KKG, DeMets DL (1983), doi:10.1093/biomet/70.3.659; Hwang IK, Shih WJ, DeCani JS (1990),
doi:10.1002/sim.4780091207; Wang SK, Tsiatis AA (1987), doi:10.2307/2531959; O'Brien PC, Fleming TR (1979),
doi:10.2307/2530245; Pocock SJ (1977), doi:10.1093/biomet/64.2.191.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from trialtwin.core.errors import ConfigError

type Fraction = Float[np.ndarray, " look"]

SPENDING = ("O'Brien-Fleming spending", "Pocock spending", "Hwang-Shih-DeCani", "power")
FAMILIES = ("O'Brien-Fleming", "Pocock", "Wang-Tsiatis")
BOUNDARIES = (*FAMILIES, *SPENDING)
_PARAMETER = {"Hwang-Shih-DeCani": "γ", "power": "ρ", "Wang-Tsiatis": "Δ"}


@dataclass(frozen=True)
class Boundary:
    """A kind of boundary, with its parameter where it has one.

    Parameters
    ----------
    kind
        One of ``BOUNDARIES``.
    parameter
        γ of Hwang–Shih–DeCani, ρ of the power family, Δ of Wang–Tsiatis.

    Raises
    ------
    ConfigError
        If there is no such kind, or its parameter is missing, not wanted, or out of range.
    """

    kind: str
    parameter: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in BOUNDARIES:
            raise ConfigError(f"no boundary {self.kind!r}", exists=BOUNDARIES)
        symbol = _PARAMETER.get(self.kind)
        if (symbol is None) != (self.parameter is None):
            raise ConfigError(
                f"{self.kind} needs its parameter {symbol}" if symbol else f"{self.kind} has no parameter"
            )
        if self.kind == "power" and self.parameter is not None and not self.parameter > 0:
            raise ConfigError(f"a power of {self.parameter:g} does not spend", do="give ρ above 0")

    @property
    def spends(self) -> bool:
        """Whether it is a spending function and not a family of boundaries."""
        return self.kind in SPENDING

    def spent(self, fraction: Fraction, error: float) -> Fraction:
        """Return the error spent up to each fraction of the information; all of it from 1 on.

        Examples
        --------
        >>> Boundary("Pocock spending").spent(np.array([0.5, 1.0]), 0.025).round(5)
        array([0.0155, 0.025 ])
        """
        t = np.minimum(fraction, 1.0)
        functions: dict[str, Callable[[], Fraction]] = {
            "O'Brien-Fleming spending": lambda: 2 * ndtr(-ndtri(1 - error / 2) / np.sqrt(t)),
            "Pocock spending": lambda: error * np.log1p(np.expm1(1.0) * t),
            "Hwang-Shih-DeCani": lambda: _hwang(t, error, self.parameter or 0.0),
            "power": lambda: error * t ** (self.parameter or 1.0),
        }
        return np.asarray(functions[self.kind]())

    def shape(self, fraction: Fraction) -> Fraction:
        """Return the boundary of a family for c = 1."""
        power = {"O'Brien-Fleming": -0.5, "Pocock": 0.0}.get(self.kind, (self.parameter or 0.0) - 0.5)
        return np.asarray(fraction**power)


def _hwang(t: Fraction, error: float, gamma: float) -> Fraction:
    return error * t if gamma == 0 else error * np.expm1(-gamma * t) / np.expm1(-gamma)
