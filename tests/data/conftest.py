"""A small trial in the shape of ADaM, and its layout."""

import polars as pl
import pytest

from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import TrialTables
from trialtwin.data.dataset import DTYPES, DataSet, Field, Storage
from trialtwin.data.layout import Layout, Outcome, Visit

C, N = Storage.CHAR, Storage.NUM


def table(name: str, columns: dict[str, Storage], rows: list[tuple]) -> DataSet:
    """Make a data set of rows."""
    schema = {column: DTYPES[storage] for column, storage in columns.items()}
    fields = tuple(Field(column, storage) for column, storage in columns.items())
    return DataSet(name, fields, pl.DataFrame(rows, schema=schema, orient="row"), source=f"{name.lower()}.xpt")


@pytest.fixture
def small_layout() -> Layout:
    """Two arms, three visits, one outcome in a BDS and one in ADSL, a number and a category."""
    return Layout(
        arm="TRT01P",
        arms=("Placebo", "High"),
        visits=(
            Visit("Baseline", 1.0, None, 1.0),
            Visit("Week 8", 57.0, 2.0, 84.0),
            Visit("Week 16", 113.0, 85.0, None),
        ),
        outcomes=(Outcome(Variable("ACTOT"), "adqs", "ACTOT"), Outcome(Variable("MMSETOT"), "adsl")),
        covariates=(Variable("AGE"), Variable("SEX", kind=Kind.CATEGORICAL, levels=("F", "M"))),
    )


@pytest.fixture
def small_trial() -> TrialTables:
    """Four subjects; one drops out and is carried forward, one has two records in a window."""
    subjects = table(
        "ADSL",
        {"USUBJID": C, "TRT01P": C, "TRT01PN": N, "AGE": N, "SEX": C, "EFFFL": C, "MMSETOT": N},
        [
            ("01", "Placebo", 0, 70, "F", "Y", 20),
            ("02", "Placebo", 0, 71, "M", "Y", None),
            ("03", "High", 54, None, "F", "Y", 22),
            ("04", "High", 54, 73, None, "N", 23),
        ],
    )
    columns = {"USUBJID": C, "PARAMCD": C, "AVISIT": C, "ADY": N, "AVAL": N, "BASE": N, "CHG": N}
    columns |= {"ABLFL": C, "ANL01FL": C, "DTYPE": C}
    findings = table(
        "ADQS",
        columns,
        [
            ("01", "ACTOT", "Baseline", 1, 10, 10, None, "Y", "Y", None),
            ("01", "ACTOT", "Week 8", 50, 11, 10, 1, None, "Y", None),
            ("01", "ACTOT", "Week 8", 80, 12, 10, 2, None, None, None),
            ("01", "ACTOT", "Week 16", 115, 13, 10, 3, None, "Y", None),
            ("02", "ACTOT", "Baseline", -2, 20, 20, None, "Y", "Y", None),
            ("02", "ACTOT", "Week 8", 57, 22, 20, 2, None, "Y", None),
            ("02", "ACTOT", "Week 16", 57, 22, 20, 2, None, "Y", "LOCF"),
            ("03", "ACTOT", "Baseline", 1, 30, 30, None, "Y", "Y", None),
            ("03", "ACTOT", "Week 8", 60, None, 30, None, None, "Y", None),
            ("04", "ACTOT", "Baseline", 1, 40, 40, None, "Y", "Y", None),
            ("04", "ACTOT", "Week 16", 113, 38.5, 40, -1.5, None, "Y", None),
            ("04", "OTHER", "Week 16", 113, 1, None, None, None, "Y", None),
        ],
    )
    events = table(
        "ADAE",
        {"USUBJID": C, "AETERM": C, "AEDECOD": C, "ASTDY": N, "TRTEMFL": C},
        [("01", "rash", "RASH", 5, "Y"), ("02", "fall", "FALL", -3, "N"), ("04", "rash", "RASH", None, "Y")],
    )
    times = table(
        "ADTTE",
        {"USUBJID": C, "PARAMCD": C, "AVAL": N, "CNSR": N},
        [("01", "TTDE", 5, 0), ("02", "TTDE", 113, 1), ("03", "TTDE", 60, 1), ("04", "TTDE", 2, 0)],
    )
    return TrialTables(subjects, {"adqs": findings}, events, times)
