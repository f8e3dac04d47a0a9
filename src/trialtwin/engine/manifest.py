"""What a run rests on: hashes of files, of the program itself, and of the packages that are installed."""

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from trialtwin.core.errors import MachineError


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    MachineError
        If it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise MachineError(f"cannot read {path.name}: {error.strerror or error}", where=str(path.parent)) from error


@cache
def program_digest() -> str:
    """Return the SHA-256 over every file of the installed trialtwin, names and contents."""
    root = Path(__file__).resolve().parents[1]
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            sha.update(path.relative_to(root).as_posix().encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()


@cache
def installed_packages() -> dict[str, str]:
    """Return every installed distribution with its version, sorted by name."""
    found = {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(found.items()))


def lock_digest() -> str:
    """Return the SHA-256 of the installed packages, one ``name==version`` a line: the lock that the run had."""
    lines = "\n".join(f"{name}=={version}" for name, version in installed_packages().items())
    return hashlib.sha256(lines.encode()).hexdigest()


def platform_facts() -> dict[str, str]:
    """Return Python's version and the kind of machine; no name of a host or a user."""
    return {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
