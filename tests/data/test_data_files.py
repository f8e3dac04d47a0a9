"""Files are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialtwin.core.cohort import Doses
from trialtwin.core.errors import DataError, MachineError
from trialtwin.core.files import replacing, write_bytes
from trialtwin.data.cdisc import write_dataset
from trialtwin.data.dataset import DataSet, Field, Storage
from trialtwin.data.files import read_bytes
from trialtwin.data.nonmem import write_doses

SUFFIXES = (".xpt", ".json", ".ndjson", ".csv", ".parquet")


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let the system refuse every byte of a file beyond a size, as a full disk does."""
    resource = pytest.importorskip("resource", reason="needs file size limits of a POSIX system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def large() -> DataSet:
    fields = (Field("USUBJID", Storage.CHAR), Field("AVAL", Storage.NUM))
    frame = pl.DataFrame({"USUBJID": [f"{i:06}" for i in range(5000)], "AVAL": [i / 7 for i in range(5000)]})
    return DataSet("ADQS", fields, frame)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    with full_disk(4096), pytest.raises(MachineError, match="cannot write adqs"):
        write_dataset(large(), tmp_path / f"adqs{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_leaves_the_file_that_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"adqs{suffix}"
    write_dataset(large(), path)
    before = path.read_bytes()
    with full_disk(4096), pytest.raises(MachineError):
        write_dataset(large(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_folder_is_the_machines_fault_and_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MachineError, match="cannot write adqs"):
        write_dataset(large(), tmp_path / "nowhere" / f"adqs{suffix}")


def test_full_disk_leaves_no_dose_records_behind(tmp_path: Path) -> None:
    n = 5000
    zeros = np.zeros(n, dtype=np.int64)
    doses = Doses(zeros, np.arange(n, dtype=float), np.ones(n), np.zeros(n), zeros + 1)
    with full_disk(4096), pytest.raises(MachineError, match="cannot write doses"):
        write_doses(doses, ("1",), tmp_path / "doses.csv", unit="days")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with replacing(tmp_path / "a") as draft:
            draft.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(MachineError, match="cannot write a"):
        write_bytes(tmp_path / "a", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_reading_gives_the_hash_of_what_was_read(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc")
    content, sha256 = read_bytes(tmp_path / "a")
    assert content == b"abc"
    assert sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_unreadable_file_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(MachineError, match="Permission denied"):
        read_bytes(tmp_path / "a")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match="0 bytes"):
        read_bytes(tmp_path / "a")
