"""Load reference cases and compare every number in them, by the rules of ../shared/reference/compare.py."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

type Columns = dict[str, np.ndarray]


def _numbers(expected: Any) -> int:
    """Count the numbers of a nested result, on its own, so that a comparison cannot skip one."""
    if isinstance(expected, dict):
        return sum(map(_numbers, expected.values()))
    if isinstance(expected, list):
        return sum(map(_numbers, expected))
    return int(isinstance(expected, int | float) and not isinstance(expected, bool))


def _worst(got: Any, expected: Any) -> float:
    """Return the largest relative difference of a nested result."""
    if isinstance(expected, dict):
        return max((_worst(got[key], value) for key, value in expected.items() if key in got), default=0.0)
    if isinstance(expected, list):
        return max((_worst(a, b) for a, b in zip(got, expected, strict=True)), default=0.0)
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return abs(float(got) - expected) / abs(expected) if expected else abs(float(got))
    return 0.0


@pytest.fixture
def match_all(shared: Path, record_property: Callable[[str, object], None]) -> Callable[[str, Any], None]:
    """Return a check that every number of a case is matched, to the case's tolerance, and none is left out."""
    spec = importlib.util.spec_from_file_location("reference_compare", shared / "reference" / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    compare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compare)

    def check(case: str, got: Any) -> None:
        reference = compare.load(case)
        result = compare.diff(got, reference, strict=True)
        numbers, worst = _numbers(reference["expected"]), _worst(got, reference["expected"])
        record_property(
            "reference", f"{case}: {result['compared']} of {numbers}, worst relative difference {worst:.1e}"
        )
        print(f"\n{case}: {result['compared']} of {numbers} numbers, worst relative difference {worst:.1e}")  # noqa: T201
        assert result["bad"] == []
        assert result["compared"] == numbers

    return check


@pytest.fixture
def case_data(shared: Path) -> Callable[[str, str], Columns]:
    """Return a reader of a case's numeric columns."""

    def read(case: str, name: str) -> Columns:
        path = shared / "reference" / case / name
        header = [column.strip('"') for column in path.read_text().splitlines()[0].split(",")]
        table = np.genfromtxt(path, delimiter=",", skip_header=1)
        return {column: table[:, k] for k, column in enumerate(header)}

    return read
