"""Reading a study file, with errors that name the key, what stands there, and what could."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trialtwin.core.errors import ConfigError
from trialtwin.study.spec import StudySpec

MOST_ERRORS = 10


def load_study(path: Path) -> StudySpec:
    """Read and check a study file.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML (with line and column), or does not describe a study (with each key).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the study file {path}",
            where=getattr(error, "strerror", None) or str(error),
            do="write one with: trialtwin init",
        ) from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"the study file is not valid TOML: {error}", where=str(path), do="correct that line"
        ) from error
    return check_study(content, where=str(path))


def check_study(content: dict[str, Any], *, where: str) -> StudySpec:
    """Check the content of a study file.

    Raises
    ------
    ConfigError
        Naming every key that is wrong, up to ten, and what it could be.
    """
    try:
        return StudySpec.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            "the study file does not describe a study:\n" + explain(error, StudySpec),
            where=where,
            do="correct these keys; 'trialtwin schema' prints every key with its type",
        ) from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in words what is wrong with a file that was to be a ``model``: a line a key, up to ten."""
    details = error.errors(include_url=False)
    lines = [_explain(detail, model) for detail in details[:MOST_ERRORS]]
    if len(details) > MOST_ERRORS:
        lines.append(f"and {len(details) - MOST_ERRORS} more")
    return "\n".join(f"  - {line}" for line in lines)


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """Say one error in words: the key, what is wrong, and what it could be."""
    place = detail["loc"]
    key = _key(place)
    if detail["type"] == "extra_forbidden":
        known = _siblings(place[:-1], model)
        close = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{key}: no such key; {hint}keys here: {', '.join(known)}"
    if detail["type"] == "missing":
        return f"{key}: missing; it is needed"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{key}: {message}{shown}" if key else message


def _key(place: tuple[int | str, ...]) -> str:
    """Write a place as a key: analyses[2].variance."""
    key = ""
    for part in place:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def _siblings(place: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """List the keys of the table at a place."""
    model: Any = root
    for part in place:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, BaseModel):
            model = _table(model.model_fields[part].annotation) if part in model.model_fields else None
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _table(annotation: Any) -> Any:
    """Find the model inside an annotation such as ``tuple[Model, ...]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _table(inner)
        if found is not None:
            return found
    return None
