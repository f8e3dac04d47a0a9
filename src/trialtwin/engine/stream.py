"""More patients than memory holds: chunks solved on all cores and written as files of Parquet, to be taken up again.

Chunks are solved by threads, as many as cores by default: JAX lets go of Python's lock while it computes. To give a
patient the same parameters in any chunk, derive a key from the patient's number:
``jax.vmap(lambda i: jax.random.fold_in(key, i))``. Files are written under temporary names and renamed; ``stream.json``
beside them says what they are.
"""

import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Array, Float, Int

from trialtwin.core.arrays import digest
from trialtwin.core.errors import ConfigError
from trialtwin.core.files import replacing, write_bytes
from trialtwin.engine.ensemble import BLOCK, solve_ensemble
from trialtwin.engine.grid import Grid
from trialtwin.engine.method import AbstractMethod, Solution
from trialtwin.engine.system import AbstractSystem

CHUNK = 16_384
SETUP = "stream.json"


class Progress(NamedTuple):
    """How far a stream is: patients whose files are on the disk, all patients, and those of them who failed."""

    done: int
    total: int
    failed: int


def stream_ensemble(
    system: AbstractSystem,
    draw: Callable[[Int[Array, " patient"]], Any],
    grid: Grid,
    method: AbstractMethod,
    folder: Path,
    *,
    patients: int,
    purpose: str,
    chunk: int = CHUNK,
    block: int = BLOCK,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Path]:
    """Solve for many patients and write their courses to Parquet, one file a chunk, on all cores.

    Each file has a row for every patient and output: ``patient``, ``time``, one column a state, ``error.<state>`` (the
    solver's guide), ``given`` (share of doses) and ``ok``; where a course was not solved, ``ok`` is false and values
    are missing. A run that was stopped is taken up by the same call; the bytes depend neither on workers nor on stops.

    Parameters
    ----------
    system, grid, method
        As in `trialtwin.engine.ensemble.solve_ensemble`; the grid is one for all patients.
    draw
        From the numbers of patients, 0 to ``patients`` − 1, to their parameters: derive keys from the numbers.
    purpose
        What makes this stream, in words that change with ``draw`` and its key; a folder of another one is refused.
    progress
        Called after each file, from the calling thread.

    Raises
    ------
    ConfigError
        If the folder holds another stream, or numbers make no sense.
    MachineError
        If the disk is full or the folder cannot be written.
    """
    if patients < 1 or chunk < 1:
        raise ConfigError(f"{patients} patients in chunks of {chunk}", do="give 1 or more of each")
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, _setup(system, grid, method, patients, chunk, purpose))
    chunks = _Chunks(system, draw, grid, method, folder, patients, chunk, block)
    files, sizes = chunks.files, chunks.sizes
    left = [row for row, file in enumerate(files) if not file.exists()]
    failed = sum(_failures(file) for row, file in enumerate(files) if row not in set(left))
    done = patients - sum(sizes[row] for row in left)
    if progress is not None:
        progress(Progress(done, patients, failed))
    for row, failures in _spread(chunks.solve, left, workers or os.cpu_count() or 1):
        done, failed = done + sizes[row], failed + failures
        if progress is not None:
            progress(Progress(done, patients, failed))
    return files


@dataclass(frozen=True, eq=False)
class _Chunks:
    """The chunks of a stream: which files they are, and how one is solved and written."""

    system: AbstractSystem
    draw: Callable[[Int[Array, " patient"]], Any]
    grid: Grid
    method: AbstractMethod
    folder: Path
    patients: int
    chunk: int
    block: int

    @property
    def files(self) -> list[Path]:
        """Files in the order of patients."""
        digits = len(str((self.patients - 1) // self.chunk))
        return [self.folder / f"patients-{i:0{digits}d}.parquet" for i in range(-(-self.patients // self.chunk))]

    @property
    def sizes(self) -> list[int]:
        """Patients in each file."""
        return [min(self.chunk, self.patients - start) for start in range(0, self.patients, self.chunk)]

    def solve(self, row: int) -> int:
        """Solve and write a chunk; return how many patients failed."""
        first = row * self.chunk
        numbers = np.arange(first, min(first + self.chunk, self.patients))
        # every chunk is as long as the first, so that one size is compiled; the last is cut
        index = np.minimum(first + np.arange(min(self.chunk, self.patients)), self.patients - 1)
        solution = solve_ensemble(self.system, self.draw(jnp.asarray(index)), self.grid, self.method, block=self.block)
        solution = jax.tree.map(lambda x: np.asarray(x)[: len(numbers)], solution)
        times = np.asarray(self.grid.times)[np.asarray(self.grid.outputs)]
        table = _table(solution, self.system.states, numbers, times)
        with replacing(self.files[row]) as draft:
            pq.write_table(table, draft, compression="zstd", compression_level=1)
        return int((~solution.ok).sum())


def _spread(work: Callable[[int], int], rows: list[int], workers: int) -> Any:
    """Yield rows and results as they are ready, with at most one chunk a worker in memory."""
    with ThreadPoolExecutor(workers) as pool:
        running: dict[Future[int], int] = {}
        waiting = iter(rows)
        try:
            while True:
                for row in waiting:
                    running[pool.submit(work, row)] = row
                    if len(running) == workers:
                        break
                if not running:
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _table(
    solution: Solution,
    states: tuple[str, ...],
    numbers: Int[np.ndarray, " patient"],
    times: Float[np.ndarray, " time"],
) -> pa.Table:
    """Return the rows of a chunk: patients, and within them times."""
    ok = np.asarray(solution.ok)
    rows = np.repeat(ok, len(times))
    columns: dict[str, Any] = {
        "patient": np.repeat(numbers, len(times)),
        "time": np.tile(times, len(numbers)),
    }
    for name, values in zip(states, solution.values, strict=True):
        columns[name] = pa.array(np.asarray(values).ravel(), mask=~rows)
    for name, error in zip(states, solution.error, strict=True):
        columns[f"error.{name}"] = pa.array(np.repeat(np.asarray(error), len(times)), mask=~rows)
    columns["given"] = np.repeat(np.asarray(solution.given), len(times))
    columns["ok"] = rows
    return pa.table(columns)


def _failures(file: Path) -> int:
    """Count the patients of a file whose courses were not solved."""
    read = pq.read_table(file, columns=["patient", "ok"])
    return len(np.unique(read["patient"].to_numpy()[~read["ok"].to_numpy()]))


def _setup(
    system: AbstractSystem, grid: Grid, method: AbstractMethod, patients: int, chunk: int, purpose: str
) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "patients": patients,
        "chunk": chunk,
        "states": list(system.states),
        "method": repr(method),
        "grid": digest(np.asarray(x) for x in (grid.times, grid.amounts, grid.rates, grid.asked, grid.outputs)),
        "jax": jax.__version__,
    }


def _claim(folder: Path, setup: dict[str, Any]) -> None:
    """Write what the stream is, or see that the folder holds the same.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    path = folder / SETUP
    if not path.exists():
        write_bytes(path, orjson.dumps(setup, option=orjson.OPT_INDENT_2))
        return
    found = orjson.loads(path.read_bytes())
    differ = [name for name in setup if found.get(name) != setup[name]]
    if differ:
        raise ConfigError(
            f"the folder holds another stream: {', '.join(differ)} differ",
            where=f"{folder}: " + "; ".join(f"{name} is {found.get(name)}, not {setup[name]}" for name in differ),
            do="give another folder, or remove this one",
        )
