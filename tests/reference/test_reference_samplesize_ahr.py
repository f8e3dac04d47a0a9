"""Average hazard ratio designs against gsDesign2 1.1.8; the weighted design of the case (fixed_fh05) is not there."""

import json
from pathlib import Path

import numpy as np
import pytest

from trialtwin.stats.samplesize_ahr import average_hazard_ratio

pytestmark = pytest.mark.reference


def test_reference_average_hazard_ratio_gsdesign2(shared: Path) -> None:
    case = json.loads((shared / "reference" / "nph_ahr_gsdesign2_public" / "expected.json").read_text())
    tolerance = case["tolerance"]["rel"]
    for row in [*case["expected"]["ahr"], *case["expected"]["fixed_ahr"]]:
        found = average_hazard_ratio(
            float(row["time"]),
            enrolled_for=np.array([12.0]),
            enrolled_rate=np.array([20.0]),
            starts=np.array([0.0, 3.0]),
            hazard=np.full(2, np.log(2) / 10),
            ratio=np.array([0.95, 0.65]),
            dropout=0.005,
        )
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
