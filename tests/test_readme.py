"""The README is true: its commands exist, and its Python runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trialtwin.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"trialtwin ([a-z]+)\b", TEXT))
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert known <= named
    assert named <= known


def test_every_file_that_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).is_file(), target


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert code is not None
    script = code.group(1) + "\nassert score.shape == (250,)\n"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
