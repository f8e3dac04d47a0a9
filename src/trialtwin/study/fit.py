"""The fit step: cross-fitted twins of the control arm, asked at baseline for every patient's untreated course."""

import io
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import DataError
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.twin import AbstractTwin
from trialtwin.diseases.registry import find_disease
from trialtwin.study.spec import StudySpec, TwinSpec
from trialtwin.twins.crossfit import CrossFit, assign_folds
from trialtwin.twins.registry import build_model

type Progress = Callable[[int, int], None]


def fit_twin(
    spec: StudySpec, entry: TwinSpec, cohort: Cohort, history: Cohort | None, on_fit: Progress
) -> AbstractTwin:
    """Fit one twin: to the history where there is one, else cross-fitted to the control arm of the trial."""
    model = build_model(entry.model, None if entry.disease is None else find_disease(entry.disease))
    key = jax.random.fold_in(study_key(spec), 0)
    if history is not None:
        twin = model.fit(history, key=key)
        on_fit(1, 1)
        return twin
    crossed = CrossFit(model, folds=spec.scoring.folds, train_on=(spec.arms.control,), on_fit=on_fit)
    return crossed.fit(cohort, key=key)


def folds_of(spec: StudySpec, cohort: Cohort) -> np.ndarray:
    """Return the folds that cross-fitting uses, for forecasts that are to learn from the same patients."""
    key = jax.random.fold_in(study_key(spec), 0)
    # CrossFit splits its key into one for the folds and one a fit
    return assign_folds(cohort, spec.scoring.folds, key=jax.random.split(key, spec.scoring.folds + 2)[0])


def ask_twin(spec: StudySpec, entry: TwinSpec, twin: AbstractTwin, cohort: Cohort) -> Trajectories:
    """Ask a twin at baseline for every patient's untreated course at the planned visits."""
    number = [t.name for t in spec.twins].index(entry.name)
    key = jax.random.fold_in(jax.random.fold_in(study_key(spec), 1), number)
    return twin.predict(cohort.until(0.0), NoTreatment(), cohort.nominal, draws=spec.scoring.draws, key=key)


def study_key(spec: StudySpec) -> jax.Array:
    """Return the random key of a study."""
    return jax.random.key(spec.study.seed)


def pack(trajectories: Trajectories) -> bytes:
    """Write trajectories as an uncompressed NumPy archive of plain arrays."""
    stream = io.BytesIO()
    np.savez(
        stream,
        ids=np.array(trajectories.ids),
        outcomes=np.array([v.name for v in trajectories.outcomes]),
        times=trajectories.times,
        values=trajectories.values,
        expected=trajectories.expected,
    )
    return stream.getvalue()


def unpack(path: Path, cohort: Cohort) -> Trajectories:
    """Read trajectories of a cohort back; nothing is unpickled.

    Raises
    ------
    DataError
        If the file holds other patients.
    """
    with np.load(path, allow_pickle=False) as archive:
        ids = tuple(str(name) for name in archive["ids"])
        if ids != cohort.ids:
            raise DataError(
                "the forecasts on disk are of other patients", where=str(path), do="delete the run's folder"
            )
        outcomes = tuple(cohort.outcomes[cohort.outcome(str(name))] for name in archive["outcomes"])
        return Trajectories(ids, outcomes, archive["times"], archive["values"], archive["expected"])
