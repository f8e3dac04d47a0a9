"""LDL cholesterol under a statin, as simulated to compare synthetic twins.

    P' = Kin(t) − K P;   R' = K P − (D/(D + D50)) K R;   D' = O(t) − H D;   R is the outcome

K = 0.18, H = 0.1, D50 = 0.1, P and R start at 0.5; Kin is a series of six Chebyshev polynomials, constant within a day,
with N(0, 1) coefficients of which a cluster keeps some; O is 1 from the day on which treatment starts. Seen of every
unit are Kin, P and R before treatment and R after it, standardised over all units and days, with N(0, 0.1) noise.

Qian et al. (2021), SyncTwin, doi:10.48550/arXiv.2111.08815, and the code that was published with it.
"""

from dataclasses import dataclass

import numpy as np

TERMS = 6
K, H, D50, START = 0.18, 0.1, 0.1, 0.5
NOISE = 0.1
SUBSTEPS = 40


@dataclass(frozen=True)
class Design:
    """A cell of the published table: how many controls, which share is of the treated cluster, and the days."""

    controls: int
    share: float
    treated: int = 200
    before: int = 25
    days: int = 30


@dataclass(frozen=True, eq=False)
class Fold:
    """What is seen of units, controls first, and the truth.

    ``history`` has shape (unit, day, 3): Kin, P, R before treatment; ``outcome`` has shape (unit, day): R after it.
    ``effect``, of the treated units, is R treated minus R untreated, without noise, in the same units. ``mean`` and
    ``sd`` are those by which Kin, P and R were standardised.
    """

    history: np.ndarray
    outcome: np.ndarray
    treated: np.ndarray
    effect: np.ndarray
    mean: np.ndarray
    sd: np.ndarray


def chebyshev(days: int) -> np.ndarray:
    """Return the series' terms on days 0..days, shape (day, term)."""
    x = np.arange(days + 1) / days
    columns = [np.ones(days + 1), x]
    while len(columns) < TERMS:
        columns.append(2 * x * columns[-1] - columns[-2])
    return np.stack(columns, axis=-1)


def respond(
    inflow: np.ndarray,
    start: tuple[float, float] | np.ndarray = (START, START),
    rates: tuple[float, float, float] = (K, H, D50),
    treated_from: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return P and R on days 1..days for inflows of shape (unit, days + 1), each constant within its day.

    P and D are exact; R is by Runge and Kutta's fourth order with 40 steps a day, 2e-7 off on treatment's first day.
    """
    k, h, d50 = rates
    units, days = inflow.shape[0], inflow.shape[1] - 1
    p, r = (np.broadcast_to(np.asarray(s, dtype=float), (units,)).copy() for s in np.moveaxis(np.asarray(start), -1, 0))
    out = np.empty((2, units, days))
    step = 1 / SUBSTEPS
    half = np.exp(-k * step / 2)
    for day in range(days):
        rest = inflow[:, day] / k
        for sub in range(SUBSTEPS):
            time = day + sub * step
            p1 = rest + (p - rest) * half
            p2 = rest + (p1 - rest) * half
            s0, s1, s2 = (_inhibition(time + f * step, treated_from, h, d50) for f in (0.0, 0.5, 1.0))
            a = k * (p - s0 * r)
            b = k * (p1 - s1 * (r + step / 2 * a))
            c = k * (p1 - s1 * (r + step / 2 * b))
            d = k * (p2 - s2 * (r + step * c))
            r = r + step / 6 * (a + 2 * b + 2 * c + d)
            p = p2
        out[:, :, day] = p, r
    return out[0], out[1]


def _inhibition(time: float, treated_from: int | None, h: float, d50: float) -> float:
    """Return D/(D + D50)."""
    if treated_from is None or time <= treated_from:
        return 0.0
    level = (1 - np.exp(-h * (time - treated_from))) / h
    return level / (level + d50)


def simulate_fold(design: Design, rng: np.random.Generator) -> Fold:
    """Return controls (a share from the treated cluster) and treated units (all from it), and the truth."""
    terms = chebyshev(design.days)
    same = round(design.controls * design.share)
    cluster = np.repeat([0, 1, 0], [same, design.controls - same, design.treated])
    masks = np.zeros((2, TERMS))
    for i in range(2):
        masks[i, i:-1:4] = 1.0
    inflow = (rng.standard_normal((len(cluster), TERMS)) * masks[cluster]) @ terms.T
    treated = np.arange(len(cluster)) >= design.controls
    p, untreated = respond(inflow)
    r = untreated.copy()
    _, r[treated] = respond(inflow[treated], treated_from=design.before)
    whole = np.stack([inflow[:, : design.days], p, r], axis=-1)
    mean, sd = whole.mean((0, 1)), whole.std((0, 1), ddof=1)
    seen = (whole - mean) / sd + NOISE * rng.standard_normal(whole.shape)
    effect = ((r - untreated) / sd[2])[treated, design.before :]
    return Fold(seen[:, : design.before], seen[:, design.before :, 2], treated, effect, mean, sd)


def simulate(design: Design, seed: int) -> tuple[Fold, Fold, Fold]:
    """Return the test, validation and training folds, each drawn anew, in the published order."""
    rng = np.random.default_rng([seed, design.controls, round(100 * design.share), design.before])
    return simulate_fold(design, rng), simulate_fold(design, rng), simulate_fold(design, rng)
