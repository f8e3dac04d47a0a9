"""Visits in order: the page's order against visit numbers and study days of the records."""

import numpy as np
import polars as pl
from jaxtyping import Float

from trialtwin.core.errors import DataError
from trialtwin.data.structure import shorten, texts
from trialtwin.study.analyse.read import Rows
from trialtwin.study.analyse.spec import EndpointSpec


def require_order(endpoint: EndpointSpec, rows: Rows, subject: str) -> None:
    """Refuse visits whose order contradicts their numbers (AVISITN) or their study days, in all or in one patient.

    Raises
    ------
    DataError
        With the visits, and the subjects whose days fall.
    """
    if len(endpoint.visits) < 2:
        return
    measured = rows.frame
    if "DTYPE" in measured.columns:
        measured = measured.filter(pl.col("DTYPE").is_null())  # a value carried forward keeps its old day
    for column in ("AVISITN", endpoint.day):
        if column and column in measured.columns and measured[column].dtype == pl.Float64:
            _require_rising(endpoint, measured, column, rows.dataset.source)
    if endpoint.day in measured.columns:
        _require_rising_within(endpoint, measured, subject, rows.dataset.source)


def nominal_days(endpoint: EndpointSpec, rows: Rows) -> Float[np.ndarray, " visit"]:
    """Return the median study day of each visit; of one visit where the endpoint names none.

    Raises
    ------
    DataError
        If the records have no study days.
    """
    rows.dataset.require(endpoint.day, purpose="as study day of the records")
    medians = _medians(endpoint, rows.frame, endpoint.day)
    if np.isnan(medians).any():
        raise DataError(f"{endpoint.day} is missing at a visit", where=rows.dataset.source)
    return medians


def _medians(endpoint: EndpointSpec, frame: pl.DataFrame, column: str) -> Float[np.ndarray, " visit"]:
    if not endpoint.visits:
        return np.array([frame[column].cast(pl.Float64).drop_nulls().median() or np.nan], dtype=float)
    names = texts(frame["AVISIT"])
    found = [frame.filter(names == visit)[column].cast(pl.Float64).median() for visit in endpoint.visits]
    return np.array([np.nan if value is None else value for value in found], dtype=float)


def _require_rising(endpoint: EndpointSpec, frame: pl.DataFrame, column: str, source: str) -> None:
    medians = _medians(endpoint, frame, column)
    falls = np.flatnonzero(np.diff(medians) <= 0)
    if len(falls):
        k = int(falls[0])
        order = [endpoint.visits[i] for i in np.argsort(medians, kind="stable")]
        raise DataError(
            f"visits are out of order: {column} is {medians[k]:g} at {endpoint.visits[k]} and {medians[k + 1]:g} at"
            f" {endpoint.visits[k + 1]}",
            where=f"endpoint {endpoint.id!r}, {source}",
            do=f"write the visits in order of time: {', '.join(order)}",
        )


def _require_rising_within(endpoint: EndpointSpec, frame: pl.DataFrame, subject: str, source: str) -> None:
    place = {visit: k for k, visit in enumerate(endpoint.visits)}
    names = texts(frame["AVISIT"]).replace_strict(place, return_dtype=pl.Int64).alias("_place")
    ordered = frame.select(subject, endpoint.day, names).drop_nulls().sort(subject, "_place")
    falls = (ordered[subject] == ordered[subject].shift(1)) & (ordered[endpoint.day] < ordered[endpoint.day].shift(1))
    who = ordered[subject].filter(falls.fill_null(value=False)).unique(maintain_order=True).to_list()
    if who:
        raise DataError(
            f"the study day falls from a visit to the next in {len(who)} subject(s)",
            where=f"endpoint {endpoint.id!r}, {source}: {shorten(who)}",
            do=f"correct {endpoint.day} or AVISIT where the file is made; day = '' takes the visits as named",
        )
