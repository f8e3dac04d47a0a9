"""The commands that describe a trial and simulate it before it is run; imported only once they run."""

import shlex
from pathlib import Path
from typing import Any

import typer

from trialtwin.cli.commands import emit, interruptible
from trialtwin.cli.progress import SilentProgress, TerminalProgress, waiting
from trialtwin.core.files import write_bytes
from trialtwin.core.finding import Verdict
from trialtwin.study.power.spec import EXAMPLE, PowerSpec, load_power


def check_or_write(path: Path, *, as_json: bool) -> None:
    """Write an example page where there is none; else check the page and say what it describes."""
    new = not path.exists()
    if new:
        write_bytes(path, EXAMPLE.encode())
    spec = load_power(path)
    plan, months = spec.design, spec.design.months()
    content = {
        "file": str(path),
        "written": new,
        "title": plan.title,
        "arms": dict(zip(plan.names, plan.sizes(), strict=True)),
        "visits": list(plan.visits),
        "estimand": plan.estimand().model_dump(mode="json"),
        "months": months,
        "scenarios": spec.scenarios,
        "trials": spec.trials,
    }
    if as_json:
        emit(content)
        return
    sizes = ", ".join(f"{name} {n}" for name, n in zip(plan.names, plan.sizes(), strict=True))
    lines = [
        f"{'Wrote' if new else 'Checked'} {path}: {plan.title}",
        f"  {plan.patients} patients ({sizes}), visits on days {', '.join(f'{day:g}' for day in plan.visits)}",
        f"  {plan.estimand()}",
    ]
    if months is not None:
        lines.append(f"  {months:.1f} months from the first patient in to the last visit of the last")
    lines.append(f"  {spec.scenarios} scenarios, {spec.trials} trials each: trialtwin power {shlex.quote(str(path))}")
    typer.echo("\n".join(lines))


def simulate_design(
    page: Path, out: Path, trials: int | None, seed: int | None, *, where: dict[str, Any], as_json: bool
) -> None:
    """Simulate a design and say what it will do."""
    spec = load_power(page)
    changed = {name: value for name, value in (("trials", trials), ("seed", seed)) if value is not None}
    spec = PowerSpec.model_validate(spec.model_dump() | changed)
    with waiting("Loading", silent=as_json):
        from trialtwin.report.html import render
        from trialtwin.study.power.run import run_power

    command = f"trialtwin power {shlex.quote(page.name)} --trials {spec.trials} --seed {spec.seed}"
    with interruptible(), SilentProgress() if as_json else TerminalProgress() as progress:
        progress.begin("power")
        options = {"on_chunk": progress.advance, "command": command, "base": page.parent, **where}
        done = run_power(spec, out / spec.id, render=render, **options)
        progress.end("power", ran=True)
    lines = list(done.dossier.summary)
    failed = [finding.title for finding in done.dossier.findings if finding.verdict is Verdict.FAIL]
    if as_json:
        rows = done.rows.to_dicts()
        emit({"folder": str(done.folder), "report": str(done.report), "summary": lines, "failed": failed, "rows": rows})
    else:
        typer.echo("\n".join(["", *(f"• {line}" for line in lines), "", f"Report: {done.report}"]))
    if failed:
        raise typer.Exit(1)


def write_simulated(
    page: Path,
    out: Path,
    *,
    truth: str | None,
    twin: dict[str, float | None],
    trial: int,
    suffix: str,
    seed: int | None,
    as_json: bool,
) -> None:
    """Simulate one trial of a page and write its data sets."""
    spec = load_power(page)
    spec = spec if seed is None else PowerSpec.model_validate(spec.model_dump() | {"seed": seed})
    with waiting("Simulating the trial", silent=as_json):
        from trialtwin.study.power.simulate import NOTE, write_trial

        chosen = {name: value for name, value in twin.items() if value is not None}
        folder = out / spec.id / f"trial-{trial}"
        ending = f".{suffix.removeprefix('.')}"
        done = write_trial(spec, folder, truth=truth, twin=chosen, trial=trial, suffix=ending, base=page.parent)
    if as_json:
        emit({"folder": str(done.folder), "files": [str(path) for path in done.files], "note": done.note})
        return
    counts = ", ".join(f"{name} {n}" for name, n in done.note["patients"].items())
    lines = [
        f"Trial {trial} of {done.note['scenario']!r}, seed {spec.seed}: {counts}; {done.note['completed']} completed",
        *(f"  {path}" for path in (*done.files, done.folder / NOTE)),
    ]
    typer.echo("\n".join(lines))
