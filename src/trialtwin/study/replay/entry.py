"""Patients at entry: a fixed set of virtual patients whose means, SDs and cuts are those that a trial describes.

Scores come from a scrambled Sobol sequence, so that averages over a few hundred patients are smooth in the parameters
and nearly free of Monte-Carlo error. Severity has the law of the first clinical scale that is given. Tau follows
severity as it does among amyloid-positive patients with early symptoms (correlation 0.35), and is then cut by the
entry criterion. Amyloid has its own law, tied to tau (0.15) and severity (0.05).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, special, stats
from scipy.stats import qmc

from trialtwin.core.errors import ConfigError
from trialtwin.study.replay.endpoints import canonical
from trialtwin.study.replay.spec import Apoe4, Law, Population, Tau

SEVERITY_BY = ("CDR-SB", "ADAS-Cog13", "ADAS-Cog14", "ADAS-Cog11", "MMSE", "iADRS", "ADCS-iADL", "ADCS-MCI-ADL")
OWN_SCORES = 10  # severity, tau, amyloid, capacity, rate, APOE4, sex, age, weight, and one to spare
TREATMENT_SCORES = 10
SEVERITY_MEAN, SEVERITY_SD = -1.5, 0.55  # logit CDR-SB/18 of the patients to whom the law of tau refers
TAU_SEVERITY, TAU_AMYLOID, SEVERITY_AMYLOID = 0.35, 0.15, 0.05
# of amyloid-positive patients with early symptoms about three quarters have neocortical tau by PET, and about a third
# of those a high burden (31.9 % of TRAILBLAZER-ALZ 2)
TAU_CUTS = {"none": (-np.inf, np.inf), "positive": (-0.67, np.inf), "low/medium": (-0.67, 0.71), "high": (0.71, np.inf)}
FLOOR, CEILING = 0.1, 17.9  # CDR-SB: severity on the logit needs both ends open

ASSUMED = Population(
    age=Law(mean=72.0, sd=7.5, min=50, max=90),
    weight=Law(mean=71.0, sd=15.0, min=40, max=130),
    female=0.53,
    apoe4=Apoe4(carrier=0.65),
    amyloid=Law(mean=80.0, sd=38.0),
    tau=Tau(),
)


@dataclass(frozen=True, eq=False)
class Entry:
    """Patients at entry, one array a quantity; ``tau`` in SD, ``severity`` on the logit of CDR-SB / 18.

    ``starts`` holds the mean of each clinical scale at entry, where the trial gives it.
    """

    age: Float[np.ndarray, " patient"]
    weight: Float[np.ndarray, " patient"]
    female: Float[np.ndarray, " patient"]
    alleles: Float[np.ndarray, " patient"]
    amyloid: Float[np.ndarray, " patient"]
    tau: Float[np.ndarray, " patient"]
    severity: Float[np.ndarray, " patient"]
    capacity: Float[np.ndarray, " patient"]
    rate: Float[np.ndarray, " patient"]
    treatment: Float[np.ndarray, "patient effect"]
    starts: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.age)


def complete(*layers: Population) -> Population:
    """Lay populations over one another, the last on top, and fill what none of them says from stated assumptions."""
    content: dict[str, object] = {}
    scores: dict[str, Law] = {}
    for layer in (ASSUMED, *layers):
        content |= {key: getattr(layer, key) for key in type(layer).model_fields if getattr(layer, key) is not None}
        scores |= {canonical(name): law for name, law in layer.scores.items()}
    return Population.model_validate({**content, "scores": scores})


def draw_entry(population: Population, count: int, *, seed: int, where: str, invert: Mapping[str, object]) -> Entry:
    """Draw patients who fit a population.

    Parameters
    ----------
    population
        Complete: see ``complete``.
    count
        How many; a power of two keeps the sequence balanced.
    seed
        Of the sequence's scrambling.
    where
        What to name in errors.
    invert
        By clinical scale, a function from scores to severity on the logit.

    Raises
    ------
    ConfigError
        If no scale says how severe patients are, or no law has such a mean and SD between its ends.
    """
    sequence = qmc.Sobol(OWN_SCORES + TREATMENT_SCORES, rng=np.random.default_rng(seed))
    uniform = np.clip(sequence.random(count), 1e-6, 1 - 1e-6)
    normal = stats.norm.ppf(uniform)
    named = next((name for name in SEVERITY_BY if name in population.scores), None)
    if named is None:
        raise ConfigError(
            "the population does not say how severe patients are",
            where=f"{where}: [population.scores]",
            exists=SEVERITY_BY,
            do="give mean and sd of one of these scales at entry",
        )
    score = quantiles(population.scores[named], uniform[:, 0], _bounds(named), f"{where}: scores.{named}")
    severity = np.clip(invert[named](score), special.logit(FLOOR / 18), special.logit(CEILING / 18))  # type: ignore[operator]
    tau = _tau(population.tau or Tau(), severity, uniform[:, 1], where)
    shares = np.cumsum((population.apoe4 or Apoe4(carrier=0.65)).shares)
    return Entry(
        age=_drawn(population.age, uniform[:, 7], f"{where}: age"),
        weight=_drawn(population.weight, uniform[:, 8], f"{where}: weight"),
        female=(uniform[:, 6] < (population.female or 0.0)).astype(float),
        alleles=np.searchsorted(shares[:2], uniform[:, 5]).astype(float),
        amyloid=_amyloid(population.amyloid, severity, tau, normal[:, 2], where),
        tau=tau,
        severity=severity,
        capacity=normal[:, 3],
        rate=normal[:, 4],
        treatment=normal[:, OWN_SCORES:],
        starts={name: law.mean for name, law in population.scores.items()},
    )


def quantiles(
    law: Law, share: Float[np.ndarray, " patient"], bounds: tuple[float, float], where: str
) -> Float[np.ndarray, " patient"]:
    """Return quantiles of the normal law, cut at the entry criteria, whose mean and SD after the cut are those given.

    Raises
    ------
    ConfigError
        If there is none: the SD is too large for how near the mean stands to an end.

    Examples
    --------
    >>> import numpy as np
    >>> from trialtwin.study.replay.spec import Law
    >>> middle = (np.arange(4000) + 0.5) / 4000
    >>> drawn = quantiles(Law(mean=3.2, sd=1.34, min=0.5), middle, (0.0, 18.0), "CDR-SB")
    >>> round(float(drawn.mean()), 2), round(float(drawn.std()), 2), bool(drawn.min() >= 0.5)
    (3.2, 1.34, True)
    """
    low = bounds[0] if law.min is None else max(law.min, bounds[0])
    high = bounds[1] if law.max is None else min(law.max, bounds[1])

    def cut(parameters: Float[np.ndarray, " 2"]) -> tuple[float, float, float, float]:
        centre, spread = law.mean + law.sd * parameters[0], law.sd * np.exp(np.clip(parameters[1], -3.0, 3.5))
        return (low - centre) / spread, (high - centre) / spread, centre, spread

    def miss(parameters: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " 2"]:
        mean, variance = stats.truncnorm.stats(*cut(parameters))
        return np.array([(float(mean) - law.mean) / law.sd, np.sqrt(float(variance)) / law.sd - 1])

    found = optimize.least_squares(miss, np.zeros(2), bounds=([-40.0, -3.0], [40.0, 3.4]))
    if not np.isfinite(found.fun).all() or np.abs(found.fun).max() > 0.01:
        raise ConfigError(
            f"no bell-shaped law between {low:g} and {high:g} has mean {law.mean:g} and SD {law.sd:g}",
            where=where,
            do="look at min and max (criteria at screening need not hold at baseline), or give a smaller sd",
        )
    return np.asarray(stats.truncnorm.ppf(share, *cut(found.x)), dtype=float)


def _drawn(law: Law | None, share: Float[np.ndarray, " patient"], where: str) -> Float[np.ndarray, " patient"]:
    if law is None:
        raise ConfigError("a law is missing", where=where, do="complete the population first")
    return quantiles(law, share, (0.0, np.inf), where)


def _tau(
    tau: Tau, severity: Float[np.ndarray, " patient"], share: Float[np.ndarray, " patient"], where: str
) -> Float[np.ndarray, " patient"]:
    """Tau in SD given severity, cut by the criterion: the exact conditional law after selection."""
    low, high = TAU_CUTS[tau.criterion]
    low, high = max(low, -np.inf if tau.min is None else tau.min), min(high, np.inf if tau.max is None else tau.max)
    if low >= high:
        raise ConfigError(f"no tau between {low:g} and {high:g}", where=f"{where}: tau", do="look at min and max")
    centre = tau.shift + TAU_SEVERITY * np.clip((severity - SEVERITY_MEAN) / SEVERITY_SD, -2.5, 2.5)
    spread = np.sqrt(1 - TAU_SEVERITY**2)
    return np.asarray(
        stats.truncnorm.ppf(share, (low - centre) / spread, (high - centre) / spread, centre, spread), dtype=float
    )


def _amyloid(
    law: Law | None,
    severity: Float[np.ndarray, " patient"],
    tau: Float[np.ndarray, " patient"],
    score: Float[np.ndarray, " patient"],
    where: str,
) -> Float[np.ndarray, " patient"]:
    """Amyloid with its own law exactly, and its correlations with tau and severity by ranks."""
    if law is None:
        raise ConfigError("a law is missing", where=f"{where}: amyloid", do="complete the population first")
    by_tau = (tau - tau.mean()) / max(tau.std(), 1e-9)
    by_severity = (severity - severity.mean()) / max(severity.std(), 1e-9)
    weights = np.linalg.solve(
        np.array([[1, TAU_SEVERITY], [TAU_SEVERITY, 1]]), np.array([TAU_AMYLOID, SEVERITY_AMYLOID])
    )
    left = np.sqrt(1 - weights @ np.array([TAU_AMYLOID, SEVERITY_AMYLOID]))
    mixed = weights[0] * by_tau + weights[1] * by_severity + left * score
    ranks = (stats.rankdata(mixed, method="ordinal") - 0.5) / len(mixed)
    return quantiles(law, ranks, (-60.0, 300.0), f"{where}: amyloid")


def _bounds(scale: str) -> tuple[float, float]:
    """Return the ends of a scale."""
    ends = {"CDR-SB": 18.0, "ADAS-Cog11": 70.0, "ADAS-Cog13": 85.0, "ADAS-Cog14": 90.0, "MMSE": 30.0}
    return 0.0, ends.get(scale, {"ADCS-MCI-ADL": 53.0, "ADCS-iADL": 59.0, "iADRS": 144.0}.get(scale, np.inf))
