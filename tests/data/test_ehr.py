"""Health records as of an index date: OMOP tables, FHIR bundles, windows, units, and no look ahead."""

import copy
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.variables import Variable
from trialtwin.data.ehr import Ask, Entry, HealthRecords, Person, add_covariates, features_at
from trialtwin.data.ehr_fhir import read_fhir
from trialtwin.data.ehr_omop import read_omop

INDEX = {"2": date(2020, 3, 1), "1": date(2020, 3, 1)}
ASKS = (
    Ask("age", "person", ("age",)),
    Ask("female", "person", ("female",)),
    Ask("HbA1c", "measurement", ("3004410",), units={"8554": 1.0, "9579": 0.1}),
    Ask("HbA1c in 60 days", "measurement", ("3004410",), take="count", days=60),
    Ask("metformin", "drug", ("1503297",), take="ever"),
    Ask("days since diabetes", "condition", ("201826",), take="days since"),
)
EXPECTED = np.array(
    [
        [(date(2020, 3, 1) - date(1950, 7, 1)).days / 365.25, 0.0, np.nan, 0.0, 0.0, np.nan],
        [(date(2020, 3, 1) - date(1960, 2, 3)).days / 365.25, 1.0, 6.9, 1.0, 1.0, 366.0],
    ]
)


def write_omop(folder: Path) -> None:
    pl.DataFrame(
        {
            "person_id": [1, 2],
            "year_of_birth": [1960, 1950],
            "month_of_birth": [2, None],
            "day_of_birth": [3, None],
            "gender_concept_id": [8532, 8507],
        }
    ).write_parquet(folder / "person.parquet")
    days = [date(2019, 6, 1), date(2020, 2, 1), date(2020, 3, 1), date(2020, 4, 1)]
    pl.DataFrame(
        {
            "person_id": [1, 1, 1, 2],
            "measurement_concept_id": [3004410] * 4,
            "measurement_date": days,
            "value_as_number": [7.5, 69.0, 99.0, 88.0],
            "unit_concept_id": [8554, 9579, 8554, 8554],
        }
    ).write_parquet(folder / "measurement.parquet")
    pl.DataFrame(
        {
            "person_id": [1, 2],
            "drug_concept_id": [1503297, 1503297],
            "drug_exposure_start_date": [date(2018, 1, 1), date(2020, 3, 2)],
        }
    ).write_parquet(folder / "drug_exposure.parquet")
    pl.DataFrame(
        {"person_id": [1], "condition_concept_id": [201826], "condition_start_date": [date(2019, 3, 1)]}
    ).write_parquet(folder / "condition_occurrence.parquet")


def test_omop_tables_as_of_the_index_date(tmp_path: Path) -> None:
    """The value of the index day and all later ones are not seen; a unit is converted by what was declared."""
    write_omop(tmp_path)
    found = features_at(read_omop(tmp_path), INDEX, ASKS)
    assert found.ids == ("2", "1")
    np.testing.assert_allclose(found.values, EXPECTED)


def test_omop_faults_are_told_with_file_and_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file person\.parquet"):
        read_omop(tmp_path)
    write_omop(tmp_path)
    table = pl.read_parquet(tmp_path / "measurement.parquet")
    path = tmp_path / "measurement.parquet"
    table.with_columns(
        pl.when(pl.col("value_as_number") < 70).then("measurement_date").alias("measurement_date")
    ).write_parquet(path)
    with pytest.raises(DataError, match=r"measurement_date is missing(.|\n)*measurement\.parquet: row 3"):
        read_omop(tmp_path)
    table.with_columns(pl.col("measurement_date").cast(pl.String)).write_parquet(path)
    with pytest.raises(DataError, match="measurement_date holds no dates"):
        read_omop(tmp_path)
    table.drop("unit_concept_id").write_parquet(path)
    with pytest.raises(MismatchError, match="no variable unit_concept_id, needed as OMOP's measurement table"):
        read_omop(tmp_path)
    table.with_columns(pl.lit("high").alias("value_as_number")).write_parquet(path)
    with pytest.raises(DataError, match="value_as_number holds values that are no numbers"):
        read_omop(tmp_path)
    people = pl.read_parquet(tmp_path / "person.parquet")
    pl.concat([people, people]).write_parquet(tmp_path / "person.parquet")
    path.unlink()
    with pytest.raises(DataError, match=r"person 1 repeats(.|\n)*row 3"):
        read_omop(tmp_path)


def quantity(code: str, day: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    return {
        "resource": {
            "resourceType": "Observation",
            "status": "final",
            "subject": {"reference": "Patient/1"},
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "effectiveDateTime": day,
            "valueQuantity": {"value": value, "code": unit},
        }
        | more
    }


def bundle() -> dict[str, Any]:
    coded = {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]}
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {
                "fullUrl": "urn:uuid:a",
                "resource": {"resourceType": "Patient", "id": "1", "gender": "female", "birthDate": "1960-02-03"},
            },
            {"resource": {"resourceType": "Patient", "id": "2", "gender": "male"}},
            quantity("4548-4", "2019-06-01T08:00:00+01:00", 7.5, "%"),
            quantity("4548-4", "2020-02-01", 69.0, "mg/g"),
            quantity("4548-4", "2020-02-02", 50.0, "%", status="entered-in-error"),
            # of March it is not known that it was before the 1st
            quantity("4548-4", "2020-03", 99.0, "%"),
            {
                "resource": {
                    "resourceType": "MedicationRequest",
                    "status": "active",
                    "subject": {"reference": "urn:uuid:a"},
                    "medicationReference": {"reference": "#m"},
                    "contained": [{"resourceType": "Medication", "id": "m", "code": {"coding": [{"code": "6809"}]}}],
                    "authoredOn": "2018-01-01",
                }
            },
            {
                "resource": {
                    "resourceType": "Condition",
                    "subject": {"reference": "Patient/1"},
                    "code": coded,
                    "onsetPeriod": {"start": "2019-03-01"},
                }
            },
            {
                "resource": {
                    "resourceType": "Observation",
                    "status": "final",
                    "subject": {"reference": "Patient/1"},
                    "code": {"coding": [{"code": "85354-9"}]},
                    "effectivePeriod": {"start": "2020-01-15"},
                    "component": [
                        {"code": {"coding": [{"code": "8480-6"}]}, "valueQuantity": {"value": 141, "unit": "mmHg"}},
                        {"code": {"coding": [{"code": "8462-4"}]}, "valueQuantity": {"value": 92, "unit": "mmHg"}},
                    ],
                }
            },
        ],
    }


def saved(folder: Path, content: object) -> list[Path]:
    path = folder / "bundle.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return [path]


def test_fhir_bundles_as_of_the_index_date(tmp_path: Path) -> None:
    asks = (
        Ask("age", "person", ("age",)),
        Ask("female", "person", ("female",)),
        Ask("HbA1c", "measurement", ("http://loinc.org|4548-4",), units={"%": 1.0, "mg/g": 0.1}),
        Ask("HbA1c in 60 days", "measurement", ("4548-4",), take="count", days=60),
        Ask("metformin", "drug", ("6809",), take="ever"),
        Ask("days since diabetes", "condition", ("44054006",), take="days since"),
        Ask("systolic", "measurement", ("8480-6",), take="mean"),
    )
    found = features_at(read_fhir(saved(tmp_path, bundle())), INDEX, asks)
    np.testing.assert_allclose(found.values[1], [*EXPECTED[1], 141.0])
    np.testing.assert_allclose(found.values[0], [np.nan, 0, np.nan, 0, 0, np.nan, np.nan])


FAULTS = {
    r"entry\[2\]\.resource\.effectiveDateTime": lambda b: b["entry"][2]["resource"].update(effectiveDateTime="1 June"),
    r"no subject(.|\n)*entry\[3\]\.resource": lambda b: b["entry"][3]["resource"].pop("subject"),
    r"'7' is no number(.|\n)*entry\[2\]\.resource\.valueQuantity\.value": lambda b: b["entry"][2]["resource"].update(
        valueQuantity={"value": "7"}
    ),
    r"a concept has no code(.|\n)*entry\[8\]\.resource\.component\[1\]\.code": lambda b: b["entry"][8]["resource"][
        "component"
    ][1].update(code={"text": "diastolic"}),
    r"no date(.|\n)*entry\[7\](.|\n)*onsetDateTime": lambda b: b["entry"][7]["resource"].pop("onsetPeriod"),
    r"#m is not in the bundle(.|\n)*entry\[6\]": lambda b: b["entry"][6]["resource"].pop("contained"),
    r"no FHIR bundle": lambda b: b.update(resourceType="Patient"),
    r"an entry has no resource(.|\n)*entry\[0\]": lambda b: b["entry"][0].pop("resource"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_fhir_faults_are_told_by_path(tmp_path: Path, message: str) -> None:
    broken = copy.deepcopy(bundle())
    FAULTS[message](broken)
    with pytest.raises(DataError, match=message):
        read_fhir(saved(tmp_path, broken))


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="this is no JSON"):
        read_fhir([tmp_path / "b.json"])


def records(*entries: Entry) -> HealthRecords:
    return HealthRecords({"1": Person()}, entries, "here")


def lab(back: int, value: float | None, unit: str = "%") -> Entry:
    return Entry("1", "measurement", frozenset({"x"}), INDEX["1"] - timedelta(days=back), value, unit)


def test_units_are_converted_only_where_it_is_said_how() -> None:
    index = {"1": INDEX["1"]}
    with pytest.raises(DataError, match=r"'v' is measured in several units(.|\n)*'%', 'mmol/mol'"):
        features_at(records(lab(5, 7.0), lab(3, 53.0, "mmol/mol")), index, [Ask("v", "measurement", ("x",))])
    with pytest.raises(DataError, match=r"a value of 1 on 2020-02-27 is in 'mmol/mol'"):
        features_at(
            records(lab(5, 7.0), lab(3, 53.0, "mmol/mol")), index, [Ask("v", "measurement", ("x",), units={"%": 1.0})]
        )


@pytest.mark.parametrize(
    ("take", "expected"), [("last", 8.0), ("mean", 7.0), ("least", 6.0), ("most", 8.0), ("count", 4.0)]
)
def test_what_is_taken_of_values(take: str, expected: float) -> None:
    """In any order of rows; a record without a number counts and has no value."""
    some = records(lab(3, 8.0), lab(9, 6.0), lab(6, 7.0), lab(1, None))
    assert features_at(some, {"1": INDEX["1"]}, [Ask("v", "measurement", ("x",), take=take)]).values[0, 0] == expected


@given(st.lists(st.integers(-30, 30), max_size=12), st.integers(1, 40), st.booleans())
def test_independent_windows_never_look_ahead(backs: list[int], window: int, same_day: bool) -> None:
    found = features_at(
        records(*(lab(back, 1.0) for back in backs)),
        {"1": INDEX["1"]},
        [Ask("n", "measurement", ("x",), take="count", days=window, same_day=same_day)],
    )
    assert found.values[0, 0] == sum((0 if same_day else 1) <= back <= window for back in backs)


def test_questions_and_patients_that_cannot_be_are_refused() -> None:
    for wrong, message in (
        ({"kind": "lab"}, "asks for 'lab'"),
        ({"take": "median"}, "asks for 'median'"),
        ({"codes": ()}, "no codes"),
        ({"kind": "drug"}, "a drug has no value to take"),
        ({"kind": "person"}, r"asks for \('x',\) of a person"),
    ):
        with pytest.raises(ConfigError, match=message):
            Ask(**({"name": "v", "kind": "measurement", "codes": ("x",)} | wrong))
    with pytest.raises(MismatchError, match="1 patient"):
        features_at(records(), {"9": INDEX["1"]}, [Ask("v", "measurement", ("x",))])
    with pytest.raises(DataError, match="no features"):
        features_at(records(), {"1": INDEX["1"]}, [])


def test_features_become_covariates() -> None:
    cohort = Cohort(
        ids=("1", "3"),
        variables=(Variable("BMI"),),
        covariates=np.array([[25.0], [30.0]]),
        outcomes=(),
        visits=("Baseline",),
        nominal=np.zeros(1),
        times=np.zeros((2, 1)),
        values=np.zeros((2, 1, 0)),
        observed=np.zeros((2, 1, 0), dtype=bool),
        treatments=("placebo",),
        received=np.zeros(2, dtype=np.int64),
    )
    found = features_at(records(lab(3, 8.0)), {"1": INDEX["1"]}, [Ask("HbA1c", "measurement", ("x",))])
    richer = add_covariates(cohort, found)
    np.testing.assert_array_equal(richer.covariates, [[25.0, 8.0], [30.0, np.nan]])
    with pytest.raises(DataError, match="has covariates HbA1c already"):
        add_covariates(richer, found)
