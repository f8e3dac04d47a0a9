"""One self-contained HTML file: no request leaves it, no script is in it, and the same dossier gives the same bytes."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trialtwin.core.dossier import Dossier
from trialtwin.core.errors import MachineError
from trialtwin.core.files import write_bytes
from trialtwin.report.numbers import MISSING, true_minus
from trialtwin.report.page import build
from trialtwin.report.typesetting import printable


def render(dossier: Dossier) -> str:
    """Return a dossier as one HTML page.

    The page forbids all network access by a Content-Security-Policy; style and figures are inside it.

    Raises
    ------
    MismatchError, DataError
        If a figure cannot be drawn from its table.

    Examples
    --------
    >>> from trialtwin.core.dossier import Section
    >>> page = render(Dossier(title="A trial", sections=[Section(id="data", title="Data")]))
    >>> page.startswith("<!doctype html>"), "://" in page
    (True, False)
    """
    environment = _environment()
    # The style sheet is a file of this package.
    style = Markup(_source(environment, "report.css"))  # noqa: S704
    return environment.get_template("report.html").render(page=build(dossier), style=style, missing=MISSING)


def write_report(dossier: Dossier, path: Path) -> Path:
    """Write a dossier's page to a file, whole or not at all, and return its path.

    Raises
    ------
    MachineError
        If the file cannot be written: no such folder, no permission, disk full. Nothing is left behind.
    """
    write_bytes(path, render(dossier).encode())
    return path


def _environment() -> Environment:
    """Return the templates' environment: everything is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("trialtwin.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["minus"] = true_minus
    return environment


def _source(environment: Environment, name: str) -> str:
    if environment.loader is None:
        raise MachineError("the report's templates are not installed", do="install trialtwin again")
    return environment.loader.get_source(environment, name)[0]


def _printable(value: Any) -> Any:
    """Let no control character into the page."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value, keep="\n\t")
