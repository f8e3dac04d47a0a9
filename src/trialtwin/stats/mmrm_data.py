"""Rows of repeated measures, checked, and sorted by which visits each subject has."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from trialtwin.core.arrays import frozen, require_finite, require_length
from trialtwin.core.errors import DataError, FitError
from trialtwin.stats.meanmodel import Factor
from trialtwin.stats.modelmatrix import ModelMatrix


@dataclass(frozen=True, eq=False)
class RepeatedMeasures:
    """Observed rows of a model for repeated measures, one a subject and visit, in order of subject and visit.

    Parameters
    ----------
    design
        Columns of the mean, one row an observation.
    response : shape (row,)
        What is modelled, finite.
    subject : shape (row,)
        Codes of subjects, 0 … n − 1, ascending.
    visit : shape (row,)
        Codes of visits, ascending within a subject.
    time : shape (row,)
        Times of the visits, in any unit; the spatial structure alone reads them.
    group : shape (row,)
        Codes of covariance groups, the same in all rows of a subject.
    weight : shape (row,)
        Variances are divided by these.
    subjects, visits, groups
        Names.
    """

    design: ModelMatrix
    response: Float[np.ndarray, " row"]
    subject: Int[np.ndarray, " row"]
    visit: Int[np.ndarray, " row"]
    time: Float[np.ndarray, " row"]
    group: Int[np.ndarray, " row"]
    weight: Float[np.ndarray, " row"]
    subjects: tuple[str, ...]
    visits: tuple[str, ...]
    groups: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("response", "subject", "visit", "time", "group", "weight"):
            object.__setattr__(self, name, frozen(getattr(self, name)))


@dataclass(frozen=True, eq=False)
class Patterns:
    """Which visits subjects have: subjects with the same visits, times and group share a pattern.

    Parameters
    ----------
    slot : shape (row,)
        Place of each row among the places of its subject.
    of_subject : shape (subject,)
        Pattern of each subject.
    observed : shape (pattern, slot)
        Places that hold an observation.
    time : shape (pattern, slot)
        Times of these places; 0 where there is no observation.
    group : shape (pattern,)
        Covariance group of each pattern.
    """

    slot: Int[np.ndarray, " row"]
    of_subject: Int[np.ndarray, " subject"]
    observed: Bool[np.ndarray, "pattern slot"]
    time: Float[np.ndarray, "pattern slot"]
    group: Int[np.ndarray, " pattern"]


def repeated_measures(
    design: ModelMatrix,
    response: Float[np.ndarray, " row"],
    *,
    subjects: Shaped[np.ndarray, " row"],
    visits: Factor,
    groups: Factor | None = None,
    weights: Float[np.ndarray, " row"] | None = None,
    times: Float[np.ndarray, " row"] | None = None,
) -> RepeatedMeasures:
    """Check rows of repeated measures, leave out those whose response is NaN, and sort them by subject and visit.

    Rows may come in any order. A visit at which a subject was not seen may be a row with response NaN or no row.

    Raises
    ------
    DataError
        If lengths differ, a number is infinite, a subject has two rows at a visit, times do not rise, a subject belongs
        to two groups, or a weight is not above zero.
    FitError
        If no outcome is observed at a visit, or none where a column of the design is not zero (such as an arm).
    """
    rows = len(response)
    given = {"subjects": subjects, "visits": visits.codes, "weights": weights, "times": times}
    for name, array in given.items():
        if array is not None:
            require_length(name, array, rows)
    require_length("the design", design.values, rows)
    group = groups.codes if groups else np.zeros(rows, dtype=int)
    weight = np.ones(rows) if weights is None else weights
    time = visits.codes.astype(float) if times is None else times
    seen = ~np.isnan(response)
    require_finite("the response", response[seen])
    require_finite("times", time[seen])
    _require_positive(weight[seen], subjects[seen])
    _require_outcomes(design, seen, visits)
    names, subject = np.unique(subjects[seen].astype(str), return_inverse=True)
    order = np.lexsort((visits.codes[seen], subject))
    data = RepeatedMeasures(
        design=ModelMatrix(design.names, design.values[seen][order]),
        response=response[seen][order],
        subject=subject[order],
        visit=visits.codes[seen][order].astype(int),
        time=time[seen][order],
        group=group[seen][order].astype(int),
        weight=weight[seen][order],
        subjects=tuple(names.tolist()),
        visits=visits.levels,
        groups=groups.levels if groups else ("",),
    )
    _require_single_rows(data, by_time=times is not None)
    return data


def find_patterns(data: RepeatedMeasures, *, spatial: bool) -> Patterns:
    """Sort subjects by the visits they have; for a spatial structure, by the times of their visits."""
    starts = np.flatnonzero(np.r_[True, np.diff(data.subject) > 0])
    counts = np.diff(np.r_[starts, len(data.subject)])
    slot = np.arange(len(data.subject)) - np.repeat(starts, counts) if spatial else data.visit
    slots = int(slot.max()) + 1 if spatial else len(data.visits)
    key = np.full((len(starts), slots + 1), np.nan)
    key[data.subject, slot] = data.time if spatial else 1.0
    key[:, -1] = data.group[starts]
    # NaN is told apart from every number by a column of its own, since NaN equals nothing.
    observed = ~np.isnan(key[:, :-1])
    whole = np.column_stack([observed.astype(float), np.nan_to_num(key)])
    unique, of_subject = np.unique(whole, axis=0, return_inverse=True)
    return Patterns(
        slot=slot,
        of_subject=of_subject.reshape(-1),
        observed=unique[:, :slots] > 0,
        time=unique[:, slots : 2 * slots] if spatial else np.tile(np.arange(float(slots)), (len(unique), 1)),
        group=unique[:, -1].astype(int),
    )


def _require_positive(weight: Float[np.ndarray, " row"], subjects: Shaped[np.ndarray, " row"]) -> None:
    """Refuse weights that are not above zero."""
    bad = np.flatnonzero(~((weight > 0) & np.isfinite(weight)))
    if len(bad):
        raise DataError(
            f"{len(bad)} weight(s) are not above zero: the first is {weight[bad[0]]:g}",
            where=f"subject {subjects[bad[0]]}",
            do="give positive weights, or leave rows out by a response of NaN",
        )


def _require_outcomes(design: ModelMatrix, seen: Bool[np.ndarray, " row"], visits: Factor) -> None:
    """Refuse visits and columns of the design at which nothing was observed."""
    counts = np.bincount(visits.codes[seen], minlength=len(visits.levels))
    if not counts.all():
        empty = ", ".join(visits.levels[k] for k in np.flatnonzero(counts == 0))
        raise FitError(
            f"no outcome is observed at visit(s) {empty}",
            where=f"{int(seen.sum())} observed rows",
            do="leave these visits out of the model",
        )
    lost = (design.values != 0).any(axis=0) & ~(design.values[seen] != 0).any(axis=0)
    if lost.any():
        raise FitError(
            f"no outcome is observed where {', '.join(design.names[j] for j in np.flatnonzero(lost))} is not zero",
            where=f"{int((~seen).sum())} of {len(seen)} rows have no outcome",
            do="drop this arm, visit or level from the model: these data cannot estimate it",
        )


def _require_single_rows(data: RepeatedMeasures, *, by_time: bool) -> None:
    """Refuse a subject with two rows at one visit or time, or in two groups."""
    same = data.subject[1:] == data.subject[:-1]
    twice = np.flatnonzero(same & (data.visit[1:] == data.visit[:-1]))
    if len(twice):
        k = int(twice[0])
        raise DataError(
            f"{len(twice)} visit(s) have two outcomes of one subject",
            where=f"subject {data.subjects[data.subject[k]]} at visit {data.visits[data.visit[k]]}",
            do="keep one record a subject and visit (the analysis flag, ANL01FL, marks it in ADaM)",
        )
    moved = np.flatnonzero(same & (data.group[1:] != data.group[:-1]))
    if len(moved):
        raise DataError(
            f"{len(moved)} row(s) put a subject in a second covariance group",
            where=f"subject {data.subjects[data.subject[moved[0]]]}",
            do="group by a variable that is fixed within a subject, such as the arm",
        )
    back = np.flatnonzero(same & (data.time[1:] <= data.time[:-1])) if by_time else np.zeros(0, dtype=int)
    if len(back):
        k = int(back[0])
        raise DataError(
            f"times do not rise with visits: {data.time[k]:g} at {data.visits[data.visit[k]]}, "
            f"{data.time[k + 1]:g} at {data.visits[data.visit[k + 1]]}",
            where=f"subject {data.subjects[data.subject[k]]}",
            do="correct the times, or number the visits in order of time",
        )
