"""A model fitted to a cohort is a twin; a twin asked about a treatment gives trajectories."""

from abc import abstractmethod

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment

type Times = Float[np.ndarray, " time"] | Float[np.ndarray, "patient time"]


class AbstractTwin(eqx.Module):
    """A fitted model of patients.

    ``mechanisms`` names what treatments may act on; ``assumptions`` lists what it takes as given, with sources;
    ``learned`` what it learned from its cohort, and how much the cohort said.
    """

    mechanisms: eqx.AbstractVar[tuple[str, ...]]
    assumptions: eqx.AbstractVar[tuple[Assumption, ...]]
    learned: eqx.AbstractVar[tuple[Learned, ...]]

    @abstractmethod
    def predict(
        self,
        patients: Cohort,
        treatment: AbstractTreatment,
        times: Times,
        *,
        draws: int,
        key: PRNGKeyArray | Array,
    ) -> Trajectories:
        """Return posterior-predictive trajectories, conditioned on whatever history the patients carry."""


class AbstractModel(eqx.Module):
    """An unfitted model: its settings, and how to fit them to a cohort."""

    @abstractmethod
    def fit(self, cohort: Cohort, *, key: PRNGKeyArray | Array) -> AbstractTwin:
        """Fit to every patient of the cohort and return the twin."""


def require_mechanisms(twin: AbstractTwin, treatment: AbstractTreatment) -> None:
    """Refuse a treatment that acts on mechanisms that the twin does not have.

    Raises
    ------
    MismatchError
        With the mechanisms that the treatment names and those that the twin has.
    """
    missing = [name for name in treatment.targets if name not in twin.mechanisms]
    if missing:
        raise MismatchError(
            f"{treatment.name!r} acts on {missing}, which this twin does not have",
            exists=twin.mechanisms or ("(none: a data-driven twin)",),
            do="use a twin whose disease has these mechanisms",
        )


def patient_times(patients: Cohort, times: Times, draws: int) -> Float[np.ndarray, "patient time"]:
    """Return the times at which each patient is asked about, after checking that the question can be answered.

    Raises
    ------
    DataError
        If there are no patients or no times, a time is before baseline or not finite, the times are of another number
        of patients, or fewer than one draw is asked for.
    """
    if len(patients) == 0:
        raise DataError("there are no patients to predict", do="give at least one")
    if draws < 1:
        raise DataError(f"{draws} draws were asked for", do="ask for at least one")
    if np.ndim(times) == 2 and len(times) != len(patients):
        raise DataError(f"times of {len(times)} patients were given for {len(patients)} patients")
    if np.size(times) == 0 or not (np.isfinite(times).all() and np.min(times) >= 0):
        raise DataError("times to predict must be days since baseline, 0 or later", where=f"times {np.asarray(times)}")
    return np.broadcast_to(times, (len(patients), np.shape(times)[-1]))
