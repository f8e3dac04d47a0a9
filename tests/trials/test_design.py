"""A design read from a page: what it works out, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trialtwin.core.errors import ConfigError
from trialtwin.trials.design import Design, load_design

BASE: dict[str, Any] = {
    "title": "B against A",
    "patients": 100,
    "visits": [0, 84, 168],
    "arms": [{"name": "A"}, {"name": "B", "share": 2}],
    "endpoint": {"name": "change", "unit": "points"},
}


def test_sizes_follow_the_shares_and_add_up() -> None:
    assert Design(**BASE).sizes() == (33, 67)
    three = BASE | {"patients": 101, "arms": [{"name": n} for n in "ABC"]}
    assert sum(Design(**three).sizes()) == 101
    assert max(Design(**three).sizes()) - min(Design(**three).sizes()) == 1


def test_the_duration_is_accrual_and_follow_up() -> None:
    assert Design(**BASE).months() is None
    assert Design(**BASE, accrual=10).months() == pytest.approx(10 + 168 / 30.4375)


def test_the_estimand_says_how_stops_are_handled() -> None:
    question = Design(**BASE, stops="hypothetical").estimand()
    assert question.intercurrent_events[0].strategy == "hypothetical"
    assert question.treatment == "B against A"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"visits": [0, 168, 84]}, "visits must begin at 0 and rise"),
        ({"visits": [7, 84]}, "visits must begin at 0 and rise"),
        ({"arms": [{"name": "A"}, {"name": "A"}]}, "arms repeat: A, A"),
        ({"randomisation": {"block": 4}}, "a block of 4 cannot hold shares that add up to 3"),
        ({"randomisation": {"scheme": "simple", "block": 3}}, "simple randomisation has no blocks"),
        ({"leaving": {"dropout": {"C": 0.1}}}, r"dropout names \['C'\]; arms are A, B"),
        ({"leaving": {"missed": 1.0}}, "less than 1"),
        ({"alpha": 0.0}, "greater than 0"),
        ({"patients": 3}, "greater than or equal to 8"),
    ],
)
def test_what_cannot_be_a_trial_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Design(**(BASE | change))


def test_a_page_that_is_wrong_names_every_key(tmp_path: Path) -> None:
    page = tmp_path / "design.toml"
    page.write_text('title = "x"\npatients = 2\nvisits = [0, 84]\narms = [{name = "A"}, {name = "B"}]\nwish = 1\n')
    with pytest.raises(ConfigError) as caught:
        load_design(page)
    for key in ("patients", "endpoint", "wish"):
        assert f"- {key}: " in caught.value.what


def test_a_page_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the design"):
        load_design(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("title = [")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_design(tmp_path / "bad.toml")
