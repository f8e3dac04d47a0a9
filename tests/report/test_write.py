"""A report is written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from trialtwin.core.dossier import Dossier, Section
from trialtwin.core.errors import MachineError
from trialtwin.report.html import render, write_report

SMALL = Dossier(title="T", sections=[Section(id="s", title="S")])


def test_the_file_holds_the_page(tmp_path: Path) -> None:
    path = write_report(SMALL, tmp_path / "report.html")
    assert path.read_bytes() == render(SMALL).encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(SMALL, path)
    assert path.read_text().startswith("<!doctype html>")


def test_a_full_disk_leaves_the_old_report_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left on device"):
        write_report(SMALL, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_report(SMALL, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_an_error_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write report") as caught:
        write_report(SMALL, tmp_path / "nowhere" / "report.html")
    assert "nowhere" in str(caught.value)
