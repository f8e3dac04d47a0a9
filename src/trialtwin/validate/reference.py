"""Plain forecasts that a twin has to beat: no change, the mean, ridge regression, a random forest."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.arrays import require_finite
from trialtwin.core.errors import FitError

type Learner = Callable[
    [Float[np.ndarray, "patient column"], Float[np.ndarray, " patient"], Float[np.ndarray, "other column"]],
    Float[np.ndarray, " other"],
]


def reference_forecasts(
    features: Float[np.ndarray, "patient column"],
    change: Float[np.ndarray, " patient"],
    fold: Int[np.ndarray, " patient"],
    *,
    seed: int,
) -> dict[str, Float[np.ndarray, " patient"]]:
    """Forecast the change of each patient from those outside the patient's fold whose change was measured.

    Parameters
    ----------
    features : shape (patient, column)
        Baseline covariates, standardised, without missing values.
    change : shape (patient,)
        Observed change; NaN where it was not measured.
    fold : shape (patient,)
        Fold of each patient: the same as the twins', so that all learn from the same patients.
    seed
        Seed of the random forest.

    Returns
    -------
    dict
        Out-of-fold forecasts by name: "no change", "mean of the others", "ridge regression" (penalty by
        leave-one-out), "random forest" (200 trees, a third of the columns at each split).

    Raises
    ------
    FitError
        If a fold leaves fewer than four measured patients to learn from.
    """
    require_finite("baseline features", features)
    known = np.isfinite(change)
    forecasts = {"no change": np.zeros(len(change))}
    learners: dict[str, Learner] = {
        "mean of the others": lambda _, y, new: np.full(len(new), y.mean()),
        "ridge regression": _ridge,
        "random forest": lambda x, y, new: _forest(x, y, new, seed),
    }
    for name, learner in learners.items():
        forecasts[name] = _out_of_fold(learner, features, change, fold, known)
    return forecasts


def _out_of_fold(
    learner: Learner,
    features: Float[np.ndarray, "patient column"],
    change: Float[np.ndarray, " patient"],
    fold: Int[np.ndarray, " patient"],
    known: Bool[np.ndarray, " patient"],
) -> Float[np.ndarray, " patient"]:
    """Let a learner forecast each fold from the others."""
    found = np.full(len(change), np.nan)
    for number in np.unique(fold):
        teaches, asked = known & (fold != number), fold == number
        if teaches.sum() < 4:
            raise FitError(
                f"fold {number + 1} leaves {int(teaches.sum())} measured patients to learn from",
                do="use more folds, or a visit at which more patients were measured",
            )
        found[asked] = learner(features[teaches], change[teaches], features[asked])
    return found


def _ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import RidgeCV

    return np.asarray(RidgeCV(alphas=np.logspace(-1, 4, 26)).fit(x, y).predict(new))


def _forest(x: np.ndarray, y: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=200, max_features=1 / 3, random_state=seed, n_jobs=1)
    return np.asarray(forest.fit(x, y).predict(new))
