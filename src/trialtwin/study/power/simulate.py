"""One simulated trial written down: the trial of a page that ``power`` would simulate, as data sets and a note."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from trialtwin import __version__
from trialtwin.core.errors import ConfigError, MachineError, MismatchError
from trialtwin.core.files import write_bytes
from trialtwin.data.cdisc import SUFFIXES, write_tables
from trialtwin.engine.manifest import file_digest
from trialtwin.study.power.population import Fitted
from trialtwin.study.power.run import fitted_of
from trialtwin.study.power.spec import PowerSpec
from trialtwin.study.power.tables import completed, trial_tables
from trialtwin.trials.operating import Cell
from trialtwin.trials.simulate import Trials, simulate

NOTE = "trial.json"


@dataclass(frozen=True)
class Written:
    """Where a simulated trial was written, and what the note beside it says."""

    folder: Path
    files: tuple[Path, ...]
    note: dict[str, Any]


def write_trial(
    spec: PowerSpec,
    folder: Path,
    *,
    truth: str | None,
    twin: Mapping[str, float],
    trial: int,
    suffix: str,
    base: Path | None = None,
) -> Written:
    """Simulate one trial of a page and write its data sets, with a note of the seed, the design and the truth.

    Trial k is the k-th trial that ``run_power`` simulates under that truth with that twin, patient for patient.

    Parameters
    ----------
    truth
        Name of one of the page's truths; the first if not given.
    twin
        ``rho``, ``drift`` and ``scale`` of one of the page's twins; what is not given is that of the first.
    trial
        Number of the trial, from 0.
    suffix
        ".json", ".ndjson", ".csv", ".parquet" or ".xpt".
    base
        Folder that the paths of the page start from; the current one if not given.

    Raises
    ------
    MismatchError
        If the page has no such truth or twin; the error lists those that it has.
    ConfigError
        If the trial has a negative number, or the folder holds these data sets in another format.
    DataError
        If the format is unknown, or cannot hold the data sets.
    MachineError
        If the folder cannot be written to.
    """
    if trial < 0:
        raise ConfigError(f"no trial {trial}", do="number trials from 0")
    place, cell, told = choose_cell(spec, truth, twin, fitted_of(spec, base or Path()))
    found = simulate(
        cell.design, cell.population, cell.truth, trials=range(trial, trial + 1), seed=spec.seed, cell=place
    )
    tables = trial_tables(cell.design, found, spec.id.upper())
    _require_free(folder, suffix)
    files = write_tables(tables, folder, suffix=suffix)
    note = _note(spec, cell, found, told, trial) | {"files": {path.name: file_digest(path) for path in files}}
    write_bytes(folder / NOTE, orjson.dumps(note, option=orjson.OPT_INDENT_2))
    return Written(folder, tuple(files), note)


def _note(spec: PowerSpec, cell: Cell, found: Trials, told: dict[str, float], trial: int) -> dict[str, Any]:
    """Return what is noted beside the data sets."""
    inside = found.exposure > 0
    arms = [int(((found.arm == a) & inside).sum()) for a in range(len(cell.design.arms))]
    counts = dict(zip(cell.design.names, arms, strict=True))
    return {
        "software": f"trialtwin {__version__}",
        "page": spec.id,
        "seed": spec.seed,
        "scenario": cell.name,
        "trial": trial,
        "truth": {k: list(v) if isinstance(v, tuple) else v for k, v in cell.truth._asdict().items()},
        "twin": told,
        "patients": counts,
        "completed": int((completed(cell.design, found) & inside).sum()),
        "estimand": cell.design.estimand().model_dump(mode="json"),
        "design": cell.design.model_dump(mode="json"),
    }


def choose_cell(
    spec: PowerSpec, truth: str | None, twin: Mapping[str, float], fitted: Fitted | None = None
) -> tuple[int, Cell, dict[str, float]]:
    """Return the place of a truth and a twin among the page's scenarios, the scenario, and what the twin is.

    Raises
    ------
    MismatchError
        If the page has no such truth, or no such twin.
    ConfigError
        If a twin is chosen where the page has a fitted one.
    """
    names = [one.name for one in spec.truths]
    if truth is not None and truth not in names:
        raise MismatchError(f"the page has no truth {truth!r}", exists=names)
    if fitted is not None:
        if twin:
            raise ConfigError("the page's twin is a fitted one", do=f"leave out --{next(iter(twin))}")
        place = 0 if truth is None else names.index(truth)
        _, one, cell = spec.cells(fitted)[place]
        return place, cell, one._asdict()
    for name, value in twin.items():
        have = getattr(spec.twins, name)
        if value not in have:
            raise MismatchError(
                f"the page has no twin with {name} {value:g}",
                exists=[f"{v:g}" for v in have],
                do=f"add it to [twins] {name}",
            )
    wanted = {name: float(twin.get(name, getattr(spec.twins, name)[0])) for name in ("rho", "drift", "scale")}
    for place, (what, one, cell) in enumerate(spec.cells()):
        if what.name == (truth or names[0]) and one._asdict() == wanted:
            return place, cell, wanted
    raise MismatchError("no such scenario on the page", exists=[cell.name for _, _, cell in spec.cells()])


def _require_free(folder: Path, suffix: str) -> None:
    """Refuse a folder that holds the data sets in another format: a reader would not know which to take."""
    if suffix not in SUFFIXES:
        raise ConfigError(f"no format {suffix!r}", exists=SUFFIXES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot make the folder {folder}", where=error.strerror, do="give another one with --out"
        ) from error
    others = [f.name for f in folder.glob("ad*") if f.suffix.lower() in SUFFIXES and f.suffix.lower() != suffix]
    if others:
        raise ConfigError(
            f"the folder holds data sets in another format than {suffix}",
            where=str(folder),
            exists=sorted(others),
            do="give another folder with --out, or remove these",
        )
