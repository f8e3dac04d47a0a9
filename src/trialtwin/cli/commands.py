"""What each command does; imported only once a command runs.

Fitting and drawing take seconds to import: what only some commands need is imported by those commands.
"""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from trialtwin.cli.progress import SilentProgress, TerminalProgress, waiting
from trialtwin.core.dossier import Dossier
from trialtwin.core.errors import ConfigError, InterruptedRunError
from trialtwin.core.files import write_bytes
from trialtwin.core.finding import Finding, Verdict
from trialtwin.study.example import example_study, make_example
from trialtwin.study.init import fill_in
from trialtwin.study.load import load_study
from trialtwin.study.prepare import read_history, read_study
from trialtwin.study.review import compare_studies, review
from trialtwin.study.spec import StudySpec


def run_file(study: Path, data: Path, out: Path, seed: int | None, *, as_json: bool) -> None:
    """Run a study file."""
    spec = _seeded(load_study(study), seed)
    command = f"trialtwin run {shlex.quote(study.name)} --data DATA --seed {spec.study.seed}"
    with interruptible():
        _run(spec, study.parent, data, out / spec.study.id, command, as_json=as_json)


def run_demo(out: Path, seed: int | None, patients: int, *, as_json: bool) -> None:
    """Simulate the example trial and run it."""
    spec = _seeded(example_study(), seed)
    folder = out / spec.study.id
    command = f"trialtwin demo --seed {spec.study.seed} --patients {patients}"
    with interruptible():
        with waiting("Simulating the example trial", silent=as_json):
            data = make_example(folder / "data", seed=spec.study.seed, patients=patients)
        _run(spec, folder, data, folder, command, as_json=as_json)


def write_study(path: Path, data: Path | None, paramcd: str | None, *, as_json: bool) -> None:
    """Write a study file to edit."""
    if path.exists():
        raise ConfigError(f"{path} exists already", do="give another name: it is not overwritten")
    text = fill_in(data, paramcd)
    write_bytes(path, text.encode())
    words = f"Wrote {path}. Edit it, then: trialtwin check {path} --data {data or 'FOLDER'}"
    _print({"study": str(path)}, words, as_json=as_json)


def check_data(study: Path, data: Path, *, as_json: bool) -> None:
    """Judge whether the data are fit to use."""
    spec = load_study(study)
    with interruptible(), waiting("Reading and checking the data", silent=as_json):
        found = review(read_study(spec, data))
    if as_json:
        emit({"fit": found.fit, "score": found.score, "findings": [_plain(f) for f in found.findings]})
    else:
        _print_findings(found.findings)
        typer.echo(f"Score of the data: {found.score:.1f} of 100. {'Fit' if found.fit else 'NOT fit'} to use.")
    if not found.fit:
        raise typer.Exit(1)


def compare_versions(study: Path, data: Path, other: Path, *, as_json: bool) -> None:
    """List where two versions of the data sets differ."""
    spec = load_study(study)
    with interruptible(), waiting("Reading and comparing the data", silent=as_json):
        found = compare_studies(read_study(spec, data), read_study(spec, other))
    if as_json:
        emit({"same": all(f.verdict is Verdict.PASS for f in found), "findings": [_plain(f) for f in found]})
    else:
        _print_findings(found, tables=True)
    if any(finding.verdict is Verdict.FAIL for finding in found):
        raise typer.Exit(1)


def write_report_again(folder: Path, *, as_json: bool) -> None:
    """Write the report of a finished run again."""
    source = folder / "dossier.json"
    if not source.is_file():
        raise ConfigError(
            f"no finished run in {folder}",
            where="dossier.json is not there",
            do="give the folder of a run, such as runs/demo",
        )
    from trialtwin.report.html import render

    try:
        dossier = Dossier.model_validate_json(source.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{source} is not a dossier of this version", do="run the study again") from error
    write_bytes(folder / "report.html", render(dossier).encode())
    _print({"report": str(folder / "report.html")}, f"Report: {folder / 'report.html'}", as_json=as_json)


def print_schema(path: Path | None) -> None:
    """Print the JSON Schema of the study file."""
    text = json.dumps(StudySpec.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
    if path is None:
        typer.echo(text, nl=False)
    else:
        write_bytes(path, text.encode())


def _run(spec: StudySpec, base: Path, data: Path, folder: Path, command: str, *, as_json: bool) -> None:
    """Run a study and say what came of it; bad input is refused before anything slow is imported or written."""
    with waiting("Reading the data", silent=as_json):
        prepared = read_study(spec, data)
        prepared.require_usable()
        history = None if spec.scoring.history is None else read_history(spec, base / spec.scoring.history)
    with waiting("Loading the twins", silent=as_json):
        from trialtwin.report.html import render
        from trialtwin.study.run import run_study

    with SilentProgress() if as_json else TerminalProgress() as progress:
        done = run_study(prepared, folder, render=render, progress=progress, command=command, history=history)
    failed = [finding.title for finding in done.dossier.findings if finding.verdict is Verdict.FAIL]
    lines = list(done.dossier.summary)
    content = {"folder": str(done.folder), "report": str(done.report), "summary": lines, "failed": failed}
    _print(content, "\n".join(["", *(f"• {line}" for line in lines), "", f"Report: {done.report}"]), as_json=as_json)


def _seeded(spec: StudySpec, seed: int | None) -> StudySpec:
    """Return a study with another seed, where one was given."""
    if seed is None:
        return spec
    return spec.model_copy(update={"study": spec.study.model_copy(update={"seed": seed})})


def _print_findings(findings: tuple[Finding, ...] | list[Finding], *, tables: bool = False) -> None:
    """Print findings, a line each; with ``tables`` their rows too."""
    for finding in findings:
        typer.echo(f"{finding.verdict.upper():<5} {finding.title}: {finding.text}")
        if finding.table is not None and (tables or finding.verdict is Verdict.FAIL):
            typer.echo("      " + " | ".join(column.heading for column in finding.table.columns))
            for row in finding.table.rows:
                typer.echo("      " + " | ".join("" if cell is None else str(cell) for cell in row))


def _plain(finding: Finding) -> dict[str, Any]:
    return finding.model_dump(mode="json", exclude={"figure"})


def _print(content: dict[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        emit(content)
    else:
        typer.echo(words)


def emit(content: dict[str, Any]) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(content, ensure_ascii=False))


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C into an error of ours, with its own exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "stopped by the user", do="run the same command again: finished steps are not repeated"
        ) from None
