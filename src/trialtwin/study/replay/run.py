"""A replay from trial files to its report: calibrate if asked, foretell, judge, write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from trialtwin import __version__
from trialtwin.core.arrays import digest
from trialtwin.core.backend import enable_compilation_cache
from trialtwin.core.dossier import Dossier
from trialtwin.core.errors import ConfigError, MachineError
from trialtwin.core.files import write_bytes
from trialtwin.core.finding import Evidence
from trialtwin.engine.manifest import file_digest
from trialtwin.study.replay.fit import Fitted, calibrate
from trialtwin.study.replay.leave_out import LeftOutTrial, leave_one_out
from trialtwin.study.replay.parameters import NAMES, SPREADS, Calibration, Made, read_calibration, shipped_calibration
from trialtwin.study.replay.predict import Prediction, Replayed, replay
from trialtwin.study.replay.readouts import LeftOut, attach, known, read_readouts, rows_of
from trialtwin.study.replay.report import write_dossier
from trialtwin.study.replay.simulate import EngineSimulator
from trialtwin.study.replay.spec import Trial

type Render = Callable[[Dossier], str]
type Advance = Callable[[str, int, int], None]

PATIENTS = 256
SEED = 1


@dataclass(frozen=True)
class Asked:
    """What a replay was asked for."""

    trials: tuple[tuple[Trial, Path], ...]
    readouts: Path | None = None
    calibration: Path | None = None
    calibrate: bool = False
    leave_one_out: bool = False
    patients: int = PATIENTS
    seed: int = SEED


@dataclass(frozen=True)
class Outcome:
    """Where a finished replay is, and what it found."""

    folder: Path
    dossier: Dossier
    replays: tuple[Replayed, ...]

    @property
    def report(self) -> Path:
        """The report to open."""
        return self.folder / "report.html"


def run_replay(asked: Asked, folder: Path, *, render: Render, advance: Advance, command: str) -> Outcome:
    """Run a replay in a folder.

    Writes ``predictions.json`` (every number, foretold and published), ``calibration.json`` (where one was made),
    ``dossier.json`` and ``report.html``.

    Raises
    ------
    ConfigError, DataError, FitError, MachineError
        As reading, simulating and fitting raise them; nothing is written before all is done.
    """
    enable_compilation_cache()
    trials = tuple(trial for trial, _ in asked.trials)
    _require_distinct(trials)
    data = {f"{trial.id} (trial file)": digest([trial.model_dump_json()]) for trial in trials}
    left: list[LeftOut] = []
    if asked.readouts is not None:
        trials, left = attach(trials, read_readouts(asked.readouts))
        data[asked.readouts.name] = file_digest(asked.readouts)
    simulator = EngineSimulator(
        seed=asked.seed, patients=asked.patients, folders={trial.id: place for trial, place in asked.trials}
    )
    for trial in trials:
        simulator.check(trial)
    fitted: Fitted | None = None
    if asked.calibrate or asked.leave_one_out:
        start = _given(asked).vector  # where the search begins; where it ends does not depend on it
        fitted = calibrate(
            known(rows_of(trials)[0], simulator.events, simulator.entry)[0],
            simulator,
            start=start,
            progress=lambda i, n: advance("calibrate", i, n),
        )
    calibration = _given(asked) if fitted is None else kept(fitted, asked, data, command)
    held_out: list[LeftOutTrial] = []
    if asked.leave_one_out and fitted is not None:
        held_out = leave_one_out(fitted, simulator, lambda i, n: advance("leave one out", i, n))
    replays = []
    for place, trial in enumerate(trials):
        replays.append(replay(trial, simulator, calibration))
        advance("replay", place + 1, len(trials))
    evidence = Evidence(data=data, seed=asked.seed)
    assumptions = simulator.assumptions()
    dossier = write_dossier(replays, calibration, left, held_out, assumptions, evidence=evidence, command=command)
    _write(folder, dossier, render, replays, calibration if fitted is not None else None)
    return Outcome(folder, dossier, tuple(replays))


def kept(fitted: Fitted, asked: Asked, data: dict[str, str], command: str) -> Calibration:
    """Return a fit as it is kept in a file."""
    used = [row for row, chosen in zip(fitted.rows, fitted.used, strict=True) if chosen]
    return Calibration(
        values=dict(zip(NAMES, (float(v) for v in fitted.vector), strict=True)),
        covariance=tuple(tuple(float(v) for v in row) for row in fitted.covariance),
        spreads=dict(zip((s.name for s in SPREADS), (float(v) for v in fitted.spreads), strict=True)),
        made=Made(
            date=datetime.now(UTC).date().isoformat(),
            command=command,
            readouts=data,
            rows=len(used),
            trials=tuple(dict.fromkeys(row.trial.id for row in used)),
            seed=asked.seed,
            patients=asked.patients,
            software=f"trialtwin {__version__}",
        ),
    )


def _given(asked: Asked) -> Calibration:
    if asked.calibration is None:
        return shipped_calibration()
    try:
        text = asked.calibration.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the calibration {asked.calibration}", where=str(error)) from error
    return read_calibration(text, where=str(asked.calibration))


def _require_distinct(trials: Sequence[Trial]) -> None:
    names = [trial.id for trial in trials]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two trial files with the id {', '.join(twice)}", do="give each trial its own id")


def _write(
    folder: Path, dossier: Dossier, render: Render, replays: Sequence[Replayed], made: Calibration | None
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot make the folder {folder}: {error.strerror or error}", do="give another one with --out"
        ) from error
    numbers = [_plain(p) for found in replays for p in (*found.asked, *found.published)]
    write_bytes(folder / "predictions.json", orjson.dumps(numbers, option=orjson.OPT_INDENT_2))
    if made is not None:
        write_bytes(folder / "calibration.json", made.model_dump_json(indent=1).encode())
    write_bytes(folder / "dossier.json", dossier.model_dump_json(indent=1).encode())
    write_bytes(folder / "report.html", render(dossier).encode())


def _plain(p: Prediction) -> dict[str, object]:
    """Return a prediction as a row for other programs."""
    r = p.row.readout
    low, high = p.interval()
    return {
        "trial": p.row.trial.id,
        "arm": p.row.arm.name,
        "population": p.row.subgroup or p.row.population,
        "endpoint": r.endpoint,
        "week": r.week,
        "stat": r.stat,
        "expected": p.expected,
        "low": low,
        "high": high,
        "sd_between": p.between,
        "sd_parameter": p.parameter,
        "se_sampling": p.sampling,
        "observed": None if np.isnan(r.value) else r.value,
        "z": p.z,
        "z_sampling": p.z_sampling,
        "use": None if np.isnan(r.value) else r.use,
    }
