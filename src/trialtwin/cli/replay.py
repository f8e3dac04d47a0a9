"""The command that replays published trials; imported only once it runs."""

import shlex
from pathlib import Path
from typing import Any

import typer

from trialtwin.cli.commands import emit, interruptible
from trialtwin.cli.progress import SilentProgress, TerminalProgress, waiting
from trialtwin.core.finding import Verdict
from trialtwin.study.replay.load import load_trial, shipped_names, trial_schema


def list_trials() -> None:
    """Print the trials that ship."""
    for name in shipped_names():
        typer.echo(f"{name:<18} {load_trial(name)[0].title}")


def print_trial_schema() -> None:
    """Print the JSON Schema of the trial file."""
    typer.echo(trial_schema(), nl=False)


def replay_trials(
    trials: list[str],
    out: Path,
    *,
    readouts: Path | None,
    calibration: Path | None,
    calibrate: bool,
    leave_one_out: bool,
    patients: int,
    seed: int | None,
    as_json: bool,
) -> None:
    """Replay trials, and say what came of it."""
    names = trials or list(shipped_names())
    loaded = tuple(load_trial(name) for name in names)
    with waiting("Loading the engine", silent=as_json):
        from trialtwin.report.html import render
        from trialtwin.study.replay.run import SEED, Asked, run_replay
    asked = Asked(
        trials=loaded,
        readouts=readouts,
        calibration=calibration,
        calibrate=calibrate,
        leave_one_out=leave_one_out,
        patients=patients,
        seed=SEED if seed is None else seed,
    )
    options = [f"--seed {asked.seed}", f"--patients {patients}"]
    options += [f"--readouts {readouts.name}"] if readouts else []
    options += ["--calibrate"] * calibrate + ["--leave-one-out"] * leave_one_out
    options += [f"--calibration {calibration.name}"] if calibration else []
    command = " ".join(["trialtwin replay", *(shlex.quote(Path(name).name) for name in trials), *options])
    with interruptible(), SilentProgress() if as_json else TerminalProgress() as progress:
        steps = _Steps(progress)
        done = run_replay(asked, out / "replay", render=render, advance=steps.advance, command=command)
        steps.end()
    failed = [finding.title for finding in done.dossier.findings if finding.verdict is Verdict.FAIL]
    lines = list(done.dossier.summary)
    if as_json:
        content: dict[str, Any] = {
            "folder": str(done.folder),
            "report": str(done.report),
            "predictions": str(done.folder / "predictions.json"),
            "summary": lines,
            "failed": failed,
        }
        emit(content)
    else:
        typer.echo("\n".join(["", *(f"• {line}" for line in lines), "", f"Report: {done.report}"]))


class _Steps:
    """Tells a progress display of steps as they come: a step ends where another begins."""

    def __init__(self, progress: SilentProgress | TerminalProgress) -> None:
        self._progress, self._now = progress, ""

    def advance(self, step: str, done: int, total: int) -> None:
        """Note how far a step is."""
        if step != self._now:
            self.end()
            self._progress.begin(step)
            self._now = step
        self._progress.advance(done, total)

    def end(self) -> None:
        """Note that the present step has ended."""
        if self._now:
            self._progress.end(self._now, ran=True)
