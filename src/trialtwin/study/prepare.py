"""From a study file and its tables to arrays: the layout, the cohort that twins see, and the record to be analysed."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.core.variables import Kind, Variable
from trialtwin.data.cdisc import TrialTables, read_tables
from trialtwin.data.cohort import assemble
from trialtwin.data.endpoint import EndpointRows, endpoint
from trialtwin.data.layout import Layout, Outcome, ScaleTotal, Visit
from trialtwin.study.spec import CovariateSpec, OutcomeSpec, StudySpec
from trialtwin.trials.record import Factor, Record


@dataclass(frozen=True)
class Prepared:
    """A study with its tables read; arrays are made when first asked for.

    ``cohort`` holds every randomised subject with the covariates that twins may use; ``rows`` the endpoint of the
    analysis population as ADaM marks it.
    """

    spec: StudySpec
    tables: TrialTables

    def require_usable(self) -> None:
        """Make every array once, so that what bad input can break breaks before any long work.

        Raises
        ------
        ConfigError, DataError, MismatchError
            As assembling the cohort and the record raise them.
        """
        _ = self.cohort, self.record

    @cached_property
    def layout(self) -> Layout:
        """Roles of the variables, categories filled in as found."""
        return layout_of(self.spec, self.tables, self.spec.arms.names)

    @cached_property
    def cohort(self) -> Cohort:
        """Every subject, with what twins may see."""
        return assemble(self.tables, _for_twins(self.spec, self.layout))

    @cached_property
    def rows(self) -> EndpointRows:
        """The analysed endpoint of the analysis population."""
        goal = self.spec.endpoint
        return endpoint(
            self.tables,
            self.layout,
            paramcd=goal.outcome,
            visit=goal.visit,
            column=goal.column,
            population=_population(self.spec),
        )

    @cached_property
    def imputed(self) -> dict[str, int]:
        """How many subjects of the analysis set have the mean of a covariate, because theirs is missing."""
        place = {name: i for i, name in enumerate(self.tables.subjects.frame["USUBJID"].to_list())}
        index = [place[name] for name in self.rows.ids]
        used = {name for analysis in self.spec.analyses for name in analysis.covariates}
        counts = {
            c.name: int(self.tables.subjects.frame[c.name][index].is_null().sum())
            for c in self.spec.covariates
            if c.missing == "mean" and c.name in used
        }
        return {name: n for name, n in counts.items() if n}

    @cached_property
    def record(self) -> Record:
        """The analysis set with the covariates that any analysis uses."""
        return _record(self)


def read_study(spec: StudySpec, folder: Path) -> Prepared:
    """Read the tables that a study names.

    Raises
    ------
    DataError, MismatchError, MachineError
        If a file is missing, broken, or another one than its name says.
    """
    data = spec.data
    files = {name: _file_name(spec, folder, name) for name in data.findings}
    tables = read_tables(
        folder,
        subjects=_file_name(spec, folder, data.subjects),
        findings=tuple(files.values()),
        events=data.events and _file_name(spec, folder, data.events),
        times=data.times and _file_name(spec, folder, data.times),
        mappings=data.mappings,
    )
    return Prepared(spec, replace(tables, findings={name: tables.finding(file) for name, file in files.items()}))


def _file_name(spec: StudySpec, folder: Path, name: str) -> str:
    """Return the name under which a data set lies in a folder: its own, or the first alias that is there."""
    present = {path.stem.upper() for path in folder.iterdir()} if folder.is_dir() else set()
    choices = (name, *spec.data.aliases.get(name, ()))
    return next((choice for choice in choices if choice.upper() in present), name)


def read_history(spec: StudySpec, folder: Path) -> Cohort:
    """Read the control arm of an earlier trial, laid out as the study is.

    Raises
    ------
    MismatchError
        If the earlier trial has no subject on the control arm.
    """
    tables = read_study(spec, folder).tables
    tables.subjects.require(spec.arms.variable, purpose="to find the control arm")
    subjects = tables.subjects
    control = subjects.frame.filter(pl.col(spec.arms.variable) == spec.arms.control)
    if not control.height:
        arms = subjects.frame[spec.arms.variable].drop_nulls().unique(maintain_order=True).to_list()
        raise MismatchError(f"nobody received {spec.arms.control!r} in the history", where=str(folder), exists=arms)
    known = control["USUBJID"]
    kept = replace(
        tables,
        subjects=replace(subjects, frame=control),
        findings={
            name: replace(table, frame=table.frame.filter(pl.col("USUBJID").is_in(known)))
            for name, table in tables.findings.items()
        },
        events=None,
        times=None,
    )
    return assemble(kept, _for_twins(spec, layout_of(spec, kept, (spec.arms.control,))))


def layout_of(spec: StudySpec, tables: TrialTables, arms: tuple[str, ...]) -> Layout:
    """Turn a study file into a layout.

    Raises
    ------
    MismatchError
        If the subject data set lacks a covariate.
    """
    return Layout(
        arm=spec.arms.variable,
        arms=arms,
        visits=tuple(Visit(v.name, v.target, v.low, v.high) for v in spec.visits),
        outcomes=tuple(_outcome(entry, tables) for entry in spec.outcomes),
        covariates=tuple(_covariate(entry, tables) for entry in spec.covariates),
        totals=tuple(ScaleTotal(s.paramcd, s.items, s.most_missing) for s in spec.scales),
        terms=spec.terms,
    )


def _outcome(entry: OutcomeSpec, tables: TrialTables) -> Outcome:
    source = f"{entry.dataset or tables.subjects.name}, {entry.name}"
    variable = Variable(
        entry.name, entry.label, entry.unit, Kind.CONTINUOUS, entry.lower, entry.upper, (), entry.concept, source
    )
    return Outcome(variable, entry.dataset, entry.name if entry.dataset else "")


def _covariate(entry: CovariateSpec, tables: TrialTables) -> Variable:
    levels = entry.levels
    if entry.kind is Kind.CATEGORICAL and not levels:
        tables.subjects.require(entry.name, purpose="as a covariate")
        levels = tuple(sorted(map(str, tables.subjects.frame[entry.name].drop_nulls().unique().to_list())))
    source = f"{tables.subjects.name}, {entry.name}"
    return Variable(
        entry.name, entry.label, entry.unit, entry.kind, entry.lower, entry.upper, levels, entry.concept, source
    )


def _for_twins(spec: StudySpec, layout: Layout) -> Layout:
    """Leave out the covariates that twins may not use."""
    allowed = {entry.name for entry in spec.covariates if entry.twin}
    return replace(layout, covariates=tuple(v for v in layout.covariates if v.name in allowed))


def _population(spec: StudySpec) -> tuple[str, str] | None:
    flag = spec.population
    return (flag.variable, flag.value) if flag.variable else None


def _record(prepared: Prepared) -> Record:
    """Collect the endpoint with the covariates that analyses name."""
    spec, rows = prepared.spec, prepared.rows
    everybody = assemble(prepared.tables, prepared.layout)
    place = {name: i for i, name in enumerate(everybody.ids)}
    index = np.array([place[name] for name in rows.ids])
    used = dict.fromkeys(name for analysis in spec.analyses for name in analysis.covariates)
    covariates: dict[str, Float[np.ndarray, " patient"]] = {}
    factors: dict[str, Factor] = {}
    declared = {variable.name: variable for variable in everybody.variables}
    for name in used:
        if name == "BASE":
            covariates[name] = rows.base
        elif name not in declared:
            covariates[name] = everybody.values[index, 0, everybody.outcome(name)]
        elif declared[name].kind is Kind.CATEGORICAL:
            factors[name] = _factor(everybody, declared[name], index)
        else:
            covariates[name] = _complete(spec, name, everybody.covariate(name)[index])
    arm = everybody.received[index]
    dose = np.array([spec.arms.dose[name] for name in spec.arms.names])[arm] if spec.arms.dose else None
    goal = spec.endpoint
    variable = everybody.outcomes[everybody.outcome(goal.outcome)]
    what = "change in " if goal.column == "CHG" else ""
    return Record(
        ids=rows.ids,
        arms=spec.arms.names,
        arm=arm,
        value=rows.value,
        endpoint=what + (variable.label or variable.name),
        visit=goal.visit,
        population=spec.population.name,
        unit=variable.unit,
        estimand=spec.estimand,
        covariates=covariates,
        factors=factors,
        dose=dose,
        dose_unit=spec.arms.dose_unit,
    )


def _complete(spec: StudySpec, name: str, values: Float[np.ndarray, " patient"]) -> Float[np.ndarray, " patient"]:
    """Put the mean where a baseline covariate is missing, if the study file says so.

    The mean over all arms keeps a randomised comparison unbiased (White and Thompson 2005, doi:10.1002/sim.1981).
    """
    entry = next(c for c in spec.covariates if c.name == name)
    if entry.missing == "refuse" or np.isnan(values).all():
        return values
    return np.where(np.isnan(values), np.nanmean(values), values)


def _factor(cohort: Cohort, variable: Variable, index: np.ndarray) -> Factor:
    """Return a categorical covariate with the levels that occur among these subjects."""
    raw = cohort.covariate(variable.name)[index]
    missing = np.isnan(raw)
    if missing.any():
        names = [cohort.ids[i] for i in index[missing]]
        raise ConfigError(
            f"covariate {variable.name} is missing for {len(names)} subject(s) of the analysis population",
            where=", ".join(names[:10]),
            do="leave it out of the analyses, or give these subjects a category of their own",
        )
    present, codes = np.unique(raw.astype(np.int64), return_inverse=True)
    return Factor(tuple(variable.levels[i] for i in present), codes)
