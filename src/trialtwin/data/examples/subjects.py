"""ADSL of the example trial."""

from datetime import date, timedelta

import numpy as np

from trialtwin.data.dataset import DataSet, Storage
from trialtwin.data.examples.columns import Column, dataset, dates, flags, unless
from trialtwin.data.examples.design import (
    ARMS,
    DOSES,
    FIRST_SCREENING,
    ITEMS,
    LEAST_IN_ARM,
    MOST_MISSING,
    POOLED,
    SITES,
    STUDY,
    VISITS,
)
from trialtwin.data.examples.follow import ADVERSE, COMPLETED, DEAD, REASONS
from trialtwin.data.examples.people import People
from trialtwin.data.examples.simulation import Simulation, arms, identifiers

RACES = ("WHITE", "BLACK OR AFRICAN AMERICAN", "ASIAN", "OTHER")
MONTH = 30.4375
_C, _N, _D = Storage.CHAR, Storage.NUM, Storage.DATE


def subject_table(drawn: Simulation) -> DataSet:
    """Write down the patients, one row each."""
    people, stay = drawn.people, drawn.stay
    arm = arms(people)
    dose = [DOSES[k] for k in people.arm]
    left = stay.reason != COMPLETED
    first = first_doses(people)
    columns = [
        *_identity(people),
        ("ARM", _C, "Description of Planned Arm", arm),
        ("TRT01P", _C, "Planned Treatment for Period 01", arm),
        ("TRT01PN", _N, "Planned Treatment for Period 01 (N)", dose),
        ("TRT01A", _C, "Actual Treatment for Period 01", arm),
        ("TRT01AN", _N, "Actual Treatment for Period 01 (N)", dose),
        ("VISIT1DT", _D, "Date of Visit 1 (Screening)", _screened(people)),
        ("RFICDT", _D, "Date of Informed Consent", _screened(people)),
        ("RANDDT", _D, "Date of Randomization", _randomised(people)),
        ("TRTSDT", _D, "Date of First Exposure to Treatment", first),
        ("TRTEDT", _D, "Date of Last Exposure to Treatment", dates(first, stay.last_dose)),
        ("EOSDT", _D, "End of Study Date", dates(first, stay.last_day)),
        *_demography(drawn),
        ("SAFFL", _C, "Safety Population Flag", ["Y"] * len(people)),
        ("ITTFL", _C, "Intent-To-Treat Population Flag", ["Y"] * len(people)),
        ("EFFFL", _C, "Efficacy Population Flag", flags(measured_later(drawn))),
        ("COMP24FL", _C, "Completers of Week 24 Population Flag", flags(~left)),
        ("DISCONFL", _C, "Did the Subject Discontinue the Study?", flags(left, no=None)),
        ("DSRAEFL", _C, "Discontinued due to AE?", flags(stay.reason == ADVERSE, no=None)),
        ("DTHFL", _C, "Subject Died?", flags(stay.reason == DEAD, no=None)),
        ("DTHDT", _D, "Date of Death", unless(stay.reason != DEAD, dates(first, stay.last_day))),
        ("DCDECOD", _C, "Standardized Disposition Term", [REASONS[k] for k in stay.reason]),
    ]
    return dataset("ADSL", "Subject-Level Analysis Dataset", columns)


def first_doses(people: People) -> list[date]:
    """Return the date of each patient's first dose."""
    return [day + timedelta(days=int(s)) for day, s in zip(_randomised(people), people.start, strict=True)]


def attended(drawn: Simulation) -> np.ndarray:
    """Tell which visits took place, the early-termination visit last."""
    scheduled = np.arange(len(VISITS)) < drawn.stay.visits[:, None]
    early = drawn.stay.early[:, None] > 0
    return np.column_stack([scheduled & ~drawn.missed[:, : len(VISITS)], early])


def too_few_answers(drawn: Simulation) -> np.ndarray:
    """Tell at which visits too few items were answered for a total."""
    return drawn.unanswered.sum(axis=2) > MOST_MISSING * len(ITEMS)


def measured_later(drawn: Simulation) -> np.ndarray:
    """Tell who has a total after baseline."""
    return (attended(drawn) & ~too_few_answers(drawn))[:, 1:].any(axis=1)


def pooled_sites(people: People) -> list[str]:
    """Pool the sites that have fewer than three patients in an arm."""
    counts = np.zeros((len(SITES), len(ARMS)), dtype=np.int64)
    np.add.at(counts, (people.site, people.arm), 1)
    return [SITES[s] if counts[s].min() >= LEAST_IN_ARM else POOLED for s in people.site]


def age_groups(people: People) -> tuple[list[str], list[float]]:
    """Return age groups and their numbers."""
    number = 1 + (people.age >= 65) + (people.age > 80)
    return [("<65", "65-80", ">80")[k - 1] for k in number], [float(k) for k in number]


def _identity(people: People) -> list[Column]:
    """Return study, subject and site."""
    names = identifiers(people)
    return [
        ("STUDYID", _C, "Study Identifier", [STUDY] * len(names)),
        ("USUBJID", _C, "Unique Subject Identifier", names),
        ("SUBJID", _C, "Subject Identifier for the Study", [name.split("-", 1)[1] for name in names]),
        ("SITEID", _C, "Study Site Identifier", [SITES[s] for s in people.site]),
        ("SITEGR1", _C, "Pooled Site Group 1", pooled_sites(people)),
    ]


def _demography(drawn: Simulation) -> list[Column]:
    """Return what is known of the patients at baseline."""
    people, blank = drawn.people, drawn.blank
    group, number = age_groups(people)
    ethnic = ("NOT HISPANIC OR LATINO", "HISPANIC OR LATINO")
    bmi = np.round(people.weight / (people.height / 100) ** 2, 1)
    months = np.round(people.duration * MONTH)
    onset = [day - timedelta(days=int(m)) for day, m in zip(_screened(people), months, strict=True)]
    return [
        ("AGE", _N, "Age", people.age),
        ("AGEU", _C, "Age Units", ["YEARS"] * len(people)),
        ("AGEGR1", _C, "Pooled Age Group 1", group),
        ("AGEGR1N", _N, "Pooled Age Group 1 (N)", number),
        ("SEX", _C, "Sex", ["F" if f else "M" for f in people.female]),
        ("RACE", _C, "Race", [RACES[k] for k in people.race]),
        ("ETHNIC", _C, "Ethnicity", [ethnic[k] for k in people.hispanic]),
        ("EDUCLVL", _N, "Years of Education", unless(blank[:, 1], people.education.tolist())),
        ("HEIGHTBL", _N, "Baseline Height (cm)", people.height),
        ("WEIGHTBL", _N, "Baseline Weight (kg)", unless(blank[:, 0], people.weight.tolist())),
        ("BMIBL", _N, "Baseline BMI (kg/m^2)", unless(blank[:, 0], bmi.tolist())),
        ("APOE4", _N, "Number of APOE E4 Alleles", unless(blank[:, 2], people.alleles.tolist())),
        ("DISONSDT", _D, "Date of Onset of Disease", unless(blank[:, 3], onset)),
        ("DURDIS", _N, "Duration of Disease (Months)", unless(blank[:, 3], people.duration.tolist())),
        ("MMSETOT", _N, "MMSE Total at Baseline", people.mmse),
    ]


def _screened(people: People) -> list[date]:
    """Return the date of each patient's screening."""
    return [FIRST_SCREENING + timedelta(days=int(day)) for day in people.entry]


def _randomised(people: People) -> list[date]:
    """Return the date of each patient's randomisation."""
    return [day + timedelta(days=int(w)) for day, w in zip(_screened(people), people.wait, strict=True)]
