"""The command that qualifies an installation; imported only once it runs."""

from dataclasses import asdict
from pathlib import Path

import typer

from trialtwin.cli.commands import emit
from trialtwin.cli.progress import waiting
from trialtwin.core.files import write_bytes
from trialtwin.study.qualify import Checked, environment, qualify


def qualify_installation(file: Path, *, as_json: bool) -> None:
    """Compute what is known, say whether it agrees, and write the table to file."""
    with waiting("Computing numbers that are known", silent=as_json):
        found = qualify()
    write_bytes(file, _page(found).encode())
    failed = [case.name for case in found if not case.passed]
    if as_json:
        emit(
            {
                "file": str(file),
                "passed": len(found) - len(failed),
                "failed": failed,
                "environment": environment(),
                "cases": [asdict(case) for case in found],
            }
        )
    else:
        typer.echo(
            f"{len(found) - len(failed)} of {len(found)} numbers agree"
            + (f"; not: {'; '.join(failed)}" if failed else "")
        )
        typer.echo(f"Table: {file}")
    if failed:
        raise typer.Exit(1)


def _page(found: list[Checked]) -> str:
    """Return the table as Markdown, with what it was computed with."""
    lines = [
        "# Installation qualification of trialtwin",
        "",
        "| number | source | expected | found | relative difference | allowed | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for case in found:
        value = case.trouble if case.found is None else f"{case.found:.10g}"
        off = "" if case.difference is None else f"{case.difference:.1e}"
        verdict = "pass" if case.passed else "**FAIL**"
        lines.append(
            f"| {case.name} | {case.source} | {case.expected:.10g} | {value} | {off} |"
            f" {case.tolerance:.0e} | {verdict} |"
        )
    lines += ["", "| with | version |", "|---|---|", *(f"| {n} | {v} |" for n, v in environment().items())]
    return "\n".join(
        [*lines, "", "Performed by: ____________________   Date: ____________   Reviewed by: ____________________", ""]
    )
