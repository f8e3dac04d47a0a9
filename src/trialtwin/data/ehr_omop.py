"""OMOP-shaped Parquet tables: person, measurement, drug_exposure, condition_occurrence.

Codes are concept identifiers as text, units are ``unit_concept_id`` as text (``""`` where it is 0 or missing). Only
``person`` must be there; a table that is not there has no records. Common Data Model 5.4,
https://ohdsi.github.io/CommonDataModel/cdm54.html.
"""

from datetime import date, datetime
from pathlib import Path

import polars as pl

from trialtwin.core.errors import DataError
from trialtwin.data.ehr import Entry, HealthRecords, Person, RecordKind
from trialtwin.data.files import require_folder
from trialtwin.data.tabular import read_parquet

TABLES: dict[str, tuple[RecordKind, str, str]] = {
    "measurement": ("measurement", "measurement_concept_id", "measurement_date"),
    "drug_exposure": ("drug", "drug_concept_id", "drug_exposure_start_date"),
    "condition_occurrence": ("condition", "condition_concept_id", "condition_start_date"),
}
FEMALE, MALE = 8532, 8507


def read_omop(folder: Path | str) -> HealthRecords:
    """Read a folder of Parquet files named as the tables are.

    A date of birth needs ``year_of_birth``; a month or day that is missing is 1 July, or the 15th of the month.

    Raises
    ------
    DataError
        If there is no ``person.parquet``, a date or a concept is missing, or a person repeats; with file and row.
    MismatchError
        If a column is missing.
    """
    folder = Path(folder)
    require_folder(folder)
    entries: list[Entry] = []
    for table in TABLES:
        if (folder / f"{table}.parquet").exists():
            entries += _entries(folder / f"{table}.parquet", table)
    return HealthRecords(_people(folder / "person.parquet"), tuple(entries), str(folder))


def _people(path: Path) -> dict[str, Person]:
    data = read_parquet(path)
    data.require("person_id", "year_of_birth", "gender_concept_id", purpose="as OMOP's person table")
    people: dict[str, Person] = {}
    for row, line in enumerate(data.frame.iter_rows(named=True)):
        name = _concept(line["person_id"], path, row, "person_id")
        if name in people:
            raise DataError(f"person {name} repeats", where=f"{path}: row {row + 1}")
        year, month, day = (line.get(f"{part}_of_birth") for part in ("year", "month", "day"))
        born = None if year is None else date(int(year), int(month or 7), int(day or (15 if month else 1)))
        sex = line["gender_concept_id"]
        people[name] = Person(born, bool(sex == FEMALE) if sex in (FEMALE, MALE) else None)
    return people


def _entries(path: Path, table: str) -> list[Entry]:
    kind, concept, when = TABLES[table]
    data = read_parquet(path)
    measured = ("value_as_number", "unit_concept_id") if kind == "measurement" else ()
    data.require("person_id", concept, when, *measured, purpose=f"as OMOP's {table} table")
    for name in measured:
        if not (data.frame.schema[name].is_numeric() or data.frame[name].null_count() == data.frame.height):
            raise DataError(f"{name} holds values that are no numbers", where=str(path))
    if data.frame.schema[when] not in (pl.Date, pl.Datetime):
        raise DataError(f"{when} holds no dates", where=str(path), do="store it as a date")
    found = []
    for row, line in enumerate(data.frame.iter_rows(named=True)):
        day, unit = line[when], line.get("unit_concept_id")
        if day is None:
            raise DataError(f"{when} is missing", where=f"{path}: row {row + 1}")
        found.append(
            Entry(
                _concept(line["person_id"], path, row, "person_id"),
                kind,
                frozenset({_concept(line[concept], path, row, concept)}),
                day.date() if isinstance(day, datetime) else day,
                line.get("value_as_number"),
                str(int(unit)) if unit else "",
            )
        )
    return found


def _concept(value: object, path: Path, row: int, what: str) -> str:
    if value is None:
        raise DataError(f"{what} is missing", where=f"{path}: row {row + 1}")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
