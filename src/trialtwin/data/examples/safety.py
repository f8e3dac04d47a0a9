"""ADAE and ADTTE of the example trial: adverse events up to the end of study, and the time to the first skin event."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from trialtwin.data.dataset import DataSet, Storage
from trialtwin.data.examples.columns import dataset, dates, flags, unless
from trialtwin.data.examples.design import DERMATOLOGIC, EVENTS, FATAL
from trialtwin.data.examples.follow import DEAD, SEVERITIES
from trialtwin.data.examples.simulation import Simulation
from trialtwin.data.examples.subjects import first_doses

ADAE = "ADAE"
CRITERIA = ("AESCAN", "AESCONG", "AESDISAB", "AESDTH", "AESHOSP", "AESLIFE")
_C, _N, _D = Storage.CHAR, Storage.NUM, Storage.DATE


@dataclass(frozen=True, eq=False)
class Recorded:
    """Adverse events as recorded, by patient and first day; ``last`` is 0 where the event had not ended."""

    patient: np.ndarray
    first: np.ndarray
    last: np.ndarray
    term: tuple[str, ...]
    system: tuple[str, ...]
    severity: np.ndarray
    serious: np.ndarray
    fatal: np.ndarray
    skin: np.ndarray
    undated: np.ndarray
    sequence: np.ndarray


def record_events(drawn: Simulation) -> Recorded:
    """Keep the events that began before the patient left, and add those that patients died of."""
    events, stay = drawn.events, drawn.stay
    keep = events.first <= stay.last_day[events.patient]
    dead = np.flatnonzero(stay.reason == DEAD)
    died = stay.last_day[dead]
    patient = np.concatenate([events.patient[keep], dead])
    first = np.concatenate([events.first[keep], died])
    last = np.concatenate([np.where(events.last > stay.last_day[events.patient], 0, events.last)[keep], died])
    fatal = np.arange(len(patient)) >= int(keep.sum())
    order = np.lexsort((fatal, first, patient))
    term = np.array([*(EVENTS[k].term for k in events.kind[keep]), *([FATAL[0]] * len(dead))])[order]
    system = np.array([*(EVENTS[k].system for k in events.kind[keep]), *([FATAL[1]] * len(dead))])[order]
    skin = np.array([*(EVENTS[k].dermatologic for k in events.kind[keep]), *([False] * len(dead))], dtype=bool)[order]
    severity = np.concatenate([events.severity[keep], np.full(len(dead), len(SEVERITIES) - 1)])[order]
    serious = np.concatenate([events.serious[keep], np.ones(len(dead), dtype=bool)])[order]
    undated = np.concatenate([events.undated[keep], np.zeros(len(dead), dtype=bool)])[order]
    patient = patient[order]
    start = np.searchsorted(patient, patient)
    sequence = np.arange(len(patient)) - start + 1
    names = (tuple(map(str, term)), tuple(map(str, system)))
    return Recorded(
        patient, first[order], last[order], *names, severity, serious, fatal[order], skin, undated, sequence
    )


def event_table(drawn: Simulation, subjects: DataSet, events: Recorded) -> DataSet:
    """Write down the adverse events, one row each."""
    adsl, rows = subjects.frame, events.patient
    firsts = first_doses(drawn.people)
    start = [firsts[i] for i in rows]
    ended = events.last != 0
    outcome = np.where(events.fatal, "FATAL", np.where(ended, "RECOVERED/RESOLVED", "NOT RECOVERED/NOT RESOLVED"))
    length = _days_between(events.first, events.last)
    met = {"AESDTH": events.fatal, "AESHOSP": events.serious & ~events.fatal}
    never = np.zeros(len(rows), dtype=bool)
    columns = [
        *_copied(subjects, rows, ("STUDYID", "SITEID", "USUBJID")),
        ("TRTA", _C, "Actual Treatment", adsl["TRT01A"].gather(rows)),
        ("TRTAN", _N, "Actual Treatment (N)", adsl["TRT01AN"].gather(rows)),
        *_copied(subjects, rows, ("AGE", "SEX", "RACE", "SAFFL", "TRTSDT", "TRTEDT")),
        ("ASTDT", _D, "Analysis Start Date", unless(events.undated, dates(start, events.first))),
        ("ASTDY", _N, "Analysis Start Relative Day", unless(events.undated, events.first.astype(float).tolist())),
        ("AENDT", _D, "Analysis End Date", unless(~ended, dates(start, np.where(ended, events.last, 1)))),
        ("AENDY", _N, "Analysis End Relative Day", unless(~ended, events.last.astype(float).tolist())),
        ("ADURN", _N, "AE Duration (N)", unless(~ended | events.undated, length.astype(float).tolist())),
        ("ADURU", _C, "AE Duration Units", unless(~ended | events.undated, ["DAY"] * len(rows))),
        ("AETERM", _C, "Reported Term for the Adverse Event", events.term),
        ("AEDECOD", _C, "Dictionary-Derived Term", events.term),
        ("AEBODSYS", _C, "Body System or Organ Class", events.system),
        ("AESEV", _C, "Severity/Intensity", [SEVERITIES[k] for k in events.severity]),
        ("AESER", _C, "Serious Event", flags(events.serious)),
        *((name, _C, f"Criterion of seriousness {name}", flags(met.get(name, never))) for name in CRITERIA),
        ("AEOUT", _C, "Outcome of Adverse Event", outcome.tolist()),
        ("AESEQ", _N, "Sequence Number", events.sequence.astype(float)),
        ("TRTEMFL", _C, "Treatment Emergent Analysis Flag", flags(events.first >= 1)),
        ("CQ01NAM", _C, "Customized Query 01 Name", unless(~events.skin, [DERMATOLOGIC] * len(rows))),
    ]
    return dataset(ADAE, "Adverse Events Analysis Dataset", columns)


def time_table(drawn: Simulation, subjects: DataSet, events: Recorded) -> DataSet:
    """Write down the time to the first treatment-emergent dermatologic event, censored at the end of study."""
    n = len(drawn.people)
    chosen = np.flatnonzero(events.skin & (events.first >= 1))
    chosen = chosen[np.unique(events.patient[chosen], return_index=True)[1]]
    happened = np.zeros(n, dtype=bool)
    happened[events.patient[chosen]] = True
    day, sequence = drawn.stay.last_day.copy(), np.zeros(n)
    day[events.patient[chosen]] = events.first[chosen]
    sequence[events.patient[chosen]] = events.sequence[chosen]
    adsl, rows = subjects.frame, np.arange(n)
    firsts = first_doses(drawn.people)
    columns = [
        *_copied(subjects, rows, ("STUDYID", "SITEID", "USUBJID", "AGE", "SEX", "RACE", "TRTSDT", "TRTEDT")),
        ("TRTP", _C, "Planned Treatment", adsl["TRT01P"]),
        ("TRTA", _C, "Actual Treatment", adsl["TRT01A"]),
        ("TRTAN", _N, "Actual Treatment (N)", adsl["TRT01AN"]),
        ("PARAM", _C, "Parameter", ["Time to First Dermatologic Event (Days)"] * n),
        ("PARAMCD", _C, "Parameter Code", ["TTDE"] * n),
        ("AVAL", _N, "Analysis Value", day.astype(float)),
        ("STARTDT", _D, "Time to Event Origin Date for Subject", firsts),
        ("ADT", _D, "Analysis Date", dates(firsts, day)),
        ("CNSR", _N, "Censor", (~happened).astype(float)),
        ("EVNTDESC", _C, "Event or Censoring Description", _described(happened)),
        ("SRCDOM", _C, "Source Data", [ADAE if h else "ADSL" for h in happened]),
        ("SRCVAR", _C, "Source Variable", ["ASTDT" if h else "EOSDT" for h in happened]),
        ("SRCSEQ", _N, "Source Sequence Number", unless(~happened, sequence.tolist())),
        *_copied(subjects, rows, ("SAFFL",)),
    ]
    return dataset("ADTTE", "Time to Event Analysis Dataset", columns)


def _described(happened: np.ndarray) -> list[str]:
    """Say what each time ends with."""
    return ["Dermatologic event" if h else "End of study" for h in happened]


def _days_between(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Count the days of an event, both ends included; there is no day 0."""
    return last - first + 1 - ((first < 0) & (last > 0))


def _copied(subjects: DataSet, rows: np.ndarray, names: tuple[str, ...]) -> list[tuple[str, Storage, str, pl.Series]]:
    """Copy variables of ADSL."""
    fields = {field.name: field for field in subjects.fields}
    return [(name, fields[name].storage, fields[name].label, subjects.frame[name].gather(rows)) for name in names]
