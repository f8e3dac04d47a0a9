"""A simulated trial as ADaM data sets: ADSL, measurements over time (ADQS), and days of events (ADTTE)."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl
from jaxtyping import Bool

from trialtwin.data.cdisc import TrialTables
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.trials.design import Design
from trialtwin.trials.intercurrent import death
from trialtwin.trials.simulate import Trials

type Column = tuple[str, Storage, str, Sequence[object] | np.ndarray]

FIRST_IN = date(2025, 1, 6)  # the day of the first patient: a trial that never was has no true date
_C, _N, _D = Storage.CHAR, Storage.NUM, Storage.DATE


def trial_tables(design: Design, trials: Trials, study: str, number: int = 0) -> TrialTables:
    """Return one of the simulated trials as the data sets of a trial.

    ADSL has a row a patient who entered before the analysis: arm, stratum, score, day of entry, and how the trial
    ended. ADQS has a row a value that was measured, those that the estimand sets aside included (``ANL01FL`` blank),
    with flags of treatment (``ONTRTFL``) and of rescue (``RESCFL``), of a responder also whether the criterion is met
    (``CRIT1FL``); or a row a response; or two a patient: a number of events and the days at risk. ADTTE has the times
    of a time-to-event endpoint and, a row a patient and event, those of intercurrent events, censored where they did
    not happen. Visits lie on their planned days; study day 1 is that of entry.
    """
    inside = trials.exposure[number] > 0
    one = Trials(*(column[number : number + 1, inside] for column in trials))
    ids = [f"{study}-{k + 1:05d}" for k in range(len(one.arm[0]))]
    kind = design.endpoint.kind
    found = _measurements if design.endpoint.measured else _outcomes
    return TrialTables(
        subjects=_subjects(design, one, study, ids),
        findings={} if kind == "time to event" else {"ADQS": found(design, one, study, ids)},
        times=_times(design, one, study, ids),
    )


def visit_name(day: float) -> str:
    """Return the name of a visit.

    Examples
    --------
    >>> visit_name(0), visit_name(84), visit_name(30)
    ('Baseline', 'Week 12', 'Day 30')
    """
    return "Baseline" if day == 0 else f"Week {day / 7:g}" if day % 7 == 0 else f"Day {day:g}"


def completed(design: Design, trials: Trials) -> Bool[np.ndarray, "trial patient"]:
    """Tell who was in the trial to its last visit, alive."""
    died = np.stack([death(design, events) for events in trials.events])
    return np.asarray(np.minimum(trials.left, died) > design.visits[-1])


def _subjects(design: Design, one: Trials, study: str, ids: list[str]) -> DataSet:
    """Write down the patients."""
    arm = one.arm[0]
    names, strata = [design.names[a] for a in arm], design.randomisation.strata
    died = death(design, one.events[0])
    stays = completed(design, one)[0]
    last = _last(design, one)
    entered = np.floor(one.entered[0])
    columns: list[Column] = [
        *_identity(study, ids),
        ("ARM", _C, "Description of Planned Arm", names),
        ("TRT01P", _C, "Planned Treatment for Period 01", names),
        ("TRT01PN", _N, "Planned Treatment for Period 01 (N)", arm.astype(float)),
        ("TRT01A", _C, "Actual Treatment for Period 01", names),
        ("ITTFL", _C, "Intent-To-Treat Population Flag", ["Y"] * len(ids)),
        ("STRATAR", _C, "Strata Used for Randomization", [strata.words(k) if strata else None for k in one.stratum[0]]),
        ("PROGSCR", _N, "Prognostic Score of the Twin", one.score[0]),
        ("ENTRYDY", _N, "Days from First Patient In to Entry", entered),
        ("RANDDT", _D, "Date of Randomization", [FIRST_IN + timedelta(days=int(d)) for d in entered]),
        ("EOSSTT", _C, "End of Study Status", ["COMPLETED" if s else "DISCONTINUED" for s in stays]),
        ("EOSDY", _N, "Study Day of End of Study", np.floor(last) + 1),
        ("DTHFL", _C, "Subject Death Flag", _flags(np.isfinite(died))),
    ]
    return _dataset("ADSL", "Subject-Level Analysis Dataset", columns)


def _last(design: Design, one: Trials) -> np.ndarray:
    """Return the day since entry on which each patient was seen last."""
    end = one.exposure[0] if design.endpoint.kind == "time to event" else design.visits[-1]
    return np.minimum(np.minimum(one.left[0], death(design, one.events[0])), end)


def _outcomes(design: Design, one: Trials, study: str, ids: list[str]) -> DataSet:
    """Write down responses, or numbers of events with the days at risk."""
    known = np.flatnonzero(np.isfinite(one.outcome[0]))
    parts = [(design.endpoint.paramcd, _label(design), one.outcome[0][known])]
    if design.endpoint.kind == "count":
        parts.append(("DAYSRISK", "Days at Risk", one.exposure[0][known]))
    patient = np.tile(known, len(parts))
    last = design.visits[-1]
    columns: list[Column] = [
        *_identity(study, [ids[k] for k in patient]),
        *_treatment(design, one, patient),
        ("PARAMCD", _C, "Parameter Code", [part[0] for part in parts for _ in known]),
        ("PARAM", _C, "Parameter", [part[1] for part in parts for _ in known]),
        ("AVISIT", _C, "Analysis Visit", [visit_name(last)] * len(patient)),
        ("AVISITN", _N, "Analysis Visit (N)", np.full(len(patient), last)),
        ("AVAL", _N, "Analysis Value", np.concatenate([part[2] for part in parts])),
        ("ANL01FL", _C, "Analysis Flag 01", ["Y"] * len(patient)),
    ]
    return _dataset("ADQS", f"Outcome: {design.endpoint.name}"[:200], columns)


def _measurements(design: Design, one: Trials, study: str, ids: list[str]) -> DataSet:
    """Write down what was measured, a row a value."""
    days = np.array(design.visits)
    patient, visit = np.nonzero(np.isfinite(one.measured[0]))
    day, value, base = days[visit], one.measured[0][patient, visit], one.measured[0][patient, 0]
    columns: list[Column] = [
        *_identity(study, [ids[k] for k in patient]),
        *_treatment(design, one, patient),
        *_parameter(design.endpoint.paramcd, _label(design), len(patient)),
        ("AVISIT", _C, "Analysis Visit", [visit_name(d) for d in day]),
        ("AVISITN", _N, "Analysis Visit (N)", day),
        ("ADY", _N, "Analysis Relative Day", day + 1),
        ("AVAL", _N, "Analysis Value", value),
        ("BASE", _N, "Baseline Value", base),
        ("CHG", _N, "Change from Baseline", np.where(visit > 0, value - base, np.nan)),
        ("ABLFL", _C, "Baseline Record Flag", _flags(visit == 0)),
        ("ONTRTFL", _C, "On Treatment Record Flag", _flags(~_after(design, one, "stop", patient, day))),
        ("RESCFL", _C, "After Rescue Medication Flag", _flags(_after(design, one, "rescue", patient, day))),
        # a value that an event has replaced, or set aside, is not one that is analysed
        ("ANL01FL", _C, "Analysis Flag 01", _flags(one.values[0][patient, visit] == value)),
    ]
    threshold = design.endpoint.threshold
    if threshold is not None:
        sign = "<=" if design.endpoint.better == "lower" else ">="
        known = (visit == len(days) - 1) & np.isfinite(one.outcome[0][patient])
        met = np.where(known, np.where(one.outcome[0][patient] == 1, "Y", "N"), "")
        columns += [
            ("CRIT1", _C, "Analysis Criterion 1", [f"CHG {sign} {threshold:g}"] * len(patient)),
            ("CRIT1FL", _C, "Criterion 1 Evaluation Result Flag", [flag or None for flag in met.tolist()]),
        ]
    return _dataset("ADQS", f"Measurements of {design.endpoint.name}"[:200], columns)


def _times(design: Design, one: Trials, study: str, ids: list[str]) -> DataSet | None:
    """Write down days of intercurrent events, a row a patient and event."""
    last, end = _last(design, one), design.endpoint
    parts = [(end.paramcd, f"Time to {end.name} (Days)", one.exposure[0], one.outcome[0] == 1, end.name)]
    parts = parts if end.kind == "time to event" else []
    for k, name in enumerate(design.event_names):
        day = one.events[0][:, k]
        happened = np.isfinite(day)
        parts.append((f"ICE{k + 1}", f"Time to {name} (Days)", np.where(happened, day, last), happened, name))
    if not parts:
        return None
    patient, n = np.tile(np.arange(len(ids)), len(parts)), len(ids)
    happened = np.concatenate([part[3] for part in parts])
    columns: list[Column] = [
        *_identity(study, [ids[k] for k in patient]),
        *_treatment(design, one, patient),
        ("PARAMCD", _C, "Parameter Code", [part[0] for part in parts for _ in range(n)]),
        ("PARAM", _C, "Parameter", [part[1] for part in parts for _ in range(n)]),
        ("AVAL", _N, "Analysis Value", np.concatenate([part[2] for part in parts])),
        ("CNSR", _N, "Censor", (~happened).astype(float)),
        ("EVNTDESC", _C, "Event or Censoring Description", _described(parts, one, design)),
    ]
    return _dataset("ADTTE", "Time to Event Analysis Dataset", columns)


def _described(parts: Sequence[tuple[str, str, np.ndarray, np.ndarray, str]], one: Trials, design: Design) -> list[str]:
    """Say what each time ends with."""
    died = np.isfinite(death(design, one.events[0]))
    stays = completed(design, one)[0]
    censored = ["Death" if d else "End of study" if s else "Left the study" for d, s in zip(died, stays, strict=True)]
    return [part[4] if yes else other for part in parts for yes, other in zip(part[3].tolist(), censored, strict=True)]


def _after(design: Design, one: Trials, does: str, patient: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Tell which rows lie after an event that does this to the course."""
    chosen = [k for k, what in enumerate(design.event_effects) if what == does]
    first = one.events[0][:, chosen].min(axis=1, initial=np.inf)
    return np.asarray(day > first[patient])


def _identity(study: str, ids: Sequence[str]) -> list[Column]:
    return [
        ("STUDYID", _C, "Study Identifier", [study] * len(ids)),
        ("USUBJID", _C, "Unique Subject Identifier", ids),
        ("SUBJID", _C, "Subject Identifier for the Study", [name.rsplit("-", 1)[1] for name in ids]),
    ]


def _treatment(design: Design, one: Trials, patient: np.ndarray) -> list[Column]:
    arm = one.arm[0][patient]
    return [
        ("TRTP", _C, "Planned Treatment", [design.names[a] for a in arm]),
        ("TRTPN", _N, "Planned Treatment (N)", arm.astype(float)),
    ]


def _parameter(code: str, label: str, rows: int) -> list[Column]:
    return [("PARAMCD", _C, "Parameter Code", [code] * rows), ("PARAM", _C, "Parameter", [label] * rows)]


def _label(design: Design) -> str:
    end = design.endpoint
    return f"{end.name} ({end.unit})" if end.unit else end.name


def _flags(yes: np.ndarray) -> list[str | None]:
    return ["Y" if one else None for one in yes.tolist()]


def _dataset(name: str, label: str, columns: Sequence[Column]) -> DataSet:
    """Make a data set; numbers that are not finite are missing."""
    series, fields = [], []
    for column, kind, words, values in columns:
        if kind is Storage.NUM:
            made = pl.Series(column, np.asarray(values, dtype=float)).fill_nan(None)
        else:
            made = pl.Series(column, list(values), dtype=DTYPES[kind])
        longest = made.str.len_bytes().max() if kind is Storage.CHAR else None
        length = max(1, longest) if isinstance(longest, int) else 1 if kind is Storage.CHAR else None
        fields.append(Field(column, kind, words, length, "DATE9." if kind is Storage.DATE else ""))
        series.append(made)
    return DataSet(name, tuple(fields), pl.DataFrame(series), label, "simulated by trialtwin simulate")
