"""Drugs by name: every file in ``library``, or the path of a file of the user's own."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from trialtwin.core.errors import MismatchError
from trialtwin.drugs.drug import Drug, parse_drug, read_drug


def _library() -> dict[str, str]:
    folder = files("trialtwin.drugs").joinpath("library")
    return {file.name.removesuffix(".toml"): str(file) for file in folder.iterdir() if file.name.endswith(".toml")}


DRUGS: tuple[str, ...] = tuple(sorted(_library()))


@cache
def _of_library(name: str) -> Drug:
    file = files("trialtwin.drugs").joinpath("library", f"{name}.toml")
    return parse_drug(file.read_text(encoding="utf-8"), where=f"library/{name}.toml")


def find_drug(name: str | Path) -> Drug:
    """Return a drug by its name in the library, or by the path of its file.

    Raises
    ------
    MismatchError
        If there is no drug of that name, with those that there are.
    ConfigError
        If its file has a mistake, with the line.

    Examples
    --------
    >>> find_drug("donanemab").page.regimen
    '700 mg over 30min q4w x 3 then 1400 mg over 30min q4w'
    """
    if isinstance(name, Path) or str(name).endswith(".toml"):
        return read_drug(name)
    if name not in DRUGS:
        raise MismatchError(
            f"no drug {name!r}", exists=DRUGS, do="choose one of these, or give the path of a drug file (.toml)"
        )
    return _of_library(name)
