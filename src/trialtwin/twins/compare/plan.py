"""What is compared: which patients teach and which are forecast, from when on, and with how much to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, Int

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.core.variables import Kind, position
from trialtwin.twins.crossfit import assign_folds

type By = Literal["patient", "site", "time"]
type Axis = Literal["whole", "patients", "visits", "blocks"]


@dataclass(frozen=True)
class Plan:
    """How twins are compared.

    Parameters
    ----------
    by
        ``"patient"``: folds of patients at random. ``"site"``: folds of whole sites, so that nobody is forecast from
        the own site's patients. ``"time"``: folds of patients, and everything after ``day`` is unknown to all.
    folds, repeats
        How many folds, and how often patients are shared out anew.
    known
        Days up to which the forecast patients are known; 0 is trial entry. By time it is ``day``.
    draws
        Of each patient's course, for scores.
    site
        Categorical covariate that names the site, for ``by="site"``.
    day
        For ``by="time"``; the middle planned visit where it is not given.
    patients, visits
        For learning curves: numbers of patients, and of visits after baseline, to learn from.
    blocks
        For learning curves: also without any block, and with each block alone.

    Raises
    ------
    ConfigError
        If numbers are too small, or a setting is missing.
    """

    by: By = "patient"
    folds: int = 5
    repeats: int = 1
    known: tuple[float, ...] = (0.0,)
    draws: int = 256
    site: str | None = None
    day: float | None = None
    patients: tuple[int, ...] = ()
    visits: tuple[int, ...] = ()
    blocks: bool = False

    def __post_init__(self) -> None:
        if self.folds < 2 or self.repeats < 1 or self.draws < 32 or not self.known:
            raise ConfigError(
                f"{self.folds} folds, {self.repeats} repeats, {self.draws} draws, known up to {list(self.known)}",
                do="at least 2 folds, 1 repeat, 32 draws, and one day up to which patients are known",
            )
        if not all(np.isfinite(day) and day >= 0 for day in self.known):
            raise ConfigError(f"patients cannot be known up to {list(self.known)}", do="give days, 0 or later")
        if (self.by == "site") != (self.site is not None):
            raise ConfigError("a site is given for comparison by site, and for no other", do="give both or none")
        if self.day is not None and self.by != "time":
            raise ConfigError("a day is given for comparison by time, and for no other", do="leave it out")
        if any(n < 2 for n in self.patients) or any(n < 1 for n in self.visits):
            raise ConfigError("a learning curve needs at least 2 patients and 1 visit at each of its points")


@dataclass(frozen=True, eq=False)
class Split:
    """One way to share patients out: positions of those who teach and of those who are forecast.

    ``until`` is the day after which nothing is known to teachers; infinite unless comparison is by time.
    """

    name: str
    train: Int[np.ndarray, " teacher"]
    test: Int[np.ndarray, " pupil"]
    until: float = np.inf


@dataclass(frozen=True)
class Variation:
    """What there is to learn from: ``"whole"`` for all, or one point of a learning curve."""

    axis: Axis = "whole"
    size: int = 0
    blocks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Words for tables and files."""
        if self.axis == "blocks":
            return f"blocks: {', '.join(self.blocks) or 'none'}"
        return self.axis if self.axis == "whole" else f"{self.axis}: {self.size}"


def make_splits(plan: Plan, cohort: Cohort, *, key: Array) -> list[Split]:
    """Share the patients out.

    Raises
    ------
    DataError
        If there are too few patients, sites or visits.
    """
    day = split_day(plan, cohort) if plan.by == "time" else np.inf
    splits = []
    for repeat, one in enumerate(jax.random.split(key, plan.repeats)):
        fold = _site_folds(plan, cohort, one) if plan.by == "site" else _patient_folds(plan, cohort, one)
        for number in range(plan.folds):
            name = f"repeat {repeat + 1} fold {number + 1}"
            splits.append(Split(name, np.flatnonzero(fold != number), np.flatnonzero(fold == number), day))
    return splits


def split_day(plan: Plan, cohort: Cohort) -> float:
    """Return the day at which time is split: planned visits lie on both sides of it.

    Raises
    ------
    DataError
        If there is no visit between baseline and the day, or none after it.
    """
    later = np.sort(cohort.nominal[cohort.nominal > 0])
    day = float(plan.day if plan.day is not None else later[(len(later) - 1) // 2] if len(later) else 0.0)
    if not (later <= day).any() or not (later > day).any():
        raise DataError(
            f"no planned visits on both sides of day {day:g}",
            exists=[f"day {t:g}" for t in cohort.nominal],
            do="give a day between two visits after baseline",
        )
    return day


def known_days(plan: Plan, cohort: Cohort) -> tuple[float, ...]:
    """Return the days up to which patients are known when they are forecast."""
    return (split_day(plan, cohort),) if plan.by == "time" else plan.known


def make_variations(plan: Plan, cohort: Cohort) -> list[Variation]:
    """Return the whole and the points of the learning curves that were asked for.

    Raises
    ------
    ConfigError
        If blocks are to be varied and there are none.
    """
    made = [Variation(), *(Variation("patients", n) for n in plan.patients)]
    made += [Variation("visits", n) for n in plan.visits]
    if plan.blocks:
        if not cohort.blocks:
            raise ConfigError("a learning curve over blocks of a cohort without blocks", do="leave it out")
        alone = [(name,) for name in cohort.blocks] if len(cohort.blocks) > 1 else []
        made += [Variation("blocks", blocks=names) for names in ((), *alone)]
    return made


def teachers(cohort: Cohort, split: Split, variation: Variation, *, key: Array) -> Cohort:
    """Return the cohort to learn from.

    Fewer patients are the first of one random order a split, so that each size holds the smaller ones. Of fewer visits
    everybody has the first ones after baseline.

    Raises
    ------
    DataError
        If a curve asks for more patients than there are.
    """
    chosen = split.train
    if variation.axis == "patients":
        if variation.size > len(chosen):
            raise DataError(
                f"a learning curve at {variation.size} patients; folds leave {len(chosen)} to learn from",
                do="ask for fewer, or for more folds",
            )
        order = np.asarray(jax.random.permutation(key, len(chosen)))
        chosen = np.sort(chosen[order[: variation.size]])
    cohort = cohort.take(chosen)
    if np.isfinite(split.until):
        cohort = cohort.until(split.until)
    if variation.axis == "visits":
        later = np.sort(cohort.nominal[cohort.nominal > 0])
        cut = cohort.nominal <= later[min(variation.size, len(later)) - 1]
        kept = cohort.observed & cut[None, :, None]
        cohort = replace(cohort, observed=kept, values=np.where(kept, cohort.values, np.nan))
    return _with_blocks(cohort, variation)


def pupils(cohort: Cohort, split: Split, variation: Variation) -> Cohort:
    """Return the patients to forecast, with all their measurements: the judge hides what is not known yet."""
    return _with_blocks(cohort.take(split.test), variation)


def _with_blocks(cohort: Cohort, variation: Variation) -> Cohort:
    if variation.axis != "blocks":
        return cohort
    kept = {name: block for name, block in cohort.blocks.items() if name in variation.blocks}
    return replace(cohort, blocks=MappingProxyType(kept))


def _patient_folds(plan: Plan, cohort: Cohort, key: Array) -> Int[np.ndarray, " patient"]:
    if plan.folds > len(cohort):
        raise DataError(f"{plan.folds} folds of {len(cohort)} patients", do="ask for fewer folds")
    return assign_folds(cohort, plan.folds, key=key)


def _site_folds(plan: Plan, cohort: Cohort, key: Array) -> Int[np.ndarray, " patient"]:
    """Share whole sites out, the largest first to the emptiest fold; patients of no known site are one more site."""
    name = str(plan.site)
    variable = cohort.variables[position(cohort.variables, name, what="covariate")]
    if variable.kind is not Kind.CATEGORICAL:
        raise ConfigError(f"{name} is {variable.kind}, and a site is categorical", do="name the site's covariate")
    codes = np.nan_to_num(cohort.covariate(name), nan=len(variable.levels)).astype(int)
    sites, counts = np.unique(codes, return_counts=True)
    if len(sites) < plan.folds:
        raise DataError(f"{plan.folds} folds of {len(sites)} sites", exists=_levels(variable.levels, sites))
    # ties are broken at random, so that repeats differ
    order = np.lexsort((np.asarray(jax.random.permutation(key, len(sites))), -counts))
    filled = np.zeros(plan.folds, dtype=np.int64)
    fold = np.zeros(len(cohort), dtype=np.int64)
    for place in order:
        number = int(filled.argmin())
        fold[codes == sites[place]] = number
        filled[number] += counts[place]
    return fold


def _levels(levels: Sequence[str], codes: Int[np.ndarray, " site"]) -> list[str]:
    return [levels[c] if c < len(levels) else "unknown" for c in codes]
