"""Dose and observation records as NONMEM has them: ID TIME AMT EVID MDV DV CMT RATE ADDL II SS.

What each record means here:

- EVID 0 observation, 1 dose, 2 neither (its row number is returned); 3 reset and 4 reset-and-dose only as the first
  record of a subject, where there is nothing to reset, because doses alone cannot say that a system is emptied.
  Without EVID: a dose where AMT is positive, else 2 where MDV is 1, else an observation (NM-TRAN's rule).
- RATE 0 is a bolus, a positive RATE an infusion of AMT / RATE; RATE −1 and −2 ask a model for rate or duration and are
  refused, as are all negative ones.
- ADDL further doses follow at intervals II, whatever comes between.
- SS other than 0 is refused: how many doses make a steady state depends on a model that is not known here. Write the
  doses that lead to it with ADDL and II.
- EVID of 100 and above is the classic code of RxODE and nlmixr, not NONMEM's, and is refused.

Source: NONMEM 7 Users Guide, part VI (PREDPP), chapters on event records and their data items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.cohort import Doses
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.files import write_bytes
from trialtwin.data.cells import Cells, parse_number, read_cells

DAYS = {"days": 1.0, "hours": 24.0, "minutes": 1440.0}
"""How many of a unit of time make a day."""
_MISSING = frozenset(("", ".", "NA"))
_ITEMS = ("TIME", "AMT", "EVID", "MDV", "DV", "CMT", "RATE", "ADDL", "II", "SS")
_OBSERVATION, _DOSE, _OTHER, _RESET, _RESET_DOSE = range(5)


@dataclass(frozen=True, eq=False)
class Observations:
    """Measurements of a dose-record file: subject (position in ``DoseRecords.ids``), time in days, value, compartment.

    ``value`` is NaN where MDV is 1: a time at which a prediction is wanted and nothing was measured. ``compartment`` is
    0 where the file has no CMT.
    """

    patient: Int[np.ndarray, " row"]
    time: Float[np.ndarray, " row"]
    value: Float[np.ndarray, " row"]
    compartment: Int[np.ndarray, " row"]


@dataclass(frozen=True, eq=False)
class DoseRecords:
    """A dose-record file: subjects in order, expanded doses, observations, and the lines of other records (EVID 2)."""

    ids: tuple[str, ...]
    doses: Doses
    observations: Observations
    others: tuple[int, ...]
    source: str
    sha256: str


@dataclass
class _Record:
    """One row of the file, with the value of each item; ``None`` where missing."""

    line: int
    subject: str
    items: Mapping[str, float | None]
    source: str

    def get(self, item: str, default: float = 0.0) -> float:
        value = self.items.get(item)
        return default if value is None else value

    def fault(self, what: str, do: str) -> DataError:
        return DataError(what, where=f"{self.source}: line {self.line}, ID {self.subject}", do=do)


def read_doses(
    path: Path | str, *, unit: str, mapping: Mapping[str, str] | None = None, separator: str = ","
) -> DoseRecords:
    r"""Read dose and observation records from a CSV file.

    TIME 0 of the file is taken as baseline. Missing is an empty cell, ".", or "NA".

    Parameters
    ----------
    path
        The file; needs ID, TIME, and AMT or DV. Columns other than NONMEM's are left aside.
    unit
        Unit of TIME and II: "days", "hours" or "minutes". RATE is in amount per that unit.
    mapping
        NONMEM's item to the file's column, such as ``{"DV": "conc"}``.
    separator
        Between columns.

    Raises
    ------
    ConfigError
        If the unit is unknown.
    DataError
        If the file is missing or a record makes no sense, with line and subject.
    MismatchError
        If a column is missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "doses.csv"
    ...     _ = file.write_text("ID,TIME,AMT,RATE,ADDL,II,EVID,DV\n1,0,100,50,2,24,1,.\n1,3,.,.,.,.,0,7.5\n")
    ...     records = read_doses(file, unit="hours")
    >>> records.doses.time.tolist(), (24 * records.doses.duration).tolist(), records.observations.value.tolist()
    ([0.0, 1.0, 2.0], [2.0, 2.0, 2.0], [7.5])
    """
    per_day = _per_day(unit)
    cells = read_cells(path, separator=separator)
    records = _records(cells, mapping or {})
    firsts = _first_records(records)
    patient = -1
    doses: list[tuple[int, float, float, float, int]] = []
    seen: list[tuple[int, float, float, int]] = []
    others: list[int] = []
    for record in records:
        first = firsts[record.subject] is record
        patient += first
        event = _event(record, first=first)
        if event == _OBSERVATION:
            seen.append(_observation(record, patient, per_day))
        elif event == _OTHER:
            others.append(record.line)
        elif event in (_DOSE, _RESET_DOSE):
            doses += _expand(record, patient, per_day)
    doses.sort(key=lambda dose: dose[:2])
    return DoseRecords(tuple(firsts), _doses(doses), _observations(seen), tuple(others), cells.source, cells.sha256)


def write_doses(
    doses: Doses,
    ids: tuple[str, ...],
    path: Path | str,
    *,
    unit: str,
    observations: Observations | None = None,
) -> None:
    """Write doses, and observations where given, as a NONMEM CSV file, one row each, by subject and time.

    Doses stand before observations of the same time. RATE is amount / duration, 0 for a bolus. A subject without
    doses and observations has no row.

    Raises
    ------
    ConfigError
        If the unit is unknown.
    DataError
        If a subject identifier or a number cannot be written so that it is read back.
    MachineError
        If the disk is full or the folder cannot be written to; nothing is left behind then.
    """
    per_day = _per_day(unit)
    _check_written(doses, ids, observations)
    rows: list[tuple[int, float, int, str]] = []
    for patient, time, amount, duration, compartment in zip(
        doses.patient, doses.time, doses.amount, doses.duration, doses.compartment, strict=True
    ):
        rate = float(amount) / (float(duration) * per_day) if duration > 0 else 0.0
        text = f"{float(amount)!r},1,1,.,{int(compartment)},{rate!r}"
        rows.append((int(patient), float(time), 0, text))
    if observations is not None:
        for patient, time, value, compartment in zip(
            observations.patient, observations.time, observations.value, observations.compartment, strict=True
        ):
            blank = bool(np.isnan(value))
            text = f"0,0,{int(blank)},{'.' if blank else repr(float(value))},{int(compartment) or '.'},0"
            rows.append((int(patient), float(time), 1, text))
    rows.sort(key=lambda row: row[:3])
    lines = ["ID,TIME,AMT,EVID,MDV,DV,CMT,RATE"]
    lines += [f"{ids[patient]},{time * per_day!r},{text}" for patient, time, _, text in rows]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _per_day(unit: str) -> float:
    """Return how many of a unit make a day."""
    if unit not in DAYS:
        raise ConfigError(f"unknown unit of time {unit!r}", exists=DAYS)
    return DAYS[unit]


def _records(cells: Cells, mapping: Mapping[str, str]) -> list[_Record]:
    """Read the items of each row as numbers."""
    theirs = {item: mapping.get(item, item) for item in ("ID", *_ITEMS)}
    wrong = [
        f"{column} (for {item})" for item, column in theirs.items() if item in mapping and column not in cells.header
    ]
    lacking = [theirs[item] for item in ("ID", "TIME") if theirs[item] not in cells.header]
    if wrong or lacking:
        raise MismatchError(
            f"the dose records have no column {', '.join(wrong or lacking)}",
            where=cells.source,
            exists=cells.header,
            do="map NONMEM's items to the file's columns, such as mapping={'TIME': 'time'}",
        )
    dated = [name for name in cells.header if name in ("DATE", "DAT1", "DAT2", "DAT3")]
    if dated:
        raise DataError(
            f"with {dated[0]}, TIME is a time of day; times since baseline are read here",
            where=cells.source,
            do="replace both by one TIME in days, hours or minutes since baseline",
        )
    if not {theirs["AMT"], theirs["DV"]} & set(cells.header):
        raise MismatchError("the records have neither AMT nor DV", where=cells.source, exists=cells.header)
    if not cells.rows:
        raise DataError("the file has a header and no records", where=cells.source)
    place = {item: cells.header.index(theirs[item]) for item in ("ID", *_ITEMS) if theirs[item] in cells.header}
    return [_record(row, line, place, cells.source) for row, line in zip(cells.rows, cells.lines, strict=True)]


def _record(row: tuple[str, ...], line: int, place: Mapping[str, int], source: str) -> _Record:
    """Read one row."""
    subject = row[place["ID"]].strip()
    items: dict[str, float | None] = {}
    record = _Record(line, subject, items, source)
    if subject in _MISSING:
        raise record.fault("a record has no ID", "give every record its subject")
    for item, index in place.items():
        if item == "ID":
            continue
        text = row[index].strip()
        try:
            items[item] = None if text in _MISSING else parse_number(text)
        except ValueError:
            raise record.fault(f"{item} = {text!r} is no number", "correct the value, or leave it empty") from None
    if items["TIME"] is None:
        raise record.fault("a record has no TIME", "give every record its time")
    for item in ("EVID", "MDV", "CMT", "ADDL", "SS"):
        if not record.get(item).is_integer():
            raise record.fault(f"{item} = {record.get(item):g} is no whole number", "correct the value")
    return record


def _first_records(records: list[_Record]) -> dict[str, _Record]:
    """Return each subject's first record, in the file's order, and refuse records that are out of order."""
    firsts: dict[str, _Record] = {}
    previous: _Record | None = None
    for record in records:
        if previous is None or previous.subject != record.subject:
            if record.subject in firsts:
                raise record.fault("records of one subject stand in two places", "sort the file by ID and TIME")
            firsts[record.subject] = record
        elif record.get("TIME") < previous.get("TIME"):
            raise record.fault("TIME goes backwards", "sort the file by ID and TIME")
        previous = record
    return firsts


def _event(record: _Record, *, first: bool) -> int:
    """Return EVID, given or inferred, and refuse records that contradict it."""
    amount, given = record.get("AMT"), record.items.get("EVID")
    if given is None:
        event = _DOSE if amount > 0 else _OTHER if record.get("MDV") == 1 else _OBSERVATION
    else:
        event = int(given)
    if event >= 100:
        raise record.fault(
            f"EVID = {event} is the classic code of RxODE and nlmixr (100 × compartment + 1), not NONMEM's",
            "set EVID to 1 and CMT to the compartment; for infusions set RATE",
        )
    if not _OBSERVATION <= event <= _RESET_DOSE:
        raise record.fault(f"EVID = {event} does not exist", "use 0 (observation), 1 (dose), 2, 3 or 4")
    if event in (_RESET, _RESET_DOSE) and not first:
        raise record.fault(
            f"EVID = {event} resets the system, which doses alone cannot say",
            "give the records after the reset an ID of their own",
        )
    if amount < 0:
        raise record.fault(f"AMT = {amount:g} is negative", "correct the dose")
    if event in (_OBSERVATION, _OTHER, _RESET) and (amount or record.get("RATE") or record.get("ADDL")):
        raise record.fault(f"a record with EVID = {event} has a dose", "set EVID to 1, or AMT, RATE and ADDL to 0")
    if event in (_DOSE, _RESET_DOSE) and record.items.get("MDV") == 0:
        raise record.fault("a dose has MDV = 0, which says that DV was measured", "set MDV to 1")
    return event


def _observation(record: _Record, patient: int, per_day: float) -> tuple[int, float, float, int]:
    """Read an observation."""
    mdv = record.items.get("MDV")
    if mdv not in (None, 0.0, 1.0):
        raise record.fault(f"MDV = {mdv:g}; it is 0 or 1", "correct the value")
    value = float("nan") if mdv == 1 else record.items.get("DV")
    if value is None:
        raise record.fault("an observation has no DV", "set MDV to 1, or leave the record out")
    return patient, record.get("TIME") / per_day, value, int(record.get("CMT"))


def _expand(record: _Record, patient: int, per_day: float) -> list[tuple[int, float, float, float, int]]:
    """Turn a dose record into administrations."""
    amount, rate, count, interval = (record.get(item) for item in ("AMT", "RATE", "ADDL", "II"))
    compartment = int(record.get("CMT")) or 1
    if record.get("SS"):
        raise record.fault(
            f"SS = {record.get('SS'):g}: how many doses make a steady state depends on the model",
            "set SS to 0 and write the doses that lead to it with ADDL and II",
        )
    if rate < 0:
        why = {-1.0: "asks the model for the rate", -2.0: "asks the model for the duration"}.get(rate, "is negative")
        raise record.fault(f"RATE = {rate:g} {why}", "give the rate of the infusion, or 0 for a bolus")
    if amount == 0:
        raise record.fault("a dose has AMT = 0", "give the dose, or set EVID to 2")
    if compartment < 0:
        raise record.fault(f"CMT = {compartment} switches a compartment off", "give the compartment of the dose")
    if count < 0 or interval < 0:
        raise record.fault(f"ADDL = {count:g} and II = {interval:g}; both are 0 or more", "correct the values")
    if count and not interval:
        raise record.fault(f"ADDL = {count:g} further doses, and II is missing", "give the interval between doses (II)")
    duration = amount / rate / per_day if rate else 0.0
    start = record.get("TIME")
    return [(patient, (start + k * interval) / per_day, amount, duration, compartment) for k in range(int(count) + 1)]


def _doses(rows: list[tuple[int, float, float, float, int]]) -> Doses:
    """Make arrays of administrations."""
    table = np.array(rows, dtype=float).reshape(len(rows), 5)
    return Doses(
        patient=table[:, 0].astype(np.int64),
        time=table[:, 1],
        amount=table[:, 2],
        duration=table[:, 3],
        compartment=table[:, 4].astype(np.int64),
    )


def _observations(rows: list[tuple[int, float, float, int]]) -> Observations:
    """Make arrays of observations."""
    table = np.array(rows, dtype=float).reshape(len(rows), 4)
    return Observations(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3].astype(np.int64))


def _check_written(doses: Doses, ids: tuple[str, ...], observations: Observations | None) -> None:
    """Refuse what could not be read back."""
    odd = [name for name in ids if name != name.strip() or name in _MISSING or set(name) & set(',"\r\n')]
    if odd or len(set(ids)) < len(ids):
        raise DataError(f"subject identifiers cannot be written to a CSV file: {odd[:5] or 'they repeat'}")
    arrays = [doses.time, doses.amount, doses.duration]
    if observations is not None:
        arrays.append(observations.time)
    if not all(np.isfinite(array).all() for array in arrays) or (doses.amount <= 0).any() or (doses.duration < 0).any():
        raise DataError("doses must be positive, durations not negative, and times finite numbers")
