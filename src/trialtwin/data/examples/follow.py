"""What happens during the example trial: visits, adverse events, and who leaves when and why."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

from trialtwin.data.examples.design import EVENTS, ITEMS, VISITS
from trialtwin.data.examples.people import People

REASONS = ("COMPLETED", "ADVERSE EVENT", "WITHDRAWAL BY SUBJECT", "LACK OF EFFICACY", "LOST TO FOLLOW-UP", "DEATH")
COMPLETED, ADVERSE, WITHDREW, FUTILE, LOST, DEAD = range(len(REASONS))
SEVERITIES = ("MILD", "MODERATE", "SEVERE")

# Log odds of leaving in one of the three intervals; worsening in units of 5 points.
LEAVE = -3.05
LEAVE_DOSE = (0.0, 0.35, 0.75)
LEAVE_EVENT = 0.9
LEAVE_SEEN = 0.35
LEAVE_UNSEEN = 0.15
DEATH = 0.002

MISSED_VISIT = 0.025
MISSED_ITEM = 0.004
SPOILT_FORM = 0.006
EARLY_VISIT = 0.55
UNDATED = 0.01


@dataclass(frozen=True, eq=False)
class Happened:
    """Adverse events as they would happen without anyone leaving: patient, kind, first and last study day.

    ``kind`` is a position in ``EVENTS``; study days count from 1, the first dose; negative days are before it. The
    start of ``undated`` events is not recorded.
    """

    patient: Int[np.ndarray, " event"]
    kind: Int[np.ndarray, " event"]
    first: Int[np.ndarray, " event"]
    last: Int[np.ndarray, " event"]
    severity: Int[np.ndarray, " event"]
    serious: Bool[np.ndarray, " event"]
    undated: Bool[np.ndarray, " event"]


@dataclass(frozen=True, eq=False)
class Stay:
    """How long each patient stays: reason of leaving, last day of dosing, last day in the trial, last visit kept.

    ``visits`` is the number of scheduled visits attended or missed before leaving; ``early`` the study day of the
    early-termination visit, 0 where there is none.
    """

    reason: Int[np.ndarray, " patient"]
    last_dose: Int[np.ndarray, " patient"]
    last_day: Int[np.ndarray, " patient"]
    visits: Int[np.ndarray, " patient"]
    early: Int[np.ndarray, " patient"]


def draw_days(rng: np.random.Generator, people: People) -> Int[np.ndarray, "patient visit"]:
    """Draw the study day of each scheduled visit: baseline on the day of randomisation, the others around their target.

    Where the first dose is the day after randomisation, baseline is study day −1: there is no day 0.
    """
    n = len(people)
    late = np.clip(np.round(rng.normal(0.5, 4.0, (n, len(VISITS) - 1))), -9, 12)
    targets = np.array([visit.target for visit in VISITS[1:]])
    days = np.column_stack([np.where(people.start == 1, -1, 1), targets + late])
    return days.astype(np.int64)


def draw_events(rng: np.random.Generator, people: People, end: Int[np.ndarray, " patient"]) -> Happened:
    """Draw adverse events up to the end of the trial, and a few before the first dose."""
    rates = np.array([event.rates for event in EVENTS]).T[people.arm] / 100
    counts = rng.poisson(rates * end[:, None])
    before = rng.poisson(0.004, counts.shape)
    patient, kind = (np.repeat(index.ravel(), (counts + before).ravel()) for index in np.indices(counts.shape))
    n = len(patient)
    cell = (counts + before).ravel()
    rank = np.arange(n) - np.repeat(np.cumsum(cell) - cell, cell)
    early = rank < np.repeat(before.ravel(), cell)
    wait = (people.wait + people.start)[patient]
    first = 1 + np.floor(rng.random(n) * end[patient]).astype(np.int64)
    first = np.where(early, -1 - np.floor(rng.random(n) * (wait - 1)).astype(np.int64), first)
    last = first + np.ceil(rng.gamma(1.3, 14.0, n)).astype(np.int64)
    last = np.where((first < 0) & (last >= 0), last + 1, last)  # there is no day 0
    severity = rng.choice(3, n, p=[0.6, 0.32, 0.08])
    serious = rng.random(n) < np.array([0.005, 0.02, 0.15])[severity]
    undated = (rng.random(n) < UNDATED) & ~np.array([event.dermatologic for event in EVENTS])[kind]
    # One record an event: the same kind does not start twice on a day.
    _, keep = np.unique(np.column_stack([patient, kind, first]), axis=0, return_index=True)
    order = keep[np.lexsort((kind[keep], first[keep], patient[keep]))]
    columns = (patient, kind, first, last, severity, serious, undated)
    return Happened(*(column[order] for column in columns))


def draw_stay(
    rng: np.random.Generator,
    people: People,
    days: Int[np.ndarray, "patient visit"],
    totals: Float[np.ndarray, "patient visit"],
    truth: Float[np.ndarray, "patient visit"],
    events: Happened,
) -> Stay:
    """Draw who leaves in which interval between visits, why, and whether there is an early-termination visit."""
    n, last = len(people), len(VISITS) - 1
    reason = np.zeros(n, dtype=np.int64)
    left = np.zeros(n, dtype=np.int64)  # day of leaving
    kept = np.full(n, last + 1, dtype=np.int64)
    for k in range(1, last + 1):
        bad = _disturbed(events, n, np.zeros(n, dtype=np.int64) if k == 1 else days[:, k - 1], days[:, k])
        seen = (totals[:, k - 1] - totals[:, 0]) / 5
        unseen = (truth[:, k] - truth[:, 0]) / 5
        odds = LEAVE + np.array(LEAVE_DOSE)[people.arm] + LEAVE_EVENT * bad + LEAVE_SEEN * seen + LEAVE_UNSEEN * unseen
        chance, dies = rng.random(n), rng.random(n) < DEATH
        why = rng.random(n)
        day = days[:, k - 1] + 1 + np.floor(rng.random(n) * (days[:, k] - days[:, k - 1] - 2)).astype(np.int64)
        goes = (reason == COMPLETED) & ((chance < expit(odds)) | dies)
        cause = np.where(bad & (why < 0.75), ADVERSE, np.where(why < 0.55, WITHDREW, np.where(why < 0.8, FUTILE, LOST)))
        reason = np.where(goes, np.where(dies, DEAD, cause), reason)
        left = np.where(goes, np.maximum(day, 2), left)
        kept = np.where(goes, k, kept)
    stayed = reason == COMPLETED
    lag = rng.integers(0, 10, n)
    comes = ~stayed & (rng.random(n) < EARLY_VISIT) & (reason != LOST) & (reason != DEAD)
    last_dose = np.where(stayed, days[:, last] - 1, left)
    early = np.where(comes, left + lag, 0)
    ends = np.where(stayed, days[:, last], np.where(comes, early, left + lag * (reason != DEAD)))
    return Stay(reason, last_dose, ends, kept, early)


def draw_missing(
    rng: np.random.Generator, shape: tuple[int, int]
) -> tuple[Bool[np.ndarray, "patient visit"], Bool[np.ndarray, "patient visit item"]]:
    """Draw which visits are missed, and which items are not answered; nobody misses baseline, or spoils its form."""
    visits = rng.random(shape) < MISSED_VISIT
    items = rng.random((*shape, len(ITEMS))) < MISSED_ITEM
    spoilt = rng.random(shape) < SPOILT_FORM
    visits[:, 0] = spoilt[:, 0] = False
    tail = np.arange(len(ITEMS)) >= len(ITEMS) - 5  # the interview was broken off
    return visits, items | (spoilt[:, :, None] & tail)


def _disturbed(
    events: Happened, n: int, after: Int[np.ndarray, " patient"], until: Int[np.ndarray, " patient"]
) -> Bool[np.ndarray, " patient"]:
    """Tell who had an event of more than mild severity that began in an interval, both ends inside."""
    inside = (events.first >= after[events.patient]) & (events.first <= until[events.patient]) & (events.severity > 0)
    return np.bincount(events.patient[inside], minlength=n) > 0
