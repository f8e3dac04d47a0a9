"""Learners for rows, and their stack: everything is chosen on patients left out, inside the training set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

INNER = 5
type Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Stacked:
    """A weighted mean of learners: how to forecast, by all and by each, and forecasts of rows of patients left out.

    ``best`` is the learner with the smallest held-out error.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    each: dict[str, Callable[[np.ndarray], np.ndarray]]
    best: str
    held_out: np.ndarray
    held_out_equal: np.ndarray

    def predict_equal(self, new: np.ndarray) -> np.ndarray:
        """Return the forecast of all learners with equal weights."""
        return np.mean([ask(new) for ask in self.each.values()], axis=0)


def out_of_bag(make: Callable[[], Any], columns: slice | np.ndarray = slice(None)) -> Fit:
    """Return a forest's fit; held-out forecasts are those of trees that have not seen the row: a row a patient only."""

    def fit(x: np.ndarray, y: np.ndarray, patient: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
        assert len(np.unique(patient)) == len(patient)  # noqa: S101  # else a patient's other rows are in the bag
        forest = make().fit(x[:, columns], y)
        return lambda new: forest.predict(new[:, columns]), forest.oob_prediction_

    return fit


def left_out(make: Callable[[], Any], columns: slice | np.ndarray = slice(None)) -> Fit:
    """Return a learner's fit; held-out forecasts are those of five folds of patients."""

    def fit(x: np.ndarray, y: np.ndarray, patient: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
        _, who = np.unique(patient, return_inverse=True)
        fold = (np.random.default_rng(1).permutation(who.max() + 1) % INNER)[who]
        held = np.zeros(len(y))
        for f in range(INNER):
            out = fold == f
            held[out] = make().fit(x[~out][:, columns], y[~out]).predict(x[out][:, columns])
        whole = make().fit(x[:, columns], y)
        return lambda new: whole.predict(new[:, columns]), held

    return fit


def stack(learners: Mapping[str, Fit], x: np.ndarray, y: np.ndarray, patient: np.ndarray) -> Stacked:
    """Weigh learners by non-negative least squares on held-out forecasts; weights add up to 1.

    Breiman L (1996), doi:10.1007/BF00117832.
    """
    fits = {name: fit(x, y, patient) for name, fit in learners.items()}
    held = np.stack([one for _, one in fits.values()], axis=1)
    found, _ = nnls(held - y.mean(), y - y.mean())
    weights = found / found.sum() if found.sum() > 0 else np.full(len(fits), 1 / len(fits))
    each = {name: ask for name, (ask, _) in fits.items()}
    best = list(fits)[int(np.argmin(((held - y[:, None]) ** 2).mean(axis=0)))]

    def predict(new: np.ndarray) -> np.ndarray:
        return np.stack([ask(new) for ask in each.values()], axis=1) @ weights

    return Stacked(predict, each, best, held @ weights, held.mean(axis=1))


def filled(x: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return columns with missing values at the mean of the training rows."""
    return np.where(np.isfinite(x), x, np.nanmean(x[training], axis=0))


def accuracy(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return RMSE and the correlation of predicted and observed."""
    return {
        "rmse": float(np.sqrt(np.mean((predicted - y) ** 2))),
        "r": float(np.corrcoef(predicted, y)[0, 1]) if np.std(predicted) > 0 else 0.0,
    }
