"""Dose records of NONMEM: expansion, infusions, and records that make no sense."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.cohort import Doses
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.data.nonmem import DoseRecords, Observations, read_doses, write_doses

HEADER = "ID,TIME,AMT,EVID,MDV,DV,CMT,RATE,ADDL,II,SS"


def read(folder: Path, *rows: str, header: str = HEADER, unit: str = "hours") -> DoseRecords:
    path = folder / "doses.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return read_doses(path, unit=unit)


def test_additional_doses_are_expanded_and_rates_become_durations(tmp_path: Path) -> None:
    records = read(tmp_path, "1,0,100,1,1,.,2,50,2,12,0", "1,18,10,1,1,.,.,0,0,0,0", "1,20,0,0,0,7.5,1,0,0,0,0")
    doses = records.doses
    np.testing.assert_array_equal(doses.time * 24, [0, 12, 18, 24])
    np.testing.assert_array_equal(doses.amount, [100, 100, 10, 100])
    np.testing.assert_allclose(doses.duration * 24, [2, 2, 0, 2])
    np.testing.assert_array_equal(doses.compartment, [2, 2, 1, 2])
    np.testing.assert_array_equal(records.observations.value, [7.5])
    np.testing.assert_array_equal(records.observations.time, [20 / 24])


@pytest.mark.parametrize(("unit", "days"), [("days", 12.0), ("hours", 0.5), ("minutes", 12 / 1440)])
def test_time_is_in_the_callers_unit(tmp_path: Path, unit: str, days: float) -> None:
    assert read(tmp_path, "1,12,5,1,1,.,1,0,0,0,0", unit=unit).doses.time[0] == days


def test_event_is_inferred_as_nm_tran_does(tmp_path: Path) -> None:
    records = read(tmp_path, "a,0,5,.,.", "a,1,.,2.5,0", "a,2,0,.,1", "b,0,3,.,1", header="ID,TIME,AMT,DV,MDV")
    assert records.ids == ("a", "b")
    np.testing.assert_array_equal(records.doses.patient, [0, 1])
    np.testing.assert_array_equal(records.observations.value, [2.5])
    assert records.others == (4,)


def test_missing_measurements_are_kept_as_missing(tmp_path: Path) -> None:
    records = read(tmp_path, "1,0,0,0,1,.,3,0,0,0,0", "1,1,0,2,1,.,0,0,0,0,0")
    assert np.isnan(records.observations.value).tolist() == [True]
    assert records.observations.compartment.tolist() == [3]
    assert records.others == (3,)
    assert len(records.doses.time) == 0


@pytest.mark.parametrize("event", [3, 4])
def test_a_reset_before_anything_else_changes_nothing(tmp_path: Path, event: int) -> None:
    amount = 5 if event == 4 else 0
    records = read(tmp_path, f"1,0,{amount},{event},1,.,1,0,0,0,0", "1,1,7,1,1,.,1,0,0,0,0")
    assert records.doses.amount.tolist() == ([5.0, 7.0] if event == 4 else [7.0])


FAULTS = [
    (("1,0,-5,1,1,.,1,0,0,0,0",), "AMT = -5 is negative"),
    (("1,0,5,1,1,.,1,0,3,0,0",), "ADDL = 3 further doses, and II is missing"),
    (("1,0,5,1,1,.,1,0,3,.,0",), "II is missing"),
    (("1,0,5,1,1,.,1,0,-1,12,0",), "ADDL = -1"),
    (("1,0,5,1,1,.,1,0,1,-12,0",), "II = -12"),
    (("1,0,5,1,1,.,1,0,1.5,12,0",), "ADDL = 1.5 is no whole number"),
    (("1,0,5,1,1,.,1,-1,0,0,0",), "RATE = -1 asks the model for the rate"),
    (("1,0,5,1,1,.,1,-2,0,0,0",), "RATE = -2 asks the model for the duration"),
    (("1,0,5,1,1,.,1,-7,0,0,0",), "RATE = -7 is negative"),
    (("1,0,5,1,1,.,1,0,0,12,1",), "SS = 1: how many doses make a steady state"),
    (("1,0,5,101,1,.,1,0,0,0,0",), "EVID = 101 is the classic code of RxODE and nlmixr"),
    (("1,0,5,10101,1,.,1,0,0,0,0",), "classic code"),
    (("1,0,5,5,1,.,1,0,0,0,0",), "EVID = 5 does not exist"),
    (("1,0,5,-1,1,.,1,0,0,0,0",), "EVID = -1 does not exist"),
    (("1,0,0,1,1,.,1,0,0,0,0",), "a dose has AMT = 0"),
    (("1,0,5,1,0,.,1,0,0,0,0",), "a dose has MDV = 0"),
    (("1,0,5,0,0,1,1,0,0,0,0",), "EVID = 0 has a dose"),
    (("1,0,0,0,0,1,1,0,2,0,0",), "EVID = 0 has a dose"),
    (("1,0,5,1,1,.,-1,0,0,0,0",), "CMT = -1 switches"),
    (("1,0,0,0,0,.,1,0,0,0,0",), "an observation has no DV"),
    (("1,0,0,0,2,1,1,0,0,0,0",), "MDV = 2"),
    (("1,.,5,1,1,.,1,0,0,0,0",), "no TIME"),
    ((".,0,5,1,1,.,1,0,0,0,0",), "no ID"),
    (("1,08:30,5,1,1,.,1,0,0,0,0",), "TIME = '08:30' is no number"),
    (("1,0,5,1,1,BLQ,1,0,0,0,0",), "DV = 'BLQ' is no number"),
]


@pytest.mark.parametrize(("rows", "words"), FAULTS)
def test_records_that_make_no_sense_name_line_and_subject(tmp_path: Path, rows: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, "0,0,1,1,1,.,1,0,0,0,0", *rows)
    assert caught.value.where is not None
    assert "line 3, ID" in caught.value.where


def test_order_of_records_is_checked(tmp_path: Path) -> None:
    dose = "{},{},5,{},1,.,1,0,0,0,0"
    with pytest.raises(DataError, match=r"TIME goes backwards[\s\S]*line 3"):
        read(tmp_path, dose.format(1, 5, 1), dose.format(1, 4, 1))
    with pytest.raises(DataError, match=r"two places[\s\S]*line 4"):
        read(tmp_path, dose.format(1, 0, 1), dose.format(2, 0, 1), dose.format(1, 1, 1))
    for event in (3, 4):
        with pytest.raises(DataError, match=rf"EVID = {event} resets the system[\s\S]*line 3"):
            read(tmp_path, dose.format(1, 0, 1), dose.format(1, 1, event).replace(",5,3", ",0,3"))


def test_files_that_are_no_dose_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"no column TIME[\s\S]*exists: ID, AMT"):
        read(tmp_path, "1,5", header="ID,AMT")
    with pytest.raises(MismatchError, match="neither AMT nor DV"):
        read(tmp_path, "1,5", header="ID,TIME")
    with pytest.raises(DataError, match="TIME is a time of day"):
        read(tmp_path, "1,5,5,x", header="ID,TIME,AMT,DATE")
    with pytest.raises(DataError, match="no records"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"'weeks'[\s\S]*days, hours, minutes"):
        read(tmp_path, "1,0,5,1,1,.,1,0,0,0,0", unit="weeks")
    with pytest.raises(MismatchError, match=r"conc \(for DV\)"):
        read_doses(tmp_path / "doses.csv", unit="days", mapping={"DV": "conc"})
    with pytest.raises(DataError, match=r"no file absent\.csv"):
        read_doses(tmp_path / "absent.csv", unit="days")


def test_items_may_have_other_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("subject,t,dose,conc\nx,0,5,\nx,2,,1.5\n")
    mapping = {"ID": "subject", "TIME": "t", "AMT": "dose", "DV": "conc"}
    records = read_doses(tmp_path / "a.csv", unit="days", mapping=mapping)
    assert (records.ids, records.doses.amount.tolist(), records.observations.value.tolist()) == (("x",), [5.0], [1.5])


POSITIVE = st.floats(1e-3, 1e4)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2), st.floats(-10, 300), POSITIVE, st.one_of(st.just(0.0), POSITIVE), st.integers(1, 3)
        ),
        max_size=8,
    ),
    seen=st.lists(st.tuples(st.integers(0, 2), st.floats(-10, 300), st.one_of(st.just(np.nan), POSITIVE)), max_size=8),
    unit=st.sampled_from(["days", "hours", "minutes"]),
)
def test_doses_and_observations_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list, seen: list, unit: str
) -> None:
    rows = sorted([*rows, *((i, 0.0, 1.0, 0.0, 1) for i in range(3))], key=lambda row: row[:2])
    seen = sorted(seen, key=lambda row: row[:2])
    patient, time, amount, duration, compartment = (np.array(column) for column in zip(*rows, strict=True))
    doses = Doses(patient, time.astype(float), amount, duration, compartment)
    observations = Observations(
        np.array([row[0] for row in seen], dtype=np.int64),
        np.array([row[1] for row in seen], dtype=float),
        np.array([row[2] for row in seen], dtype=float),
        np.zeros(len(seen), dtype=np.int64),
    )
    path = tmp_path_factory.mktemp("doses") / "doses.csv"
    write_doses(doses, ("a", "b", "c"), path, unit=unit, observations=observations)
    back = read_doses(path, unit=unit)
    assert back.ids == ("a", "b", "c")
    for name in ("patient", "time", "amount", "duration", "compartment"):
        np.testing.assert_allclose(getattr(back.doses, name), getattr(doses, name), rtol=1e-14, atol=1e-16)
    for name in ("patient", "time", "value", "compartment"):
        np.testing.assert_allclose(
            getattr(back.observations, name), getattr(observations, name), rtol=1e-14, atol=1e-16
        )
    assert back.others == ()


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    one = np.ones(1)
    doses = Doses(np.zeros(1, dtype=np.int64), one, one, one, np.ones(1, dtype=np.int64))
    for ids in (("a,b",), (".",), (" a",), ("a", "a")):
        with pytest.raises(DataError, match="identifiers cannot be written"):
            write_doses(doses, ids, tmp_path / "a.csv", unit="days")
    negative = Doses(doses.patient, one, -one, one, doses.compartment)
    with pytest.raises(DataError, match="doses must be positive"):
        write_doses(negative, ("a",), tmp_path / "a.csv", unit="days")
    assert list(tmp_path.iterdir()) == []


def test_nlmixr_codes_are_refused_with_an_explanation(shared: Path) -> None:
    with pytest.raises(DataError, match=r"EVID = 101 is the classic code[\s\S]*line 2, ID 1"):
        read_doses(shared / "data/pk/theo_sd.csv", unit="hours")


@pytest.mark.parametrize("file", ["pheno_sd", "Bolus_2CPTMM", "nimoData"])
def test_independent_counts_of_true_nonmem_files(shared: Path, file: str) -> None:
    path = shared / f"data/pk/{file}.csv"
    records = read_doses(path, unit="hours")
    table = pl.read_csv(path, infer_schema_length=None)
    given = table.filter(pl.col("EVID") == 1)
    seen = table.filter(pl.col("EVID") == 0)
    assert list(records.ids) == [str(who) for who in table["ID"].unique(maintain_order=True)]
    assert sorted(records.doses.amount.tolist()) == sorted(given["AMT"].cast(pl.Float64).to_list())
    np.testing.assert_array_equal(records.observations.value, seen["DV"].to_numpy())
    np.testing.assert_array_equal(records.observations.time, seen["TIME"].to_numpy() / 24)


@pytest.mark.reference
def test_reference_pheno_has_59_infants_155_concentrations(shared: Path) -> None:
    records = read_doses(shared / "data/pk/pheno_sd.csv", unit="hours")
    assert (len(records.ids), len(records.observations.value), len(records.doses.time)) == (59, 155, 589)


def test_occasions_that_start_time_again_are_refused(shared: Path) -> None:
    with pytest.raises(DataError, match=r"TIME goes backwards[\s\S]*line 588, ID 829"):
        read_doses(shared / "data/pk/mavoglurant.csv", unit="hours")


def test_infusions_of_nimotuzumab_last_until_the_first_sample(shared: Path) -> None:
    records = read_doses(shared / "data/pk/nimoData.csv", unit="hours")
    first = records.doses.patient == 0
    assert records.doses.duration[first][0] * 24 == pytest.approx(1.28, abs=1e-3)
    np.testing.assert_allclose(records.observations.time[0] * 24, 1.28)
