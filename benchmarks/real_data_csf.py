"""Impaired or not, from proteins of the cerebrospinal fluid: 80 % of 333 patients to learn from, 20 % asked."""

from pathlib import Path

import numpy as np
import polars as pl
from lightgbm import LGBMClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def _learners(quick: bool) -> dict[str, object]:
    trees = 50 if quick else 200
    return {
        "ridge logistic .003": make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=2000)),
        "ridge logistic .03": make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=2000)),
        "support vectors": make_pipeline(StandardScaler(), SVC(C=2.0, gamma=0.002)),
        "boosting": LGBMClassifier(
            n_estimators=150,
            learning_rate=0.05,
            num_leaves=6,
            min_child_samples=10,
            colsample_bytree=0.3,
            reg_lambda=5.0,
            verbose=-1,
            n_jobs=1,
            random_state=0,
            deterministic=True,
        ),
        "forest": RandomForestClassifier(trees, min_samples_leaf=2, random_state=0),
    }


def _score(model: object, x: np.ndarray) -> np.ndarray:
    """Return log odds, or what a learner has instead of them."""
    if hasattr(model, "decision_function"):
        return model.decision_function(x)
    share = np.clip(model.predict_proba(x)[:, 1], 1e-3, 1 - 1e-3)  # type: ignore[attr-defined]
    return np.log(share / (1 - share))


def read_csf(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return proteins, age, sex and APOE genotype as indicators, and who is impaired."""
    folder = shared / "data" / "ad_csf"
    frame = pl.read_csv(folder / "predictors.csv")
    numbers = frame.select(pl.exclude("Genotype")).to_numpy().astype(float)
    genotype = frame["Genotype"].to_dummies().to_numpy().astype(float)
    alleles = np.array([[name.count(f"{k}") for k in "24"] for name in frame["Genotype"].str.replace_all("E", "")])
    impaired = (pl.read_csv(folder / "diagnosis.csv")["diagnosis"] == "Impaired").to_numpy().astype(int)
    return np.column_stack([numbers, genotype, alleles]), impaired


def run_csf(shared: Path, seed: int, quick: bool) -> dict[str, object]:
    """Return AUCs of one stratified split; weights of the stack by five folds within the training part."""
    x, y = read_csf(shared)
    training, test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=seed)
    peer = RandomForestClassifier(50 if quick else 500, random_state=0).fit(x[training], y[training])
    result: dict[str, object] = {
        "peer: random forest": {"auc": float(roc_auc_score(y[test], peer.predict_proba(x[test])[:, 1]))}
    }
    held = {name: np.zeros(len(training)) for name in _learners(quick)}
    for inner, out in StratifiedKFold(5, shuffle=True, random_state=1).split(training, y[training]):
        for name, model in _learners(quick).items():
            model.fit(x[training[inner]], y[training[inner]])  # type: ignore[attr-defined]
            held[name][out] = _score(model, x[training[out]])
    fitted = {name: model.fit(x[training], y[training]) for name, model in _learners(quick).items()}  # type: ignore[attr-defined]
    asked = {name: _score(model, x[test]) for name, model in fitted.items()}
    inside = np.column_stack(list(held.values()))
    blend = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(inside, y[training])
    blended = blend.decision_function(np.column_stack(list(asked.values())))
    best = max(held, key=lambda name: roc_auc_score(y[training], held[name]))
    result |= {name: {"auc": float(roc_auc_score(y[test], one))} for name, one in asked.items()}
    chosen = float(roc_auc_score(y[test], asked[best]))
    stacked = float(roc_auc_score(y[test], blended))
    return result | {"stack": {"auc": stacked}, "best inside": {"auc": chosen}, "asked": len(test)}
