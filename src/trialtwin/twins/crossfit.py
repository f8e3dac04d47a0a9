"""Cross-fitting: a twin for every patient that has not seen that patient."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times


def assign_folds(cohort: Cohort, folds: int, *, key: Array) -> Int[np.ndarray, " patient"]:
    """Assign patients to folds at random, balanced within each arm.

    Raises
    ------
    FitError
        If there are fewer than two folds, or more folds than patients.
    """
    if not 2 <= folds <= len(cohort):
        raise FitError(
            f"cannot make {folds} folds of {len(cohort)} patients", do="choose between 2 and the number of patients"
        )
    assigned = np.zeros(len(cohort), dtype=np.int64)
    offset = 0
    for arm, arm_key in enumerate(jax.random.split(key, len(cohort.treatments))):
        members = np.flatnonzero(cohort.received == arm)
        order = np.asarray(jax.random.permutation(arm_key, len(members)))
        # going on where the last arm ended keeps the folds equal in size overall
        assigned[members[order]] = (offset + np.arange(len(members))) % folds
        offset += len(members)
    return assigned


@final
class CrossFitTwin(AbstractTwin):
    """Twins fitted without each fold in turn, and one fitted to all: asks for each patient the one that never saw them.

    A patient of the cohort that was fitted to is recognised by identifier and goes to the twin fitted without that
    patient's fold, whatever the arm; any other patient goes to the twin fitted to all, whose assumptions and parameters
    it shows.
    """

    parts: tuple[AbstractTwin, ...]
    whole: AbstractTwin
    fold: dict[str, int]
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return posterior-predictive trajectories, each patient's from a twin that has not seen that patient.

        Raises
        ------
        DataError
            If there are no patients, or the times cannot be predicted at.
        FitError
            If the folds' twins predict different outcomes.
        """
        patient_times(patients, times, draws)
        group = np.array([self.fold.get(name, len(self.parts)) for name in patients.ids])
        pieces: list[tuple[np.ndarray, Trajectories]] = []
        for number, twin in enumerate((*self.parts, self.whole)):
            members = np.flatnonzero(group == number)
            if len(members):
                own_times = times if np.ndim(times) == 1 else times[members]
                own_key = jax.random.fold_in(key, number)
                asked = twin.predict(patients.take(members), treatment, own_times, draws=draws, key=own_key)
                pieces.append((members, asked))
        first = pieces[0][1]
        names = [[v.name for v in asked.outcomes] for _, asked in pieces]
        if any(other != names[0] for other in names):
            raise FitError(
                "the folds' twins predict different outcomes: some folds have too few patients to learn one",
                where="; ".join(sorted({", ".join(other) for other in names})),
                do="leave out the outcome that few patients were followed for, or use fewer folds",
            )
        values = np.empty((draws, len(patients), *first.values.shape[2:]))
        expected = np.empty((len(patients), *first.expected.shape[1:]))
        for members, asked in pieces:
            values[:, members], expected[members] = asked.values, asked.expected
        return Trajectories(patients.ids, first.outcomes, times, values, expected)


@final
class CrossFit(AbstractModel):
    """Any model, cross-fitted: fitted once without each fold, and once to all.

    Parameters
    ----------
    model
        The model to wrap.
    folds
        Number of folds.
    train_on
        Arms to learn from, such as the control arm; empty for all. Patients of the other arms get a fold too, so that
        in each fold the scores of all arms come from the same twin.
    on_fit
        Called with the number of fits done and the number of fits in all.
    """

    model: AbstractModel
    folds: int = 10
    train_on: tuple[str, ...] = ()
    on_fit: Callable[[int, int], None] | None = eqx.field(default=None, static=True)

    def fit(self, cohort: Cohort, *, key: Array) -> CrossFitTwin:
        """Fit without each fold in turn and to all; the key decides the folds.

        Raises
        ------
        FitError
            If a fold leaves nobody to learn from, or the wrapped model cannot be fitted.
        """
        fold_key, *fit_keys = jax.random.split(key, self.folds + 2)
        fold = assign_folds(cohort, self.folds, key=fold_key)
        teaches = np.ones(len(cohort), dtype=bool)
        if self.train_on:
            teaches = np.any([cohort.arm(name) for name in self.train_on], axis=0)
        twins: list[AbstractTwin] = []
        for number, fit_key in enumerate(fit_keys):
            members = teaches & (fold != number)
            if not members.any():
                raise FitError(f"fold {number + 1} of {self.folds} leaves nobody to learn from", do="use fewer folds")
            twins.append(self.model.fit(cohort.take(members), key=fit_key))
            if self.on_fit is not None:
                self.on_fit(number + 1, self.folds + 1)
        whole = twins[-1]
        return CrossFitTwin(
            parts=tuple(twins[:-1]),
            whole=whole,
            fold=dict(zip(cohort.ids, fold.tolist(), strict=True)),
            mechanisms=whole.mechanisms,
            assumptions=whole.assumptions,
            learned=whole.learned,
        )
