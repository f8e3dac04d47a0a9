"""ADQSADAS of the example trial: the items and totals that were recorded, and what is derived from them."""

from dataclasses import replace

import numpy as np
import polars as pl

from trialtwin.data.dataset import DataSet, Storage
from trialtwin.data.derive import derive
from trialtwin.data.examples.columns import dataset, dates
from trialtwin.data.examples.design import EARLY, ITEMS, TOTAL, VISIT_NUMBERS, VISITS
from trialtwin.data.examples.simulation import Simulation
from trialtwin.data.examples.subjects import attended, first_doses, too_few_answers

COPIES = ("STUDYID", "SITEID", "SITEGR1", "USUBJID", "TRTSDT", "TRTEDT")
MORE_COPIES = ("AGE", "AGEGR1", "AGEGR1N", "SEX", "RACE", "ITTFL", "EFFFL", "COMP24FL")
_C, _N, _D = Storage.CHAR, Storage.NUM, Storage.DATE


def score_table(drawn: Simulation, subjects: DataSet) -> DataSet:
    """Write down items and totals of the visits that took place, with windows, baseline, change and LOCF."""
    raw = _recorded(drawn, subjects)
    done = derive(raw, VISITS, numbers=VISIT_NUMBERS, carry=(TOTAL,))
    return replace(done, source=subjects.source)


def _recorded(drawn: Simulation, subjects: DataSet) -> DataSet:
    """Write down what was recorded, one row an item or total."""
    codes = [*(item.paramcd for item in ITEMS), TOTAL]
    names = [*(item.name for item in ITEMS), "ADAS-Cog(11) Total"]
    there = attended(drawn)
    patient, occasion = np.nonzero(there)
    day = np.where(occasion < len(VISITS), drawn.days[patient, np.minimum(occasion, 3)], drawn.stay.early[patient])
    order = np.lexsort((day, patient))
    patient, occasion, day = patient[order], occasion[order], day[order]
    values = _values(drawn)[patient, occasion]
    width = len(codes)
    rows = np.repeat(patient, width)
    adsl = subjects.frame
    first = first_doses(drawn.people)
    visits = (*(visit.name.upper() for visit in VISITS), EARLY)
    numbers = (3.0, 5.0, 7.0, 9.0, 99.0)
    copied = [(name, _storage(subjects, name), _label(subjects, name), adsl[name].gather(rows)) for name in COPIES]
    more = [(name, _storage(subjects, name), _label(subjects, name), adsl[name].gather(rows)) for name in MORE_COPIES]
    columns = [
        *copied,
        ("TRTP", _C, "Planned Treatment", adsl["TRT01P"].gather(rows)),
        ("TRTPN", _N, "Planned Treatment (N)", adsl["TRT01PN"].gather(rows)),
        *more,
        ("PARAM", _C, "Parameter", names * len(patient)),
        ("PARAMCD", _C, "Parameter Code", codes * len(patient)),
        ("PARAMN", _N, "Parameter (N)", [float(k + 1) for k in range(width)] * len(patient)),
        ("VISIT", _C, "Visit Name", [visits[k] for k in np.repeat(occasion, width)]),
        ("VISITNUM", _N, "Visit Number", [numbers[k] for k in np.repeat(occasion, width)]),
        ("ADT", _D, "Analysis Date", dates([first[i] for i in rows], np.repeat(day, width))),
        ("ADY", _N, "Analysis Relative Day", np.repeat(day, width).astype(float)),
        ("AVAL", _N, "Analysis Value", pl.Series(values.ravel()).fill_nan(None)),
    ]
    return dataset("ADQSADAS", "ADAS-Cog Analysis Dataset", columns)


def _values(drawn: Simulation) -> np.ndarray:
    """Return items and prorated total of each patient and occasion; NaN where not answered, or too few were."""
    maxima = np.array([item.maximum for item in ITEMS], dtype=float)
    answered = ~drawn.unanswered
    items = np.where(answered, drawn.answers, np.nan)
    reachable = (answered * maxima).sum(axis=2)
    total = np.nansum(items, axis=2) * maxima.sum() / reachable
    total = np.where(too_few_answers(drawn), np.nan, total)
    return np.concatenate([items, total[:, :, None]], axis=2)


def _storage(dataset: DataSet, name: str) -> Storage:
    """Return how a variable is stored."""
    return next(field.storage for field in dataset.fields if field.name == name)


def _label(dataset: DataSet, name: str) -> str:
    """Return a variable's label."""
    return next(field.label for field in dataset.fields if field.name == name)
