"""Installation qualification: numbers that are known, computed here and now, and whether they agree.

Every case names where its number comes from: certified by NIST, printed by another program, published, or ours on
simulated data, recorded when it was written. A case is one function without arguments that returns a number.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trialtwin.core.errors import TrialTwinError
from trialtwin.core.estimate import Estimate
from trialtwin.engine.manifest import installed_packages, platform_facts
from trialtwin.stats.ancova import LinearFit, least_squares
from trialtwin.stats.cox import cox
from trialtwin.stats.imputation import pool
from trialtwin.stats.logrank import log_rank
from trialtwin.stats.meanmodel import Factor, mean_model
from trialtwin.stats.mmrm import mmrm
from trialtwin.stats.mmrm_result import RepeatedFit
from trialtwin.stats.modelmatrix import continuous_columns, intercept, join
from trialtwin.stats.multiplicity import adjusted_p
from trialtwin.stats.sequential import SequentialDesign, sequential_design
from trialtwin.stats.sequential_analysis import conditional_power
from trialtwin.stats.sequential_spending import Boundary

NIST = "NIST StRD, Norris, certified"
GSDESIGN = "R gsDesign 3.11.0"
SURVIVAL = "R survival; Freireich 1963 as in Cox 1972, doi:10.1111/j.2517-6161.1972.tb00899.x"
MICE = "R mice 3.15.0"
OURS = "trialtwin 0.1.0 on data simulated here"
BY_HAND = "by hand"


@dataclass(frozen=True)
class Case:
    """A number that is known: what it is, where from, how far off is allowed, and how it is computed."""

    name: str
    source: str
    expected: float
    tolerance: float
    compute: Callable[[], float]


@dataclass(frozen=True)
class Checked:
    """A case as it came out; ``found`` is ``None`` where it could not be computed, and ``trouble`` says why."""

    name: str
    source: str
    expected: float
    found: float | None
    difference: float | None
    tolerance: float
    passed: bool
    trouble: str = ""


def qualify() -> list[Checked]:
    """Compute every case and compare, relative to the expected number.

    Examples
    --------
    >>> all(case.passed for case in qualify())
    True
    """
    return [_check(case) for case in CASES]


def environment() -> dict[str, str]:
    """Return what the numbers were computed with."""
    names = ("numpy", "scipy", "jax", "jaxlib", "polars", "trialtwin")
    return {n: v for n, v in installed_packages().items() if n in names} | platform_facts()


def _check(case: Case) -> Checked:
    try:
        found = float(case.compute())
    except TrialTwinError as error:
        return Checked(
            case.name, case.source, case.expected, None, None, case.tolerance, passed=False, trouble=error.what
        )
    off = abs(found - case.expected) / abs(case.expected)
    return Checked(case.name, case.source, case.expected, found, off, case.tolerance, passed=off <= case.tolerance)


def _norris() -> LinearFit:
    y = """0.1 338.8 118.1 888.0 9.2 228.1 668.5 998.5 449.1 778.9 559.2 0.3 0.1 778.1 668.8 339.3 448.9 10.8 557.7
    228.3 998.0 888.8 119.6 0.3 0.6 557.6 339.3 888.0 998.5 778.9 10.2 117.6 228.9 668.4 449.2 0.2"""
    x = """0.2 337.4 118.2 884.6 10.1 226.5 666.3 996.3 448.6 777.0 558.2 0.4 0.6 775.5 666.9 338.0 447.5 11.6 556.0
    228.1 995.8 887.6 120.2 0.3 0.3 556.8 339.1 887.2 999.0 779.0 11.1 118.3 229.2 669.1 448.9 0.5"""
    columns = continuous_columns({"x": np.array(x.split(), dtype=float)})
    return least_squares(join(intercept(36), columns), np.array(y.split(), dtype=float))


def _slope() -> Estimate:
    return _norris().estimate({"x": 1.0}, "x")


def _leukaemia() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weeks of remission, whether it ended, and the arm: 0 is 6-MP, 1 placebo."""
    weeks = """6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+
    1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"""
    cells = weeks.split()
    time = np.array([float(cell.rstrip("+")) for cell in cells])
    return time, np.array([not cell.endswith("+") for cell in cells]), np.repeat([0, 1], 21)


def _cox(ties: str) -> float:
    time, event, arm = _leukaemia()
    return cox(continuous_columns({"placebo": arm.astype(float)}), time, event, ties=ties).coefficient("placebo")


def _design(kind: str, looks: int) -> SequentialDesign:
    return sequential_design(np.arange(1, looks + 1) / looks, Boundary(kind))


def _conditional() -> float:
    plan = sequential_design(np.array([0.5, 0.75, 1.0]), Boundary("O'Brien-Fleming spending"))
    return float(conditional_power(plan, 1, 1.6, 1.6 / np.sqrt(0.5)).sum())


def _pooled() -> float:
    values, errors = np.array([-2.31, -2.05, -2.62, -1.98, -2.44]), np.array([0.93, 0.95, 0.91, 0.97, 0.94])
    return pool(values, errors**2, df_complete=116).df


def _repeated() -> RepeatedFit:
    """Fit a trial of 40 patients and three visits, made of sines, a tenth missing."""
    patient, visit = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    own, noise = np.sin(7.0 * patient), np.sin(13.7 * patient + 5.3 * visit)
    change = 1.0 + visit + 0.8 * (patient % 2) * visit + 2.0 * own + noise
    change[(patient * 7 + visit * 3) % 10 == 0] = np.nan
    factors = {"arm": Factor(("placebo", "active"), patient % 2), "visit": Factor(("1", "2", "3"), visit)}
    return mmrm(mean_model(["arm*visit"], factors=factors), change, subjects=patient, visit="visit")


def _last_visit() -> Estimate:
    return _repeated().difference("arm", "active", "placebo", at={"visit": "3"})


def _spending() -> SequentialDesign:
    return _design("O'Brien-Fleming spending", 3)


def _holm() -> float:
    return float(adjusted_p(np.array([0.01, 0.04, 0.03]), "Holm")[0])


CASES: tuple[Case, ...] = (
    Case("least squares: slope", NIST, 1.00211681802045, 1e-12, lambda: _norris().coefficient("x")),
    Case("least squares: SE of the slope", NIST, 0.000429796848199937, 1e-10, lambda: _slope().se),
    Case("least squares: residual SD", NIST, 0.884796396144373, 1e-12, lambda: _norris().sigma),
    Case(
        "O'Brien–Fleming, 4 looks, u1", GSDESIGN, 4.04859119491726, 1e-5, lambda: _design("O'Brien-Fleming", 4).upper[0]
    ),
    Case("Pocock, 4 looks, u", GSDESIGN, 2.36129968207225, 1e-5, lambda: _design("Pocock", 4).upper[3]),
    Case("Pocock, 4 looks, inflation", GSDESIGN, 1.18313398080607, 1e-5, lambda: _design("Pocock", 4).inflation),
    Case("Lan–DeMets O'Brien–Fleming, 3 looks, u3", GSDESIGN, 1.99304752277194, 1e-5, lambda: _spending().upper[2]),
    Case("conditional power at the trend seen", GSDESIGN, 0.650057953044887, 1e-5, _conditional),
    Case("log-rank χ²", SURVIVAL, 16.793, 1e-5, lambda: log_rank(*_leukaemia()).chi2),
    Case("Cox, Efron: log hazard ratio", SURVIVAL, 1.57213, 1e-5, lambda: _cox("Efron")),
    Case("Cox, Breslow: log hazard ratio", SURVIVAL, 1.50919, 1e-5, lambda: _cox("Breslow")),
    Case("Rubin's rules: Barnard–Rubin df", MICE, 86.501802159017, 1e-10, _pooled),
    Case("Holm: adjusted p of .01 among three", BY_HAND, 0.03, 1e-12, _holm),
    Case("mixed model: −2 REML log L", OURS, 284.72749800050593, 1e-9, lambda: -2 * _repeated().log_likelihood),
    Case("mixed model: effect at the last visit", OURS, 1.620396604786952, 1e-7, lambda: _last_visit().value),
    Case("mixed model: Kenward–Roger SE", OURS, 0.5455861634911163, 1e-7, lambda: _last_visit().se),
)
