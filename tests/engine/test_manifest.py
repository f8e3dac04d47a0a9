"""What a run says that it rests on."""

import hashlib
import platform
from pathlib import Path

import pytest

from trialtwin.core.errors import MachineError
from trialtwin.engine.manifest import file_digest, installed_packages, lock_digest, platform_facts, program_digest


def test_independent_file_digest(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_file_that_cannot_be_read_is_an_error_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot read a"):
        file_digest(tmp_path / "a")


def test_the_lock_holds_what_is_installed() -> None:
    packages = installed_packages()
    assert {"trialtwin", "jax", "numpy", "scipy"} <= packages.keys()
    assert list(packages) == sorted(packages)
    lines = "\n".join(f"{name}=={version}" for name, version in packages.items())
    assert lock_digest() == hashlib.sha256(lines.encode()).hexdigest()


def test_the_program_has_one_digest() -> None:
    assert program_digest() == program_digest()
    assert len(program_digest()) == 64


def test_the_platform_names_no_host() -> None:
    facts = platform_facts()
    assert facts["python"] == platform.python_version()
    assert platform.node() not in facts.values()
