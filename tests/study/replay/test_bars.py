"""The bars of the replay, with the calibration and the published numbers that ship."""

import numpy as np
import pytest

from trialtwin.core.backend import enable_compilation_cache
from trialtwin.core.finding import Evidence, Verdict
from trialtwin.study.replay.fit import calibrate
from trialtwin.study.replay.judge import judge_trial, show_courses, show_shares, verdict
from trialtwin.study.replay.load import load_trial, shipped_trials
from trialtwin.study.replay.observe import mean_change
from trialtwin.study.replay.parameters import shipped_calibration
from trialtwin.study.replay.predict import Replayed, replay
from trialtwin.study.replay.readouts import attach, read_readouts, rows_of
from trialtwin.study.replay.simulate import EngineSimulator


@pytest.fixture(scope="module")
def simulator() -> EngineSimulator:
    """Return the simulator that the calibration was made with."""
    enable_compilation_cache()
    made = shipped_calibration().made
    return EngineSimulator(seed=made.seed, patients=made.patients)


@pytest.fixture(scope="module")
def clarity(simulator: EngineSimulator) -> Replayed:
    """Return CLARITY-AD replayed."""
    return replay(load_trial("clarity-ad")[0], simulator, shipped_calibration())


def test_law_published_numbers_of_two_trials_lie_within_the_bars(simulator: EngineSimulator, clarity: Replayed) -> None:
    """CLARITY-AD and ALPHASE: every |z| below 2, 80 % below 1.3. The slow test takes all trials."""
    other = replay(load_trial("alphase")[0], simulator, shipped_calibration())
    scores = np.array([abs(p.z) for p in (*clarity.published, *other.published) if p.z is not None])
    assert len(scores) == 56
    assert scores.max() < 2
    assert (scores < 1.3).mean() >= 0.8


@pytest.mark.slow
def test_law_published_numbers_of_all_trials_lie_within_the_bars(simulator: EngineSimulator) -> None:
    """All that ship: every |z| below 2, 80 % below 1.3."""
    found = [replay(trial, simulator, shipped_calibration()) for trial in shipped_trials()]
    scores = np.array([abs(p.z) for each in found for p in each.published if p.z is not None])
    assert len(scores) > 200
    assert scores.max() < 2
    assert (scores < 1.3).mean() >= 0.8


def test_law_variance_is_the_sum_of_its_parts(clarity: Replayed) -> None:
    """Total² = between² + parameter² + sampling²; z and intervals follow from it; nothing has no uncertainty."""
    for p in (*clarity.asked, *clarity.published):
        assert p.total**2 == pytest.approx(p.between**2 + p.parameter**2 + p.sampling**2)
        assert p.sampling > 0
        low, high = p.interval()
        assert low < p.expected < high
        if p.row.readout.stat == "proportion":
            assert 0 < low < high < 1
        if p.z is not None:
            assert p.z == pytest.approx((p.row.readout.value - p.expected) / p.total)


def test_what_is_known_to_be_weak_is_shown(clarity: Replayed) -> None:
    """No sign of CLARITY-AD's heterogeneity by APOE4 is foretold, and the report's table holds the published one."""
    by_genotype = {
        p.row.subgroup: p for p in clarity.published if p.row.subgroup.startswith("APOE4") and p.row.difference
    }
    assert by_genotype["APOE4 homozygote"].observed == 0.28
    assert by_genotype["APOE4 homozygote"].expected < 0
    finding = judge_trial(clarity, section="x", evidence=Evidence())
    assert finding.verdict is Verdict.PASS
    assert finding.table is not None
    assert "CDR-SB, week 78, difference" in finding.table.column("number")


def test_courses_and_shares_are_shown_from_their_tables(clarity: Replayed) -> None:
    """A figure an endpoint with published values beside; shares by genotype."""
    courses = show_courses(clarity, "CDR-SB", section="x", figure=True, evidence=Evidence())
    assert courses is not None
    assert courses.table is not None
    assert 1.66 in courses.table.column("observed")
    assert -0.45 in courses.table.column("observed")
    shares = show_shares(clarity, section="x", evidence=Evidence())
    assert shares is not None
    assert shares.table is not None
    assert pytest.approx(32.62) in shares.table.column("observed")
    assert show_courses(clarity, "iADRS", section="x", figure=True, evidence=Evidence()) is None


def test_the_verdict_fails_where_a_number_is_far(clarity: Replayed) -> None:
    """One published number moved by four predictive SDs, and the trial fails with its name."""
    from dataclasses import replace

    p = next(p for p in clarity.published if p.row.difference and p.row.endpoint.name == "CDR-SB")
    moved = p.row.readout.model_copy(update={"value": p.expected + 4 * p.total})
    far = replace(p, row=replace(p.row, readout=moved))
    assert verdict(clarity.published)[0] is Verdict.PASS
    decision, words = verdict([*clarity.published, far])
    assert decision is Verdict.FAIL
    assert "z +4.00" in words


def test_law_other_virtual_patients_give_the_same_expectations(simulator: EngineSimulator) -> None:
    """Patients scrambled anew move CDR-SB by less than 0.08 points and amyloid by 1 CL: below sampling errors."""
    other = EngineSimulator(seed=5, patients=shipped_calibration().made.patients)
    trial, values = load_trial("clarity-ad")[0], shipped_calibration().natural()
    for arm in trial.arms:
        first, second = (each.courses(trial, "all", arm, values) for each in (simulator, other))
        for name, most in (("CDR-SB", 0.08), ("amyloid_CL", 1.0)):
            changes = [
                mean_change(courses, name, 78, np.ones(len(courses.entry), dtype=bool), simulator.links(values))
                for courses in (first, second)
            ]
            assert abs(changes[0] - changes[1]) < most


@pytest.mark.slow
def test_recalibration_reproduces_what_ships(shared, simulator: EngineSimulator) -> None:  # type: ignore[no-untyped-def]
    """From the table of readouts and the priors: every parameter within a fifth of its posterior SD."""
    trials, left = attach(shipped_trials(), read_readouts(shared / "science" / "trials_calibration.csv"))
    assert {item.readout.arm for item in left} == {"all"}  # dropout of all arms together, which is not modelled
    kept = shipped_calibration()
    fitted = calibrate(rows_of(trials)[0], simulator)
    assert np.max(np.abs(fitted.vector - kept.vector) / np.sqrt(np.diag(kept.matrix))) < 0.2
    for own, theirs in zip(trials, shipped_trials(), strict=True):  # what ships is what the table says
        assert [r.value for r in own.readouts] == [r.value for r in theirs.readouts if theirs.arm(r.arm) is not None]
