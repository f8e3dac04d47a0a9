"""ACTG 175: CD4 at 20 weeks and survival, unadjusted, ANCOVA, and semiparametric-efficient by speff2trial 1.0.5."""

import csv
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from trialtwin.stats.aipw import aipw, augmented_means
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.cox import cox
from trialtwin.stats.efficient_hazard_ratio import efficient_hazard_ratio
from trialtwin.stats.families import Gaussian
from trialtwin.stats.marginal import MarginalMeans
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns, intercept, join

pytestmark = pytest.mark.reference

COVARIATES = (
    *("age", "wtkg", "hemo", "homo", "drugs", "karnof", "oprior", "preanti", "race", "gender", "str2", "strat"),
    *("symptom", "cd40", "cd80"),
)
ARMS = ("zidovudine", "other")
type Columns = dict[str, np.ndarray]


@pytest.fixture
def trial(shared: Path) -> tuple[ArmModel, np.ndarray, np.ndarray]:
    """Return the 2,139 patients with baseline covariates (15, then z30), their CD4 count, and who lacks no value."""
    lines = (shared / "data" / "actg175" / "ACTG175.txt").read_text().splitlines()
    names = lines[0].replace('"', "").split()
    table = np.array([[float(v) if v != "NA" else np.nan for v in line.split()] for line in lines[1:]])
    data = {name: table[:, k] for k, name in enumerate(names)}
    covariates = continuous_columns({name: data[name] for name in (*COVARIATES, "z30")})
    return ArmModel(ARMS, data["treat"].astype(np.int64), covariates), data["cd420"], np.isfinite(table).all(axis=1)


def test_reference_actg175_unadjusted_and_ancova(trial: tuple[ArmModel, np.ndarray, np.ndarray]) -> None:
    """46.81 (6.76) and 49.70 (5.14), as written beside the data, with HC0 errors.

    Which 15 covariates is not said. These 14 give all digits, with ``zprior``, which is 1 for everybody and drops out.
    """
    model, y, _ = trial
    assert model.covariates is not None
    z30 = continuous_columns({"z30": model.covariates.values[:, -1]})
    own = [name not in ("oprior", "strat", "z30") for name in model.covariates.names]
    names = tuple(name for name, kept in zip(model.covariates.names, own, strict=True) if kept)
    chosen = join(ModelMatrix(names, model.covariates.values[:, own]), z30)
    models = [ArmModel(ARMS, model.arm), ArmModel(ARMS, model.arm, chosen)]
    effects = [
        least_squares(m.design(), y).estimate({"arm[other]": 1.0}, "other − zidovudine", variance="HC0") for m in models
    ]
    assert [(round(e.value, 2), round(e.se, 2)) for e in effects] == [(46.81, 6.76), (49.70, 5.14)]
    # the unconditional variances come close, with g-computation's identical estimate
    for m, effect in zip(models, effects, strict=True):
        unconditional = aipw(m, y, Gaussian()).contrast("other", "zidovudine")
        assert unconditional.value == pytest.approx(effect.value, rel=1e-9)
        assert unconditional.se == pytest.approx(effect.se, rel=0.01)


def _best_subset(x: ModelMatrix, y: np.ndarray, most: int = 8) -> tuple[tuple[str, ...], float]:
    """Return the covariates with the smallest Cp among all subsets of up to eight (leaps' default), and their R²."""
    n, p = x.values.shape
    X = x.values - x.values.mean(axis=0)
    X, z = X / X.std(axis=0), y - y.mean()
    G, b, total = X.T @ X, X.T @ z, float(z @ z)
    sigma = (total - b @ np.linalg.solve(G, b)) / (n - p - 1)
    best: tuple[float, tuple[int, ...], float] = (np.inf, (), 0.0)
    for k in range(1, most + 1):
        subsets = np.array(list(combinations(range(p), k)))
        right = b[subsets]
        solved = np.linalg.solve(G[subsets[:, :, None], subsets[:, None, :]], right[..., None])[..., 0]
        rss = total - np.sum(right * solved, axis=1)
        cp = rss / sigma + 2 * (k + 1) - n
        i = int(cp.argmin())
        if cp[i] < best[0]:
            best = (float(cp[i]), tuple(subsets[i]), 1 - float(rss[i]) / total)
    return tuple(x.names[j] for j in best[1]), best[2]


def _influence(model: ArmModel, y: np.ndarray, predictions: np.ndarray, means: MarginalMeans) -> np.ndarray:
    """Return the covariance that speff prints.

    Its influence function of the control mean takes the treated arm's predictions, and with the treated arm's sign, so
    that 65.57 and 3.59 are no variance and covariance of the control estimate: those are ``means.covariance``.
    """
    a, d = model.arm, model.arm.mean()
    m0, m1 = means.means
    augmentation = (a - d) * (predictions[:, 1] - m1)
    one = a * (y - m1) / d - augmentation / d
    zero = (1 - a) * (y - m0) / (1 - d) - augmentation / (1 - d)
    both = np.stack([zero, one])
    return both @ both.T / len(y) ** 2


def test_reference_semiparametric_efficiency_speff2trial_1_0_5(
    trial: tuple[ArmModel, np.ndarray, np.ndarray], shared: Path, record_property: Callable[[str, object], None]
) -> None:
    """Arm-wise models, all subsets by Cp, AIPW: every number of the case's CD4 part."""
    expected = json.loads((shared / "reference" / "speff_actg175" / "expected.json").read_text())["expected"]
    case = expected["speff_cd420"]
    model, y, whole = trial
    assert model.covariates is not None
    predictions, chosen = np.zeros((len(y), 2)), []
    for a, (name, rsq) in enumerate(case["rsq"].items()):
        members = model.arm == a
        own = ModelMatrix(COVARIATES, model.covariates.values[members, :15])
        subset, r_squared = _best_subset(own, y[members])
        formula = case["formula"][name.lower()]
        text = formula if isinstance(formula, str) else "".join(formula)
        assert set(subset) == set(text.split("~")[1].replace("+", " ").split())
        columns = [COVARIATES.index(s) for s in subset]
        everyone = join(intercept(len(y)), ModelMatrix(subset, model.covariates.values[:, columns]))
        # R's call drops a patient for a missing value in any column, the count at 96 weeks too, before this fit
        used = members & whole
        fit = least_squares(ModelMatrix(everyone.names, everyone.values[used]), y[used])
        predictions[:, a] = everyone.values @ fit.coefficients
        assert r_squared == pytest.approx(rsq, rel=1e-5)
        chosen.append(subset)
    naive = least_squares(ArmModel(ARMS, model.arm).design(), y)
    effect = naive.estimate({"arm[other]": 1.0}, "other")
    means = augmented_means(model, y, predictions, "continuous")
    adjusted = means.contrast("other", "zidovudine")
    printed = case["coef"]
    assert [naive.coefficients[0], naive.coefficients.sum(), effect.value] == pytest.approx(
        list(printed["Naive"].values()), rel=1e-5
    )
    assert [*means.means, adjusted.value] == pytest.approx(list(printed["Speff"].values()), rel=1e-5)
    arms = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert arms @ naive.covariance() @ arms.T == pytest.approx(
        np.array(case["cov"]["naive"]["naive"]), rel=1e-5, abs=1e-8
    )
    assert _influence(model, y, predictions, means) == pytest.approx(np.array(case["cov"]["semi"]["semi"]), rel=1e-5)
    record_property("reference", "speff_actg175: 16 of 20, all of the CD4 part")
    # the treated arm's own variance is free of that slip; n − 1 and the decomposition are all that differ
    assert means.covariance[1, 1] == pytest.approx(case["cov"]["semi"]["semi"][1][1], rel=0.02)
    assert adjusted.se == pytest.approx(5.14, abs=0.15)


def test_reference_efficient_hazard_ratio_speff2trial_1_0_5(shared: Path) -> None:
    """The four numbers of the survival part. R's root is to 1.2e−4, and happens to be within 7e−7 of ours."""
    folder = shared / "reference" / "speff_actg175"
    told = json.loads((folder / "expected.json").read_text())["expected"]["speffSurv"]
    with (folder / "data.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["arms"] in ("0", "1")]
    data = {
        name: np.array([float(row[name]) for row in rows]) for name in ("days", "cens", "arms", "cd40", "cd80", "age")
    }
    event, arm = data["cens"] == 1, data["arms"].astype(int)
    plain = cox(continuous_columns({"arm": data["arms"]}), data["days"], event)
    model = ArmModel(("0", "1"), arm, continuous_columns({name: data[name] for name in ("cd40", "cd80", "age")}))
    found = efficient_hazard_ratio(model, data["days"], event, constant=False)
    beta, variance = (list(told[key].values()) for key in ("beta", "varbeta"))
    assert [plain.coefficient("arm"), found.value] == pytest.approx(beta, rel=1e-5)
    assert [plain.covariance()[0, 0], found.se**2] == pytest.approx(variance, rel=1e-5)
