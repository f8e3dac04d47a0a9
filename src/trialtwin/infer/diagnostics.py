"""Whether draws and estimates can be relied upon: convergence of chains, and parameters that the data do not inform."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri
from scipy.stats import rankdata

from trialtwin.core.errors import ConvergenceError

RHAT = 1.01  # Vehtari et al. 2021
ESS_PER_CHAIN = 100.0  # likewise
ENERGY = 0.3  # Betancourt 2016, arXiv:1604.00695
DIVERGENT = 0.0
CONTRACTION = 0.1
FLAT = 1e-3  # eigenvalue of the correlation of estimates, smallest over largest


@dataclass(frozen=True)
class Diagnostic:
    """One check: its name, what was found, whether it holds, and a sentence."""

    name: str
    value: float
    good: bool
    says: str


def split_chains(draws: Float[np.ndarray, "chain draw"]) -> Float[np.ndarray, "half piece"]:
    """Cut every chain in two halves, so that a drift within a chain shows as a difference between them."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]])


def _ranked(draws: Float[np.ndarray, "chain draw"]) -> Float[np.ndarray, "chain draw"]:
    """Return normal scores of ranks (Blom)."""
    ranks = rankdata(draws, axis=None).reshape(draws.shape)
    return np.asarray(ndtri((ranks - 0.375) / (draws.size + 0.25)))


def _plain_rhat(draws: Float[np.ndarray, "chain draw"]) -> float:
    """Return √((W (n−1)/n + B/n) / W)."""
    n = draws.shape[1]
    within = draws.var(axis=1, ddof=1).mean()
    between = draws.mean(axis=1).var(ddof=1)
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return float(np.sqrt((n - 1) / n + between / within))


def rhat(draws: Float[np.ndarray, "chain draw"]) -> float:
    """Return the rank-normalised split R-hat: the larger of that of the draws and of their distances to the median.

    References
    ----------
    Vehtari A, Gelman A, Simpson D, Carpenter B, Bürkner PC (2021), doi:10.1214/20-BA1221.

    Examples
    --------
    >>> import numpy as np
    >>> same = np.random.default_rng(0).normal(size=(4, 500))
    >>> rhat(same) < 1.01, rhat(same + np.arange(4)[:, None]) > 1.5
    (True, True)
    """
    halves = split_chains(draws)
    folded = np.abs(halves - np.median(halves))
    return max(_plain_rhat(_ranked(halves)), _plain_rhat(_ranked(folded)))


def _effective(halves: Float[np.ndarray, "half draw"]) -> float:
    """Return the effective number of draws by Geyer's initial monotone sequence."""
    chains, n = halves.shape
    gap = halves - halves.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(gap, n=2 * n, axis=1)) ** 2
    covariance = np.fft.irfft(power, axis=1)[:, :n] / n
    within = covariance[:, 0].mean() * n / (n - 1)
    total = within * (n - 1) / n + (halves.mean(axis=1).var(ddof=1) if chains > 1 else 0.0)
    if total == 0:
        return float("nan")
    correlation = 1 - (within - covariance.mean(axis=0) * n / (n - 1)) / total
    correlation[0] = 1.0
    even = n - n % 2
    pairs = correlation[:even:2] + correlation[1:even:2]
    stop = int(np.argmax(pairs < 0)) if (pairs < 0).any() else len(pairs)
    tau = -1 + 2 * np.minimum.accumulate(pairs[: max(stop, 1)]).sum()
    return float(chains * n / max(tau, 1 / np.log10(chains * n)))


def bulk_ess(draws: Float[np.ndarray, "chain draw"]) -> float:
    """Return the effective number of draws for the middle of a distribution.

    Examples
    --------
    >>> import numpy as np
    >>> bool(abs(bulk_ess(np.random.default_rng(0).normal(size=(4, 1000))) / 4000 - 1) < 0.15)
    True
    """
    return _effective(_ranked(split_chains(draws)))


def tail_ess(draws: Float[np.ndarray, "chain draw"]) -> float:
    """Return the effective number of draws for the 5 % and 95 % quantiles, the smaller of both."""
    halves = split_chains(draws)
    return min(_effective((halves <= np.quantile(draws, q)).astype(float)) for q in (0.05, 0.95))


def energy_fraction(energy: Float[np.ndarray, "chain draw"]) -> float:
    """Return the lowest E-BFMI of the chains: Σ(Eₙ − Eₙ₋₁)² / Σ(Eₙ − Ē)²."""
    moves = (np.diff(energy, axis=1) ** 2).sum(axis=1)
    return float((moves / ((energy - energy.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)).min())


def check_chains(
    draws: Float[np.ndarray, "chain draw parameter"],
    names: Sequence[str],
    divergences: int,
    energy: Float[np.ndarray, "chain draw"],
) -> tuple[Diagnostic, ...]:
    """Return what is to be known of chains: R-hat, effective numbers, divergences, energy."""
    found = {
        kind: np.array([rule(draws[..., k]) for k in range(len(names))])
        for kind, rule in (("R-hat", rhat), ("bulk ESS", bulk_ess), ("tail ESS", tail_ess))
    }
    needed = ESS_PER_CHAIN * draws.shape[0]
    worst = int(np.nanargmax(found["R-hat"]))
    checks = [
        Diagnostic(
            "R-hat", float(found["R-hat"][worst]), bool(found["R-hat"][worst] <= RHAT), f"highest for {names[worst]}"
        )
    ]
    for kind in ("bulk ESS", "tail ESS"):
        low = int(np.nanargmin(found[kind]))
        value = float(found[kind][low])
        checks.append(Diagnostic(kind, value, value >= needed, f"lowest for {names[low]}, needed {needed:.0f}"))
    checks.append(Diagnostic("divergences", divergences, divergences <= DIVERGENT, "transitions that went astray"))
    fraction = energy_fraction(energy)
    checks.append(Diagnostic("E-BFMI", fraction, fraction >= ENERGY, f"needed {ENERGY}"))
    return tuple(checks)


def require(checks: Sequence[Diagnostic], *, do: str) -> None:
    """Refuse unless every check holds.

    Raises
    ------
    ConvergenceError
        If one does not; the message lists them.
    """
    bad = [check for check in checks if not check.good]
    if bad:
        raise ConvergenceError(
            "the fit did not converge: " + "; ".join(f"{c.name} {c.value:.4g} ({c.says})" for c in bad), do=do
        )


def contraction(
    prior_sd: Float[np.ndarray, " parameter"], posterior_sd: Float[np.ndarray, " parameter"]
) -> Float[np.ndarray, " parameter"]:
    """Return 1 − (posterior SD / prior SD)²: 0 where the data say nothing, 1 where they say all.

    Examples
    --------
    >>> import numpy as np
    >>> contraction(np.array([1.0, 1.0]), np.array([1.0, 0.1])).round(2).tolist()
    [0.0, 0.99]
    """
    return 1 - (posterior_sd / prior_sd) ** 2


def uninformed(
    names: Sequence[str], prior_sd: Float[np.ndarray, " parameter"], posterior_sd: Float[np.ndarray, " parameter"]
) -> tuple[str, ...]:
    """Name the parameters whose posterior is as wide as their prior: contraction below 0.1."""
    share = contraction(prior_sd, posterior_sd)
    return tuple(name for name, value in zip(names, share, strict=True) if value < CONTRACTION)


def flattest(
    names: Sequence[str], covariance: Float[np.ndarray, "parameter parameter"]
) -> tuple[float, tuple[str, ...]]:
    """Return the condition number of estimates' correlation, and the parameters in its flattest direction.

    The condition number is the largest over the smallest eigenvalue, as NONMEM reports it; parameters count whose
    share of the direction exceeds 0.3.

    Examples
    --------
    >>> import numpy as np
    >>> number, along = flattest(["a", "b", "c"], np.array([[1, 0.999, 0], [0.999, 1, 0], [0, 0, 1.0]]))
    >>> round(number), along
    (1999, ('a', 'b'))
    """
    sd = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(sd, sd))
    along = np.abs(vectors[:, -1])
    number = float(values[-1] / values[0]) if values[0] > 0 else float("inf")
    return number, tuple(names[i] for i in range(len(names)) if along[i] > 0.3)
