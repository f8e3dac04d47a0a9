"""Make the example trial, and say what is true of it."""

import numpy as np
import polars as pl

from trialtwin.data.cdisc import TrialTables
from trialtwin.data.examples.design import VISITS
from trialtwin.data.examples.safety import event_table, record_events, time_table
from trialtwin.data.examples.scores import score_table
from trialtwin.data.examples.simulation import arms, expected_totals, identifiers, simulate
from trialtwin.data.examples.subjects import subject_table

EFFECT = (-1.0, -2.0)


def generate_trial(*, seed: int, patients: int = 250, effect: tuple[float, float] = EFFECT) -> TrialTables:
    """Simulate a three-arm, 24-week Alzheimer's trial and write it down as ADSL, ADQSADAS, ADAE and ADTTE.

    The patients are simulated, and no record comes from a person; the package's docstring says how. The same seed gives
    the same tables.

    Parameters
    ----------
    seed
        Of the random number generator (PCG64).
    patients
        Number randomised, in blocks of six within sites.
    effect
        True effect of the low and of the high dose: mean difference from placebo in the ADAS-Cog(11) total at Week 24,
        in points (negative is better), over all patients of the trial had they stayed on treatment.

    Raises
    ------
    ConfigError
        If there are fewer than six patients, or no treatment could have such an effect.

    Examples
    --------
    >>> trial = generate_trial(seed=1, patients=60)
    >>> trial.subjects.frame.group_by("TRT01P").len().sort("TRT01P").rows()
    [('High Dose', 19), ('Low Dose', 21), ('Placebo', 20)]
    """
    drawn = simulate(seed, patients, effect)
    subjects = subject_table(drawn)
    events = record_events(drawn)
    return TrialTables(
        subjects=subjects,
        findings={"ADQSADAS": score_table(drawn, subjects)},
        events=event_table(drawn, subjects, events),
        times=time_table(drawn, subjects, events),
    )


def generate_truth(*, seed: int, patients: int = 250, effect: tuple[float, float] = EFFECT) -> pl.DataFrame:
    """Return what no real trial tells: each patient's expected total at each visit, as treated and on placebo.

    Expectations are over the form of the day and the noise of answers, at the planned days, without dropout; the mean
    over the patients of an arm's effect is not exactly ``effect``, which is the mean over all patients of the trial.

    Returns
    -------
    One row a patient and visit: ``USUBJID``, ``ARM``, ``AVISIT``, ``EXPECTED`` in the patient's own arm and
    ``EXPECTED_PLACEBO``, in points.

    Examples
    --------
    >>> truth = generate_truth(seed=1, patients=60, effect=(0.0, 0.0))
    >>> bool((truth["EXPECTED"] == truth["EXPECTED_PLACEBO"]).all())
    True
    """
    drawn = simulate(seed, patients, effect)
    names, arm = identifiers(drawn.people), arms(drawn.people)
    visits = [visit.name for visit in VISITS]
    return pl.DataFrame(
        {
            "USUBJID": np.repeat(np.array(names), len(visits)).tolist(),
            "ARM": np.repeat(np.array(arm), len(visits)).tolist(),
            "AVISIT": visits * len(names),
            "EXPECTED": expected_totals(drawn, treated=True).ravel(),
            "EXPECTED_PLACEBO": expected_totals(drawn, treated=False).ravel(),
        }
    )
