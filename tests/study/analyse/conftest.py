"""What the tests of analyses share: a function that writes the small trial and does what a page asks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_trial import tables

from trialtwin.core.dossier import Dossier
from trialtwin.study.analyse.read import read_trial
from trialtwin.study.analyse.run import Finished, run_analyse
from trialtwin.study.analyse.spec import check_analyse


def plain(dossier: Dossier) -> str:
    """Stand in for the report, which has tests of its own."""
    return dossier.model_dump_json()


@pytest.fixture
def analyse(tmp_path: Path) -> Callable[..., Finished]:
    """Return a function that writes the data sets, some of them changed, and does what a page asks."""

    def done(content: dict[str, Any], **changed: pl.DataFrame) -> Finished:
        for name, frame in (tables() | changed).items():
            frame.write_csv(tmp_path / f"{name}.csv")
        spec = check_analyse(content, where="test")
        return run_analyse(read_trial(spec, tmp_path), tmp_path / "out", render=plain)

    return done
