"""Pieces of work for tests of executors, importable by workers."""

import os
import signal
import time
from pathlib import Path


def square(k: int) -> bytes:
    """Return k² as text."""
    return str(k * k).encode()


def slow(k: int, seconds: float) -> bytes:
    """Return k² after a while."""
    time.sleep(seconds)
    return square(k)


def killed_once(k: int, marks: str) -> bytes:
    """Kill the own process with SIGKILL at the third piece, the first time only."""
    mark = Path(marks) / "killed"
    if k == 3 and not mark.exists():
        mark.write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return square(k)


def always_killed(k: int) -> bytes:
    """Kill the own process at the second piece."""
    if k == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(k)


def fails(k: int) -> bytes:
    """Fail at the fourth piece."""
    if k == 4:
        raise KeyboardInterrupt
    return square(k)
