"""The command that treats patients with candidate drugs; imported only once it runs."""

import tomllib
from pathlib import Path
from typing import Any

import typer

from trialtwin.cli.commands import emit, interruptible
from trialtwin.cli.progress import SilentProgress, TerminalProgress, waiting
from trialtwin.core.errors import ConfigError
from trialtwin.study.treat.spec import Candidate, TreatSpec, make_spec, parse_candidate, treat_schema


def print_treat_schema() -> None:
    """Print the JSON Schema of a question."""
    typer.echo(treat_schema(), nl=False)


def treat_patients(
    question: Path | None,
    *,
    patients: Path | None,
    population: int,
    drugs: list[str],
    weights: list[str],
    options: dict[str, Any],
    cards: list[str],
    out: Path,
    as_json: bool,
) -> None:
    """Answer a question, and say what came of it."""
    spec = read_question(question, drugs, weights, options)
    folder = question.parent if question else None
    with waiting("Loading the engine", silent=as_json):
        from trialtwin.report.html import render
        from trialtwin.study.treat.patients import read_patients, virtual_patients
        from trialtwin.study.treat.run import ask, require_patients, treat, write
    asked = ask(spec, folder)
    if patients is not None:
        cohort = read_patients(patients, asked.disease, asked.also)
    else:
        cohort = virtual_patients(population, asked.disease, asked.also, seed=spec.seed)
    require_patients(cards, cohort)
    who = f"--patients {patients.name}" if patients else f"--population {population}"
    command = f"trialtwin treat {question.name if question else '…'} {who} --seed {spec.seed}"
    with interruptible(), SilentProgress() if as_json else TerminalProgress() as progress:
        progress.begin("treat")
        done = treat(asked, cohort, advance=progress.advance, command=command)
        progress.end("treat", ran=True)
        report, written = write(asked, done, out / "treat", render=render, cards=cards or None)
    lines = list(done.dossier.summary)
    if as_json:
        emit({"report": str(report), "cards": [str(path) for path in written], "summary": lines})
    else:
        typer.echo("\n".join(["", *(f"• {line}" for line in lines), "", f"Report: {report}"]))
        typer.echo(f"Cards:  {len(written)} in {report.parent / 'cards'}")


def read_question(path: Path | None, drugs: list[str], weights: list[str], options: dict[str, Any]) -> TreatSpec:
    """Return the question of a file, or of the command line, where the command line wins.

    Raises
    ------
    ConfigError
        If the file cannot be read, nothing is asked, or a key is not what it must be.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}", do="give a TOML file, or --drug") from error
        given = content.get("candidates", [])
        if isinstance(given, list):
            content["candidates"] = [parse_candidate(one) if isinstance(one, str) else one for one in given]
    if drugs:
        found: list[Candidate] = [parse_candidate(text) for text in drugs]
        content["candidates"] = found
    if not content.get("candidates"):
        raise ConfigError("no candidate to treat with", do="give --drug 'lecanemab: 10 mg/kg over 1h q2w', or a file")
    content |= {key: value for key, value in options.items() if value is not None}
    if weights:
        content["weights"] = dict(_weight(text) for text in weights)
    return make_spec(**content)


def _weight(text: str) -> tuple[str, float]:
    event, equals, points = text.rpartition("=")
    try:
        if not equals:
            raise ValueError
        return event.strip(), float(points)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not a weight", where="--weight", do="write for example: --weight ARIA-E=0.5"
        ) from error
