"""G-computation, AIPW and plug-in means against R 4.2.2: beeca 0.2.0, RobinCar2 0.2.3.9000 and postcard."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from trialtwin.stats.aipw import aipw
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.families import AbstractFamily, Binomial, Gaussian, Poisson
from trialtwin.stats.gcomputation import gcomputation
from trialtwin.stats.glm import GLM_VARIANCES, fit_glm
from trialtwin.stats.influence import plugin_means, with_score
from trialtwin.stats.marginal import MarginalMeans
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns, factor_columns, join
from trialtwin.stats.randomisation import Randomisation

pytestmark = pytest.mark.reference

type Text = dict[str, np.ndarray]
BEECA = {"diff": "difference", "rr": "ratio", "or": "odds ratio", "logrr": "log ratio", "logor": "log odds ratio"}


@pytest.fixture
def text(shared: Path) -> Callable[[str], Text]:
    """Return a reader of a case's columns as words."""

    def read(case: str) -> Text:
        with (shared / "reference" / case / "data.csv").open() as lines:
            rows = list(csv.DictReader(lines))
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return read


def _codes(words: np.ndarray, levels: tuple[str, ...]) -> np.ndarray:
    return np.array([levels.index(word) for word in words])


def _beeca(means: MarginalMeans, model: ArmModel) -> dict[str, Any]:
    reference = model.arms[0]
    result: dict[str, Any] = {
        "risk": dict(zip(means.arms, means.means.tolist(), strict=True)),
        "risk_vcov": means.covariance.tolist(),
    }
    for key, kind in BEECA.items():
        effects = [means.contrast(arm, reference, kind) for arm in model.arms[1:]]
        result[key] = {
            "contrast": [""] * len(effects),
            "estimate": [e.value for e in effects],
            "se": [e.se for e in effects],
        }
    return result


def _all_beeca(model: ArmModel, y: np.ndarray) -> dict[str, Any]:
    results = {
        f"Ge.{'model-based' if kind == 'model' else kind}": gcomputation(model, y, Binomial(), variance=kind)
        for kind in GLM_VARIANCES
    }
    results["Ye.HC0"] = gcomputation(model, y, Binomial())
    results["Ye.mod"] = gcomputation(model, y, Binomial(), decomposed=False)
    return {key: _beeca(means, model) for key, means in results.items()}


def _after_two_steps(model: ArmModel, y: np.ndarray) -> MarginalMeans:
    """Return Ge's result at the coefficients that SAS stops at."""
    X = model.design().values
    beta = np.array([np.log(y.mean() / (1 - y.mean())), 0.0, 0.0])
    for _ in range(2):
        p = expit(X @ beta)
        beta = beta + np.linalg.solve((X.T * (p * (1 - p))) @ X, X.T @ (y - p))
    p = expit(X @ beta)
    under = [model.design_under(arm).values for arm in model.arms]
    risks = [expit(D @ beta) for D in under]
    J = np.stack([(r * (1 - r)) @ D / len(y) for r, D in zip(risks, under, strict=True)])
    V = J @ np.linalg.inv((X.T * (p * (1 - p))) @ X) @ J.T
    return MarginalMeans(model.arms, np.array([r.mean() for r in risks]), V, len(y), "binary", "SAS", "Ge")


def test_reference_gcomputation_beeca_0_2_0_trial01(
    match_all: Callable[[str, Any], None], text: Callable[[str], Text]
) -> None:
    """R, and the output of two SAS macros that comes with beeca.

    SAS leaves its iterations after the second Newton step from the logit of the overall proportion, where 7 digits are
    right, and Ge's macro goes on from there, with 1.96 for the quantile: its six numbers come from the same two steps.
    """
    data = text("gcomp_beeca_trial01")
    seen = ~np.isin(data["aval"], ["", "NA"])
    y = data["aval"][seen].astype(float)
    covariate = continuous_columns({"bl_cov": data["bl_cov"][seen].astype(float)})
    model = ArmModel(("0", "1"), _codes(data["trtp"][seen], ("0", "1")), covariate)
    fit = fit_glm(model.design(), y, Binomial())
    margins = gcomputation(model, y, Binomial(), variance="model").contrast("1", "0")
    macro = _after_two_steps(model, y)
    effect = macro.contrast("1", "0")
    match_all(
        "gcomp_beeca_trial01",
        {
            "glm_coef": dict(
                zip(("(Intercept)", "trtp1", "bl_cov"), fit.coefficients.tolist(), strict=True),
            ),
            **_all_beeca(model, y),
            "SAS": {
                "margins_macro": [
                    {
                        "Estimate": margins.value,
                        "ChiSq": margins.statistic**2,
                        "Row": 1,
                        "StdErr": margins.se,
                        "Lower": margins.lower,
                        "Upper": margins.upper,
                        "Contrast": "",
                        "df": 1,
                        "Pr": margins.p,
                        "Alpha": 0.05,
                        "label": "",
                    }
                ],
                "ge_macro": [
                    {
                        "diff": effect.value,
                        "se": effect.se,
                        "pt": macro.means[1],
                        "pC": macro.means[0],
                        "lower": effect.value - 1.96 * effect.se,
                        "upper": effect.value + 1.96 * effect.se,
                    }
                ],
            },
        },
    )


def test_reference_gcomputation_beeca_0_2_0_three_arms(
    match_all: Callable[[str, Any], None], text: Callable[[str], Text]
) -> None:
    case = "gcomp_beeca_trial02_3arm"
    data = text(case)
    y = data["AVAL"].astype(float)
    sex = _codes(data["SEX"], ("F", "M"))
    arms = ("1", "2", "3")
    model = ArmModel(arms, _codes(data["TRTPN"], arms), factor_columns("SEX", ("F", "M"), sex))
    fit = fit_glm(model.design(), y, Binomial())
    strata = gcomputation(model, y, Binomial(), strata=Randomisation("permuted block", sex))
    match_all(
        case,
        {
            "glm_coef": dict(
                zip(("(Intercept)", "TRTPN2", "TRTPN3", "SEXM"), fit.coefficients.tolist(), strict=True),
            ),
            **_all_beeca(model, y),
            "Ye.strata": _beeca(strata, model),
        },
    )


def _robincar(means: MarginalMeans, kind: str, printed: str) -> dict[str, Any]:
    arms = means.arms
    pairs = [(arms[b], arms[a]) for a in range(len(arms)) for b in range(a + 1, len(arms))]
    values, covariance = means.contrasts(pairs, kind)
    return {
        "levels": [""] * len(arms),
        "marginal_mean": means.means.tolist(),
        "marginal_vcov": means.covariance.tolist(),
        "contrast_name": [""] * len(pairs),
        "contrast": values.tolist(),
        "contrast_vcov": covariance.tolist(),
        "contrast_type": printed,
    }


def test_reference_aipw_robincar2_0_2_3(match_all: Callable[[str, Any], None], text: Callable[[str], Text]) -> None:
    """Simple randomisation and permuted blocks within s1, three arms; vcovHC is Ge's HC3."""
    case = "robincar2_glm_data_3arm"
    data = text(case)
    arms = ("pbo", "trt1", "trt2")
    arm = _codes(data["treatment"], arms)
    s1 = factor_columns("s1", ("a", "b"), _codes(data["s1"], ("a", "b")))
    covariates = join(s1, continuous_columns({"covar": data["covar"].astype(float)}))
    interacted = ArmModel(arms, arm, covariates, interacted=s1.names)
    additive = ArmModel(arms, arm, covariates)
    schemes = {"sr": None, "pb": Randomisation("permuted block", _codes(data["s1"], ("a", "b")))}
    kinds = {"difference": "difference", "log_risk_ratio": "log ratio", "log_odds_ratio": "log odds ratio"}
    got = {}
    for name, scheme in schemes.items():
        binary = aipw(interacted, data["y_b"].astype(float), Binomial(), randomisation=scheme)
        for printed, kind in kinds.items():
            got[f"binomial.{name}.{printed}"] = _robincar(binary, kind, printed)
        y = data["y"].astype(float)
        for label, model in (("anhecova", interacted), ("ancova", additive)):
            means = aipw(model, y, Gaussian(), randomisation=scheme)
            got[f"gaussian_{label}.{name}"] = _robincar(means, "difference", "h_diff")
    fixed = gcomputation(additive, data["y"].astype(float), Gaussian(), variance="HC3")
    got["gaussian_ancova.vcovHC"] = _robincar(fixed, "difference", "h_diff")
    match_all(case, got)


def test_reference_aipw_counts_robincar2_0_2_3(
    match_all: Callable[[str, Any], None], text: Callable[[str], Text]
) -> None:
    case = "robincar2_sim_count"
    data = text(case)
    arms = ("ctl", "act")
    model = ArmModel(arms, _codes(data["treatment"], arms), continuous_columns({"prog": data["prog"].astype(float)}))
    y = data["relapses"].astype(float)
    poisson, negative = aipw(model, y, Poisson()), aipw(model, y, "negative binomial")
    match_all(
        case,
        {
            f"{name}.{printed}": _robincar(means, kind, printed)
            for name, means in (("poisson", poisson), ("negbin", negative))
            for printed, kind in (("difference", "difference"), ("log_risk_ratio", "log ratio"))
        },
    )


@pytest.mark.parametrize(
    ("case", "family"), [("postcard_rctglm_gaussian_11", Gaussian()), ("postcard_rctglm_poisson_12", Poisson())]
)
def test_reference_known_allocation_postcard(
    case: str,
    family: AbstractFamily,
    match_all: Callable[[str, Any], None],
    case_data: Callable[[str, str], dict[str, np.ndarray]],
) -> None:
    """The exposure probability is ½, which the call of the case says and its name does not."""
    data = case_data(case, "data.csv")
    score = ModelMatrix(("link_prog",), data["link_prog"][:, None])
    x = continuous_columns({"X": data["X"]})
    arm = data["A"].astype(np.int64)
    plain = ArmModel(("0", "1"), arm, x)
    models = {
        "without_score": plain,
        "with_score": with_score(plain, score),
        "interaction": with_score(ArmModel(("0", "1"), arm, x, interacted=("X",)), score, interaction=True),
    }
    got = {}
    for name, model in models.items():
        means = plugin_means(model, data["Y"], family, np.array([0.5, 0.5]))
        ate, ratio = means.contrast("1", "0"), means.contrast("1", "0", "ratio")
        got[name] = {
            "psi0": means.means[0],
            "psi1": means.means[1],
            "ate": {"estimate": ate.value, "se": ate.se},
            "rate_ratio": {"estimate": ratio.value, "se": ratio.se},
        }
    match_all(case, got)
