"""Every error that trialtwin raises on purpose, as one tree.

::

    TrialTwinError            exit code 1
      ConfigError             2   a study file or a command line that cannot be understood
      DataError               3   a file or a table that cannot be what it says it is
        MismatchError         3   a name that does not exist; the message lists those that do
      FitError                4   a model that cannot be fitted to these data
        ConvergenceError      4   an optimiser or a solver that stopped short of its tolerance
      MachineError            5   the machine: disk full, no permission, a run already in progress
      InterruptedRunError   130   Ctrl-C; what is on disk is whole and the run can be resumed

Each message says what is wrong, where, what exists instead, and what to do. Scripts read the exit code.
"""

from collections.abc import Iterable


class TrialTwinError(Exception):
    """Base of the tree: what is wrong, where, what exists, and what to do about it.

    Parameters
    ----------
    what
        One sentence that says what is wrong.
    where
        File, row, key or subject at which it was found.
    exists
        Names that would have been accepted.
    do
        The next step for the person who reads the message.

    Examples
    --------
    >>> print(TrialTwinError("no such arm: 'Placbo'", where="[arms] control", exists=["Placebo", "High"]))
    no such arm: 'Placbo'
      where: [arms] control
      exists: Placebo, High
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str | None = None, exists: Iterable[str] = (), do: str | None = None
    ) -> None:
        self.what = what
        self.where = where
        self.exists = tuple(exists)
        self.do = do
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if self.exists:
            lines.append(f"  exists: {_shorten(self.exists)}")
        if do:
            lines.append(f"  do: {do}")
        super().__init__("\n".join(lines))


class ConfigError(TrialTwinError):
    """A study file or a command line that cannot be understood."""

    exit_code = 2


class DataError(TrialTwinError):
    """A file or a table that cannot be what it says it is."""

    exit_code = 3


class MismatchError(DataError):
    """A name that does not exist where it was asked for."""


class FitError(TrialTwinError):
    """A model that cannot be fitted to, or asked about, these data."""

    exit_code = 4


class ConvergenceError(FitError):
    """An optimiser or a solver that stopped short of its tolerance: an error, never a number."""


class MachineError(TrialTwinError):
    """The machine stands in the way: disk full, no permission, a run already in progress."""

    exit_code = 5


class InterruptedRunError(TrialTwinError):
    """The user stopped the run; what is on disk is whole, and the same command resumes it."""

    exit_code = 130


def _shorten(names: tuple[str, ...], most: int = 20) -> str:
    """Join names, and say how many were left out where there are too many to read."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names) - most} more)"
