"""Published numbers as rows to hold a forecast against: what each is, what it may inform, what is left out.

A row of a table is matched to a trial by name or alias, and to its arm likewise. What is not modelled is listed with
the reason, never dropped.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from trialtwin.core.errors import DataError
from trialtwin.study.load import explain
from trialtwin.study.replay.endpoints import Endpoint, canonical, endpoint
from trialtwin.study.replay.entry import Entry
from trialtwin.study.replay.observe import SUBGROUPS, members
from trialtwin.study.replay.spec import Arm, Readout, Trial

MAIN = "all"
_MAIN_NAMES = (MAIN, "combined", "overall", "ITT", "mITT")
COLUMNS = ("trial", "arm", "population", "endpoint", "visit_wk", "stat", "value", "se", "ci_lo", "ci_hi", "n")
_RENAMED = {"visit_wk": "week", "ci_lo": "low", "ci_hi": "high", "split": "use"}


@dataclass(frozen=True)
class Row:
    """A published number that is modelled: its trial, arm, and which virtual patients it is about.

    ``population`` is the table of baseline that the patients come from, ``subgroup`` a selection among them, ``""``
    for all of them.
    """

    trial: Trial
    readout: Readout
    endpoint: Endpoint
    arm: Arm
    against: Arm
    population: str
    subgroup: str

    @property
    def treated(self) -> bool:
        """Whether the arm was given a drug."""
        return bool(self.arm.drug)

    @property
    def difference(self) -> bool:
        """Whether the number compares two arms."""
        return self.readout.stat not in ("change", "proportion")

    @property
    def words(self) -> str:
        """Name it on one line."""
        r = self.readout
        who = "" if self.population == MAIN and not self.subgroup else f", {self.subgroup or self.population}"
        return f"{r.endpoint}, week {r.week:g}, {self.arm.name}{who}"


@dataclass(frozen=True)
class LeftOut:
    """A published number that is not modelled, and why."""

    trial: str
    readout: Readout
    reason: str


def read_readouts(path: Path) -> list[tuple[str, Readout]]:
    """Read a table of readouts (CSV with the columns trial, arm, population, endpoint, visit_wk, stat, value, …).

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, or a row does not describe a readout; the message names the row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the readouts {path}", where=str(error), do="give a CSV file") from error
    table = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise DataError(f"the readouts lack {', '.join(missing)}", where=str(path), exists=table.fieldnames or ())
    found = []
    for line, cells in enumerate(table, start=2):
        content = {_RENAMED.get(key, key): cell.strip() for key, cell in cells.items() if key and cell and cell.strip()}
        trial = content.pop("trial", "")
        try:
            readout = Readout.model_validate(content)
        except ValidationError as error:
            raise DataError(
                "a row that is no readout:\n" + explain(error, Readout),
                where=f"{path}, line {line}",
                do="correct it; columns are described in docs/replay.md",
            ) from error
        if not math.isfinite(readout.value):
            raise DataError(
                f"a row without a number: value is {readout.value:g}",
                where=f"{path}, line {line}",
                do="leave the row out, or give its number",
            )
        found.append((trial, readout))
    return found


def attach(trials: Sequence[Trial], table: Iterable[tuple[str, Readout]]) -> tuple[tuple[Trial, ...], list[LeftOut]]:
    """Give trials the readouts of a table instead of their own, and list the rows that belong to none of them."""
    rows: dict[str, list[Readout]] = {trial.id: [] for trial in trials}
    left = []
    for name, readout in table:
        named = [trial for trial in trials if name == trial.id or name in trial.aliases]
        owner = next((trial for trial in named if trial.arm(readout.arm) is not None), None)
        if owner is not None:
            rows[owner.id].append(readout)
        else:
            reason = f"no arm {readout.arm!r} in the trial file" if named else "no trial file"
            left.append(LeftOut(name, readout, reason))
    return tuple(trial.model_copy(update={"readouts": tuple(rows[trial.id])}) for trial in trials), left


def rows_of(trials: Sequence[Trial]) -> tuple[list[Row], list[LeftOut]]:
    """Return the readouts of trials that are modelled, and those that are not with the reason."""
    rows, left = [], []
    for trial in trials:
        for readout in trial.readouts:
            what, arm = endpoint(readout.endpoint), trial.arm(readout.arm)
            population, subgroup = _who(trial, readout.population)
            reason = ""
            if what is None:
                reason = "endpoint not modelled"
            elif arm is None:
                reason = f"no arm {readout.arm!r} in the trial file"
            elif population is None:
                reason = f"no population {readout.population!r} in the trial file, and no subgroup of that name"
            elif (readout.stat == "proportion") != (what.kind in ("negative", "aria")):
                reason = f"stat {readout.stat!r} does not go with {what.name}"
            elif readout.stat not in ("change", "proportion") and trial.counterpart(arm).name == arm.name:
                reason = "a difference of the control arm"
            if reason or what is None or arm is None or population is None:
                left.append(LeftOut(trial.id, readout, reason))
            else:
                rows.append(Row(trial, readout, what, arm, trial.counterpart(arm), population, subgroup))
    return rows, left


def known(
    rows: Sequence[Row],
    events: Callable[[Trial, Arm], frozenset[str]],
    entry: Callable[[Trial, str, Arm], Entry],
) -> tuple[list[Row], list[LeftOut]]:
    """Leave out ARIA of a kind of which the drug's file says nothing, and subgroups that nobody belongs to."""
    kept, left = [], []
    for row in rows:
        name, reason = row.endpoint.name, ""
        if row.endpoint.kind == "aria" and name not in events(row.trial, row.arm):
            reason = f"no risk of {name} in the drug's file"
        elif empty := _without_members(row, entry):
            reason = f"no virtual patient of arm {empty!r} is {row.subgroup!r}"
        if reason:
            left.append(LeftOut(row.trial.id, row.readout, reason))
        else:
            kept.append(row)
    return kept, left


def _without_members(row: Row, entry: Callable[[Trial, str, Arm], Entry]) -> str:
    """Return the first arm behind a row in which nobody belongs to its subgroup; empty where there is none."""
    for arm in (row.arm,) if row.readout.stat == "proportion" else (row.arm, row.against):
        chosen = members(entry(row.trial, row.population, arm), row.subgroup)
        if chosen is not None and not chosen.any():
            return arm.name
    return ""


def informs(row: Row) -> bool:
    """Tell whether a row takes part in a calibration.

    Its ``use`` must say so, and for that endpoint. It must be randomised evidence; it must not be implied by rows that
    take part (the change on treatment where placebo's change and the difference are there), nor be a second analysis
    of the same data (CDR-SB by NCS2 beside MMRM).
    """
    use, r = row.readout.use, row.readout
    if not use.startswith("calibration") or r.stat in ("diff_vs_external", "relative_slowing"):
        return False
    about, kind = use.removeprefix("calibration"), row.endpoint.kind
    if "amyloid" in about and (kind not in ("amyloid", "negative") or ("natural history" in about and row.treated)):
        return False
    if "placebo" in about and row.treated:
        return False
    if "safety" in about or kind == "aria":
        return False
    others = [q for q in row.trial.readouts if (q.arm, q.population, q.week) == (r.arm, r.population, r.week)]
    if r.endpoint.endswith("(NCS2)") and any(
        q.endpoint != r.endpoint and canonical(q.endpoint) == row.endpoint.name for q in others
    ):
        return False
    implied = any(q.stat == "diff_vs_placebo" and q.endpoint == r.endpoint for q in others)
    return not (r.stat == "change" and row.treated and implied)


def _who(trial: Trial, name: str) -> tuple[str | None, str]:
    """Return the table of baseline and the selection that a population's name means."""
    if name in _MAIN_NAMES:
        return MAIN, ""
    if trial.subpopulation(name) is not None:
        return name, ""
    return (MAIN, name) if name in SUBGROUPS else (None, "")
