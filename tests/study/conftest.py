"""A small simulated trial, its study file, and one finished run of it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from trialtwin.core.dossier import Dossier
from trialtwin.study.example import example_text, make_example
from trialtwin.study.load import check_study
from trialtwin.study.prepare import Prepared, read_study
from trialtwin.study.spec import StudySpec


class Recorder:
    """Remembers which steps ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.kept: list[str] = []

    def begin(self, step: str) -> None:
        """Remember nothing."""

    def advance(self, done: int, total: int) -> None:
        """Remember nothing."""

    def end(self, step: str, *, ran: bool) -> None:
        """Remember a step."""
        (self.ran if ran else self.kept).append(step)


def plain(dossier: Dossier) -> str:
    """Stand in for the report, which has tests of its own."""
    return dossier.model_dump_json()


@pytest.fixture(scope="session")
def example_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the example trial with 90 patients."""
    return make_example(tmp_path_factory.mktemp("example") / "data", seed=7, patients=90)


def content() -> dict[str, Any]:
    """Return the example's study file as a dictionary, with the quick twin only."""
    study = tomllib.loads(example_text())
    study["twins"] = [t for t in study["twins"] if t["model"] == "baseline"]
    study["analyses"] = [a for a in study["analyses"] if a.get("twin", "baseline") == "baseline"]
    study["scoring"] = {"folds": 3, "draws": 64}
    return study


@pytest.fixture
def study_content() -> dict[str, Any]:
    """Return a study file to change."""
    return content()


@pytest.fixture(scope="session")
def quick_study() -> StudySpec:
    """Return the example's study with the quick twin only."""
    return check_study(content(), where="test")


@pytest.fixture(scope="session")
def prepared(quick_study: StudySpec, example_data: Path) -> Prepared:
    """Return the study with its tables."""
    return read_study(quick_study, example_data)
