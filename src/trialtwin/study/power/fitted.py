"""Patients of a fitted twin: a saved twin asked about a study's patients at baseline, and held against the design."""

from pathlib import Path

import jax
import numpy as np

# the classes that a saved twin may be made of: its reader builds them, and never imports
import trialtwin.diseases.registry
import trialtwin.twins.registry  # noqa: F401
from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.treatment import NoTreatment
from trialtwin.engine.manifest import file_digest
from trialtwin.study.load import load_study
from trialtwin.study.power.population import Fitted, FittedSpec
from trialtwin.study.prepare import read_study
from trialtwin.trials.design import Design
from trialtwin.trials.virtual_population import of_forecast
from trialtwin.twins.card import Card
from trialtwin.twins.saving import TWIN, load_twin

FEWEST = 10


def load_fitted(spec: FittedSpec, design: Design, base: Path, *, seed: int) -> Fitted:
    """Load a saved twin and a study's patients, and forecast their untreated courses at the design's visits.

    Patients start from the value that was measured at their baseline; those without one are left out.

    Parameters
    ----------
    base
        Folder that the paths of the page start from.

    Raises
    ------
    DataError
        If there is no twin, no data, or fewer than ten patients have a baseline value.
    MismatchError
        If the twin does not know the outcome, has it in another unit than the design, or was never taught as far as the
        design's last visit; with what there is.
    ConfigError
        If the study file cannot be read.
    """
    twin, card = load_twin(base / spec.twin)
    _require_known(card, spec, design)
    cohort = read_study(load_study(base / spec.study), base / spec.data).cohort
    start = _baseline(cohort, spec.outcome)
    known = np.isfinite(start)
    if known.sum() < FEWEST:
        raise DataError(
            f"{int(known.sum())} patients have {spec.outcome} at baseline, where {FEWEST} are needed",
            where=str(base / spec.data),
            do="name data with more patients",
        )
    patients = cohort.until(0.0).take(known)
    asked = twin.predict(patients, NoTreatment(), np.array(design.visits), draws=spec.draws, key=jax.random.key(seed))
    forecast = of_forecast(asked, spec.outcome, baseline=start[known])
    change = forecast.course[..., -1] - forecast.course[..., 0]
    score = np.broadcast_to(forecast.expected, change.shape)
    return Fitted(
        name=card.name,
        forecast=forecast,
        rho=round(float(np.corrcoef(score.ravel(), change.ravel())[0, 1]), 3),
        patients=int(known.sum()),
        left_out=int((~known).sum()),
        data={"twin": file_digest(base / spec.twin / TWIN), "patients": patients.digest()},
    )


def _require_known(card: Card, spec: FittedSpec, design: Design) -> None:
    """Refuse a design that asks the twin for what it never learned."""
    outcomes = {one.name: one for one in card.outcomes}
    if spec.outcome not in outcomes:
        raise MismatchError(
            f"the twin {card.name!r} does not know the outcome {spec.outcome!r}", where=spec.twin, exists=outcomes
        )
    unit = outcomes[spec.outcome].unit
    if design.endpoint.unit and unit and design.endpoint.unit != unit:
        raise MismatchError(
            f"the design's endpoint is in {design.endpoint.unit!r}, the twin's {spec.outcome} in {unit!r}",
            where="design.endpoint.unit",
            exists=[unit],
        )
    beyond = [day for day in design.visits if day > card.horizon]
    if beyond:
        raise MismatchError(
            f"the twin {card.name!r} learned up to day {card.horizon:g}, and the design has visits after it:"
            f" {', '.join(f'{day:g}' for day in beyond)}",
            where="design.visits",
            exists=[f"{day:g}" for day in design.visits if day <= card.horizon],
            do="plan an earlier last visit, or fit a twin to longer follow-up",
        )


def _baseline(cohort: Cohort, outcome: str) -> np.ndarray:
    """Return what was measured at baseline of an outcome, NaN where nothing was."""
    k = cohort.outcome(outcome)
    first = np.isclose(cohort.nominal, 0.0)
    if not first.any():
        raise ConfigError("the study has no visit at baseline", exists=cohort.visits)
    return np.asarray(cohort.values[:, int(first.argmax()), k])
