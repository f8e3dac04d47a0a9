"""Who enters the example trial: simulated patients at baseline, enrolled by site and randomised in blocks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from trialtwin.data.examples.design import BLOCK, ENROLMENT_DAYS, SITES

MEAN_SEVERITY = -0.75
SD_SEVERITY = 0.6
UNSEEN = 0.34
# Screened for one patient enrolled; those with an MMSE outside 10 to 26 do not enter.
SCREENED = 4


@dataclass(frozen=True, eq=False)
class People:
    """Simulated patients in the order of their identifiers: by site, then by the day of screening.

    ``severity`` is logit(ADAS-Cog/70) at baseline and ``rate`` its yearly rise without treatment; nobody in the trial
    sees either. ``entry`` is the day of screening, counted from the first day of enrolment; ``wait`` the days from
    screening to randomisation, ``start`` the days from randomisation to the first dose.
    """

    site: Int[np.ndarray, " patient"]
    arm: Int[np.ndarray, " patient"]
    entry: Int[np.ndarray, " patient"]
    wait: Int[np.ndarray, " patient"]
    start: Int[np.ndarray, " patient"]
    age: Float[np.ndarray, " patient"]
    female: Int[np.ndarray, " patient"]
    race: Int[np.ndarray, " patient"]
    hispanic: Int[np.ndarray, " patient"]
    education: Float[np.ndarray, " patient"]
    alleles: Float[np.ndarray, " patient"]
    duration: Float[np.ndarray, " patient"]
    height: Float[np.ndarray, " patient"]
    weight: Float[np.ndarray, " patient"]
    mmse: Float[np.ndarray, " patient"]
    severity: Float[np.ndarray, " patient"]
    rate: Float[np.ndarray, " patient"]

    def __len__(self) -> int:
        return len(self.site)


def draw_people(rng: np.random.Generator, n: int) -> People:
    """Draw patients who meet the entry criterion, their sites, and their arms."""
    m = SCREENED * n
    age = np.round(np.clip(rng.normal(74, 7.5, m), 52, 90))
    education = np.round(np.clip(rng.normal(13, 3, m), 4, 22))
    alleles = rng.choice(3, m, p=[0.42, 0.43, 0.15]).astype(float)
    log_duration = rng.normal(3.55, 0.6, m)
    severity = MEAN_SEVERITY + 0.1 * (log_duration - 3.55) / 0.6 + 0.05 * (alleles - 0.73) - 0.02 * (education - 13)
    severity = severity + SD_SEVERITY * rng.standard_normal(m)
    mmse = np.round(30 * expit(0.05 - 0.85 * severity + 0.5 * rng.standard_normal(m)))
    eligible = np.flatnonzero((mmse >= 10) & (mmse <= 26))[:n]
    age, education, alleles, severity, mmse = (x[eligible] for x in (age, education, alleles, severity, mmse))
    # Rates with APOE and age: Conrado et al. 2014, doi:10.1007/s10928-014-9375-z.
    rate = 0.32 * (1 + 0.195 * (alleles - 0.73) - 0.024 * (age - 74))
    rate = rate + 0.12 * (severity - MEAN_SEVERITY) / SD_SEVERITY - 0.10 * (mmse - 19) / 4
    rate = rate + UNSEEN * rng.standard_normal(n)
    female = (rng.random(n) < 0.57).astype(np.int64)
    height = np.round(np.where(female == 1, rng.normal(160, 6.5, n), rng.normal(174, 7, n)), 1)
    weight = np.round(np.clip(rng.normal(25.2, 3.6, n), 17, 42) * (height / 100) ** 2, 1)
    site = rng.choice(len(SITES), n, p=_shares(rng))
    entry = rng.integers(0, ENROLMENT_DAYS, n)
    order = np.lexsort((entry, site))
    return People(
        site=site[order],
        arm=randomise(rng, site[order]),
        entry=entry[order],
        wait=rng.integers(7, 22, n),
        start=(rng.random(n) < 0.1).astype(np.int64),
        age=age,
        female=female,
        race=rng.choice(4, n, p=[0.86, 0.07, 0.05, 0.02]),
        hispanic=(rng.random(n) < 0.06).astype(np.int64),
        education=education,
        alleles=alleles,
        duration=np.round(np.clip(np.exp(log_duration[eligible]), 4, 160), 1),
        height=height,
        weight=weight,
        mmse=mmse,
        severity=severity,
        rate=rate,
    )


def randomise(rng: np.random.Generator, site: Int[np.ndarray, " patient"]) -> Int[np.ndarray, " patient"]:
    """Randomise in permuted blocks of six within each site, in the order of entry.

    Examples
    --------
    >>> randomise(np.random.default_rng(1), np.zeros(12, dtype=np.int64)).reshape(2, 6).sum(axis=1).tolist()
    [6, 6]
    """
    arm = np.empty(len(site), dtype=np.int64)
    for k in range(int(site.max(initial=-1)) + 1):
        mine = np.flatnonzero(site == k)
        blocks = -(-len(mine) // len(BLOCK))
        lists = [rng.permutation(BLOCK) for _ in range(blocks)]
        arm[mine] = np.concatenate(lists)[: len(mine)] if lists else []
    return arm


def _shares(rng: np.random.Generator) -> Float[np.ndarray, " site"]:
    """Draw how the patients spread over the sites."""
    weight = rng.gamma(3.0, size=len(SITES)) + 0.3
    return weight / weight.sum()
