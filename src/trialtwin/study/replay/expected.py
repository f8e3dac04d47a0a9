"""What the model expects of each published number, and how parameters and trial-level deviates move it.

Numbers are shifted about their expectation by deviates of mean 0: the rate of decline and the drug's effect differ from
trial to trial, the effect also from scale to scale and from subgroup to subgroup, amyloid's removal from trial to trial
and arm to arm, and so on (``parameters.SPREADS``). Each enters linearly, by the derivative of the number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.study.replay.entry import Entry
from trialtwin.study.replay.observe import Courses, Link, mean_change, members, share
from trialtwin.study.replay.parameters import CALIBRATED_DRUGS, NAMES, PARAMETERS, SPREADS, natural
from trialtwin.study.replay.readouts import Row
from trialtwin.study.replay.spec import Arm, Trial

REMOVAL = "removal"  # log factor on every drug's removal of amyloid: 0 but for derivatives
REMOVAL_STEP = 0.03
_SPREAD = {spread.name: place for place, spread in enumerate(SPREADS)}
_LINKS_ONLY = ("stretch", "response", "half-life", "effect on")
_EFFECT_LIKE = {"ADAS-Cog11": "ADAS-Cog", "ADAS-Cog13": "ADAS-Cog", "ADAS-Cog14": "ADAS-Cog"}


class Simulator(Protocol):
    """Gives the courses of an arm's virtual patients, and the links of the scales, for parameter values."""

    def courses(self, trial: Trial, population: str, arm: Arm, values: Mapping[str, float]) -> Courses:
        """Return the courses of the patients of a population in an arm."""

    def events(self, trial: Trial, arm: Arm) -> frozenset[str]:
        """Return which kinds of ARIA are known of an arm."""

    def entry(self, trial: Trial, population: str, arm: Arm) -> Entry:
        """Return the patients of a population in an arm, as they enter."""

    def links(self, values: Mapping[str, float]) -> Mapping[str, Link]:
        """Return the links of the clinical scales."""


@dataclass(frozen=True, eq=False)
class Expected:
    """Expectations of rows: the number itself, the part that the drug makes, and the change in the other arm.

    ``jacobian`` has a column a parameter; ``deviates`` are pairs of a spread's place and a column.
    """

    mean: Float[np.ndarray, " row"]
    effect: Float[np.ndarray, " row"]
    baseline: Float[np.ndarray, " row"]
    fraction: Float[np.ndarray, " row"]
    jacobian: Float[np.ndarray, "row parameter"]
    deviates: tuple[tuple[int, Float[np.ndarray, " row"]], ...]

    def between(self, spreads: Float[np.ndarray, " spread"]) -> Float[np.ndarray, "row row"]:
        """Return the covariance that deviates between trials, arms and subgroups bring."""
        found = np.zeros((len(self.mean), len(self.mean)))
        for place, column in self.deviates:
            found += spreads[place] ** 2 * np.outer(column, column)
        return found


def expect(
    rows: Sequence[Row],
    simulator: Simulator,
    vector: Float[np.ndarray, " parameter"],
    progress: Callable[[int, int], None] | None = None,
) -> Expected:
    """Return expectations of rows at a parameter vector, with derivatives by difference quotients."""
    values = natural(vector)
    middle = np.array([_number(row, simulator, values) for row in rows]).reshape(len(rows), 4)
    jacobian = np.zeros((len(rows), len(NAMES)))
    by_removal = np.zeros(len(rows))
    for place, parameter in enumerate(PARAMETERS):
        if parameter.name.startswith("removal by"):
            continue
        moved = vector.copy()
        moved[place] += parameter.step
        jacobian[:, place] = _slopes(rows, simulator, natural(moved), middle, parameter.step, parameter.name)
        if progress is not None:
            progress(place + 1, len(PARAMETERS) + 1)
    moved_values = values | {REMOVAL: REMOVAL_STEP}
    by_removal = _slopes(rows, simulator, moved_values, middle, REMOVAL_STEP, REMOVAL)
    for drug in CALIBRATED_DRUGS:
        of_drug = np.array([row.arm.drug == drug for row in rows])
        jacobian[:, NAMES.index(f"removal by {drug}")] = by_removal * of_drug
    mean, effect, baseline, fraction = middle.T
    deviates = _deviates(rows, mean, effect, baseline, jacobian, by_removal)
    return Expected(mean, effect, baseline, fraction, jacobian, tuple(deviates))


def _number(row: Row, simulator: Simulator, values: Mapping[str, float]) -> tuple[float, float, float, float]:
    """Return a row's expectation, the drug's part, the change in the other arm, and the subgroup's share."""
    r, name = row.readout, row.endpoint.name
    courses = simulator.courses(row.trial, row.population, row.arm, values)
    chosen = _chosen(courses.entry, row.subgroup)
    fraction = float(chosen.mean())
    if r.stat == "proportion":
        return share(courses, name, r.week, chosen), 0.0, 0.0, fraction
    links = simulator.links(values)
    change = mean_change(courses, name, r.week, chosen, links)
    if not row.treated and not row.difference:
        return change, 0.0, change, fraction
    if row.against.name == row.arm.name:  # an arm without a control: what it would be untreated is not needed
        return change, 0.0, change, fraction
    other = simulator.courses(row.trial, row.population, row.against, values)
    # the other arm may have patients of its own
    untreated = mean_change(other, name, r.week, _chosen(other.entry, row.subgroup), links)
    effect = (change - untreated) * (1.0 if courses.symptomatic else _beyond(name, values))
    change = untreated + effect
    if r.stat == "relative_slowing":
        return -effect / untreated, -effect / untreated, untreated, fraction
    return (effect if row.difference else change), effect, untreated, fraction


def _chosen(entry: Entry, subgroup: str) -> Bool[np.ndarray, " patient"]:
    """Tell which patients belong to a row's subgroup: all where it has none."""
    chosen = members(entry, subgroup)
    return np.ones(len(entry), dtype=bool) if chosen is None else chosen


def _beyond(name: str, values: Mapping[str, float]) -> float:
    """Return how much stronger a drug's effect on the disease shows on a scale than the scale's link says.

    Effects on symptoms were measured on scales, and are taken as they are.
    """
    if name == "iADRS":
        return float(np.sqrt(values["effect on ADAS-Cog"] * values["effect on ADCS-iADL"]))
    return values.get(f"effect on {_EFFECT_LIKE.get(name, name)}", 1.0)


def _slopes(
    rows: Sequence[Row],
    simulator: Simulator,
    values: Mapping[str, float],
    middle: Float[np.ndarray, "row 4"],
    step: float,
    name: str,
) -> Float[np.ndarray, " row"]:
    """Return difference quotients; rows that cannot depend on a parameter are not computed."""
    found = np.zeros(len(rows))
    for place, row in enumerate(rows):
        kind = row.endpoint.kind
        if kind == "aria":
            continue
        pet = kind in ("amyloid", "negative")
        if pet and name not in (REMOVAL, "K", "capacity by amyloid", "EC50 of aducanumab"):
            continue
        if name == REMOVAL and not row.treated:
            continue
        if name.startswith("EC50") and row.arm.drug != "aducanumab":
            continue
        if name.startswith(_LINKS_ONLY) and row.endpoint.name == "CDR-SB":
            continue
        found[place] = (_number(row, simulator, values)[0] - middle[place, 0]) / step
    return found


def _deviates(
    rows: Sequence[Row],
    mean: Float[np.ndarray, " row"],
    effect: Float[np.ndarray, " row"],
    baseline: Float[np.ndarray, " row"],
    jacobian: Float[np.ndarray, "row parameter"],
    by_removal: Float[np.ndarray, " row"],
) -> list[tuple[int, Float[np.ndarray, " row"]]]:
    """Return a column for each deviate that touches a row."""
    by_rate, by_response = jacobian[:, NAMES.index("kz")], jacobian[:, NAMES.index("response")]
    columns: dict[tuple[str, ...], Float[np.ndarray, " row"]] = {}

    def add(place: int, spread: str, *key: str, by: float) -> None:
        if by != 0:
            columns.setdefault((spread, *key), np.zeros(len(rows)))[place] = by

    for i, row in enumerate(rows):
        family, r, kind, name = row.trial.family, row.readout, row.endpoint.kind, row.endpoint.name
        add(i, "removal", family, by=by_removal[i])
        add(i, "removal in an arm", row.trial.id, row.arm.name, by=by_removal[i])
        if row.arm.drug not in CALIBRATED_DRUGS:
            add(i, "new drug", row.arm.drug, by=by_removal[i])
        if kind == "score":
            add(i, "rate", family, by=by_rate[i])
            add(i, "effect", family, by=effect[i])
            add(i, "effect on a scale", family, name, by=effect[i])
            add(i, "response", family, by=by_response[i])
            if row.subgroup:
                add(i, "subgroup", family, row.subgroup, by=effect[i])
            if r.stat == "diff_vs_external":  # the other cohort has a rate of its own
                add(i, "rate", f"{family}, other cohort", by=-baseline[i])
            if name != "CDR-SB" and r.stat != "relative_slowing":
                add(i, _scale_spread(name), family, name, by=mean[i])
        elif kind == "amyloid" and not row.difference:
            unit = 1 / row.trial.cl_per_suvr if row.endpoint.unit == "SUVR" else 1.0
            add(i, "drift", family, by=unit * float(np.sqrt(r.week / 52.18)))
        elif kind == "negative":
            add(i, "share", family, by=mean[i] * (1 - mean[i]))
        elif kind == "aria":
            add(i, "ARIA", family, name, str(row.treated), by=mean[i] * (1 - mean[i]))
    return [(_SPREAD[key[0]], column) for key, column in columns.items()]


def _scale_spread(name: str) -> str:
    if name.startswith("ADAS"):
        return "ADAS-Cog"
    return "ADL" if "ADL" in name else name
