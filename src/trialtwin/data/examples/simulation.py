"""The simulated trial before it is written down: patients, what they would answer, and what happens to them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.errors import ConfigError
from trialtwin.data.examples.course import draw_answers, draw_profiles, effect_on_rate, expected_total, levels
from trialtwin.data.examples.design import ARMS, BLOCK, SITES, STUDY, VISITS
from trialtwin.data.examples.follow import Happened, Stay, draw_days, draw_events, draw_missing, draw_stay
from trialtwin.data.examples.people import People, draw_people


@dataclass(frozen=True, eq=False)
class Simulation:
    """Everything that was drawn, missing or not.

    Parameters
    ----------
    people
        Patients at baseline.
    profile : shape (patient, item)
        Difficulty of each item for each patient, on the logit.
    added : shape (arm,)
        What each arm adds to the yearly rate of decline.
    days : shape (patient, visit)
        Study day of each scheduled visit.
    answers : shape (patient, visit + 1, item)
        Answers at the scheduled visits, then at the early-termination visit.
    totals : shape (patient, visit)
        Totals at the scheduled visits, as if nobody missed one.
    events, stay
        Adverse events, and how long patients stay.
    missed, unanswered : shape (patient, visit + 1), (patient, visit + 1, item)
        Visits that are missed and items that are not answered.
    blank : shape (patient, 4)
        Whether weight, education, APOE and onset of the disease are unknown.
    """

    people: People
    profile: Float[np.ndarray, "patient item"]
    added: Float[np.ndarray, " arm"]
    days: Int[np.ndarray, "patient visit"]
    answers: Int[np.ndarray, "patient occasion item"]
    totals: Float[np.ndarray, "patient visit"]
    events: Happened
    stay: Stay
    missed: Bool[np.ndarray, "patient occasion"]
    unanswered: Bool[np.ndarray, "patient occasion item"]
    blank: Bool[np.ndarray, "patient covariate"]


def simulate(seed: int, patients: int, effect: tuple[float, float]) -> Simulation:
    """Draw a trial; each part has its own stream, so that more adverse events change no answer.

    Raises
    ------
    ConfigError
        If there are too few patients for a block, or the effect is impossible.
    """
    if patients < len(BLOCK):
        raise ConfigError(
            f"{patients} patients are too few for an example trial", do=f"ask for {len(BLOCK)} at least, one block"
        )
    streams = [np.random.Generator(np.random.PCG64(part)) for part in np.random.SeedSequence(seed).spawn(6)]
    people = draw_people(streams[0], patients)
    profile = draw_profiles(streams[1], people)
    added = effect_on_rate(people, profile, effect)
    days = draw_days(streams[2], people)
    level = levels(people, added[people.arm], elapsed_days(days))
    answers = draw_answers(streams[1], level, profile)
    totals = answers.sum(axis=2).astype(float)
    events = draw_events(streams[3], people, days[:, -1])
    truth = np.column_stack([expected_total(level[:, k], profile) for k in range(len(VISITS))])
    stay = draw_stay(streams[4], people, days, totals, truth, events)
    early = levels(people, added[people.arm], elapsed_days(stay.early[:, None]))
    answers = np.concatenate([answers, draw_answers(streams[1], early, profile)], axis=1)
    missed, unanswered = draw_missing(streams[5], (patients, len(VISITS) + 1))
    blank = streams[5].random((patients, 4)) < np.array([0.008, 0.006, 0.04, 0.006])
    return Simulation(people, profile, added, days, answers, totals, events, stay, missed, unanswered, blank)


def expected_totals(drawn: Simulation, *, treated: bool) -> Float[np.ndarray, "patient visit"]:
    """Expect each patient's total at the planned visits, in the patient's own arm or on placebo."""
    time = np.broadcast_to(np.array([visit.time for visit in VISITS]), drawn.days.shape)
    added = drawn.added[drawn.people.arm] if treated else np.zeros(len(drawn.people))
    level = levels(drawn.people, added, time)
    return np.column_stack([expected_total(level[:, k], drawn.profile) for k in range(len(VISITS))])


def elapsed_days(day: Int[np.ndarray, "patient occasion"]) -> Float[np.ndarray, "patient occasion"]:
    """Turn study days (no day 0) into days since the first dose."""
    return np.where(day >= 1, day - 1, day).astype(float)


def identifiers(people: People) -> tuple[str, ...]:
    """Return USUBJID of each patient: study, site, and a number within the site."""
    number = np.zeros(len(people), dtype=np.int64)
    for k in range(len(SITES)):
        mine = people.site == k
        number[mine] = 1001 + np.arange(int(mine.sum()))
    return tuple(f"{STUDY}-{SITES[s]}-{i}" for s, i in zip(people.site, number, strict=True))


def arms(people: People) -> tuple[str, ...]:
    """Return the arm of each patient by name."""
    return tuple(ARMS[k] for k in people.arm)
