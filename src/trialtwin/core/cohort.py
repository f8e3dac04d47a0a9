"""Patients as arrays: covariates, visits, outcomes, events, doses and the treatment that each one received."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.arrays import digest, owned
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.variables import Kind, Variable, position


@dataclass(frozen=True, eq=False)
class Events:
    """What happened when: one row an event or a censoring time.

    Parameters
    ----------
    patient
        Position in ``Cohort.ids``.
    time
        In days since baseline; NaN where it is not known.
    name
        What happened.
    observed
        False where the time is one of censoring.
    followed
        True where everybody was followed until the event or the time of censoring (as in ADTTE), false for an
        occurrence (as in ADAE); true for all where it is not given.
    """

    patient: Int[np.ndarray, " event"]
    time: Float[np.ndarray, " event"]
    name: tuple[str, ...]
    observed: Bool[np.ndarray, " event"]
    followed: Bool[np.ndarray, " event"] | None = None

    def __post_init__(self) -> None:
        if self.followed is None:
            object.__setattr__(self, "followed", np.ones(len(self.patient), dtype=bool))
        for name in ("patient", "time", "observed", "followed"):
            object.__setattr__(self, name, owned(getattr(self, name)))


@dataclass(frozen=True, eq=False)
class Doses:
    """Doses as given, already expanded: one row an administration.

    ``time`` is in days since baseline, ``amount`` in the unit of the drug, ``duration`` in days (0 for a bolus);
    ``compartment`` counts from 1 as in NONMEM.
    """

    patient: Int[np.ndarray, " dose"]
    time: Float[np.ndarray, " dose"]
    amount: Float[np.ndarray, " dose"]
    duration: Float[np.ndarray, " dose"]
    compartment: Int[np.ndarray, " dose"]

    def __post_init__(self) -> None:
        for name in ("patient", "time", "amount", "duration", "compartment"):
            object.__setattr__(self, name, owned(getattr(self, name)))


@dataclass(frozen=True, eq=False)
class Block:
    """A matrix of features (an omics layer, a wearable's summaries); ``present`` is false for patients without it."""

    features: tuple[str, ...]
    values: Float[np.ndarray, "patient feature"]
    present: Bool[np.ndarray, " patient"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", owned(self.values))
        object.__setattr__(self, "present", owned(self.present))


def _no_blocks() -> Mapping[str, Block]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients with what is known of each; immutable.

    Parameters
    ----------
    ids
        Subject identifiers (USUBJID), unique.
    variables
        Covariates at baseline.
    covariates : shape (patient, covariate)
        Their values; NaN where missing. Categorical covariates hold positions in ``Variable.levels``.
    outcomes
        Quantities measured over time.
    visits
        Names of the analysis visits, in order; the first is baseline.
    nominal : shape (visit,), days
        Planned time of each visit; 0 is baseline.
    times : shape (patient, visit), days
        Time at which each visit took place; the nominal time where it did not.
    values : shape (patient, visit, outcome)
        Measurements; NaN exactly where ``observed`` is false. Imputed values have no place here.
    observed : shape (patient, visit, outcome)
        Whether the value was measured.
    treatments
        Names of the arms.
    received : shape (patient,)
        Position in ``treatments``.
    events, doses, blocks
        Events, administrations and feature matrices, where there are any.

    Raises
    ------
    DataError
        If shapes disagree, identifiers repeat, or ``observed`` and ``values`` contradict each other.
    """

    ids: tuple[str, ...]
    variables: tuple[Variable, ...]
    covariates: Float[np.ndarray, "patient covariate"]
    outcomes: tuple[Variable, ...]
    visits: tuple[str, ...]
    nominal: Float[np.ndarray, " visit"]
    times: Float[np.ndarray, "patient visit"]
    values: Float[np.ndarray, "patient visit outcome"]
    observed: Bool[np.ndarray, "patient visit outcome"]
    treatments: tuple[str, ...]
    received: Int[np.ndarray, " patient"]
    events: Events | None = None
    doses: Doses | None = None
    blocks: Mapping[str, Block] = field(default_factory=_no_blocks)

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_content(self)
        for name in ("covariates", "nominal", "times", "values", "observed", "received"):
            object.__setattr__(self, name, owned(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.ids)

    def covariate(self, name: str) -> Float[np.ndarray, " patient"]:
        """Return one covariate by name or concept."""
        return self.covariates[:, position(self.variables, name, what="covariate")]

    def outcome(self, name: str) -> int:
        """Return the position of an outcome, by name or concept."""
        return position(self.outcomes, name, what="outcome")

    def arm(self, name: str) -> Bool[np.ndarray, " patient"]:
        """Tell who received a treatment."""
        if name not in self.treatments:
            raise MismatchError(f"no arm {name!r}", exists=self.treatments)
        return self.received == self.treatments.index(name)

    def take(self, index: Bool[np.ndarray, " patient"] | Int[np.ndarray, " chosen"] | Sequence[int]) -> "Cohort":
        """Return a cohort of the chosen patients, in the order given; by a mask, or by positions from 0."""
        chosen = self._positions(index)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in chosen),
            covariates=self.covariates[chosen],
            times=self.times[chosen],
            values=self.values[chosen],
            observed=self.observed[chosen],
            received=self.received[chosen],
            events=_take_events(self.events, chosen),
            doses=_take_doses(self.doses, chosen),
            blocks=MappingProxyType(
                {
                    name: replace(block, values=block.values[chosen], present=block.present[chosen])
                    for name, block in self.blocks.items()
                }
            ),
        )

    def until(self, day: float) -> "Cohort":
        """Return the same patients with what was known at a day, so that a twin cannot look ahead.

        Later measurements become unobserved and their visits' times the planned ones. Events that everybody was
        followed for and that came later are censored at the day; later occurrences and administrations are left out.
        """
        known = self.observed & (self.times <= day)[:, :, None]
        return replace(
            self,
            observed=known,
            values=np.where(known, self.values, np.nan),
            times=np.where(self.times <= day, self.times, self.nominal),
            events=None if self.events is None else _events_until(self.events, day),
            doses=None if self.doses is None else _doses_until(self.doses, day),
        )

    def _positions(self, index: Bool[np.ndarray, " any"] | Int[np.ndarray, " any"] | Sequence[int]) -> np.ndarray:
        """Turn a mask or positions into positions, refusing those that do not exist."""
        given = np.asarray(index)
        if given.dtype == bool:
            if given.shape != (len(self),):
                raise DataError(f"a mask of {given.shape} for {len(self)} patients")
            return np.flatnonzero(given)
        chosen = given.astype(np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise DataError(f"position {chosen.min() if chosen.min() < 0 else chosen.max()} in {len(self)} patients")
        return chosen

    def digest(self) -> str:
        """Hash everything that an analysis can see (SHA-256)."""
        parts: list[bytes | str | np.ndarray] = [*self.ids, *map(repr, self.variables + self.outcomes)]
        parts += [*self.visits, *self.treatments, self.covariates, self.nominal, self.times, self.values]
        parts += [self.observed, self.received]
        if self.events is not None:
            events = self.events
            parts += [events.patient, events.time, *events.name, events.observed, np.asarray(events.followed)]
        if self.doses is not None:
            parts += [self.doses.patient, self.doses.time, self.doses.amount, self.doses.duration]
            parts += [self.doses.compartment]
        for name, block in self.blocks.items():
            parts += [name, *block.features, block.values, block.present]
        return digest(parts)


def _check_shapes(cohort: Cohort) -> None:
    n, v, q = len(cohort.ids), len(cohort.visits), len(cohort.outcomes)
    wanted = {
        "covariates": (n, len(cohort.variables)),
        "nominal": (v,),
        "times": (n, v),
        "values": (n, v, q),
        "observed": (n, v, q),
        "received": (n,),
    }
    for name, shape in wanted.items():
        actual = getattr(cohort, name).shape
        if actual != shape:
            raise DataError(
                f"cohort.{name} has shape {actual}",
                where=f"{n} ids, {len(cohort.variables)} variables, {v} visits, {q} outcomes",
                do=f"give it shape {shape}",
            )
    for name, block in cohort.blocks.items():
        if block.values.shape != (n, len(block.features)) or block.present.shape != (n,):
            raise DataError(f"block {name!r} has shape {block.values.shape} for {n} patients")


def _check_content(cohort: Cohort) -> None:
    _check_names(cohort)
    if not np.array_equal(np.isfinite(cohort.values), cohort.observed):
        raise DataError(
            "cohort.observed and cohort.values contradict each other",
            do="set values to NaN where, and only where, observed is false",
        )
    if not (np.isfinite(cohort.times).all() and np.isfinite(cohort.nominal).all()):
        raise DataError("cohort.times and cohort.nominal must be finite", do="use the nominal time for missed visits")
    _check_codes("cohort.received", cohort.received, len(cohort.treatments), cohort.treatments)
    for what, rows in (("cohort.events", cohort.events), ("cohort.doses", cohort.doses)):
        if rows is not None:
            _check_codes(f"{what}.patient", rows.patient, len(cohort), cohort.ids)
    for j, variable in enumerate(cohort.variables):
        column = cohort.covariates[:, j]
        known = column[~np.isnan(column)]
        if not np.isfinite(known).all():
            raise DataError(f"covariate {variable.name} is infinite", do="use NaN for a missing value")
        if variable.kind is Kind.CATEGORICAL and not np.isin(known, np.arange(len(variable.levels))).all():
            raise DataError(
                f"covariate {variable.name} has codes that point outside its levels",
                exists=[f"{i}: {level}" for i, level in enumerate(variable.levels)],
            )


def _check_names(cohort: Cohort) -> None:
    named = {
        "subject identifiers": cohort.ids,
        "covariates": tuple(v.name for v in cohort.variables),
        "outcomes": tuple(v.name for v in cohort.outcomes),
        "visits": cohort.visits,
        "treatments": cohort.treatments,
    }
    for what, names in named.items():
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"{what} repeat in a cohort", where=", ".join(twice[:10]))


def _check_codes(what: str, codes: Int[np.ndarray, " row"], size: int, names: Sequence[str]) -> None:
    if len(codes) and not (codes.min() >= 0 and codes.max() < size):
        raise DataError(f"{what} points outside the {size} that there are", exists=names)


def _renumber(chosen: Int[np.ndarray, " chosen"], patient: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """Map old patient positions to new ones, −1 for those left out."""
    size = int(max(chosen.max(initial=-1), patient.max(initial=-1))) + 1
    new = np.full(size, -1, dtype=np.int64)
    new[chosen] = np.arange(len(chosen))
    return new[patient]


def _take_events(events: Events | None, chosen: Int[np.ndarray, " chosen"]) -> Events | None:
    if events is None:
        return None
    new = _renumber(chosen, events.patient)
    return _keep_events(replace(events, patient=new), new >= 0)


def _keep_events(events: Events, keep: Bool[np.ndarray, " event"]) -> Events:
    names = tuple(events.name[i] for i in np.flatnonzero(keep))
    followed = np.asarray(events.followed)[keep]
    return Events(events.patient[keep], events.time[keep], names, events.observed[keep], followed)


def _take_doses(doses: Doses | None, chosen: Int[np.ndarray, " chosen"]) -> Doses | None:
    if doses is None:
        return None
    new = _renumber(chosen, doses.patient)
    keep = new >= 0
    return Doses(new[keep], doses.time[keep], doses.amount[keep], doses.duration[keep], doses.compartment[keep])


def _events_until(events: Events, day: float) -> Events:
    later = np.asarray(events.followed) & (events.time > day)
    known = replace(events, time=np.where(later, day, events.time), observed=events.observed & ~later)
    return _keep_events(known, (events.time <= day) | later)


def _doses_until(doses: Doses, day: float) -> Doses:
    keep = doses.time <= day
    rows = (doses.patient, doses.time, doses.amount, doses.duration, doses.compartment)
    return Doses(*(row[keep] for row in rows))
