"""Tests of proportional hazards: the score by differences, invariances, a law by simulation, and what is refused."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, DataError, FitError, MismatchError
from trialtwin.stats.cox import cox
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns
from trialtwin.stats.proportional_hazards import TRANSFORMS, proportional_hazards


def patients(n: int, seed: int, late: float = 0.0) -> tuple[ModelMatrix, np.ndarray, np.ndarray]:
    """Return two columns, times and events; the first column acts by ``late`` from time 5 on only."""
    rng = np.random.default_rng(seed)
    arm, x = np.arange(n) % 2, rng.normal(size=n)
    gone = rng.exponential(size=n) / np.exp(0.5 * x)
    time = np.where(gone < 0.5, gone / 0.1, 5 + (gone - 0.5) / (0.1 * np.exp(late * arm)))
    stop = rng.uniform(5, 30, n)
    return continuous_columns({"arm": arm.astype(float), "x": x}), np.minimum(time, stop), time <= stop


def test_independent_the_score_test_of_a_column_times_log_time() -> None:
    """The likelihood with x log t as a column of its own at each event time, by differences around the fit."""
    columns, time, event = patients(60, 1)
    x, fit = columns.values, cox(columns, time, event)

    def likelihood(theta: np.ndarray) -> float:
        total = 0.0
        for t in time[event]:
            eta = x @ theta[:2] + np.log(t) * x @ theta[2:]
            total += eta[time == t][0] - np.log(np.exp(eta[time >= t]).sum())
        return float(total)

    at, h, p = np.concatenate([fit.coefficients, np.zeros(2)]), 1e-3, 4
    step = np.eye(p) * h
    u = np.array([likelihood(at + s) - likelihood(at - s) for s in step]) / (2 * h)
    pairs = [[(likelihood(at + s + r) - likelihood(at + s - r) - likelihood(at - s + r) + likelihood(at - s - r))
              for r in step] for s in step]  # fmt: skip
    information = -np.array(pairs) / (4 * h**2)
    found = proportional_hazards(columns, time, event, transform="log")
    assert found.overall.statistic == pytest.approx(u @ np.linalg.solve(information, u), rel=1e-3)
    for k, name in enumerate(columns.names):
        own = [0, 1, 2 + k]
        wanted = u[own] @ np.linalg.solve(information[np.ix_(own, own)], u[own])
        assert found.terms[name].statistic == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_units_of_columns_and_of_time_change_nothing(transform: str) -> None:
    columns, time, event = patients(80, 2)
    wide = ModelMatrix(columns.names, columns.values * [1.0, 1e4] + [0.0, 50.0])
    codes = np.arange(80) % 3
    first = proportional_hazards(columns, time, event, strata=codes, transform=transform)
    second = proportional_hazards(wide, 7 * time, event, strata=codes, transform=transform)
    assert first.overall.statistic == pytest.approx(second.overall.statistic, rel=1e-7)


def test_terms_gather_columns() -> None:
    columns, time, event = patients(80, 3)
    both = proportional_hazards(columns, time, event, terms={"both": ("arm", "x"), "x": ["x"]})
    single = proportional_hazards(columns, time, event)
    assert both.terms["both"] == both.overall == single.overall
    assert both.overall.df == 2
    assert both.terms["x"] == single.terms["x"]


def test_what_cannot_be_tested_is_refused() -> None:
    columns, time, event = patients(40, 4)
    with pytest.raises(ConfigError, match="no transform of time 'sqrt'"):
        proportional_hazards(columns, time, event, transform="sqrt")
    with pytest.raises(MismatchError, match="has the column 'age'"):
        proportional_hazards(columns, time, event, terms={"a": ["age"]})
    with pytest.raises(DataError, match="'a' has no column"):
        proportional_hazards(columns, time, event, terms={"a": []})
    with pytest.raises(ConfigError, match="an event at time 0"):
        proportional_hazards(columns, np.where(np.arange(40) == np.argmax(event), 0.0, time), event, transform="log")
    few = np.zeros(40, dtype=bool)
    few[:8] = True
    with pytest.raises(FitError, match="too few distinct event times"):
        proportional_hazards(columns, np.where(few, 1.0, 2.0), few, transform="identity")


SIZES = [pytest.param(300, id="300 trials"), pytest.param(10_000, id="10,000 trials", marks=pytest.mark.slow)]


@pytest.mark.law
@pytest.mark.parametrize("trials", SIZES)
def test_law_the_test_keeps_its_level_and_sees_a_late_effect(trials: int) -> None:
    """Trials of 150: 5 % under proportional hazards within 3.5 Monte-Carlo standard errors; late effects more often."""
    counts = np.zeros(2)
    for seed in range(trials):
        found = (proportional_hazards(*patients(150, seed, late)).terms["arm"].p for late in (0.0, 1.2))
        counts += [p < 0.05 for p in found]
    level, power = counts / trials
    print(f"\n{trials} trials: level {level:.4f}, power {power:.4f}")  # noqa: T201
    assert abs(level - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / trials)
    assert power > 0.5
