"""Survival curves with numbers at risk, and forests of ratios on a log scale."""

import math
import re

import numpy as np
import pytest

from trialtwin.core.errors import DataError
from trialtwin.core.finding import Column, Figure, Table
from trialtwin.report.figures import compose, draw

ROLES = {"x": "time", "y": "survival", "low": "lower", "high": "upper", "group": "arm", "at_risk": "at_risk"}
CURVES = Table(
    columns=[Column(name=name) for name in ("arm", "time", "survival", "lower", "upper", "at_risk")],
    rows=[
        ["Placebo", 0.0, 1.0, None, None, 40],
        ["Placebo", 30.0, 0.8, 0.65, 0.9, None],
        ["Placebo", 50.0, 0.8, 0.65, 0.9, 31],
        ["Active", 0.0, 1.0, None, None, 41],
        ["Active", 20.0, 0.5, 0.35, 0.6, None],
        ["Active", 50.0, 0.5, 0.35, 0.6, 17],
    ],
)


def curves(**encoding: str) -> Figure:
    return Figure(kind="survival", encoding=ROLES | encoding, x_label="Days", y_label="Without the event", alt="curves")


def test_curves_step_down_from_one_and_numbers_at_risk_stand_under_their_times() -> None:
    canvas = compose(curves(), CURVES)
    (axes,) = canvas.figure.axes
    steps = [line for line in axes.lines if line.get_gid() == "mark-curve"]
    assert [line.get_drawstyle() for line in steps] == ["steps-post"] * 2
    assert np.asarray(steps[1].get_ydata()).tolist() == [1.0, 1.0, 0.5, 0.5]
    words = [text.get_text() for text in canvas.figure.texts]
    for number in ("40", "31", "41", "17", "At risk"):
        assert words.count(number) == 1
    place = {text.get_text(): text.get_position()[0] for text in canvas.figure.texts if text.get_text() != "50"}
    assert place["31"] == place["17"] > place["40"]
    assert "At risk" in draw(curves(), CURVES)


def test_curves_without_numbers_at_risk_have_no_table() -> None:
    figure = curves()
    plain = figure.model_copy(update={"encoding": {k: v for k, v in ROLES.items() if k != "at_risk"}})
    assert "At risk" not in draw(plain, CURVES)


def ratios(*limits: float) -> Table:
    names = ("analysis", "hr", "low", "high")
    return Table(columns=[Column(name=name) for name in names], rows=[["Cox", 1.0, *limits]])


FOREST = Figure(
    kind="forest",
    encoding={"label": "analysis", "y": "hr", "low": "low", "high": "high"},
    x_label="Hazard ratio",
    y_label="Analysis",
    log=True,
    alt="forest",
)


@pytest.mark.parametrize("widest", [1.15, 2.0, 8.0, 300.0])
def test_ratios_stand_on_a_log_scale_about_one(widest: float) -> None:
    canvas = compose(FOREST, ratios(1 / widest, widest))
    (axes,) = canvas.figure.axes
    low, high = axes.get_xlim()
    assert low == pytest.approx(-high)  # an interval that is symmetric on the log scale
    null = next(line for line in axes.lines if line.get_gid() == "mark-reference")
    assert np.asarray(null.get_xdata()).tolist() == [0.0, 0.0]
    ticks = [math.exp(tick) for tick in axes.get_xticks()]
    words = [text.get_text() for text in canvas.figure.texts]
    assert 2 <= len(ticks) <= 12
    assert all(re.sub(r"\.0+$", "", f"{tick:.6g}") in words for tick in ticks)


def test_a_ratio_of_zero_is_refused_on_a_log_scale() -> None:
    with pytest.raises(DataError, match="0 or below"):
        compose(FOREST, ratios(0.0, 2.0))
