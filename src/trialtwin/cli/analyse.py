"""The command that analyses a finished trial; imported only once it runs."""

import shlex
from pathlib import Path

import typer

from trialtwin.cli.commands import emit, interruptible
from trialtwin.cli.progress import waiting
from trialtwin.core.files import write_bytes
from trialtwin.core.finding import Verdict
from trialtwin.study.analyse.spec import example_page, load_analyse

EXAMPLE_SEED, EXAMPLE_PATIENTS = 2026, 250


def write_or_analyse(page: Path, data: Path | None, out: Path, *, as_json: bool) -> None:
    """Write an example page and its data where there is no page; else do what the page asks."""
    if page.exists():
        analyse_trial(page, data, out, as_json=as_json)
    else:
        write_example(page, as_json=as_json)


def write_example(page: Path, *, as_json: bool) -> None:
    """Write a page that analyses the example trial, and the example trial's data sets beside it."""
    with waiting("Simulating the example trial", silent=as_json):
        from trialtwin.study.example import make_example

        write_bytes(page, example_page().encode())
        spec = load_analyse(page)
        folder = make_example(page.parent / spec.data.folder, seed=EXAMPLE_SEED, patients=EXAMPLE_PATIENTS)
    command = f"trialtwin analyse {shlex.quote(str(page))}"
    if as_json:
        emit({"file": str(page), "written": True, "data": str(folder), "command": command})
    else:
        typer.echo(f"Wrote {page}, and the example trial's data sets to {folder}. Edit it, then: {command}")


def analyse_trial(page: Path, data: Path | None, out: Path, *, as_json: bool) -> None:
    """Analyse a finished trial and say what came of it."""
    spec = load_analyse(page)
    with interruptible(), waiting("Analysing", silent=as_json):
        from trialtwin.report.html import render
        from trialtwin.study.analyse.read import read_trial
        from trialtwin.study.analyse.run import run_analyse

        trial = read_trial(spec, data if data is not None else page.parent / spec.data.folder)
        command = f"trialtwin analyse {shlex.quote(page.name)}" + ("" if data is None else " --data DATA")
        done = run_analyse(trial, out / spec.id, render=render, command=command)
    lines = list(done.dossier.summary)
    failed = [finding.title for finding in done.dossier.findings if finding.verdict is Verdict.FAIL]
    if as_json:
        content = {"folder": str(done.folder), "report": str(done.report), "summary": lines, "failed": failed}
        emit(content | {"rows": done.rows})
    else:
        typer.echo("\n".join(["", *(f"• {line}" for line in lines), "", f"Report: {done.report}"]))
