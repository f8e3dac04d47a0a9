"""A run's folder: one writer at a time, whole files only, and a record of every step so that a run can be resumed."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from trialtwin.core.arrays import digest
from trialtwin.core.errors import MachineError
from trialtwin.core.files import write_bytes
from trialtwin.engine.manifest import file_digest, program_digest

MANIFEST = "manifest.json"
LOCK = "run.lock"


class Workspace:
    """The folder of one run.

    A step is a function that returns files by name. Its fingerprint is a hash of the program and of everything that it
    reads; a step whose fingerprint and files are as the manifest says is not run again.

    Parameters
    ----------
    folder
        Where the run's files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = self._read()

    def path(self, name: str) -> Path:
        """Return the path of one of the run's files."""
        return self.folder / name

    def step(
        self, name: str, inputs: Mapping[str, str], outputs: tuple[str, ...], work: Callable[[], Mapping[str, bytes]]
    ) -> bool:
        """Run a step unless it was run on the same inputs; return whether it ran.

        Raises
        ------
        MachineError
            If a file cannot be written; the step then counts as not run.
        """
        fingerprint = digest([program_digest(), name, *(f"{key}={value}" for key, value in sorted(inputs.items()))])
        record = self.manifest.get("steps", {}).get(name)
        if record and record["fingerprint"] == fingerprint and self._intact(record["files"], outputs):
            return False
        started, clock = datetime.now(UTC), time.perf_counter()
        produced = work()
        files = {}
        for file in outputs:
            write_bytes(self.path(file), produced[file])
            files[file] = file_digest(self.path(file))
        self.record(
            "steps",
            self.manifest.get("steps", {})
            | {
                name: {
                    "fingerprint": fingerprint,
                    "inputs": dict(inputs),
                    "files": files,
                    "started": started.isoformat(timespec="seconds"),
                    "seconds": round(time.perf_counter() - clock, 3),
                }
            },
        )
        return True

    def digest_of(self, step: str) -> str:
        """Return a hash of the files that a step left, as input of a later one."""
        files: dict[str, str] = self.manifest["steps"][step]["files"]
        return digest([f"{name}={sha}" for name, sha in sorted(files.items())])

    def record(self, key: str, value: Any) -> None:
        """Write an entry of the manifest."""
        self.manifest[key] = value
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        write_bytes(self.path(MANIFEST), orjson.dumps(self.manifest, option=options))

    def _read(self) -> dict[str, Any]:
        path = self.path(MANIFEST)
        if not path.exists():
            return {}
        try:
            content = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise MachineError(
                f"the manifest of the run cannot be read: {error}", where=str(path), do="delete the run's folder"
            ) from error
        if not isinstance(content, dict):
            raise MachineError("the manifest of the run is not one", where=str(path), do="delete the run's folder")
        return content

    def _intact(self, files: Mapping[str, str], outputs: tuple[str, ...]) -> bool:
        """Tell whether the files of a step are those that it wrote."""
        return set(files) == set(outputs) and all(
            self.path(name).is_file() and file_digest(self.path(name)) == sha for name, sha in files.items()
        )


@contextmanager
def open_workspace(folder: Path) -> Iterator[Workspace]:
    """Make the folder of a run where there is none, and keep other runs out of it meanwhile.

    Raises
    ------
    MachineError
        If the folder cannot be made, or another process is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot make the folder of the run: {error.strerror or error}",
            where=str(folder),
            do="give another one with --out",
        ) from error
    lock = folder / LOCK
    _take_lock(lock)
    try:
        yield Workspace(folder)
    finally:
        lock.unlink(missing_ok=True)


def _take_lock(lock: Path) -> None:
    """Make the lock file, taking over one whose process is gone."""
    for _ in range(2):
        try:
            with lock.open("x") as stream:
                stream.write(str(os.getpid()))
        except FileExistsError:
            owner = _owner(lock)
            if owner is not None and _alive(owner):
                raise MachineError(
                    f"another run (process {owner}) is at work in this folder",
                    where=str(lock.parent),
                    do="wait for it, stop it, or give another folder with --out",
                ) from None
            lock.unlink(missing_ok=True)
        except OSError as error:
            message = f"cannot write in the folder of the run: {error.strerror or error}"
            raise MachineError(message, where=str(lock.parent), do="give another one with --out") from error
        else:
            return
    raise MachineError("cannot take the lock of the run's folder", where=str(lock))


def _owner(lock: Path) -> int | None:
    try:
        return int(lock.read_text())
    except (OSError, ValueError):
        return None


def _alive(process: int) -> bool:
    """Tell whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
