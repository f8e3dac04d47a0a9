"""The xanomeline trial as a record, and a maker of small simulated trials."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyreadstat
import pytest

from trialtwin.core.estimate import Estimand
from trialtwin.trials.record import Factor, Record

QUESTION = Estimand(
    treatment="xanomeline against placebo",
    population="efficacy population",
    variable="change in ADAS-Cog(11) at week 24",
    intercurrent_events=[{"event": "treatment discontinuation", "strategy": "hypothetical", "note": "LOCF"}],
    summary="difference in means",
)


@pytest.fixture(scope="session")
def xanomeline(shared: Path) -> Record:
    """Return the analysis set of Table 14-3.01: 234 patients, week 24, LOCF."""
    adam = shared / "data" / "cdiscpilot01" / "adam"
    scores, _ = pyreadstat.read_xport(str(adam / "adqsadas.xpt"))
    subjects, _ = pyreadstat.read_xport(str(adam / "adsl.xpt"))
    chosen = scores[
        (scores.PARAMCD == "ACTOT")
        & (scores.ANL01FL == "Y")
        & (scores.AVISIT.str.strip() == "Week 24")
        & (scores.EFFFL == "Y")
    ]
    table = chosen.merge(subjects[["USUBJID", "MMSETOT", "DURDIS"]], on="USUBJID", validate="one_to_one")
    arms = ("Placebo", "Xanomeline Low Dose", "Xanomeline High Dose")
    sites = tuple(sorted(table.SITEGR1.unique()))
    return Record(
        ids=tuple(table.USUBJID),
        arms=("Placebo", "Low", "High"),
        arm=np.array([arms.index(name) for name in table.TRTP]),
        value=table.CHG.to_numpy(float),
        endpoint="change in ADAS-Cog(11)",
        visit="Week 24",
        population="efficacy",
        unit="points",
        estimand=QUESTION,
        covariates={name: table[name].to_numpy(float) for name in ("BASE", "MMSETOT", "AGE", "DURDIS")},
        factors={"SITEGR1": Factor(sites, np.array([sites.index(name) for name in table.SITEGR1]))},
        dose=table.TRTPN.to_numpy(float),
        dose_unit="mg",
    )


def _simulate(seed: int, *, n: int = 60) -> Record:
    """Simulate a trial of three arms with a factor, a covariate and a dose."""
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % 3
    x = rng.normal(30.0, 5.0, n)
    sex = rng.integers(0, 2, n)
    return Record(
        ids=tuple(f"S{i:03d}" for i in range(n)),
        arms=("Placebo", "Low", "High"),
        arm=arm,
        value=0.4 * x + arm + sex + rng.normal(0.0, 2.0, n),
        endpoint="change",
        visit="week 12",
        population="all randomised",
        unit="points",
        estimand=QUESTION,
        covariates={"BASE": x},
        factors={"SEX": Factor(("F", "M"), sex)},
        dose=np.array([0.0, 10.0, 30.0])[arm],
    )


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Record]:
    """Return a maker of simulated trials."""
    return _simulate


@pytest.fixture
def small() -> Record:
    """Return one simulated trial of 60 patients."""
    return _simulate(1)
