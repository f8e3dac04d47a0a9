"""A small clean trial, written by hand, and ways to plant defects in it.

36 patients at six sites, two arms, three visits, a scale of ten items. P12 leaves on day 31 and P24 dies on day 40;
their last totals are carried to Week 8. Nothing in it violates a rule.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl

from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import TrialTables
from trialtwin.data.dataset import DTYPES, DataSet, Field
from trialtwin.data.layout import Layout, Outcome, ScaleTotal, Visit

ITEMS = {f"ITEM{k:02d}": 4.0 for k in range(1, 11)}
VISITS = (Visit("Baseline", 1.0, None, 1.0), Visit("Week 4", 29.0, 2.0, 43.0), Visit("Week 8", 57.0, 44.0, None))
DAYS = (1, 29, 57)
SUBJECTS = tuple(f"P{i:02d}" for i in range(1, 37))
FIRST = date(2020, 3, 2)
LEFT = {"P12": 31, "P24": 40}

LAYOUT = Layout(
    arm="TRT01P",
    arms=("Placebo", "Active"),
    visits=VISITS,
    outcomes=(
        Outcome(Variable("TOT", "Total", lower=0.0, upper=40.0), "ADQS", "TOT"),
        Outcome(Variable("MMSETOT", "MMSE", lower=0.0, upper=30.0), "ADSL"),
    ),
    covariates=(
        Variable("AGE", "Age", unit="years", lower=50.0, upper=90.0),
        Variable("SEX", "Sex", kind=Kind.CATEGORICAL, levels=("F", "M")),
        Variable("WEIGHTBL", "Weight", unit="kg", lower=35.0, upper=150.0),
    ),
    totals=(ScaleTotal("TOT", ITEMS),),
    terms={"COUNTRY": ("DEU", "FRA")},
)

type Plant = Callable[[TrialTables], TrialTables]


@cache
def clean() -> TrialTables:
    """Return the trial without defects."""
    return TrialTables(_subjects(), {"ADQS": _scores()}, _events(), _times())


def table(name: str, columns: dict[str, list]) -> DataSet:
    """Make a data set; storage follows from the values."""
    series = [pl.Series(key, values, strict=False) for key, values in columns.items()]
    kinds = {dtype: storage for storage, dtype in DTYPES.items()}
    series = [s.cast(pl.Float64) if s.dtype.is_integer() else s for s in series]
    series = [s.cast(pl.String) if s.dtype == pl.Null else s for s in series]
    return DataSet(name, tuple(Field(s.name, kinds[s.dtype]) for s in series), pl.DataFrame(series))


def day(study_day: int) -> date:
    """Return the date of a study day: the first dose is day 1, and there is no day 0."""
    return FIRST + timedelta(days=study_day - 1 if study_day >= 1 else study_day)


def of(tables: TrialTables, name: str) -> DataSet:
    """Return a data set by name."""
    by_name = {"ADSL": tables.subjects, "ADAE": tables.events, "ADTTE": tables.times, **tables.findings}
    return by_name[name]


def put(tables: TrialTables, name: str, frame: pl.DataFrame) -> TrialTables:
    """Return the tables with another frame for one data set."""
    old = of(tables, name)
    kinds = {dtype: storage for storage, dtype in DTYPES.items()}
    fields = tuple(Field(column, kinds[dtype]) for column, dtype in frame.schema.items())
    new = replace(old, fields=fields, frame=frame)
    if name == "ADSL":
        return replace(tables, subjects=new)
    if name == "ADAE":
        return replace(tables, events=new)
    if name == "ADTTE":
        return replace(tables, times=new)
    return replace(tables, findings={**tables.findings, name: new})


def change(name: str, where: pl.Expr, **values: object) -> Plant:
    """Plant other values in the rows that meet a condition."""

    def plant(tables: TrialTables) -> TrialTables:
        frame = of(tables, name).frame
        assert frame.filter(where).height, "the defect would be planted nowhere"
        new = [
            pl.when(where)
            .then(v if isinstance(v, pl.Expr) else pl.lit(v, frame.schema[c]))
            .otherwise(pl.col(c))
            .alias(c)
            for c, v in values.items()
        ]
        return put(tables, name, frame.with_columns(new))

    return plant


def drop_column(name: str, *columns: str) -> Plant:
    """Plant the absence of variables."""
    return lambda tables: put(tables, name, of(tables, name).frame.drop(columns))


def drop_rows(name: str, where: pl.Expr) -> Plant:
    """Plant the absence of rows."""

    def plant(tables: TrialTables) -> TrialTables:
        frame = of(tables, name).frame
        assert frame.filter(where).height, "the defect would be planted nowhere"
        return put(tables, name, frame.filter(~where))

    return plant


def repeat_rows(name: str, where: pl.Expr, **values: object) -> Plant:
    """Plant copies of rows, with other values where they are given."""

    def plant(tables: TrialTables) -> TrialTables:
        frame = of(tables, name).frame
        again = frame.filter(where)
        assert again.height, "the defect would be planted nowhere"
        new = [(v if isinstance(v, pl.Expr) else pl.lit(v, frame.schema[c])).alias(c) for c, v in values.items()]
        return put(tables, name, pl.concat([frame, again.with_columns(new)]))

    return plant


def cast_column(name: str, column: str, dtype: pl.DataType) -> Plant:
    """Plant another storage."""
    return lambda tables: put(tables, name, of(tables, name).frame.with_columns(pl.col(column).cast(dtype)))


def both(*plants: Plant) -> Plant:
    """Plant several defects."""

    def plant(tables: TrialTables) -> TrialTables:
        for one in plants:
            tables = one(tables)
        return tables

    return plant


def _subjects() -> DataSet:
    n = len(SUBJECTS)
    active = [i % 2 == 1 for i in range(n)]
    weight = [52.0 + 1.7 * i for i in range(n)]
    height = [155.0 + i for i in range(n)]
    last = [LEFT.get(s, 56) for s in SUBJECTS]
    end = [LEFT.get(s, 57) for s in SUBJECTS]
    return table(
        "ADSL",
        {
            "STUDYID": ["SMALL"] * n,
            "USUBJID": list(SUBJECTS),
            "SITEID": [f"{1 + i // 6:02d}" for i in range(n)],
            "COUNTRY": ["DEU" if i < 18 else "FRA" for i in range(n)],
            "TRT01P": ["Active" if a else "Placebo" for a in active],
            "TRT01PN": [float(a) for a in active],
            "TRT01A": ["Active" if a else "Placebo" for a in active],
            "BRTHDT": [date(1950, 1, 1) - timedelta(days=97 * i) for i in range(n)],
            "RFICDT": [day(-14)] * n,
            "RANDDT": [day(1)] * n,
            "TRTSDT": [day(1)] * n,
            "TRTEDT": [day(d) for d in last],
            "EOSDT": [day(d) for d in end],
            "AGE": [52.0 + i for i in range(n)],
            "AGEU": ["YEARS"] * n,
            "SEX": ["F" if i % 3 else "M" for i in range(n)],
            "RACE": ["WHITE"] * n,
            "ETHNIC": ["NOT HISPANIC OR LATINO"] * n,
            "HEIGHTBL": height,
            "WEIGHTBL": weight,
            "BMIBL": [round(w / (h / 100) ** 2, 1) for w, h in zip(weight, height, strict=True)],
            "MMSETOT": [12.0 + i % 12 for i in range(n)],
            "SAFFL": ["Y"] * n,
            "ITTFL": ["Y"] * n,
            "EFFFL": ["Y"] * n,
            "COMP8FL": ["N" if s in LEFT else "Y" for s in SUBJECTS],
            "DISCONFL": ["Y" if s in LEFT else None for s in SUBJECTS],
            "DTHFL": ["Y" if s == "P24" else None for s in SUBJECTS],
            "DTHDT": [day(40) if s == "P24" else None for s in SUBJECTS],
            "DCDECOD": [{"P12": "WITHDRAWAL BY SUBJECT", "P24": "DEATH"}.get(s, "COMPLETED") for s in SUBJECTS],
        },
    )


def _scores() -> DataSet:
    rng = np.random.Generator(np.random.PCG64(2))
    rows = []
    for i, subject in enumerate(SUBJECTS):
        items = np.array([(i + 2 * k) % 5 for k in range(10)], dtype=float)
        base = dict(zip([*ITEMS, "TOT"], [*items, items.sum()], strict=True))
        for visit, (planned, number) in enumerate(zip(DAYS, (0.0, 4.0, 8.0), strict=True)):
            carried = visit == 2 and subject in LEFT
            if visit and not carried:
                step = np.zeros(10)
                step[rng.choice(10, rng.integers(2, 8), replace=False)] = rng.choice([-1, 1])
                items = np.clip(items + step, 0, 4)
            values = {"TOT": items.sum()} if carried else dict(zip([*ITEMS, "TOT"], [*items, items.sum()], strict=True))
            on = DAYS[1] if carried else planned
            for code, value in values.items():
                rows.append(
                    (subject, i, visit, number, on, code, float(value), base[code], "LOCF" if carried else None)
                )
    subject, i, visit, number, on, code, value, start, dtype = (list(column) for column in zip(*rows, strict=True))
    later = [v > 0 for v in visit]
    return table(
        "ADQS",
        {
            "STUDYID": ["SMALL"] * len(rows),
            "USUBJID": subject,
            "TRTP": ["Active" if k % 2 == 1 else "Placebo" for k in i],
            "TRTSDT": [day(1)] * len(rows),
            "AGE": [52.0 + k for k in i],
            "PARAMCD": code,
            "PARAM": [f"Parameter {c}" for c in code],
            "PARAMN": [float(k == "TOT") * 11 or float(k[-2:]) for k in code],
            "AVISIT": [VISITS[v].name for v in visit],
            "AVISITN": number,
            "VISIT": [VISITS[1 if d else v].name.upper() for v, d in zip(visit, dtype, strict=True)],
            "ADT": [day(d) for d in on],
            "ADY": [float(d) for d in on],
            "AVAL": value,
            "BASE": start,
            "CHG": [v - b if k else None for v, b, k in zip(value, start, later, strict=True)],
            "PCHG": [100 * (v - b) / b if k and b else None for v, b, k in zip(value, start, later, strict=True)],
            "ABLFL": [None if k else "Y" for k in later],
            "ANL01FL": ["Y"] * len(rows),
            "DTYPE": dtype,
            "AWTARGET": [float(DAYS[v]) for v in visit],
            "AWLO": [(None, 2.0, 44.0)[v] for v in visit],
            "AWHI": [(1.0, 43.0, None)[v] for v in visit],
        },
    )


def _events() -> DataSet:
    rows = [  # subject, sequence, term, first day, last day, outcome, severity, skin
        ("P02", 1, "RASH", 5, 9, "RECOVERED/RESOLVED", "MILD", True),
        ("P02", 2, "HEADACHE", 12, None, "NOT RECOVERED/NOT RESOLVED", "MILD", False),
        ("P05", 1, "NAUSEA", -3, -1, "RECOVERED/RESOLVED", "MILD", False),
        ("P08", 1, "RASH", 30, 41, "RECOVERED/RESOLVED", "MODERATE", True),
        ("P08", 2, "FALL", 33, 33, "RECOVERED/RESOLVED", "SEVERE", False),
        ("P24", 1, "CARDIAC ARREST", 40, 40, "FATAL", "SEVERE", False),
    ]
    subject, sequence, term, first, last, outcome, severity, skin = (list(c) for c in zip(*rows, strict=True))
    dead = [o == "FATAL" for o in outcome]
    return table(
        "ADAE",
        {
            "USUBJID": subject,
            "TRTSDT": [day(1)] * len(rows),
            "TRTEDT": [day(40) if s == "P24" else day(56) for s in subject],
            "ASTDT": [day(d) for d in first],
            "ASTDY": [float(d) for d in first],
            "AENDT": [None if d is None else day(d) for d in last],
            "AENDY": [None if d is None else float(d) for d in last],
            "AEDECOD": term,
            "AETERM": term,
            "AESEV": severity,
            "AESER": ["Y" if d or t == "FALL" else "N" for d, t in zip(dead, term, strict=True)],
            "AESDTH": ["Y" if d else "N" for d in dead],
            "AESHOSP": ["Y" if t == "FALL" else "N" for t in term],
            "AEOUT": outcome,
            "AESEQ": [float(k) for k in sequence],
            "TRTEMFL": ["Y" if d > 0 else "N" for d in first],
            "CQ01NAM": ["SKIN" if s else None for s in skin],
        },
    )


def _times() -> DataSet:
    first = {"P02": (5, 1.0), "P08": (30, 1.0)}
    on = [first.get(s, (LEFT.get(s, 57), None))[0] for s in SUBJECTS]
    return table(
        "ADTTE",
        {
            "USUBJID": list(SUBJECTS),
            "TRTP": ["Active" if i % 2 == 1 else "Placebo" for i in range(len(SUBJECTS))],
            "PARAM": ["Time to rash"] * len(SUBJECTS),
            "PARAMCD": ["TTRASH"] * len(SUBJECTS),
            "AVAL": [float(d) for d in on],
            "STARTDT": [day(1)] * len(SUBJECTS),
            "ADT": [day(d) for d in on],
            "CNSR": [0.0 if s in first else 1.0 for s in SUBJECTS],
            "SRCDOM": ["ADAE" if s in first else "ADSL" for s in SUBJECTS],
            "SRCVAR": ["ASTDT" if s in first else "EOSDT" for s in SUBJECTS],
            "SRCSEQ": [first[s][1] if s in first else None for s in SUBJECTS],
        },
    )
