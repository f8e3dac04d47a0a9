"""Reading trial files, with errors that name the key, what stands there, and what could; and the trials that ship."""

import difflib
import json
import tomllib
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from trialtwin.core.errors import ConfigError
from trialtwin.study.load import explain
from trialtwin.study.replay.spec import Trial

_PACKAGE = "trialtwin.study.replay"


def load_trial(path: Path | str) -> tuple[Trial, Path]:
    """Read a trial file, or one that ships by its name, and return it with the folder that its drug files stand in.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML (with line and column), or does not describe a trial (with each key).

    Examples
    --------
    >>> trial, _ = load_trial("clarity-ad")
    >>> trial.control, [arm.drug for arm in trial.arms]
    ('placebo', ['', 'lecanemab'])
    """
    path = Path(path)
    if not path.suffix and not path.exists():
        return _shipped(path.name), Path()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the trial file {path}",
            where=getattr(error, "strerror", None) or str(error),
            exists=shipped_names(),
            do="give a file, or the name of a trial that ships",
        ) from error
    return parse_trial(text, where=str(path)), path.parent


def parse_trial(text: str, *, where: str) -> Trial:
    """Check the text of a trial file.

    Raises
    ------
    ConfigError
        Naming every key that is wrong, up to ten, and what it could be.
    """
    try:
        return Trial.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the trial file is not valid TOML: {error}", where=where, do="correct that line") from error
    except ValidationError as error:
        raise ConfigError(
            "the trial file does not describe a trial:\n" + explain(error, Trial),
            where=where,
            do="correct these keys; 'trialtwin replay --schema' prints every key with its type",
        ) from error


def shipped_names() -> tuple[str, ...]:
    """List the trials that ship, by the names of their files."""
    folder = files(_PACKAGE).joinpath("trials")
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))


def shipped_trials() -> tuple[Trial, ...]:
    """Return the trials that ship: those that the calibration rests on."""
    return tuple(_shipped(name) for name in shipped_names())


def trial_schema() -> str:
    """Return the JSON Schema of the trial file."""
    return json.dumps(Trial.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _shipped(name: str) -> Trial:
    names = shipped_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        raise ConfigError(
            f"no trial {name!r}",
            exists=names,
            do=f"did you mean {close[0]!r}?" if close else "give one of these, or the path of a trial file (.toml)",
        )
    text = files(_PACKAGE).joinpath("trials", f"{name}.toml").read_text(encoding="utf-8")
    return parse_trial(text, where=f"{name}.toml")
