"""Pieces of work: the same bytes on any workers, resumed after Ctrl-C and after a worker was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pieces import always_killed, fails, killed_once, slow, square

from trialtwin.core.errors import ConfigError, MachineError
from trialtwin.engine.executor import SETUP, InProcess, open_executor, run_pieces

CALLS = [(k,) for k in range(8)]
WANTED = [str(k * k).encode() for k in range(8)]


@pytest.fixture(autouse=True)
def found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let spawned workers import the pieces."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_whatever_the_workers(workers: int, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = run_pieces(
        slow,
        [(k, 0.05 * (8 - k)) for k in range(8)],
        folder=tmp_path,
        purpose="a",
        workers=workers,
        on_piece=lambda done, total: seen.append((done, total)),
    )
    assert found == WANTED
    assert seen == [(k, 8) for k in range(9)]


def test_what_was_stopped_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_pieces(fails, CALLS, folder=tmp_path, purpose="a")
    done = sorted(tmp_path.glob("*.piece"))
    assert len(done) == 4
    stamps = [file.stat().st_mtime_ns for file in done]
    assert run_pieces(square, CALLS, folder=tmp_path, purpose="a") == WANTED
    assert [file.stat().st_mtime_ns for file in done] == stamps, "finished pieces were done again"


def test_ctrl_c_among_two_workers_keeps_what_is_done_and_another_number_goes_on(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pieces(square, CALLS, folder=tmp_path, purpose="a", workers=2, on_piece=stop)
    assert len(list(tmp_path.glob("*.piece"))) == 3
    assert not list(tmp_path.glob(".*.part"))
    assert run_pieces(square, CALLS, folder=tmp_path, purpose="a") == WANTED


def test_pieces_done_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    run_pieces(square, CALLS, folder=tmp_path / "forward", purpose="a")
    run_pieces(square, CALLS, folder=tmp_path / "gaps", purpose="a")
    for k in (6, 1, 4):
        (tmp_path / "gaps" / f"{k:07d}.piece").unlink()
    run_pieces(square, CALLS, folder=tmp_path / "gaps", purpose="a", workers=2)
    forward, gaps = ({f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("forward", "gaps"))
    assert forward == gaps


def test_a_worker_that_is_killed_changes_no_byte(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    calls = [(k, str(marks)) for k in range(8)]
    assert run_pieces(killed_once, calls, folder=tmp_path / "work", purpose="a", workers=2) == WANTED
    assert (marks / "killed").exists()


def test_workers_that_die_again_and_again_are_an_error_that_keeps_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="workers died 3 times"):
        run_pieces(always_killed, CALLS, folder=tmp_path, purpose="a", workers=2)
    assert run_pieces(square, CALLS, folder=tmp_path, purpose="a") == WANTED


def test_an_error_in_a_piece_is_that_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="multiply"):
        run_pieces(square, [("x",)], folder=tmp_path, purpose="a", workers=2)


def test_a_folder_of_other_work_is_refused(tmp_path: Path) -> None:
    run_pieces(square, CALLS, folder=tmp_path, purpose="a")
    assert (tmp_path / SETUP).exists()
    for purpose, calls in (("b", CALLS), ("a", CALLS[:3])):
        with pytest.raises(ConfigError, match="pieces of other work"):
            run_pieces(square, calls, folder=tmp_path, purpose=purpose)


def test_the_environment_is_left_as_it_was() -> None:
    before = dict(os.environ)
    with open_executor(2):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert dict(os.environ) == before


def test_one_worker_is_this_process_and_hands_errors_on() -> None:
    with open_executor() as pool:
        assert isinstance(pool, InProcess)
        assert pool.submit(square, 3).result() == b"9"
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result()


def test_no_workers_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 workers"), open_executor(0):
        pass


def on_dask(*arguments: Path) -> str:
    """Work on two processes of a local cluster, in a process of its own for its warnings; return what it prints."""
    script = Path(__file__).parents[1] / "support" / "dask_run.py"
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_dask_worker_that_is_killed_changes_no_byte(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    assert on_dask(tmp_path / "work", marks).split() == [one.decode() for one in WANTED]
    assert (marks / "killed").exists()


def test_a_piece_that_kills_every_dask_worker_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    assert "every worker that tried piece 2 died" in on_dask(tmp_path)
    assert run_pieces(square, CALLS, folder=tmp_path, purpose="a") == WANTED


def test_a_scheduler_that_does_not_answer_is_an_error() -> None:
    script = "from trialtwin.engine.executor import open_executor\nwith open_executor(1, 'tcp://127.0.0.1:9'): pass"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
