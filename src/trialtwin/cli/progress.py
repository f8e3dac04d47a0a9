"""Progress on the terminal: a line a step, with a bar where a step has parts."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

_WORDS = {
    "check": "Checking the data",
    "validate": "Judging the twins on unseen patients",
    "analyse": "Analysing the trial",
    "compose": "Putting the dossier together",
    "report": "Writing the report",
    "treat": "Treating the patients",
    "calibrate": "Calibrating: derivatives of every readout",
    "leave one out": "Calibrating without each trial",
    "replay": "Foretelling trials",
    "compare": "Fitting and judging twins",
    "power": "Simulating trials",
}


@contextmanager
def waiting(words: str, *, silent: bool = False) -> Iterator[None]:
    """Show on stderr what is being waited for, while it lasts."""
    if silent:
        yield
        return
    with Console(stderr=True).status(words):
        yield


class TerminalProgress:
    """Shows steps on stderr; use as a context manager."""

    def __init__(self) -> None:
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "TerminalProgress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, step: str) -> None:
        """Note that a step begins."""
        words = _WORDS.get(step) or step.replace("fit ", "Fitting the twin ")
        self._task = self._bars.add_task(words, total=None)

    def advance(self, done: int, total: int) -> None:
        """Note how far the present step is."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total)

    def end(self, step: str, *, ran: bool) -> None:
        """Note that a step has ended."""
        del step
        if self._task is not None:
            task = self._bars.tasks[self._task]
            words = task.description if ran else f"{task.description} (from the earlier run)"
            self._bars.update(self._task, description=words, completed=task.total or 1, total=task.total or 1)
            self._bars.stop_task(self._task)


class SilentProgress:
    """Shows nothing; for output that programs read."""

    def __enter__(self) -> "SilentProgress":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def begin(self, step: str) -> None:
        """Show nothing."""

    def advance(self, done: int, total: int) -> None:
        """Show nothing."""

    def end(self, step: str, *, ran: bool) -> None:
        """Show nothing."""
