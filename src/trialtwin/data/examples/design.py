"""What the example trial is: its arms, visits, items, sites and adverse events. All of it is invented."""

from dataclasses import dataclass
from datetime import date

from trialtwin.data.layout import Visit

STUDY = "TWINEX1"
FIRST_SCREENING = date(2021, 3, 1)
ENROLMENT_DAYS = 420
ARMS = ("Placebo", "Low Dose", "High Dose")
DOSES = (0.0, 20.0, 40.0)  # mg a day
BLOCK = (0, 0, 1, 1, 2, 2)
SITES = tuple(f"{101 + i}" for i in range(12))
POOLED = "199"
LEAST_IN_ARM = 3

VISITS = (
    Visit("Baseline", 1.0, None, 1.0),
    Visit("Week 8", 57.0, 2.0, 85.0),
    Visit("Week 16", 113.0, 86.0, 141.0),
    Visit("Week 24", 169.0, 142.0, None),
)
VISIT_NUMBERS = (0.0, 8.0, 16.0, 24.0)
EARLY = "EARLY TERMINATION"


@dataclass(frozen=True)
class Item:
    """An item of the ADAS-Cog: code, name, maximum, and how much harder it is than the scale, on the logit."""

    paramcd: str
    name: str
    maximum: int
    harder: float


ITEMS = (
    Item("ACITM01", "Word Recall Task", 10, 0.9),
    Item("ACITM02", "Naming Objects And Fingers", 5, -0.8),
    Item("ACITM04", "Commands", 5, -0.5),
    Item("ACITM05", "Constructional Praxis", 5, 0.1),
    Item("ACITM06", "Ideational Praxis", 5, -0.5),
    Item("ACITM07", "Orientation", 8, 0.4),
    Item("ACITM08", "Word Recognition", 12, 0.5),
    Item("ACITM11", "Spoken Language Ability", 5, -0.8),
    Item("ACITM12", "Comprehension Of Spoken Language", 5, -0.7),
    Item("ACITM13", "Word Finding Difficulty", 5, -0.5),
    Item("ACITM14", "Recall Of Test Instructions", 5, -0.4),
)
TOTAL = "ACTOT"
MOST_MISSING = 0.3


@dataclass(frozen=True)
class Event:
    """An adverse event: term, body system, and its rate per 100 patient-days in each arm."""

    term: str
    system: str
    rates: tuple[float, float, float]
    dermatologic: bool = False


SKIN = "SKIN AND SUBCUTANEOUS TISSUE DISORDERS"
GUT = "GASTROINTESTINAL DISORDERS"
EVENTS = (
    Event("RASH", SKIN, (0.05, 0.12, 0.20), dermatologic=True),
    Event("PRURITUS", SKIN, (0.05, 0.14, 0.22), dermatologic=True),
    Event("ERYTHEMA", SKIN, (0.03, 0.08, 0.12), dermatologic=True),
    Event("NAUSEA", GUT, (0.06, 0.14, 0.26)),
    Event("VOMITING", GUT, (0.02, 0.06, 0.12)),
    Event("DIARRHOEA", GUT, (0.08, 0.09, 0.12)),
    Event("DIZZINESS", "NERVOUS SYSTEM DISORDERS", (0.06, 0.08, 0.12)),
    Event("HEADACHE", "NERVOUS SYSTEM DISORDERS", (0.09, 0.09, 0.10)),
    Event("AGITATION", "PSYCHIATRIC DISORDERS", (0.06, 0.05, 0.05)),
    Event("FATIGUE", "GENERAL DISORDERS AND ADMINISTRATION SITE CONDITIONS", (0.04, 0.06, 0.08)),
    Event("NASOPHARYNGITIS", "INFECTIONS AND INFESTATIONS", (0.10, 0.10, 0.10)),
    Event("URINARY TRACT INFECTION", "INFECTIONS AND INFESTATIONS", (0.06, 0.06, 0.06)),
    Event("FALL", "INJURY, POISONING AND PROCEDURAL COMPLICATIONS", (0.06, 0.06, 0.07)),
    Event("HYPERTENSION", "VASCULAR DISORDERS", (0.04, 0.04, 0.04)),
)
DERMATOLOGIC = "DERMATOLOGIC EVENTS"
FATAL = ("CARDIAC ARREST", "CARDIAC DISORDERS")
