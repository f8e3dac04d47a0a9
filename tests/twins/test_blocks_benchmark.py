"""The benchmark of missing blocks runs, in small, and its simulator does what its head says."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import blocks
import blocks_simulator as simulator


def test_half_lack_the_block_by_chance_or_by_age() -> None:
    whole = simulator.simulate(simulator.make_world(1), 400, 2, "P")
    age = whole.covariate("AGE")
    for by_age, apart in ((False, 0.0), (True, 5.0)):
        block = simulator.lose(whole, "proteome", 0.5, 3, by_age=by_age).blocks["proteome"]
        assert block.present.sum() == 200
        assert np.isnan(block.values[~block.present]).all()
        # the difference of two means of 200 has an SD of 0.8
        assert age[~block.present].mean() - age[block.present].mean() == pytest.approx(apart, abs=2.5)
    assert set(np.unique(whole.blocks["genome"].values)) == {0.0, 1.0, 2.0}
    assert "genome" not in simulator.drop(whole, "genome").blocks


@pytest.mark.slow
def test_a_repetition_runs_and_its_tables_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "NEW", 64)
    found = [blocks.summary(blocks.repetition(seed, 40, "proteome", by_age=False)) for seed in (0, 1)]
    assert all(np.isfinite(list(one.values())).all() for one in found)
    assert len(list(blocks.table(found))) == 2 + 3 * len(blocks.WAYS)
    assert len(list(blocks.intervals(found))) == 2 + 3
    # at the least, blocks say more than none in both
    assert all(one["all: nothing missing"] < one["all: no blocks at all"] for one in found)
