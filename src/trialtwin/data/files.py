"""Files to be read: whole, with their hash, or with a list of what is there instead."""

import hashlib
from datetime import datetime
from pathlib import Path

from trialtwin.core.errors import DataError, MachineError

UNDATED = datetime(1970, 1, 1)  # noqa: DTZ001 - SAS transport and Dataset-JSON carry local times without a zone
"""Creation time that writers put into headers unless they are told another: same data, same bytes."""


def read_bytes(path: Path | str) -> tuple[bytes, str]:
    """Read a whole file and return its bytes and their SHA-256.

    Raises
    ------
    DataError
        If there is no such file, with the files that lie in its folder; or if it is empty.
    MachineError
        If the file cannot be read.
    """
    path = Path(path)
    require_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    if not content:
        raise DataError(f"{path.name} is empty (0 bytes)", where=str(path), do="copy or export the file again")
    return content, hashlib.sha256(content).hexdigest()


def require_file(path: Path) -> None:
    """Refuse a path that is no file, and list what lies beside it.

    Raises
    ------
    DataError
        With the names in the folder, or the nearest folder that exists.
    """
    if path.is_file():
        return
    if path.is_dir():
        raise DataError(f"{path.name} is a folder, where a file is wanted", where=str(path), exists=listing(path))
    require_folder(path.parent)
    raise DataError(
        f"no file {path.name}",
        where=str(path.parent),
        exists=listing(path.parent) or ("(nothing: the folder is empty)",),
        do="correct the name, or copy the file there",
    )


def require_folder(path: Path) -> None:
    """Refuse a path that is no folder.

    Raises
    ------
    DataError
        With the folders beside it, where there are any.
    """
    if path.is_dir():
        return
    parent = path.parent
    beside = sorted(entry.name for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []
    what = f"{path.name} is a file, where a folder is wanted" if path.is_file() else f"no folder {path.name or path}"
    raise DataError(what, where=str(parent), exists=beside, do="correct the path to the data")


def listing(folder: Path) -> list[str]:
    """Return the names of the files in a folder, sorted; hidden ones left out."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
