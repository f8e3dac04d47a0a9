"""From the data sets of a page to the outcome of each endpoint, with who is missing and why."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.estimate import Estimand, IntercurrentEvent, Strategy
from trialtwin.data.structure import require_unique, texts
from trialtwin.study.analyse.read import Rows, Subjects, Trial, coded, require_numeric
from trialtwin.study.analyse.spec import AnalyseSpec, EndpointSpec, EventSpec
from trialtwin.study.analyse.visits import nominal_days, require_order
from trialtwin.trials.outcomes import RepeatedOutcome, SingleOutcome, SurvivalOutcome
from trialtwin.trials.patients import Patients

type Outcome = SingleOutcome | RepeatedOutcome | SurvivalOutcome


@dataclass(frozen=True, eq=False)
class Prepared:
    """An endpoint ready to analyse, and the flow of patients to it: what, then a number for each arm.

    ``others`` is the number of subjects of the population who are in none of the page's arms.
    """

    spec: EndpointSpec
    outcome: Outcome
    flow: tuple[tuple[str, tuple[int, ...]], ...]
    others: int


@dataclass(frozen=True, eq=False)
class _Population:
    """Subjects of the population in the page's arms: their places among all subjects, and their arms."""

    subjects: Subjects
    index: Int[np.ndarray, " patient"]
    arm: Int[np.ndarray, " patient"]
    others: int

    @property
    def ids(self) -> list[str]:
        return [self.subjects.ids[i] for i in self.index]

    def counts(self, rows: np.ndarray, arms: int) -> tuple[int, ...]:
        return tuple(int(n) for n in np.bincount(self.arm[rows], minlength=arms))


def prepare(trial: Trial, endpoint: EndpointSpec) -> Prepared:
    """Return the outcome of an endpoint.

    Raises
    ------
    MismatchError
        If a variable, the parameter, a visit, an arm or a value of the population flag does not exist.
    DataError
        If records repeat, visits are out of order, or an arm has no outcomes.
    """
    rows = trial.rows(endpoint)
    people = _population(trial, Subjects(trial, rows))
    chosen = _chosen(trial.spec, endpoint, rows)
    if endpoint.kind == "time to event":
        return _survival(trial, endpoint, people, chosen)
    after = _after(trial.spec, endpoint, people, chosen)
    if endpoint.kind == "repeated":
        return _repeated(trial, endpoint, people, chosen, after)
    return _single(trial, endpoint, people, chosen, after)


def estimand_of(spec: AnalyseSpec, endpoint: EndpointSpec) -> Estimand:
    """Return the question of an endpoint, without its summary."""
    shown = spec.arms.shown
    events = [IntercurrentEvent(event=e.event, strategy=e.strategy, note=e.note) for e in endpoint.events]
    return Estimand(
        treatment=f"{' or '.join(shown[1:])} against {shown[0]}",
        population=spec.population.name,
        variable=endpoint.words,
        intercurrent_events=tuple(events),
        summary="",
    )


def _population(trial: Trial, subjects: Subjects) -> _Population:
    """Return the subjects of the population in the page's arms."""
    spec = trial.spec
    inside = np.ones(len(subjects.ids), dtype=bool)
    flag = spec.population
    if flag.variable:
        words = subjects.words(flag.variable, "as population flag")
        inside = np.array([word == flag.value for word in words])
        if not inside.any():
            known = [str(w) for w in dict.fromkeys(words) if w is not None]
            raise MismatchError(f"nobody has {flag.variable} {flag.value!r}", where="[population]", exists=known)
    names = subjects.words(spec.arms.variable, "as arm")
    for wanted in spec.arms.names:
        if wanted not in names:
            known = [str(name) for name in dict.fromkeys(names) if name is not None]
            raise MismatchError(f"no arm {wanted!r} in {spec.arms.variable}", where="[arms] names", exists=known)
    place = {name: k for k, name in enumerate(spec.arms.names)}
    arm = np.array([place.get(name or "", -1) for name in names])
    index = np.flatnonzero(inside & (arm >= 0))
    return _Population(subjects, index, arm[index], int((inside & (arm < 0)).sum()))


def _chosen(spec: AnalyseSpec, endpoint: EndpointSpec, rows: Rows) -> Rows:
    """Return the records that count: flagged, measured, at the page's visits; one a subject and visit."""
    frame, dataset = rows.frame, rows.dataset
    if endpoint.flag_name:
        dataset.require(endpoint.flag_name, purpose="as record flag (record_flag = '' for all records)")
        frame = frame.filter(pl.col(endpoint.flag_name) == "Y")
    if not endpoint.derived and "DTYPE" in frame.columns:
        frame = frame.filter(pl.col("DTYPE").is_null())
    keys = [spec.data.subject]
    if endpoint.visits:
        dataset.require("AVISIT", purpose="for the visits")
        known = texts(frame["AVISIT"]).unique(maintain_order=True).drop_nulls().to_list()
        for visit in endpoint.visits:
            if visit not in known:
                raise MismatchError(
                    f"no record of {endpoint.parameter} that counts at visit {visit!r}",
                    where=f"endpoint {endpoint.id!r}, {dataset.source}",
                    exists=known,
                )
        frame = frame.filter(texts(frame["AVISIT"]).is_in(endpoint.visits))
        keys.append("AVISIT")
    frame = require_numeric(Rows(dataset, frame), "AVAL", spec.data.subject, "as outcome")
    require_unique(frame, keys, f"several {endpoint.parameter} records of a subject", dataset)
    chosen = Rows(dataset, frame)
    require_order(endpoint, chosen, spec.data.subject)
    return chosen


def _grid(
    endpoint: EndpointSpec, people: _Population, rows: Rows, column: str, subject: str
) -> Float[np.ndarray, "patient visit"]:
    """Return a column of the records by patient and visit, NaN where there is none."""
    frame = require_numeric(rows, column, subject, "for the endpoint")
    place = {name: k for k, name in enumerate(people.ids)}
    visits = {name: k for k, name in enumerate(endpoint.visits)} if endpoint.visits else {"": 0}
    grid = np.full((len(people.index), len(visits)), np.nan)
    names = texts(frame["AVISIT"]).to_list() if endpoint.visits else [""] * frame.height
    for who, visit, value in zip(frame[subject], names, frame[column].cast(pl.Float64), strict=True):
        if who in place and value is not None:
            grid[place[who], visits[visit]] = value
    return grid


@dataclass(frozen=True, eq=False)
class _After:
    """First visit after each patient's first intercurrent event, its name and its strategy."""

    visit: Int[np.ndarray, " patient"]
    name: tuple[str, ...]
    strategy: tuple[Strategy | None, ...]


def _after(spec: AnalyseSpec, endpoint: EndpointSpec, people: _Population, rows: Rows) -> _After:
    """Find who had an intercurrent event before which visit."""
    dated = [event for event in endpoint.events if event.date]
    visits = max(len(endpoint.visits), 1)
    first = np.full(len(people.index), visits)
    which = np.full(len(people.index), -1)
    if dated:
        if not endpoint.day:
            raise DataError("dates of intercurrent events need study days of the records", do="name the column as day")
        own = _grid(endpoint, people, rows, endpoint.day, spec.data.subject)
        day = _visit_days(own, nominal_days(endpoint, rows))
        for k, event in enumerate(dated):
            when = _days(spec, people, event)
            later = day > when[:, None]
            place = np.where(later.any(axis=1), later.argmax(axis=1), visits)
            sooner = place < first
            first, which = np.where(sooner, place, first), np.where(sooner, k, which)
    names = tuple(dated[k].event if k >= 0 else "" for k in which)
    return _After(first, names, tuple(dated[k].strategy if k >= 0 else None for k in which))


def _visit_days(
    own: Float[np.ndarray, "patient visit"], nominal: Float[np.ndarray, " visit"]
) -> Float[np.ndarray, "patient visit"]:
    """Return the day of each visit: the patient's own; of a missed one the nominal day, but after the visit before."""
    day = np.where(np.isnan(own), nominal, own)
    for k in range(1, day.shape[1]):
        missed = np.isnan(own[:, k]) & (day[:, k] <= day[:, k - 1])
        day[missed, k] = day[missed, k - 1] + 0.5
    return day


def _days(spec: AnalyseSpec, people: _Population, event: EventSpec) -> Float[np.ndarray, " patient"]:
    """Return the study day of an event, infinity for patients without it."""
    days = people.subjects.days(event.date, spec.data.start, f"for the event {event.event!r}")[people.index]
    had = ~np.isnan(days)
    if event.flag:
        words = people.subjects.words(event.flag, f"for the event {event.event!r}")
        had &= np.array([words[i] == "Y" for i in people.index])
    return np.where(had, days, np.inf)


def _covariates(spec: AnalyseSpec, endpoint: EndpointSpec) -> tuple[list[str], list[str]]:
    """Return names of the covariates that analyses of an endpoint use, and of the factors they stratify by."""
    own = [one for one in spec.analyses if one.endpoint == endpoint.id]
    used = dict.fromkeys(name for one in own for name in one.covariates or ())
    strata = dict.fromkeys([*spec.randomisation.strata, *(name for one in own for name in one.strata or ())])
    return list(used), list(strata)


def _patients(trial: Trial, endpoint: EndpointSpec, people: _Population, kept: np.ndarray) -> Patients:
    """Return the kept patients of the population with what analyses use of them."""
    spec, subjects = trial.spec, people.subjects
    rows = np.flatnonzero(kept)
    index, ids = people.index[rows], [people.ids[i] for i in rows]
    used, strata = _covariates(spec, endpoint)
    covariates, factors = {}, {}
    for name in dict.fromkeys([*used, *strata]):
        if name in strata or subjects.is_category(name):
            words = subjects.words(name, "as a factor")
            factors[name] = coded([words[i] for i in index], ids, name)
        else:
            values = subjects.numbers(name, "as a covariate")
            if spec.data.missing == "mean" and not np.isnan(values[people.index]).all():
                # the mean over all arms keeps a randomised comparison unbiased: White and Thompson (2005)
                values = np.where(np.isnan(values), np.nanmean(values[people.index]), values)
            covariates[name] = values[index]
    arm = people.arm[rows]
    return Patients(
        ids=tuple(ids),
        arms=spec.arms.shown,
        arm=arm,
        population=spec.population.name,
        covariates=covariates,
        factors=factors,
        scheme=spec.randomisation.scheme,
        strata=spec.randomisation.strata,
        every_pair=spec.arms.contrasts == "all",
        dose=np.array(spec.arms.dose)[arm] if spec.arms.dose else None,
        dose_unit=spec.arms.dose_unit,
    )


def _repeated(trial: Trial, endpoint: EndpointSpec, people: _Population, rows: Rows, after: _After) -> Prepared:
    spec, arms = trial.spec, len(trial.spec.arms.names)
    subject = spec.data.subject
    value = _grid(endpoint, people, rows, endpoint.column_name, subject)
    aside = np.array([s is Strategy.HYPOTHETICAL for s in after.strategy])
    late = aside[:, None] & (np.arange(value.shape[1]) >= after.visit[:, None])
    removed = late & np.isfinite(value)
    value = np.where(late, np.nan, value)
    kept = np.isfinite(value).any(axis=1)
    if any(a.method == "reference_based" and a.endpoint == endpoint.id for a in spec.analyses):
        kept |= _complete(trial, endpoint, people)  # imputed from their covariates and their arm
    flow = [("In the population", people.counts(np.ones(len(kept), dtype=bool), arms))]
    flow += [
        (f"With an outcome at {v}", people.counts(np.isfinite(value[:, k]), arms))
        for k, v in enumerate(endpoint.visits)
    ]
    flow.append(("With no outcome at any visit", people.counts(~np.isfinite(value).any(axis=1), arms)))
    if removed.any():
        flow.append(("With outcomes set aside after an event", people.counts(removed.any(axis=1), arms)))
    score = None if not endpoint.score else _score(trial, endpoint, people, rows)
    outcome = RepeatedOutcome(
        patients=_patients(trial, endpoint, people, kept),
        visits=endpoint.visits,
        value=value[kept],
        endpoint=endpoint.words,
        unit=endpoint.unit,
        estimand=estimand_of(spec, endpoint),
        event=after.visit[kept],
        event_name=tuple(name for name, k in zip(after.name, kept, strict=True) if k),
        score=None if score is None else score[kept],
        times=nominal_days(endpoint, rows) if endpoint.day and endpoint.day in rows.frame.columns else None,
    )
    return Prepared(endpoint, outcome, tuple(flow), people.others)


def _complete(trial: Trial, endpoint: EndpointSpec, people: _Population) -> np.ndarray:
    """Tell which patients have every covariate."""
    whole = np.ones(len(people.index), dtype=bool)
    used, strata = _covariates(trial.spec, endpoint)
    for name in (*used, *strata):
        values = people.subjects.column(name, "as a covariate").is_null().to_numpy()[people.index]
        whole &= ~values | (trial.spec.data.missing == "mean" and not people.subjects.is_category(name))
    return whole


def _score(trial: Trial, endpoint: EndpointSpec, people: _Population, rows: Rows) -> Float[np.ndarray, "patient visit"]:
    """Return the prognostic score of each patient and visit: by subject where it stands so, else from the records."""
    columns = rows.frame.columns
    tables = [trial.tables[n] for n in (trial.spec.data.subjects, *trial.spec.data.join) if n]
    if endpoint.score in columns and not any(endpoint.score in table.frame.columns for table in tables):
        return _grid(endpoint, people, rows, endpoint.score, trial.spec.data.subject)
    values = people.subjects.numbers(endpoint.score, "as prognostic score")[people.index]
    return np.repeat(values[:, None], max(len(endpoint.visits), 1), axis=1)


def _single(trial: Trial, endpoint: EndpointSpec, people: _Population, rows: Rows, after: _After) -> Prepared:
    spec, arms = trial.spec, len(trial.spec.arms.names)
    value = _response(endpoint, people, rows, spec.data.subject)
    reached = after.visit == 0
    composite = reached & np.array([s is Strategy.COMPOSITE for s in after.strategy])
    aside = reached & np.array([s is Strategy.HYPOTHETICAL for s in after.strategy])
    everyone = np.ones(len(value), dtype=bool)
    flow = [("In the population", people.counts(everyone, arms))]
    flow.append(("With a record", people.counts(np.isfinite(value), arms)))
    value = np.where(composite, 0.0, np.where(aside, np.nan, value))
    if composite.any():
        flow.append(("No response because of an event", people.counts(composite, arms)))
    if aside.any():
        flow.append(("Set aside after an event", people.counts(aside, arms)))
    if endpoint.missing == "no response":
        flow.append(("No response because there is no record", people.counts(np.isnan(value), arms)))
        value = np.where(np.isnan(value), 0.0, value)
    kept = np.isfinite(value)
    flow.append(("Analysed", people.counts(kept, arms)))
    if endpoint.kind == "binary":
        flow.append(("With a response", people.counts(kept & (value == 1), arms)))
    exposure = None
    if endpoint.exposure:
        exposure = people.subjects.numbers(endpoint.exposure, "as exposure time")[people.index][kept]
    score = _score(trial, endpoint, people, rows)[kept, 0] if endpoint.score else None
    outcome = SingleOutcome(
        patients=_patients(trial, endpoint, people, kept),
        value=value[kept],
        kind=endpoint.kind,  # type: ignore[arg-type]
        endpoint=endpoint.words,
        visit=endpoint.visits[0] if endpoint.visits else "",
        unit=endpoint.unit,
        estimand=estimand_of(spec, endpoint),
        exposure=exposure,
        score=score,
    )
    return Prepared(endpoint, outcome, tuple(flow), people.others)


def _response(endpoint: EndpointSpec, people: _Population, rows: Rows, subject: str) -> Float[np.ndarray, " patient"]:
    """Return the outcome of each patient; 1 or 0 where the page says what a response is."""
    if endpoint.response:
        rows.dataset.require(endpoint.column_name, purpose="for the endpoint")
        column = texts(rows.frame[endpoint.column_name])
        known = column.drop_nulls().unique(maintain_order=True).to_list()
        if endpoint.response not in known:
            raise MismatchError(
                f"no response {endpoint.response!r} in {endpoint.column_name}", where=rows.dataset.source, exists=known
            )
        flag = (column == endpoint.response).cast(pl.Float64).alias("AVAL")
        rows = Rows(rows.dataset, rows.frame.with_columns(flag))
        return _grid(endpoint, people, rows, "AVAL", subject)[:, 0]
    value = _grid(endpoint, people, rows, endpoint.column_name, subject)[:, 0]
    for limit, reached in ((endpoint.at_least, np.greater_equal), (endpoint.at_most, np.less_equal)):
        if limit is not None:
            value = np.where(np.isnan(value), np.nan, reached(value, limit).astype(float))
    return value


def _survival(trial: Trial, endpoint: EndpointSpec, people: _Population, rows: Rows) -> Prepared:
    spec, arms = trial.spec, len(trial.spec.arms.names)
    time = _grid(endpoint, people, rows, endpoint.column_name, spec.data.subject)[:, 0]
    censored = _grid(endpoint, people, rows, "CNSR", spec.data.subject)[:, 0]
    kept = np.isfinite(time)
    if np.isnan(censored[kept]).any():
        raise DataError("CNSR is missing where AVAL is not", do="0 for an event, 1 or more for a censored time")
    event = censored[kept] == 0
    happened = np.zeros(len(kept), dtype=bool)
    happened[kept] = event
    everyone = np.ones(len(kept), dtype=bool)
    flow = (
        ("In the population", people.counts(everyone, arms)),
        ("Analysed", people.counts(kept, arms)),
        ("With the event", people.counts(happened, arms)),
    )
    outcome = SurvivalOutcome(
        patients=_patients(trial, endpoint, people, kept),
        time=time[kept],
        event=event,
        endpoint=endpoint.words,
        unit=endpoint.unit or "days",
        estimand=estimand_of(spec, endpoint),
    )
    return Prepared(endpoint, outcome, flow, people.others)
