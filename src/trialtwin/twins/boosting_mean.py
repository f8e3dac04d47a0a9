"""The mean of a boosted twin: a ridge regression on what is known, and small trees on what it leaves unexplained.

    y = wᵀφ(known, t, x) + Σₘ ν treeₘ(known, t, x) + ε

φ are the terms of a linear forecast: time, covariates, each outcome's last value, mean and slope, and their products
with time. Penalty and number of trees are those with the smallest error on patients left out; none is a possible
number of trees, so that few patients get the linear forecast (Friedman JH 2001, doi:10.1214/aos/1013203451).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from trialtwin.twins.landmarks import SUMMARIES

PENALTIES = tuple(10.0 ** np.arange(-1.0, 4.6, 0.5))
MOST_ROUNDS = 200
LEAF_SHARE = 20
"""A leaf holds at least one in so many rows, and at least twenty."""

type Terms = Float[np.ndarray, "row term"]
type Splits = Float[np.ndarray, "row column"]
type Column = Float[np.ndarray, " row"]


def linear_terms(
    known: Float[np.ndarray, "row outcome summary"], time: Column, x: Float[np.ndarray, "row covariate"], own: int
) -> Terms:
    """Return φ: the terms that a linear forecast of outcome ``own`` is made of; what is not known is 0."""
    last, since, first, slope, count, mean = np.moveaxis(known, -1, 0)
    has = count > 0

    def of(term: Float[np.ndarray, "row outcome"]) -> Float[np.ndarray, "row outcome"]:
        return np.where(has & np.isfinite(term), term, 0.0)

    seen, ahead = has[:, own].astype(float), of(since)[:, own]
    inverse = 1.0 / np.maximum(count, 1.0)
    shared = [time, time**2, seen, seen * time, ahead, ahead**2, seen * inverse[:, own]]
    parts = [of(last), of(last) * of(since), of(last) * inverse, of(mean), of(mean) * of(since), of(first)]
    parts += [of(slope * since), of(slope), has.astype(float)]
    weighted = [x, x * time[:, None], x * seen[:, None]]
    return np.concatenate([np.stack(shared, axis=1), *parts, *weighted], axis=1)


def tree_columns(
    known: Float[np.ndarray, "row outcome summary"], time: Column, x: Float[np.ndarray, "row covariate"]
) -> Splits:
    """Return the columns that trees split on; NaN where not known, which trees send to a side of its own."""
    width = known.shape[1] * len(SUMMARIES)
    return np.concatenate([known.reshape(len(known), width), time[:, None], x], axis=1)


@dataclass(frozen=True, eq=False)
class Mean:
    """A fitted mean: the ridge's standardisation and weights, and the trees as text (empty where there are none)."""

    centres: Float[np.ndarray, " term"]
    scales: Float[np.ndarray, " term"]
    weights: Float[np.ndarray, " term"]
    level: float
    trees: str
    penalty: float
    rounds: int

    def predict(self, linear: Terms, splits: Splits) -> Column:
        """Return the mean of each row."""
        # einsum, not matmul: a row's sum does not depend on how many rows there are
        straight = self.level + np.einsum("rc,c->r", (linear - self.centres) / self.scales, self.weights)
        if not self.trees:
            return straight
        import lightgbm

        trees = lightgbm.Booster(model_str=self.trees)
        return straight + np.asarray(trees.predict(splits, num_threads=1))


@dataclass(frozen=True, eq=False)
class Fitted:
    """The mean fitted to all rows, and the forecast of each row by a fit that has not seen its patient."""

    mean: Mean
    held_out: Column


def fit_mean(
    linear: Terms, splits: Splits, answer: Column, fold: Int[np.ndarray, " row"], *, trees: bool = True
) -> Fitted:
    """Choose penalty and number of trees by the error on the folds left out, and fit to all rows.

    The held-out forecasts are made with the chosen settings; two numbers chosen on all folds flatter them by little.
    """
    folds = [fold == f for f in np.unique(fold)]
    paths = np.zeros((len(answer), len(PENALTIES)))
    for out in folds:
        paths[out] = _ridge_path(linear[~out], answer[~out], linear[out])
    chosen = int(np.argmin(((paths - answer[:, None]) ** 2).mean(axis=0)))
    penalty, held_out = PENALTIES[chosen], paths[:, chosen]
    boosters, curve = [], np.zeros(MOST_ROUNDS)
    for out in folds if trees else []:
        ridge = _ridge(linear[~out], answer[~out], penalty)
        left = answer - ridge.predict(linear, splits)
        booster, errors = _boost(splits[~out], left[~out], MOST_ROUNDS, (splits[out], left[out]))
        boosters.append(booster)
        curve += np.asarray(errors) * out.sum() / len(answer)
    linear_error = float(((held_out - answer) ** 2).mean())
    rounds = int(np.argmin(curve)) + 1 if boosters and curve.min() < linear_error else 0
    ridge = _ridge(linear, answer, penalty)
    if rounds == 0:
        return Fitted(ridge, held_out)
    for out, booster in zip(folds, boosters, strict=True):
        held_out[out] += np.asarray(booster.predict(splits[out], num_iteration=rounds, num_threads=1))
    final, _ = _boost(splits, answer - ridge.predict(linear, splits), rounds, None)
    text = str(final.model_to_string())
    mean = Mean(ridge.centres, ridge.scales, ridge.weights, ridge.level, text, penalty, rounds)
    return Fitted(mean, held_out)


def _standardise(linear: Terms) -> tuple[np.ndarray, np.ndarray]:
    spread = linear.std(axis=0)
    return linear.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)


def _ridge_path(
    linear: Terms, answer: Column, asked: Float[np.ndarray, "asked term"]
) -> Float[np.ndarray, "asked penalty"]:
    """Return the forecasts of new rows under every penalty, from one eigendecomposition."""
    centres, scales = _standardise(linear)
    z, level = (linear - centres) / scales, answer.mean()
    values, vectors = np.linalg.eigh(z.T @ z)
    inside = vectors.T @ (z.T @ (answer - level))
    shrunk = inside[:, None] / (np.maximum(values, 0.0)[:, None] + np.array(PENALTIES))
    return level + ((asked - centres) / scales) @ (vectors @ shrunk)


def _ridge(linear: Terms, answer: Column, penalty: float) -> Mean:
    centres, scales = _standardise(linear)
    z, level = (linear - centres) / scales, float(answer.mean())
    weights = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (answer - level))
    return Mean(centres, scales, weights, level, "", penalty, 0)


def _boost(
    splits: Splits, left: Column, rounds: int, held: tuple[np.ndarray, np.ndarray] | None
) -> tuple[Any, list[float]]:
    """Boost shallow trees on what the ridge leaves; with rows held out, return their mean squared error by round."""
    import lightgbm

    settings = {
        "objective": "regression",
        "boost_from_average": False,
        "learning_rate": 0.05,
        "num_leaves": 6,
        "max_depth": 3,
        "min_data_in_leaf": max(20, len(left) // LEAF_SHARE),
        "lambda_l2": 10.0,
        "feature_fraction": 0.7,
        "max_bin": 63,
        "metric": "l2",
        "seed": 0,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(splits, left)
    if held is None:
        return lightgbm.train(settings, data, rounds), []
    history: dict[str, dict[str, list[float]]] = {}
    booster = lightgbm.train(
        settings,
        data,
        rounds,
        valid_sets=[lightgbm.Dataset(*held, reference=data)],
        valid_names=["held"],
        callbacks=[lightgbm.record_evaluation(history)],
    )
    return booster, history["held"]["l2"]
