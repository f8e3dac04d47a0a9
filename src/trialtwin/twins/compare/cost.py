"""What a piece of work costs: seconds, and how far it raised the memory of the process."""

import ctypes
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.01  # seconds between two looks at memory
_STATM = Path("/proc/self/statm")


@dataclass
class Cost:
    """Seconds by the clock, and MiB that memory rose above where it stood at the start."""

    seconds: float = 0.0
    mebibytes: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the work done inside.

    Memory is what the process holds (resident set), looked at every 10 ms by a thread, after what earlier work freed
    has been given back to the system: reused, it would hide a rise. Where the system does not tell the resident set,
    the highest that it ever was stands in, which misses a rise below an earlier peak.

    Examples
    --------
    >>> with measured() as cost:
    ...     numbers = list(range(1000))
    >>> cost.seconds > 0
    True
    """
    cost, done = Cost(), threading.Event()
    _give_back()
    start, clock = _resident(), time.perf_counter()
    highest = start

    def watch() -> None:
        nonlocal highest
        while not done.wait(INTERVAL):
            highest = max(highest, _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - clock
        done.set()
        watcher.join()
        cost.mebibytes = (max(highest, _resident()) - start) / 2**20


def _give_back() -> None:
    """Give freed memory that the C library keeps back to the system, where the library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident() -> int:
    """Return the bytes of memory that the process holds now."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
