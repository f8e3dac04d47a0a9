"""Whole files or none: everything is written under a temporary name and renamed."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trialtwin.core.errors import MachineError


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary name in the same folder, and rename it to ``path`` once it is complete and on the disk.

    Whatever goes wrong, the temporary file is removed and a file that was there before stays as it was.

    Raises
    ------
    MachineError
        If the disk is full, the folder is missing, or there is no permission to write.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as draft:
    ...         _ = draft.write_text("whole")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield draft
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        raise MachineError(
            f"cannot write {path.name}: {error.strerror or error}",
            where=str(path.parent),
            do="make room, correct the folder or its permissions, and run the same command again",
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a whole file under a temporary name and rename it.

    Raises
    ------
    MachineError
        As in ``replacing``.
    """
    with replacing(path) as draft:
        draft.write_bytes(content)
