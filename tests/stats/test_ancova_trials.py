"""Many trials at once: equal to the single fits trial by trial, on any shape and number of threads; refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.errors import ConfigError, ConvergenceError, DataError, FitError
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.ancova_batch import least_squares_batch
from trialtwin.stats.ancova_trials import ancova_trials
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.families import Binomial
from trialtwin.stats.gcomputation import gcomputation
from trialtwin.stats.gcomputation_trials import logistic_gcomputation_trials
from trialtwin.stats.marginal import CONTRASTS
from trialtwin.stats.modelmatrix import ModelMatrix

ARMS = ("control", "treated")


def _trials(
    seed: int, trials: int, n: int, p: int, *, binary: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(trials, n, p)) * np.exp(rng.normal(size=p)) + 20 * rng.normal(size=p)
    treated = rng.permuted(np.tile(np.arange(n) % 3 > 0, (trials, 1)), axis=1)
    eta = 0.4 * ((x - x.mean(axis=(0, 1))) / x.std(axis=(0, 1))).sum(axis=2) + 0.5 * treated
    if binary:
        return (rng.random(eta.shape) < 1 / (1 + np.exp(-eta))).astype(float), treated, x
    return eta + rng.normal(size=eta.shape) * (1 + treated), treated, x


def _model(treated: np.ndarray, x: np.ndarray) -> ArmModel:
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    return ArmModel(ARMS, treated.astype(np.int64), ModelMatrix(names, x) if names else None)


@pytest.mark.parametrize(("trials", "n", "p"), [(40, 200, 6), (3, 60, 0), (33, 61, 2), (300, 24, 4), (1, 401, 3)])
def test_effects_are_those_of_the_single_fits(trials: int, n: int, p: int) -> None:
    """Value and HC3 error of every trial to 1e-10 of least squares by QR."""
    y, treated, x = _trials(n, trials, n, p)
    ours = ancova_trials(y, treated, x)
    for k in range(trials):
        fit = least_squares(_model(treated[k], x[k]).design(), y[k])
        one = fit.estimate({"arm[treated]": 1.0}, "effect", variance="HC3")
        assert [ours.value[k], ours.se[k]] == pytest.approx([one.value, one.se], rel=1e-10, abs=1e-13)
        assert ours.df == one.df


def test_effects_are_those_of_the_other_batch() -> None:
    y, treated, x = _trials(1, 50, 80, 3)
    design = np.concatenate([np.ones((50, 80, 1)), treated[..., None], x], axis=2)
    other = least_squares_batch(design, y, np.eye(5)[1], variance="HC3")
    ours = ancova_trials(y, treated, x)
    assert ours.value == pytest.approx(other.value, rel=1e-9)
    assert ours.se == pytest.approx(other.se, rel=1e-9)


def test_covariates_far_from_zero_cost_no_digits() -> None:
    y, treated, x = _trials(2, 20, 100, 2)
    near, far = ancova_trials(y, treated, x), ancova_trials(y, treated, x + 1e6)
    assert far.value == pytest.approx(near.value, rel=1e-8)
    assert far.se == pytest.approx(near.se, rel=1e-8)


@pytest.mark.parametrize("contrast", CONTRASTS["binary"])
def test_contrasts_are_those_of_the_single_gcomputation(contrast: str) -> None:
    """To 1e-8, with a number of patients that fills no group of eight and arms of one to two."""
    y, treated, x = _trials(3, 35, 203, 4, binary=True)
    ours = logistic_gcomputation_trials(y, treated, x, contrast)
    for k in range(len(y)):
        one = gcomputation(_model(treated[k], x[k]), y[k], Binomial()).contrast("treated", "control", contrast)
        assert [ours.value[k], ours.se[k]] == pytest.approx([one.value, one.se], rel=1e-8)


def test_logistic_without_covariates() -> None:
    y, treated, x = _trials(4, 40, 100, 0, binary=True)
    ours = logistic_gcomputation_trials(y, treated, x)
    raw = np.array([a[t].mean() - a[~t].mean() for a, t in zip(y, treated, strict=True)])
    assert ours.value == pytest.approx(raw, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(threads=st.integers(1, 4), trials=st.integers(1, 90))
def test_law_threads_and_company_change_nothing(threads: int, trials: int) -> None:
    """A trial's numbers do not depend on how many others there are, or on who works on it."""
    y, treated, x = _trials(5, 90, 40, 2)
    alone = ancova_trials(y[:trials], treated[:trials], x[:trials], threads=threads)
    together = ancova_trials(y, treated, x, threads=1)
    assert (alone.value == together.value[:trials]).all()
    assert (alone.se == together.se[:trials]).all()


def test_many_blocks_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialtwin.stats.trial_blocks._ROOM", 1)
    y, treated, x = _trials(6, 200, 30, 1)
    ours = ancova_trials(y, treated, x, threads=3)
    monkeypatch.undo()
    assert ours.value == pytest.approx(ancova_trials(y, treated, x).value, rel=1e-13)


@pytest.mark.law
def test_law_level_and_coverage_of_twenty_thousand_trials() -> None:
    """Arms of 33 and 67 with a twofold spread: HC3 covers 95 % ± .0046, three standard errors, and .004 for n = 100.

    Logistic trials of 120 cover the marginal difference likewise.
    """
    rng = np.random.default_rng(7)
    y, treated, x = _trials(8, 20_000, 100, 2)
    effects = ancova_trials(y, treated, x)
    from scipy.special import stdtrit

    covered = np.abs(effects.value - 0.5) < stdtrit(effects.df, 0.975) * effects.se
    assert abs(covered.mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 20_000) + 0.004
    z = rng.normal(size=(10_000, 120, 1))
    arm = rng.random((10_000, 120)) < 0.5
    eta = -0.5 + z[..., 0] + 0.6 * arm
    binary = (rng.random(eta.shape) < 1 / (1 + np.exp(-eta))).astype(float)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    risks = [weights @ (1 / (1 + np.exp(0.5 - nodes - d))) / weights.sum() for d in (0.0, 0.6)]
    found = logistic_gcomputation_trials(binary, arm, z)
    covered = np.abs(found.value - (risks[1] - risks[0])) < 1.959964 * found.se
    assert abs(covered.mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 10_000) + 0.006


def test_bad_input_is_refused() -> None:
    y, treated, x = _trials(9, 40, 30, 2)
    with pytest.raises(DataError, match="belong together"):
        ancova_trials(y, treated, x[:39])
    with pytest.raises(DataError, match="no trials"):
        ancova_trials(y[:0], treated[:0], x[:0])
    lonely = treated.copy()
    lonely[7] = False
    with pytest.raises(DataError, match="trial 7"):
        ancova_trials(y, lonely, x)
    missing = y.copy()
    missing[3, 5] = np.nan
    with pytest.raises(DataError, match=r"\(3, 5\)"):
        ancova_trials(missing, treated, x)
    unknown = x.copy()
    unknown[4, 1, 0] = np.inf
    with pytest.raises(DataError, match="covariates"):
        ancova_trials(y, treated, unknown)
    singular = x.copy()
    singular[12, :, 1] = 3 * singular[12, :, 0] - 1
    with pytest.raises(FitError, match=r"singular in 1 trial[\s\S]*trial 12"):
        ancova_trials(y, treated, singular)
    constant = x.copy()
    constant[2, :, 0] = 5.0
    with pytest.raises(FitError, match="singular"):
        ancova_trials(y, treated, constant)
    exact = y.copy()
    exact[6] = 2 * x[6, :, 0] - treated[6]
    with pytest.raises(FitError, match=r"exactly[\s\S]*trial 6"):
        ancova_trials(exact, treated, x)
    single = x.copy()
    single[8, :, 0] = np.arange(30) == 4
    with pytest.raises(FitError, match=r"leverage 1[\s\S]*trial 8"):
        ancova_trials(y, treated, single)
    with pytest.raises(FitError, match="degrees of freedom"):
        ancova_trials(y, treated, np.random.default_rng(0).normal(size=(40, 30, 28)))
    with pytest.raises(ConfigError, match="threads"):
        ancova_trials(y, treated, x, threads=0)


def test_bad_binary_input_is_refused() -> None:
    y, treated, x = _trials(10, 40, 60, 2, binary=True)
    with pytest.raises(DataError, match="neither 0 nor 1"):
        logistic_gcomputation_trials(2 * y, treated, x)
    with pytest.raises(ConfigError, match="hazard"):
        logistic_gcomputation_trials(y, treated, x, "hazard ratio")
    separated = y.copy()
    separated[9] = x[9, :, 0] > np.median(x[9, :, 0])
    with pytest.raises(ConvergenceError, match=r"1 trial[\s\S]*trial 9"):
        logistic_gcomputation_trials(separated, treated, x)
    nobody = y.copy()
    nobody[5] = 0.0
    with pytest.raises(ConvergenceError, match="trial 5"):
        logistic_gcomputation_trials(nobody, treated, x)
    singular = x.copy()
    singular[1, :, 1] = singular[1, :, 0]
    with pytest.raises(ConvergenceError, match="trial 1"):
        logistic_gcomputation_trials(y, treated, singular)
    constant = x.copy()
    constant[2, :, 0] = 5.0
    with pytest.raises(ConvergenceError, match="trial 2"):
        logistic_gcomputation_trials(y, treated, constant)
    with pytest.raises(FitError, match="degrees of freedom"):
        logistic_gcomputation_trials(y, treated, np.random.default_rng(0).normal(size=(40, 60, 58)))
    unknown = x.copy()
    unknown[4, 1, 0] = np.nan
    with pytest.raises(DataError, match="covariates"):
        logistic_gcomputation_trials(y, treated, unknown)
