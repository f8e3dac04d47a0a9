"""Real data as cohorts: a trial's placebo arm, a population's ageing, proteins of a fluid, glucose monitors."""

from pathlib import Path

import numpy as np
import polars as pl
import pyreadstat

from trialtwin.core.cohort import Cohort
from trialtwin.core.variables import Kind, Variable

YEAR = 365.25
WEEKS = {"Baseline": 0.0, "Week 8": 56.0, "Week 16": 112.0, "Week 24": 168.0}
BACKGROUND = ("AGE", "EDUCLVL", "DURDIS", "MMSETOT", "BMIBL", "HEIGHTBL", "WEIGHTBL")


def cohort_of(
    ids: list[str],
    covariates: dict[str, np.ndarray],
    outcomes: tuple[Variable, ...],
    times: np.ndarray,
    values: np.ndarray,
    *,
    arms: tuple[str, ...] = ("untreated",),
    received: np.ndarray | None = None,
) -> Cohort:
    """Return a cohort of continuous covariates; visits are named by their order, planned at their median time."""
    nominal = np.nanmedian(times, axis=0)
    return Cohort(
        ids=tuple(ids),
        variables=tuple(Variable(name) for name in covariates),
        covariates=np.column_stack(list(covariates.values())) if covariates else np.zeros((len(ids), 0)),
        outcomes=outcomes,
        visits=tuple(f"visit {k}" for k in range(times.shape[1])),
        nominal=nominal,
        times=np.where(np.isfinite(times), times, nominal),
        values=values,
        observed=np.isfinite(values),
        treatments=arms,
        received=np.zeros(len(ids), dtype=np.int64) if received is None else received,
    )


def xanomeline(shared: Path, told: str) -> Cohort:
    """Return all randomised patients: ADAS-Cog(11) as observed, weeks 0 to 24, and what was known at baseline.

    ``told`` says which baseline data are covariates: ``"total"`` (none besides the score itself), ``"scale"`` (the
    scale's items as well), ``"background"`` (items, demography, MMSE, duration of disease, build), ``"everything"``
    (also blood chemistry and vital signs). Weeks imputed by carrying forward are not observed.
    """
    folder = shared / "data" / "cdiscpilot01" / "adam"

    def read(name: str) -> pl.DataFrame:
        frame, _ = pyreadstat.read_xport(str(folder / f"{name}.xpt"), output_format="polars")
        return frame

    subjects, scale = read("adsl"), read("adqsadas")
    ids = subjects["USUBJID"].to_list()
    total = scale.filter((pl.col("PARAMCD") == "ACTOT") & (pl.col("ANL01FL") == "Y") & (pl.col("DTYPE") != "LOCF"))
    values, times = np.full((len(ids), 4, 1), np.nan), np.full((len(ids), 4), np.nan)
    place, column = {name: i for i, name in enumerate(ids)}, {name: k for k, name in enumerate(WEEKS)}
    for row in total.select("USUBJID", "AVISIT", "AVAL", "ADY").iter_rows():
        i, k = place[row[0]], column[row[1]]
        values[i, k, 0], times[i, k] = row[2], 0.0 if k == 0 else row[3]
    covariates: dict[str, np.ndarray] = {}
    if told in ("background", "everything"):
        covariates |= {name: subjects[name].to_numpy().astype(float) for name in BACKGROUND}
        covariates["FEMALE"] = (subjects["SEX"] == "F").to_numpy().astype(float)
        covariates["WHITE"] = (subjects["RACE"] == "WHITE").to_numpy().astype(float)
        covariates["HISPANIC"] = (subjects["ETHNIC"] == "HISPANIC OR LATINO").to_numpy().astype(float)
    if told != "total":
        items = scale.filter((pl.col("AVISIT") == "Baseline") & pl.col("PARAMCD").str.starts_with("ACITM"))
        covariates |= _wide(items, place)
    if told == "everything":
        for name in ("adlbc", "advs"):
            frame = read(name).filter((pl.col("ABLFL") == "Y") & ~pl.col("PARAMCD").str.starts_with("_"))
            covariates |= _wide(frame.filter(pl.col("AVAL").is_not_null()), place)
    arms = tuple(sorted(subjects["TRT01P"].unique().to_list()))
    received = np.array([arms.index(arm) for arm in subjects["TRT01P"]])
    outcome = (Variable("ACTOT", "ADAS-Cog (11)", unit="points", lower=0.0, upper=70.0, concept="ADAS-Cog11"),)
    return cohort_of(ids, covariates, outcome, times, values, arms=arms, received=received)


def _wide(frame: pl.DataFrame, place: dict[str, int]) -> dict[str, np.ndarray]:
    """Return one column a parameter: each patient's mean of the rows there are."""
    found: dict[str, np.ndarray] = {}
    means = frame.group_by("USUBJID", "PARAMCD").agg(pl.col("AVAL").mean()).sort("PARAMCD", "USUBJID")
    for name, code, value in means.iter_rows():
        found.setdefault(code, np.full(len(place), np.nan))[place[name]] = value
    return found


def paquid(shared: Path) -> Cohort:
    """Return the subjects of the sample of Paquid with MMSE from their first measured visit on, up to 20 years later.

    Covariates are of that first visit: age, schooling, sex, and three other scales and dependency, where measured.
    """
    frame = pl.read_csv(shared / "data" / "paquid" / "paquid.csv", null_values=["NA", ""])
    frame = frame.filter(pl.col("MMSE").is_not_null()).sort("ID", "age")
    groups = [group for _, group in frame.group_by("ID", maintain_order=True)]
    visits = max(len(group) for group in groups)
    values, times = np.full((len(groups), visits, 1), np.nan), np.full((len(groups), visits), np.nan)
    for i, group in enumerate(groups):
        ages = group["age"].to_numpy()
        values[i, : len(group), 0], times[i, : len(group)] = group["MMSE"].to_numpy(), (ages - ages[0]) * YEAR
    names = ("age", "CEP", "male", "BVRT", "IST", "HIER", "CESD")
    first = pl.concat([group.head(1) for group in groups])
    covariates = {name: first[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names}
    outcome = (Variable("MMSE", unit="points", kind=Kind.ORDINAL, lower=0.0, upper=30.0, concept="MMSE"),)
    return cohort_of([f"P{name}" for name in first["ID"]], covariates, outcome, times, values)
