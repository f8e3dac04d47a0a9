"""FHIR R4 bundles in JSON: Patient, Observation, MedicationStatement, MedicationRequest, Condition.

A code is found plain (``"4548-4"``) and with its system (``"http://loinc.org|4548-4"``); the unit of a quantity is its
code, else its word. A date of which only month or year is known stands for its last day, so that nothing is taken as
known before it was. Resources that were entered in error are left out. https://hl7.org/fhir/R4/.
"""

import calendar
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from trialtwin.core.errors import DataError
from trialtwin.data.ehr import Entry, HealthRecords, Person
from trialtwin.data.files import read_bytes

WHEN = {
    "Observation": ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued"),
    "MedicationStatement": ("effectiveDateTime", "effectivePeriod", "dateAsserted"),
    "MedicationRequest": ("authoredOn",),
    "Condition": ("onsetDateTime", "onsetPeriod", "recordedDate"),
}
KIND = {"MedicationStatement": "drug", "MedicationRequest": "drug", "Condition": "condition"}
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:T.*)?)?)?")
_OUT = {"entered-in-error", "cancelled", "refuted", "not-taken", "not-done"}


def read_fhir(paths: Sequence[Path | str]) -> HealthRecords:
    """Read bundles; a patient may be spread over several.

    Raises
    ------
    DataError
        If a file is no bundle, or a resource lacks what it needs; with the file and the path inside it.
    """
    people: dict[str, Person] = {}
    entries: list[Entry] = []
    for path in paths:
        content, _ = read_bytes(path)
        try:
            bundle = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise DataError(f"this is no JSON: {error}", where=str(path)) from error
        if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
            raise DataError("this is no FHIR bundle: resourceType is not 'Bundle'", where=str(path))
        placed = list(_resources(bundle, str(path)))
        urls = {entry.get("fullUrl", ""): f"{one.get('resourceType')}/{one.get('id', '')}" for entry, one, _ in placed}
        drugs = {
            f"Medication/{one.get('id', '')}": one for _, one, _ in placed if one.get("resourceType") == "Medication"
        }
        for _, resource, where in placed:
            if resource.get("resourceType") == "Patient":
                people[_need(resource, "id", where)] = _person(resource, where)
            else:
                entries += _entries(resource, where, urls, drugs)
    return HealthRecords(people, tuple(entries), ", ".join(map(str, paths)))


def _resources(bundle: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """Yield each entry, its resource, and where that is."""
    for i, entry in enumerate(bundle.get("entry", [])):
        where = f"{path}: entry[{i}].resource"
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            raise DataError("an entry has no resource", where=where)
        yield entry, resource, where


def _person(resource: dict[str, Any], where: str) -> Person:
    born = resource.get("birthDate")
    sex = {"female": True, "male": False}.get(resource.get("gender", ""))
    return Person(None if born is None else _day(born, f"{where}.birthDate"), sex)


def _entries(
    resource: dict[str, Any], where: str, urls: dict[str, str], drugs: dict[str, dict[str, Any]]
) -> Iterator[Entry]:
    """Yield the records of a resource: one, or one a component of an observation."""
    kind = resource.get("resourceType", "")
    if kind not in WHEN or _is_out(resource):
        return
    subject = _need(_need(resource, "subject", where), "reference", f"{where}.subject")
    person = urls.get(subject, subject).removeprefix("Patient/")
    day = _when(resource, WHEN[kind], where)
    if kind != "Observation":
        yield Entry(person, KIND[kind], _codes_of(resource, where, urls, drugs), day)  # type: ignore[arg-type]
        return
    parts = [(resource, where)]
    parts += [(part, f"{where}.component[{i}]") for i, part in enumerate(resource.get("component", []))]
    for part, place in parts:
        value, unit = _quantity(part, place)
        yield Entry(person, "measurement", _codings(_need(part, "code", place), f"{place}.code"), day, value, unit)


def _is_out(resource: dict[str, Any]) -> bool:
    said = [resource.get("status")]
    verified = resource.get("verificationStatus", {})
    said += [coding.get("code") for coding in verified.get("coding", [])]
    return any(one in _OUT for one in said)


def _codes_of(
    resource: dict[str, Any], where: str, urls: dict[str, str], drugs: dict[str, dict[str, Any]]
) -> frozenset[str]:
    """Return the codes of a condition or a medication, which may stand in a resource of its own."""
    if resource["resourceType"] == "Condition":
        return _codings(_need(resource, "code", where), f"{where}.code")
    if "medicationCodeableConcept" in resource:
        return _codings(resource["medicationCodeableConcept"], f"{where}.medicationCodeableConcept")
    reference = _need(_need(resource, "medicationReference", where), "reference", f"{where}.medicationReference")
    contained = {f"#{one.get('id')}": one for one in resource.get("contained", [])}
    drug = contained.get(reference) or drugs.get(urls.get(reference, reference))
    if drug is None:
        raise DataError(f"{reference} is not in the bundle", where=f"{where}.medicationReference", exists=drugs)
    return _codings(_need(drug, "code", where), f"{where}.medicationReference")


def _codings(concept: dict[str, Any], where: str) -> frozenset[str]:
    codings = [one for one in concept.get("coding", []) if one.get("code")]
    if not codings:
        raise DataError("a concept has no code", where=f"{where}.coding", do="code it, or leave the resource out")
    plain = {one["code"] for one in codings}
    return frozenset(plain | {f"{one['system']}|{one['code']}" for one in codings if one.get("system")})


def _quantity(part: dict[str, Any], where: str) -> tuple[float | None, str]:
    quantity = part.get("valueQuantity")
    if quantity is None or quantity.get("value") is None:
        return None, ""
    value = quantity["value"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{value!r} is no number", where=f"{where}.valueQuantity.value")
    return float(value), quantity.get("code") or quantity.get("unit") or ""


def _when(resource: dict[str, Any], names: Sequence[str], where: str) -> date:
    for name in names:
        if name in resource:
            found = resource[name]
            if isinstance(found, dict):
                return _day(_need(found, "start", f"{where}.{name}"), f"{where}.{name}.start")
            return _day(found, f"{where}.{name}")
    raise DataError("a resource has no date", where=where, exists=names)


def _day(text: object, where: str) -> date:
    """Return the day, or the last day of the month or year, that a date says."""
    match = _DATE.fullmatch(text) if isinstance(text, str) else None
    try:
        if match is None:
            raise ValueError
        year, month = int(match[1]), int(match[2] or 12)
        return date(year, month, int(match[3] or calendar.monthrange(year, month)[1]))
    except (ValueError, calendar.IllegalMonthError) as error:
        raise DataError(f"{text!r} is no date", where=where, do="write it as 2020-03-31") from error


def _need(holder: dict[str, Any], name: str, where: str) -> Any:
    if not isinstance(holder, dict) or name not in holder:
        raise DataError(f"there is no {name}", where=where, exists=holder if isinstance(holder, dict) else ())
    return holder[name]
