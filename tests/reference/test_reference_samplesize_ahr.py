"""Average hazard ratio designs against gsDesign2 1.1.8."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trialtwin.stats.samplesize_ahr import average_hazard_ratio, weighted_hazard_ratio

pytestmark = pytest.mark.reference


TRIAL: dict[str, Any] = {
    "enrolled_for": np.array([12.0]),
    "enrolled_rate": np.array([20.0]),
    "starts": np.array([0.0, 3.0]),
    "hazard": np.full(2, np.log(2) / 10),
    "ratio": np.array([0.95, 0.65]),
    "dropout": 0.005,
}


def test_reference_average_hazard_ratio_gsdesign2(shared: Path) -> None:
    case = json.loads((shared / "reference" / "nph_ahr_gsdesign2_public" / "expected.json").read_text())
    tolerance = case["tolerance"]["rel"]
    for row in [*case["expected"]["ahr"], *case["expected"]["fixed_ahr"]]:
        found = average_hazard_ratio(float(row["time"]), **TRIAL)
        if "power" in row:
            found = found.sized(alpha=row["alpha"], power=row["power"])
        got = {
            "ahr": found.value,
            "n": found.patients,
            "event": found.events,
            "info": found.information,
            "info0": found.information_null,
        }
        worst = max(abs(got[key] / row[key] - 1) for key in got if key in row)
        print(f"\n{row['time']}: worst relative difference {worst:.1e}")  # noqa: T201
        assert worst < tolerance


def test_reference_weighted_design_gsdesign2(shared: Path) -> None:
    """FH(0, 0.5): the differences, to 3e−6, are those of R's ``integrate`` at its tolerance of 1e−5."""
    case = json.loads((shared / "reference" / "nph_ahr_gsdesign2_public" / "expected.json").read_text())
    (row,) = case["expected"]["fixed_fh05"]
    found = weighted_hazard_ratio(float(row["time"]), rho=0.0, gamma=0.5, **TRIAL)
    sized = found.sized(alpha=row["alpha"], power=row["power"])
    got = {"ahr": sized.value, "n": sized.patients, "event": sized.events}
    worst = max(abs(got[key] / row[key] - 1) for key in got)
    print(f"\nfixed_fh05: worst relative difference {worst:.1e}")  # noqa: T201
    assert worst < 1e-5
