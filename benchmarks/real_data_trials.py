"""Two cohorts with old people's scores: the placebo change of a trial, and twenty years of a population's MMSE."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
from lightgbm import LGBMRegressor
from real_data_learners import accuracy, filled, left_out, out_of_bag, stack
from real_data_sources import paquid, xanomeline
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trialtwin.core.treatment import NoTreatment
from trialtwin.twins.boosting_errors import learn_errors
from trialtwin.twins.registry import build_model

PENALTIES = np.logspace(0, 4, 13)
DOSE = {"Placebo": 0.0, "Xanomeline Low Dose": 54.0, "Xanomeline High Dose": 81.0}


def _ridge() -> object:
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))


def run_xanomeline(shared: Path, seed: int, quick: bool) -> dict[str, object]:
    """Return errors of the placebo arm's observed Week-24 changes, one repetition of ten folds.

    Stack and forests on all arms learn from the other arms as well, told the dose; the peer is scikit-learn's random
    forest as it comes, on placebo patients.
    """
    trees = 30 if quick else 200
    told = {name: xanomeline(shared, name) for name in ("scale", "background")}
    cohort = told["background"]
    y = cohort.values[:, 3, 0] - cohort.values[:, 0, 0]
    dose = np.array([DOSE[cohort.treatments[k]] for k in cohort.received])
    x = np.column_stack([dose, cohort.values[:, 0, 0], cohort.covariates])
    names = ["DOSE", "BASE", *(v.name for v in cohort.variables)]
    items = np.array([k for k, n in enumerate(names) if n in ("DOSE", "BASE") or n.startswith("ACITM")])
    known = np.isfinite(y)
    asked = np.flatnonzero(known & (dose == 0.0))
    fold = np.random.default_rng(seed).permutation(len(asked)) % (3 if quick else 10)

    def forest(kind: type, leaf: int, features: float) -> object:
        return kind(trees, min_samples_leaf=leaf, max_features=features, bootstrap=True, oob_score=True, random_state=0)

    learners = {
        "forest, items": out_of_bag(partial(forest, RandomForestRegressor, 3, 0.33), items),
        "extra trees, items": out_of_bag(partial(forest, ExtraTreesRegressor, 2, 0.67), items),
        "forest, background": out_of_bag(partial(forest, RandomForestRegressor, 3, 0.33)),
        "ridge, items": left_out(_ridge, items),
    }
    arms = [
        "mean",
        "peer: random forest, items",
        "peer: random forest, background",
        "chosen inside",
        "stack",
        "equal weights",
        *learners,
    ]
    found = {name: np.zeros(len(asked)) for name in arms}
    twins = ("baseline", "boosting") if seed == 0 and not quick else ()  # slow, and they vary little
    found |= {f"twin: {name}": np.zeros(len(asked)) for name in twins}
    for f in np.unique(fold):
        test, out = asked[fold == f], fold == f
        training = np.setdiff1d(np.flatnonzero(known), test)
        placebo = training[dose[training] == 0.0]
        z = filled(x, training)
        found["mean"][out] = y[placebo].mean()
        for name, columns in (("items", items[1:]), ("background", np.arange(1, x.shape[1]))):
            peer = RandomForestRegressor(trees, random_state=0).fit(z[placebo][:, columns], y[placebo])
            found[f"peer: random forest, {name}"][out] = peer.predict(z[test][:, columns])
        stacked = stack(learners, z[training], y[training], training)
        found["stack"][out] = stacked.predict(z[test])
        found["equal weights"][out] = stacked.predict_equal(z[test])
        for name, predict in stacked.each.items():
            found[name][out] = predict(z[test])
        found["chosen inside"][out] = found[stacked.best][out]
        for name in twins:
            others = np.setdiff1d(np.flatnonzero(dose == 0.0), test)
            twin = build_model(name).fit(told["scale"].take(others), key=jax.random.key(0))
            asks = told["scale"].take(test)
            course = twin.predict(asks.until(0.0), NoTreatment(), np.array([168.0]), draws=2, key=jax.random.key(1))
            found[f"twin: {name}"][out] = course.expected[:, 0, 0] - asks.values[:, 0, 0]
    return {name: accuracy(y[asked], one) for name, one in found.items()} | {"asked": len(asked)}


def _paquid_rows(shared: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return columns, answers, MMSE at the first visit, years since, and whose row each is."""
    cohort = paquid(shared)
    later = cohort.observed[..., 0] & (cohort.times > 0)
    who, visit = np.nonzero(later)
    years = cohort.times[who, visit] / 365.25
    first, x = cohort.values[:, 0, 0], cohort.covariates
    columns = np.column_stack([first, x])[who]
    return np.column_stack([columns, years]), cohort.values[who, visit, 0], first[who], years, who


def _with_products(x: np.ndarray) -> np.ndarray:
    """Return columns, the last of which is time, with time squared and every product with time."""
    return np.column_stack([x, x[:, -1:] * x])


def _terms(predicted: np.ndarray, years: np.ndarray) -> np.ndarray:
    """Return what the size of an error depends on: time, and how far below the ceiling it is forecast."""
    below = np.maximum(28.0 - predicted, 0.0)
    return np.stack([np.ones_like(years), years, below, below * years], axis=1)


def run_paquid(shared: Path, seed: int, quick: bool) -> dict[str, object]:
    """Return errors and coverage of every MMSE after the first visit, given that visit: ten folds by subject."""
    x, y, first, years, who = _paquid_rows(shared)
    fold = (np.random.default_rng(seed).permutation(who.max() + 1) % (3 if quick else 10))[who]
    trees = 20 if quick else 100
    booster = partial(
        LGBMRegressor,
        n_estimators=150,
        learning_rate=0.03,
        num_leaves=8,
        min_child_samples=40,
        reg_lambda=10.0,
        colsample_bytree=0.5,
        verbose=-1,
        n_jobs=1,
        random_state=0,
        deterministic=True,
    )

    def kernel(gamma: float, alpha: float) -> object:
        return make_pipeline(StandardScaler(), KernelRidge(kernel="rbf", gamma=gamma, alpha=alpha))

    class Centred:
        """Kernel ridge shrinks to zero: learn the difference from the mean."""

        def __init__(self, gamma: float, alpha: float) -> None:
            self.model = kernel(gamma, alpha)

        def fit(self, x: np.ndarray, y: np.ndarray) -> "Centred":
            self.level = y.mean()
            self.model.fit(x, y - self.level)
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return self.model.predict(x) + self.level

    learners = {
        "kernel ridge, width 5": left_out(partial(Centred, 0.02, 1.0)),
        "kernel ridge, width 7": left_out(partial(Centred, 0.01, 0.3)),
        "kernel ridge, width 3": left_out(partial(Centred, 0.05, 3.0)),
        "extra trees": left_out(
            partial(ExtraTreesRegressor, trees, min_samples_leaf=10, max_features=0.7, random_state=0)
        ),
        "boosting": left_out(booster),
    }
    arms = ("carried forward", "peer: ridge", "peer: random forest", "stack", "equal weights")
    found = {name: np.zeros(len(y)) for name in arms}
    low, high = np.zeros(len(y)), np.zeros(len(y))
    for f in np.unique(fold):
        out = fold == f
        z = filled(x, ~out)
        found["carried forward"][out] = first[out]
        products = _with_products(z)
        found["peer: ridge"][out] = _ridge().fit(products[~out], y[~out]).predict(products[out])
        peer = RandomForestRegressor(trees, min_samples_leaf=5, random_state=0).fit(z[~out], y[~out])
        found["peer: random forest"][out] = peer.predict(z[out])
        stacked = stack(learners, z[~out], y[~out], who[~out])
        found["stack"][out] = stacked.predict(z[out])
        mean = found["equal weights"][out] = stacked.predict_equal(z[out])
        # every question counts as one, as in the error and the coverage that are asked for
        own = np.arange((~out).sum())
        held = stacked.held_out_equal
        errors = learn_errors(y[~out] - held, _terms(held, years[~out]), own)
        spread = errors.spread(_terms(mean, years[out]))
        low[out], high[out] = (mean + spread * errors.law.quantile(np.array(q)) for q in (0.05, 0.95))
    covered = (y >= np.maximum(low, 0.0)) & (y <= np.minimum(high, 30.0))
    each = np.array([covered[who == i].mean() for i in np.unique(who)])
    widths = np.minimum(high, 30.0) - np.maximum(low, 0.0)
    result: dict[str, object] = {name: accuracy(y, one) for name, one in found.items()}
    coverage = {"questions": float(covered.mean()), "subjects": float(each.mean()), "width": float(widths.mean())}
    return result | {"coverage": coverage, "asked": len(y)}
