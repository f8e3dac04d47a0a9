"""Endpoints of a finished trial beside the patients: at one visit, over visits, and as a time to an event."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import DataError
from trialtwin.core.estimate import Estimand
from trialtwin.trials.patients import Patients
from trialtwin.trials.record import Record, name_subjects

type Kind = Literal["continuous", "binary", "count"]


@dataclass(frozen=True, eq=False)
class SingleOutcome:
    """One outcome a patient; immutable.

    Parameters
    ----------
    patients
        Those who have the outcome.
    value : shape (patient,)
        Finite; 0 or 1 for a binary outcome, whole numbers for a count.
    kind
        "continuous", "binary" or "count".
    endpoint, visit, unit
        What, when, and in what.
    estimand
        The question without its summary, which the method gives.
    exposure : shape (patient,)
        Time at risk of a count.
    score : shape (patient,)
        Prognostic score.

    Raises
    ------
    DataError
        If a value is none of its kind, an arm has fewer than two patients, or lengths differ.
    """

    patients: Patients
    value: Float[np.ndarray, " patient"]
    kind: Kind
    endpoint: str
    visit: str
    unit: str
    estimand: Estimand
    exposure: Float[np.ndarray, " patient"] | None = None
    score: Float[np.ndarray, " patient"] | None = None

    def __post_init__(self) -> None:
        people = self.patients
        given = {"the outcome": self.value, "the exposure": self.exposure, "the prognostic score": self.score}
        for name, array in given.items():
            if array is not None and array.shape != (len(people),):
                raise DataError(f"{name} has shape {array.shape} for {len(people)} subjects")
        _require_arms(people, np.ones(len(people), dtype=bool), f"{self.endpoint}, {self.visit or 'one visit'}")
        wrong = ~np.isfinite(self.value)
        if self.kind == "binary":
            wrong |= ~np.isin(self.value, (0.0, 1.0))
        elif self.kind == "count":
            wrong |= (self.value < 0) | (self.value % 1 != 0)
        if wrong.any():
            raise DataError(
                f"{int(wrong.sum())} value(s) of {self.endpoint} are no {self.kind} outcome, such as"
                f" {self.value[wrong][0]:g}",
                where=name_subjects(people.ids, wrong),
                do="correct the kind of the endpoint, or its column",
            )
        object.__setattr__(self, "value", frozen(self.value))

    def record(self) -> Record:
        """Return a continuous outcome as the record that ``trials.analyse`` takes.

        Raises
        ------
        DataError
            As for ``Record``.
        """
        people = self.patients
        varied = {name: f for name, f in people.factors.items() if f.codes.min() < f.codes.max()}
        whole = {name: v for name, v in people.covariates.items() if np.isfinite(v).all() and v.min() < v.max()}
        return Record(
            ids=people.ids,
            arms=people.arms,
            arm=people.arm,
            value=self.value,
            endpoint=self.endpoint,
            visit=self.visit,
            population=people.population,
            unit=self.unit,
            estimand=self.estimand,
            covariates=whole,
            factors=varied,
            dose=people.dose,
            dose_unit=people.dose_unit,
        )


@dataclass(frozen=True, eq=False)
class RepeatedOutcome:
    """One outcome a patient and visit; immutable.

    Parameters
    ----------
    patients
        The patients.
    visits
        Names, in order.
    value : shape (patient, visit)
        NaN where not observed, or set aside.
    endpoint, unit
        What, and in what.
    estimand
        The question without visit and summary, which the method gives.
    event : shape (patient,)
        First visit after the patient's intercurrent event; the number of visits where there was none.
    event_name
        Name of that event, empty where there was none.
    score : shape (patient, visit)
        Prognostic score of each visit.
    times : shape (visit,)
        Days of the visits, for spatial covariances.

    Raises
    ------
    DataError
        If shapes differ, or an arm has fewer than two outcomes at a visit.
    """

    patients: Patients
    visits: tuple[str, ...]
    value: Float[np.ndarray, "patient visit"]
    endpoint: str
    unit: str
    estimand: Estimand
    event: Int[np.ndarray, " patient"]
    event_name: tuple[str, ...] = field(default=())
    score: Float[np.ndarray, "patient visit"] | None = None
    times: Float[np.ndarray, " visit"] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.patients), len(self.visits))
        for name, array in (("outcomes", self.value), ("scores", self.score)):
            if array is not None and array.shape != shape:
                raise DataError(f"{name} of shape {array.shape} for {shape[0]} patients and {shape[1]} visits")
        for k, visit in enumerate(self.visits):
            _require_arms(self.patients, np.isfinite(self.value[:, k]), f"{self.endpoint}, {visit}")
        object.__setattr__(self, "value", frozen(self.value))

    def pair(self, reference: int, treated: int) -> "RepeatedOutcome":
        """Return two arms only, the reference first."""
        people, rows = self.patients.pair(reference, treated)
        return replace(
            self,
            patients=people,
            value=self.value[rows],
            event=self.event[rows],
            event_name=tuple(name for name, kept in zip(self.event_name, rows, strict=True) if kept),
            score=None if self.score is None else self.score[rows],
        )


@dataclass(frozen=True, eq=False)
class SurvivalOutcome:
    """A time to an event a patient; immutable.

    Parameters
    ----------
    patients
        The patients.
    time : shape (patient,)
        Time to the event or to censoring, in ``unit``.
    event : shape (patient,)
        Whether the time ended in the event.
    endpoint, unit
        What, and the unit of time.
    estimand
        The question without its summary, which the method gives.

    Raises
    ------
    DataError
        If lengths differ, a time is negative or missing, or an arm has fewer than two patients.
    """

    patients: Patients
    time: Float[np.ndarray, " patient"]
    event: Bool[np.ndarray, " patient"]
    endpoint: str
    unit: str
    estimand: Estimand

    def __post_init__(self) -> None:
        n = len(self.patients)
        if self.time.shape != (n,) or self.event.shape != (n,):
            raise DataError(f"{len(self.time)} times and {len(self.event)} events of {n} subjects")
        wrong = ~(np.isfinite(self.time) & (self.time >= 0))
        if wrong.any():
            raise DataError(
                f"{int(wrong.sum())} times to {self.endpoint} are negative or missing",
                where=name_subjects(self.patients.ids, wrong),
                do="count time from randomisation, and censor patients who were not followed",
            )
        _require_arms(self.patients, np.ones(n, dtype=bool), self.endpoint)
        object.__setattr__(self, "time", frozen(self.time))
        object.__setattr__(self, "event", frozen(self.event))


def _require_arms(patients: Patients, seen: Bool[np.ndarray, " patient"], where: str) -> None:
    """Refuse an arm with fewer than two outcomes."""
    counts = np.bincount(patients.arm[seen], minlength=len(patients.arms))
    few = [f"{name} ({n})" for name, n in zip(patients.arms, counts, strict=True) if n < 2]
    if few:
        raise DataError(
            f"arm(s) with fewer than two outcomes: {', '.join(few)}",
            where=f"{where}, {patients.population}",
            do="check the parameter, the visit and the record flag, or leave the arm or the visit out",
        )
