"""The command that compares kinds of twins; imported only once it runs."""

import shlex
from pathlib import Path
from typing import Any

import typer

from trialtwin.cli.commands import emit, interruptible
from trialtwin.cli.progress import SilentProgress, TerminalProgress, waiting
from trialtwin.core.finding import Verdict
from trialtwin.study.load import load_study
from trialtwin.study.prepare import read_history, read_study


def compare_twins(
    study: Path,
    data: Path,
    out: Path,
    *,
    models: list[str],
    disease: str | None,
    settings: dict[str, Any],
    seed: int | None,
    as_json: bool,
) -> None:
    """Compare kinds of twins on a study's untreated patients, and say which deserves trust."""
    spec = load_study(study)
    with waiting("Loading the twins", silent=as_json):
        from trialtwin.report.html import render
        from trialtwin.study.compare.ask import ask, make_plan
        from trialtwin.study.compare.run import run_compare, untreated

    asked = ask(spec, tuple(models), disease, make_plan(**settings), seed)
    with interruptible():
        with waiting("Reading the data", silent=as_json):
            prepared = read_study(spec, data)
            prepared.require_usable()
            history = None if spec.scoring.history is None else read_history(spec, study.parent / spec.scoring.history)
            untreated(prepared, history)
        with SilentProgress() if as_json else TerminalProgress() as progress:
            progress.begin("compare")
            done = run_compare(
                prepared,
                asked,
                out / spec.study.id / "compare",
                render=render,
                on_cell=lambda i, n, _: progress.advance(i, n),
                command=_command(study, asked.models, asked.disease, settings, asked.seed),
                history=history,
            )
            progress.end("compare", ran=True)
    lines = list(done.dossier.summary)
    if as_json:
        failed = [finding.title for finding in done.dossier.findings if finding.verdict is Verdict.FAIL]
        emit(
            {
                "folder": str(done.folder),
                "report": str(done.report),
                "winner": done.found.winner,
                "twin": str(done.twin),
                "ranking": [{"model": name, "scaled_crps": value} for name, value in done.found.ranking()],
                "summary": lines,
                "failed": failed,
            }
        )
    else:
        typer.echo(
            "\n".join(["", *(f"• {line}" for line in lines), "", f"Twin: {done.twin}", f"Report: {done.report}"])
        )


def _command(study: Path, models: tuple[str, ...], disease: str | None, settings: dict[str, Any], seed: int) -> str:
    """Return the command that makes the same comparison again."""
    words = ["trialtwin compare", shlex.quote(study.name), "--data DATA", *(f"--model {name}" for name in models)]
    words += [f"--disease {disease}"] if disease else []
    options = {"patients": "curve-patients", "visits": "curve-visits"}
    for name, value in settings.items():
        option = options.get(name, name)
        if isinstance(value, tuple):
            words += [f"--{option} {one:g}" for one in value]
        elif isinstance(value, bool):
            words += ["--curve-blocks"] * value
        elif value is not None:
            words.append(f"--{option} {value}")
    return " ".join([*words, f"--seed {seed}"])
