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
BINARY, COUNT, TIMES = ({"endpoint": {"name": "x", "kind": kind}} for kind in ("binary", "count", "time to event"))
STOP: dict[str, Any] = {"event": "stop", "does": "stop", "chance": {"B": 0.1}, "strategy": "hypothetical"}


def test_sizes_follow_the_shares_and_add_up() -> None:
    assert Design(**BASE).sizes() == (33, 67)
    three = BASE | {"patients": 101, "arms": [{"name": n} for n in "ABC"]}
    assert sum(Design(**three).sizes()) == 101
    assert max(Design(**three).sizes()) - min(Design(**three).sizes()) == 1


def test_the_duration_is_accrual_and_follow_up() -> None:
    assert Design(**BASE).months() is None
    assert Design(**BASE, accrual=10).months() == pytest.approx(10 + 168 / 30.4375)


def test_the_estimand_says_how_each_event_is_handled() -> None:
    events = [STOP, {"event": "death", "does": "death", "chance": {"A": 0.1}, "strategy": "composite", "value": 9.0}]
    question = Design(**BASE, intercurrent=events).estimand()
    assert [one.strategy for one in question.intercurrent_events] == ["hypothetical", "composite variable"]
    assert question.intercurrent_events[1].note == "9 points is assigned"
    assert question.treatment == "B against A"
    assert question.variable == "change at day 168"
    named = Design(
        **BASE | {"endpoint": {"name": "ADAS-Cog", "kind": "responder", "threshold": -4.0, "unit": "points"}}
    )
    assert named.estimand().variable == "change in ADAS-Cog of -4 points or better at day 168"


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
        ({"leaving": {"discontinuation": {"B": 0.1}}}, r"are now an event of \[\[design.intercurrent\]\]"),
        ({"stops": "hypothetical"}, r"are now an event of \[\[design.intercurrent\]\]"),
        ({"intercurrent": [STOP | {"chance": {"C": 0.1}}]}, r"stop names \['C'\]; arms are A, B"),
        ({"intercurrent": [STOP, STOP]}, "intercurrent events repeat: stop, stop"),
        ({"intercurrent": [STOP | {"strategy": "wishful"}]}, "'while on treatment' or 'principal stratum'"),
        ({"intercurrent": [STOP | {"strategy": "principal stratum"}]}, "is not seen in a trial"),
        ({"intercurrent": [STOP | {"strategy": "composite"}]}, "give its value"),
        ({"intercurrent": [STOP | {"value": 1.0}]}, "hypothetical assigns no value"),
        ({"intercurrent": [STOP | {"effect": 1.0}]}, "effect and onset are for rescue"),
        ({"intercurrent": [STOP | {"does": "rescue"}]}, "rescue that adds no effect"),
        ({"intercurrent": [STOP | {"does": "death", "strategy": "treatment policy"}]}, "no values after death"),
        ({"endpoint": {"name": "x", "kind": "responder"}}, "needs the threshold"),
        ({"endpoint": {"name": "x", "threshold": 1.0}}, "a continuous endpoint has no threshold"),
        ({"endpoint": {"name": "x", "kind": "count", "events": 9}}, "not analysed at a number of events"),
        (COUNT | {"intercurrent": [STOP | {"strategy": "composite"}]}, "no number of events to assign"),
        (COUNT | {"randomisation": {"strata": {"cuts": [1.0]}}}, "has no baseline value"),
        (TIMES | {"intercurrent": [STOP | {"strategy": "while on treatment"}]}, "before the event; use 'hypothetical'"),
        (TIMES | {"intercurrent": [STOP | {"strategy": "composite", "value": 1.0}]}, "leave value out"),
        (BINARY | {"intercurrent": [STOP | {"strategy": "composite", "value": 0.5}]}, "give a value of 0 or 1"),
        ({"randomisation": {"strata": {"cuts": [2.0, 1.0]}}}, "cuts must rise"),
        ({"randomisation": {"scheme": "simple", "strata": {"cuts": [1.0]}}}, "simple randomisation has no strata"),
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
