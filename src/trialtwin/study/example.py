"""The example trial that the project simulates itself, and its study file."""

import tomllib
from importlib.resources import files
from pathlib import Path

import orjson

from trialtwin.core.errors import MachineError
from trialtwin.core.files import write_bytes
from trialtwin.data.cdisc import write_tables
from trialtwin.data.examples.trial import generate_trial
from trialtwin.engine.manifest import file_digest, program_digest
from trialtwin.study.load import check_study
from trialtwin.study.spec import StudySpec

STUDY_FILE = "demo.toml"
RECEIPT = "generated.receipt"


def example_text() -> str:
    """Return the study file of the example trial, with its comments."""
    return files("trialtwin.study").joinpath(STUDY_FILE).read_text(encoding="utf-8")


def example_study() -> StudySpec:
    """Return the study of the example trial."""
    return check_study(tomllib.loads(example_text()), where=STUDY_FILE)


def make_example(folder: Path, *, seed: int, patients: int) -> Path:
    """Write the example trial's data sets as SAS transport files and return their folder.

    Files that the same program made from the same seed are left as they are.

    Raises
    ------
    MachineError
        If the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot make the folder of the example data: {error.strerror or error}",
            where=str(folder),
            do="give another one with --out",
        ) from error
    receipt = folder / RECEIPT
    wanted: dict[str, str | int] = {"program": program_digest(), "seed": seed, "patients": patients}
    if not _up_to_date(receipt, wanted):
        receipt.unlink(missing_ok=True)
        paths = write_tables(generate_trial(seed=seed, patients=patients), folder)
        content: dict[str, object] = {**wanted, "files": {path.name: file_digest(path) for path in paths}}
        write_bytes(receipt, orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return folder


def _up_to_date(receipt: Path, wanted: dict[str, str | int]) -> bool:
    """Tell whether the files beside a receipt are those that would be made."""
    if not receipt.is_file():
        return False
    try:
        content = orjson.loads(receipt.read_bytes())
    except orjson.JSONDecodeError:
        return False
    same = all(content.get(key) == value for key, value in wanted.items())
    return same and all(
        (receipt.parent / name).is_file() and file_digest(receipt.parent / name) == sha
        for name, sha in content.get("files", {}).items()
    )
