"""What a twin foresaw of patients that it had not seen, beside what happened to them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import MismatchError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.variables import Variable


@dataclass(frozen=True, eq=False)
class Forecast:
    """One twin's forecast of one outcome at the planned visits after baseline.

    Parameters
    ----------
    name
        Name of the twin.
    ids, visits, days
        Patients; visits after baseline, and the planned day of each.
    variable
        The outcome.
    base : shape (patient,)
        Value at baseline, NaN where it was not measured.
    expected : shape (patient, visit)
        Expected value.
    draws : shape (draw, patient, visit)
        Draws of what would be measured.
    observed : shape (patient, visit)
        What was measured, NaN where nothing was.
    implausible
        Share of draws outside the outcome's plausible range.
    """

    name: str
    ids: tuple[str, ...]
    visits: tuple[str, ...]
    days: Float[np.ndarray, " visit"]
    variable: Variable
    base: Float[np.ndarray, " patient"]
    expected: Float[np.ndarray, "patient visit"]
    draws: Float[np.ndarray, "draw patient visit"]
    observed: Float[np.ndarray, "patient visit"]
    implausible: float

    def visit(self, name: str) -> int:
        """Return the position of a visit."""
        if name not in self.visits:
            raise MismatchError(f"no forecast for the visit {name!r}", exists=self.visits)
        return self.visits.index(name)

    def seen(self, visit: int) -> Bool[np.ndarray, " patient"]:
        """Tell whose change from baseline to a visit was measured."""
        return np.isfinite(self.observed[:, visit]) & np.isfinite(self.base)


def forecast(name: str, trajectories: Trajectories, cohort: Cohort, outcome: str) -> Forecast:
    """Put trajectories at the planned visits of a cohort beside what was observed.

    Raises
    ------
    MismatchError
        If the trajectories are of other patients or other times than the cohort's visits.
    """
    if trajectories.ids != cohort.ids:
        raise MismatchError("the trajectories are of other patients than the cohort", do="predict for this cohort")
    if trajectories.times.ndim != 1 or not np.allclose(trajectories.times, cohort.nominal):
        raise MismatchError(
            "the trajectories are at other times than the planned visits",
            exists=[f"day {day:g}" for day in cohort.nominal],
        )
    column = [v.name for v in trajectories.outcomes].index(cohort.outcomes[cohort.outcome(outcome)].name)
    observed = cohort.values[..., cohort.outcome(outcome)]
    return Forecast(
        name=name,
        ids=cohort.ids,
        visits=cohort.visits[1:],
        days=cohort.nominal[1:],
        variable=trajectories.outcomes[column],
        base=observed[:, 0],
        expected=trajectories.expected[:, 1:, column],
        draws=trajectories.values[:, :, 1:, column],
        observed=observed[:, 1:],
        implausible=float(trajectories.implausible()[column]),
    )
