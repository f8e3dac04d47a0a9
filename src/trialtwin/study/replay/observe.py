"""From the courses of virtual patients to the numbers that a trial prints: changes, differences, shares.

A clinical scale is a sum of logistic functions of severity z. Against the published links a calibrated scale is
stretched about the severity z₀ = −1.5, stands at the level that its trial had at entry, and may show a placebo response
that fades:

    y(t) = constant + Σⱼ weightⱼ σ(interceptⱼ + slopeⱼ (z₀ + s (z(t) − z₀) + shift − p 2^(−t/half)))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize, special, stats

from trialtwin.core.errors import MismatchError
from trialtwin.study.replay.endpoints import CL_PER_SUVR, NEGATIVE_CL, Endpoint, canonical, endpoint
from trialtwin.study.replay.entry import SEVERITY_MEAN, Entry

type Chosen = Bool[np.ndarray, " patient"]
SUBGROUPS: Mapping[str, Callable[[Entry], Chosen]] = {
    "APOE4 noncarrier": lambda entry: entry.alleles == 0,
    "APOE4 heterozygote": lambda entry: entry.alleles == 1,
    "APOE4 homozygote": lambda entry: entry.alleles == 2,
    "APOE4 carrier": lambda entry: entry.alleles > 0,
    "male": lambda entry: entry.female == 0,
    "female": lambda entry: entry.female == 1,
    "age<65": lambda entry: entry.age < 65,
    "age65-74": lambda entry: (entry.age >= 65) & (entry.age < 75),
    "age<75": lambda entry: entry.age < 75,
    "age>=65": lambda entry: entry.age >= 65,
    "age>=75": lambda entry: entry.age >= 75,
}


@dataclass(frozen=True)
class Link:
    """A clinical scale as a sum of logistic functions of severity, and its calibrated stretch and response."""

    terms: tuple[tuple[float, float, float], ...]
    constant: float
    stretch: tuple[float, ...]
    response: tuple[float, ...]
    half_life: float

    def score(
        self, severity: Float[np.ndarray, "*shape"], shift: float, fading: Float[np.ndarray, " time"] | float
    ) -> Float[np.ndarray, "*shape"]:
        """Return expected scores; ``fading`` is 1 at the height of the placebo response and 0 without it."""
        total = np.full(np.shape(severity), self.constant, dtype=float)
        for (weight, intercept, slope), stretch, response in zip(self.terms, self.stretch, self.response, strict=True):
            z = SEVERITY_MEAN + stretch * (severity - SEVERITY_MEAN) + shift - response * np.asarray(fading)
            total = total + weight * special.expit(intercept + slope * z)
        return total


@dataclass(frozen=True, eq=False)
class Courses:
    """One arm of one population: amyloid (CL) and apparent severity (logit CDR-SB/18), a row a patient.

    ``weeks`` begins with 0; ``aria`` holds each patient's probability of ARIA by the last visit, by kind;
    ``symptomatic`` tells whether the drug acts on symptoms themselves.
    """

    entry: Entry
    weeks: Float[np.ndarray, " time"]
    amyloid: Float[np.ndarray, "patient time"]
    severity: Float[np.ndarray, "patient time"]
    aria: Mapping[str, Float[np.ndarray, " patient"]] = field(default_factory=dict)
    cl_per_suvr: float = CL_PER_SUVR
    symptomatic: bool = False

    def at(self, week: float) -> int:
        """Return the column of a week.

        Raises
        ------
        MismatchError
            If the arm was not followed to that week.
        """
        column = int(np.argmin(np.abs(self.weeks - week)))
        if abs(self.weeks[column] - week) > 0.51:
            raise MismatchError(
                f"no visit at week {week:g}",
                exists=[f"{w:g}" for w in self.weeks[1:]],
                do="add the week to visits of the trial file",
            )
        return column


def mean_change(
    courses: Courses, name: str, week: float, chosen: Bool[np.ndarray, " patient"], links: Mapping[str, Link]
) -> float:
    """Return the mean change of a score or of amyloid PET from entry to a week, over the chosen patients."""
    what, column = _known(name), courses.at(week)
    if what.kind == "amyloid":
        change = (courses.amyloid[chosen, column] - courses.amyloid[chosen, 0]).mean()
        return float(change / (courses.cl_per_suvr if what.unit == "SUVR" else 1.0))
    link = links[what.name]
    severity = courses.severity[chosen]
    shift = _shift(link, courses, what.name)
    fading = 0.5 ** (courses.weeks[column] / link.half_life)
    return float((link.score(severity[:, column], shift, fading) - link.score(severity[:, 0], shift, 0.0)).mean())


def share(courses: Courses, name: str, week: float, chosen: Bool[np.ndarray, " patient"]) -> float:
    """Return the share of the chosen patients whose PET reads below 24.1 CL, or who had ARIA."""
    what = _known(name)
    if what.kind == "aria":
        return float(courses.aria[what.name][chosen].mean())
    true = courses.amyloid[chosen, courses.at(week)]
    error = np.sqrt(4.47**2 + (0.091 * true) ** 2)  # of PET: Cao 2026, doi:10.1038/s41540-026-00677-4
    return float(stats.norm.cdf((NEGATIVE_CL - true) / error).mean())


def members(entry: Entry, population: str) -> Bool[np.ndarray, " patient"] | None:
    """Tell which patients belong to a subgroup, or return ``None`` where the name is no subgroup's.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> age = np.array([60.0, 70, 80])
    >>> some = SimpleNamespace(alleles=np.array([0.0, 1, 2]), female=np.array([1.0, 0, 0]), age=age)
    >>> members(some, "APOE4 carrier").tolist(), members(some, "age>=75").tolist(), members(some, "blue eyes")
    ([False, True, True], [False, False, True], None)
    """
    chosen = SUBGROUPS.get(population)
    return None if chosen is None else chosen(entry)


def _shift(link: Link, courses: Courses, name: str) -> float:
    """Return the shift of severity at which a scale starts where the trial's did."""
    start = courses.entry.starts.get(name)
    if start is None or name == "CDR-SB":
        return 0.0
    severity = courses.severity[:, 0]

    def miss(shift: float) -> float:
        return float(link.score(severity, shift, 0.0).mean()) - start

    return float(optimize.brentq(miss, -6.0, 6.0, xtol=1e-10))


def _known(name: str) -> Endpoint:
    found = endpoint(name)
    if found is None:
        raise MismatchError(f"no endpoint {canonical(name)!r}", do="see docs/replay.md for those that are modelled")
    return found
