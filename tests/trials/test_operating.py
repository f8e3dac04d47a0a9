"""Operating characteristics: level, what theory says a twin buys, and results that do not depend on workers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.trials.design import Design
from trialtwin.trials.enrol import Truth
from trialtwin.trials.methods import METHODS
from trialtwin.trials.operating import CHUNK, Cell, Characteristic, operating_characteristics
from trialtwin.trials.virtual_population import Normal

MEAN = np.array([20.0, 21.0, 23.0])
COVARIANCE = np.array([[25.0, 20.0, 18.0], [20.0, 36.0, 30.0], [18.0, 30.0, 49.0]])


def cell(name: str = "a", *, effect: float = 0.0, rho: float = 0.5, drift: float = 0.0, **changes: Any) -> Cell:
    base: dict[str, Any] = {
        "title": "B against A",
        "patients": 120,
        "visits": [0, 84, 168],
        "arms": [{"name": "A"}, {"name": "B"}],
        "endpoint": {"name": "change", "better": "lower"},
    }
    people = Normal(MEAN, COVARIANCE, rho=rho, drift=drift)
    return Cell(name, Design(**(base | changes)), people, Truth("t", (effect,)))


def check_laws(trials: int) -> list[Characteristic]:
    """Hold level, coverage and bias of the methods that rest on randomisation to 4 Monte-Carlo standard errors."""
    cells = [
        cell(f"{rho:g} {drift:g} {effect:g}", rho=rho, drift=drift, effect=effect)
        for rho in (0.0, 0.3, 0.5, 0.7)
        for drift in (0.0, 3.0)
        for effect in (0.0, -2.0)
    ]
    rows = operating_characteristics(cells, ["unadjusted", "ancova", "procova"], trials=trials, seed=11)
    for row in rows:
        assert row.failed == 0
        error = np.sqrt(0.05 * 0.95 / trials)
        assert abs(row.coverage - 0.95) < 4 * error, row
        assert abs(row.bias) < 4 * row.bias_se, row
        if row.truth == 0:
            assert abs(row.rejected - 0.05) < 4 * error, row
    return rows


def check_ratio(rows: list[Characteristic], trials: int) -> None:
    """Hold PROCOVA's variance over the unadjusted one to 1 − R² of score and baseline, and to 1 − ρ² beside ANCOVA.

    Both adjust for baseline; given it, score and change correlate by ρ₁ = ρ √((1 − r²) / (1 − ρ² r²)), r that of
    baseline and change, and the ratio to ANCOVA is 1 − ρ₁² up to one degree of freedom.
    """
    change = COVARIANCE[2, 2] + COVARIANCE[0, 0] - 2 * COVARIANCE[0, 2]
    r = (COVARIANCE[0, 2] - COVARIANCE[0, 0]) / np.sqrt(COVARIANCE[0, 0] * change)
    by = {(row.cell, row.method): row for row in rows}
    for rho in (0.0, 0.3, 0.5, 0.7):
        partial = rho**2 * (1 - r**2) / (1 - rho**2 * r**2)
        for rest in ("0 0", "3 0"):
            pair = [by[f"{rho:g} {rest}", method].model_se ** 2 for method in ("procova", "ancova")]
            assert pair[0] / pair[1] == pytest.approx(1 - partial, abs=0.02 + 0.5 / np.sqrt(trials)), rho


def test_law_methods_keep_level_coverage_and_the_variance_ratio() -> None:
    """1,000 trials a cell; the twin that drifts by 3 points costs nothing."""
    check_ratio(check_laws(1000), 1000)


@pytest.mark.slow
def test_law_methods_keep_level_coverage_and_the_variance_ratio_in_10000_trials() -> None:
    check_ratio(check_laws(10_000), 10_000)


def test_law_repeated_measures_are_unbiased_where_leaving_depends_on_what_was_seen() -> None:
    """1,500 trials, in one arm more than half leave, the worse far sooner: the mixed model holds, completers do not."""
    leaving = {"dropout": {"B": 0.6}, "dropout_by_state": 1.5}
    lost = cell(effect=0.0, rho=0.6, patients=300, leaving=leaving)
    rows = operating_characteristics([lost], ["unadjusted", "mmrm", "procova mmrm"], trials=1500, seed=4)
    by = {row.method: row for row in rows}
    for name in ("mmrm", "procova mmrm"):
        assert abs(by[name].bias) < 3.5 * by[name].bias_se, by[name]
        assert abs(by[name].coverage - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / 1500), by[name]
    assert abs(by["unadjusted"].bias) > 3.5 * by["unadjusted"].bias_se
    assert by["procova mmrm"].model_se < 0.93 * by["mmrm"].model_se


def test_law_believing_a_twin_that_drifts_loses_the_level() -> None:
    """What the method is there to show: biased by the drift, and wrong far more often than it says."""
    rows = operating_characteristics([cell(drift=1.5, rho=0.5)], ["believed score", "procova"], trials=500, seed=2)
    assert rows[0].bias == pytest.approx(-1.5, abs=4 * rows[0].bias_se)
    assert rows[0].rejected > 0.4
    assert rows[1].rejected < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 500)


def test_workers_and_chunks_change_nothing(tmp_path: Path) -> None:
    cells = [cell("a", effect=-1.0), cell("b", leaving={"dropout": {"A": 0.2, "B": 0.2}})]
    alone = operating_characteristics(cells, ["ancova"], trials=2 * CHUNK + 7, seed=5)
    seen: list[tuple[int, int]] = []
    together = operating_characteristics(
        cells,
        ["ancova"],
        trials=2 * CHUNK + 7,
        seed=5,
        folder=tmp_path,
        workers=2,
        on_chunk=lambda done, total: seen.append((done, total)),
    )
    assert alone == together
    assert seen == [(k, 6) for k in range(7)]
    (tmp_path / "0000003.piece").unlink()
    assert operating_characteristics(cells, ["ancova"], trials=2 * CHUNK + 7, seed=5, folder=tmp_path) == alone
    with pytest.raises(ConfigError, match="pieces of other work"):
        operating_characteristics(cells, ["ancova"], trials=2 * CHUNK + 7, seed=6, folder=tmp_path)


def test_a_method_sees_no_truth_and_gives_one_row_a_trial() -> None:
    names = [name for name, method in METHODS.items() if "continuous" in method.endpoints]
    rows = operating_characteristics([cell(effect=-1.0)], names, trials=20, seed=1)
    assert [row.method for row in rows] == names
    assert all(row.trials == 20 and row.truth == -1.0 for row in rows)


def test_trials_that_cannot_be_analysed_are_counted() -> None:
    """Eight patients and nearly all leave: some trials have an arm without outcomes."""
    lost = cell(patients=8, leaving={"dropout": {"A": 0.7, "B": 0.7}})
    (row,) = operating_characteristics([lost], ["unadjusted"], trials=200, seed=3)
    assert row.failed > 10
    assert row.failed + row.trials == 200
    gone = replace(lost, design=lost.design.model_copy(update={"leaving": _all_leave()}))
    with pytest.raises(ConfigError, match=r"could analyse \d of 50 trials"):
        operating_characteristics([gone], ["procova"], trials=50, seed=3)


def _all_leave() -> Any:
    from trialtwin.trials.design_parts import Leaving

    return Leaving(dropout={"A": 0.999, "B": 0.999})


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(MismatchError, match="no method 'magic'"):
        operating_characteristics([cell()], ["magic"], trials=10, seed=1)
    with pytest.raises(ConfigError, match="two cells have one name"):
        operating_characteristics([cell(), cell()], ["ancova"], trials=10, seed=1)
    with pytest.raises(ConfigError, match="nothing to simulate"):
        operating_characteristics([], ["ancova"], trials=10, seed=1)
