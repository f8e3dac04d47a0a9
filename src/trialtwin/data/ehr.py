"""Health records as features known at each patient's index date: nothing after it is seen.

Records come from OMOP tables (``ehr_omop.py``) or FHIR bundles (``ehr_fhir.py``). Each feature is asked for in words:
which kind, which codes, how many days back, and what to take of them. Units are converted where the question says how,
and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

import numpy as np

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.variables import Variable
from trialtwin.data.omics import FeatureMatrix

type RecordKind = Literal["measurement", "drug", "condition"]

KINDS = ("measurement", "drug", "condition", "person")
TAKES = ("last", "mean", "least", "most", "count", "ever", "days since")
PERSON = ("age", "female")
_YEAR = 365.25


@dataclass(frozen=True)
class Entry:
    """One record: whose, of what kind, under which codes, when, and a value with its unit where there is one."""

    person: str
    kind: RecordKind
    codes: frozenset[str]
    day: date
    value: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Person:
    """Date of birth and sex, where they are known."""

    born: date | None = None
    female: bool | None = None


@dataclass(frozen=True)
class HealthRecords:
    """Everybody's records, in any order, with where they came from."""

    people: Mapping[str, Person]
    entries: tuple[Entry, ...]
    source: str = ""


@dataclass(frozen=True)
class Ask:
    """A feature to be made of the records before the index date.

    Parameters
    ----------
    name
        Of the feature.
    kind
        ``"measurement"``, ``"drug"``, ``"condition"`` or ``"person"``.
    codes
        Any of these; for a person ``"age"`` (years at the index date) or ``"female"`` (1 or 0).
    take
        ``"last"``, ``"mean"``, ``"least"`` or ``"most"`` of the values, NaN where there is none; ``"count"`` or
        ``"ever"`` (1 or 0) of the records, 0 where there is none; ``"days since"`` the last one, NaN where none.
    days
        How far back; without end where it is not given.
    same_day
        Whether records of the index date itself count as known.
    units
        What to multiply a value in each unit by. Where it is empty, all values must be in one unit.

    Raises
    ------
    ConfigError
        If the question cannot be understood.
    """

    name: str
    kind: str
    codes: tuple[str, ...]
    take: str = "last"
    days: float = np.inf
    same_day: bool = False
    units: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.take not in TAKES:
            wrong, known = (self.kind, KINDS) if self.kind not in KINDS else (self.take, TAKES)
            raise ConfigError(f"feature {self.name!r} asks for {wrong!r}", exists=known)
        if not self.codes or not self.days > 0:
            raise ConfigError(f"feature {self.name!r} asks for no codes, or for {self.days:g} days back")
        if self.kind == "person" and (len(self.codes) != 1 or self.codes[0] not in PERSON):
            raise ConfigError(f"feature {self.name!r} asks for {self.codes} of a person", exists=PERSON)
        if self.kind != "measurement" and self.take in ("last", "mean", "least", "most") and self.kind != "person":
            raise ConfigError(f"feature {self.name!r}: a {self.kind} has no value to take", exists=TAKES[4:])


def features_at(records: HealthRecords, index: Mapping[str, date], asks: Sequence[Ask]) -> FeatureMatrix:
    """Return what was known of each patient at the index date.

    A record counts if its day is before the index date (or on it, where asked) and within the window.

    Parameters
    ----------
    index
        Index date by patient; these are the rows, in order.

    Raises
    ------
    DataError
        If a value is in a unit that the question does not convert, or there are no questions.
    MismatchError
        If a patient has no entry among the people.

    Examples
    --------
    >>> from datetime import date
    >>> seen = Entry("p1", "measurement", frozenset({"4548-4"}), date(2020, 1, 5), 7.2, "%")
    >>> later = Entry("p1", "measurement", frozenset({"4548-4"}), date(2020, 3, 1), 9.9, "%")
    >>> records = HealthRecords({"p1": Person(), "p2": Person()}, (seen, later))
    >>> days = {"p1": date(2020, 2, 1), "p2": date(2020, 2, 1)}
    >>> features_at(records, days, [Ask("HbA1c", "measurement", ("4548-4",))]).values.tolist()
    [[7.2], [nan]]
    """
    if not asks:
        raise DataError("no features were asked for", do="name at least one")
    unknown = [name for name in index if name not in records.people]
    if unknown:
        raise MismatchError(
            f"{len(unknown)} patient(s) are not among the people of the records: {', '.join(unknown[:5])}",
            where=records.source,
            exists=list(records.people)[:5],
        )
    own: dict[str, list[Entry]] = {name: [] for name in index}
    for entry in records.entries:
        if entry.person in own:
            own[entry.person].append(entry)
    for entries in own.values():
        entries.sort(key=lambda entry: entry.day)
    columns = [_column(records, index, own, ask) for ask in asks]
    return FeatureMatrix(tuple(index), tuple(ask.name for ask in asks), np.array(columns).T, records.source)


def add_covariates(cohort: Cohort, matrix: FeatureMatrix) -> Cohort:
    """Return the cohort with each feature as a covariate; a patient without a row has it missing.

    Raises
    ------
    DataError
        If the cohort has a covariate of that name.
    """
    twice = sorted({v.name for v in cohort.variables} & set(matrix.features))
    if twice:
        raise DataError(f"the cohort has covariates {', '.join(twice)} already", do="name the features otherwise")
    place = {name: i for i, name in enumerate(matrix.ids)}
    values = np.full((len(cohort), len(matrix.features)), np.nan)
    for i, name in enumerate(cohort.ids):
        if name in place:
            values[i] = matrix.values[place[name]]
    added = tuple(Variable(name, source=matrix.source) for name in matrix.features)
    return replace(
        cohort,
        variables=cohort.variables + added,
        covariates=np.concatenate([cohort.covariates, values], axis=1),
    )


def _column(records: HealthRecords, index: Mapping[str, date], own: Mapping[str, list[Entry]], ask: Ask) -> list[float]:
    """Return one feature of every patient."""
    if ask.kind == "person":
        return [_of_person(records.people[name], day, ask.codes[0]) for name, day in index.items()]
    units: set[str] = set()
    column = []
    for name, day in index.items():
        known = [entry for entry in own[name] if _counts(entry, day, ask)]
        if ask.take in ("count", "ever", "days since"):
            column.append(_of_records(known, day, ask.take))
            continue
        measured = [entry for entry in known if entry.value is not None]
        units |= {entry.unit for entry in measured}
        column.append(_of_values([_converted(entry, ask, records.source) for entry in measured], ask.take))
    if not ask.units and len(units) > 1:
        raise DataError(
            f"feature {ask.name!r} is measured in several units",
            where=records.source,
            exists=sorted(repr(unit) for unit in units),
            do="say what to multiply each by (units=...)",
        )
    return column


def _counts(entry: Entry, index: date, ask: Ask) -> bool:
    back = (index - entry.day).days
    return (
        entry.kind == ask.kind
        and (back > 0 or (ask.same_day and back == 0))
        and back <= ask.days
        and not entry.codes.isdisjoint(ask.codes)
    )


def _converted(entry: Entry, ask: Ask, source: str) -> float:
    value = float("nan") if entry.value is None else entry.value
    if not ask.units:
        return value
    if entry.unit not in ask.units:
        raise DataError(
            f"feature {ask.name!r}: a value of {entry.person} on {entry.day} is in {entry.unit or 'no unit'!r}",
            where=source,
            exists=ask.units,
            do="say what to multiply it by (units=...)",
        )
    return value * ask.units[entry.unit]


def _of_person(person: Person, index: date, what: str) -> float:
    if what == "female":
        return float("nan") if person.female is None else float(person.female)
    return float("nan") if person.born is None else (index - person.born).days / _YEAR


def _of_records(known: Sequence[Entry], index: date, take: str) -> float:
    if take == "days since":
        return float((index - known[-1].day).days) if known else float("nan")
    return float(len(known)) if take == "count" else float(bool(known))


def _of_values(values: Sequence[float], take: str) -> float:
    if not values:
        return float("nan")
    made = {"last": values[-1], "mean": float(np.mean(values)), "least": min(values), "most": max(values)}
    return made[take]
