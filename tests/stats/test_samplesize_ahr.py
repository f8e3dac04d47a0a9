"""The average hazard ratio: closed forms, and what is refused."""

import numpy as np
import pytest

from trialtwin.core.errors import ConfigError
from trialtwin.stats.samplesize_ahr import AverageHazardRatio, average_hazard_ratio
from trialtwin.stats.samplesize_survival import expected_events


def _trial(starts: list[float], ratio: list[float]) -> AverageHazardRatio:
    return average_hazard_ratio(
        30.0,
        enrolled_for=np.array([12.0]),
        enrolled_rate=np.array([20.0]),
        starts=np.array(starts),
        hazard=np.full(len(starts), 0.07),
        ratio=np.array(ratio),
        dropout=0.01,
    )


def test_proportional_hazards_give_their_ratio_and_the_closed_form_of_events() -> None:
    found = _trial([0.0, 4.0], [0.7, 0.7])
    assert found.value == pytest.approx(0.7, rel=1e-12)
    closed = sum(expected_events(hazard=h, dropout=0.01, rate=10.0, accrual=12.0, duration=30.0) for h in (0.07, 0.049))
    assert found.events == pytest.approx(closed, rel=1e-10)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="start at 0"):
        _trial([0.0, 4.0, 3.0], [0.7, 0.7, 0.7])
    with pytest.raises(ConfigError, match="above 0"):
        _trial([0.0], [-0.7])
    with pytest.raises(ConfigError, match="no benefit"):
        _trial([0.0], [1.0]).sized()
