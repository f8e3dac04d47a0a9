"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest

from trialtwin.core.errors import MachineError
from trialtwin.core.files import replacing, write_bytes


def test_a_written_file_stands_alone_in_its_folder(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"\x00whole")
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("a", b"\x00whole")]


def test_the_name_appears_only_once_the_content_is_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as draft:
        draft.write_bytes(b"half")
        assert not (tmp_path / "a").exists()
        assert draft.parent == tmp_path
    assert (tmp_path / "a").read_bytes() == b"half"


def _write_half(path: Path, error: BaseException) -> None:
    with replacing(path) as draft:
        draft.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_whatever_goes_wrong_the_old_file_stays_and_no_draft_is_left(tmp_path: Path, error: BaseException) -> None:
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(type(error)):
        _write_half(tmp_path / "a", error)
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("a", b"old")]


def test_a_full_disk_is_an_error_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="No space left") as caught:
        _write_half(tmp_path / "a", OSError(28, os.strerror(28)))
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write a"):
        write_bytes(tmp_path / "nowhere" / "a", b"x")
