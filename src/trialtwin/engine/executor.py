"""Independent pieces of work, wherever they run: in this process, in several, or on a cluster; resumed where stopped.

A piece is a plain function of picklable arguments that returns bytes, and nothing else of it counts: its result is the
same on any worker and in any order. Each result is written whole, as soon as it is there, to a file of its own; a
killed worker or Ctrl-C loses what had not been written, and the next run with the same folder does the rest.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, final

import orjson

from trialtwin.core.errors import ConfigError, MachineError
from trialtwin.core.files import write_bytes

type Piece = Callable[..., bytes]

SETUP = "pieces.json"
TRIES = 3  # times that workers may die before it is given up
# each worker computes on one core: threads of many workers would only wait for each other
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


@final
class InProcess(Executor):
    """An executor that does the work at once, where it was asked for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do the work and return a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the future hands it to whoever asks
            future.set_exception(error)
        return future


@contextmanager
def open_executor(workers: int = 1, scheduler: str | None = None) -> Iterator[Executor]:
    """Open an executor: this process, as many processes as workers, or the cluster of a dask scheduler.

    Parameters
    ----------
    workers
        Processes; 1 works in this one.
    scheduler
        Address of a running dask scheduler, such as ``tcp://10.0.0.5:8786``; ``workers`` is then the cluster's own.

    Raises
    ------
    ConfigError
        If there are no workers, or dask.distributed is not installed.
    MachineError
        If the scheduler does not answer.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers", do="give 1 or more")
    if scheduler is not None:
        with _cluster(scheduler) as pool:
            yield pool
        return
    if workers == 1:
        yield InProcess()
        return
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    # spawned, not forked: JAX and Polars hold threads that a fork would copy half
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _cluster(scheduler: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "a scheduler was named, and dask.distributed is not installed", do="pip install distributed"
        ) from error
    try:
        client = Client(scheduler, timeout="10s")
    except OSError as error:
        raise MachineError(
            f"no dask scheduler answers at {scheduler}", where=str(error), do="start it first"
        ) from error
    try:
        yield client.get_executor(pure=False, retries=TRIES)
    finally:
        client.close()


def run_pieces(
    function: Piece,
    calls: Sequence[tuple[Any, ...]],
    *,
    folder: Path,
    purpose: str,
    workers: int = 1,
    scheduler: str | None = None,
    on_piece: Callable[[int, int], None] | None = None,
) -> list[bytes]:
    """Do every piece whose file is not there, and return all results in the order of the calls.

    Parameters
    ----------
    function
        Importable by name; the same arguments give the same bytes.
    folder
        Where results are kept, a file a piece.
    purpose
        A hash of everything that the results rest on; a folder of another purpose is refused.
    on_piece
        Told how many pieces are done, and of how many.

    Raises
    ------
    ConfigError
        If the folder holds the pieces of other work.
    MachineError
        If workers died again and again; pieces that were finished are kept.
    """
    _claim(folder, purpose, len(calls))
    files = [folder / f"{k:07d}.piece" for k in range(len(calls))]
    missing = [k for k, file in enumerate(files) if not file.exists()]
    if on_piece is not None:
        on_piece(len(calls) - len(missing), len(calls))
    for attempt in range(1, TRIES + 1):
        try:
            _work(function, calls, missing, files, workers, scheduler, on_piece)
            break
        except BrokenExecutor as error:
            missing = [k for k in missing if not files[k].exists()]
            if attempt == TRIES:
                raise MachineError(
                    f"workers died {TRIES} times; {len(missing)} of {len(calls)} pieces are not done",
                    where=f"the next is piece {missing[0]}" if missing else None,
                    do="look at the memory of the machine, and run the same command again: what is done is kept",
                ) from error
    return [file.read_bytes() for file in files]


def _work(
    function: Piece,
    calls: Sequence[tuple[Any, ...]],
    missing: Sequence[int],
    files: Sequence[Path],
    workers: int,
    scheduler: str | None,
    on_piece: Callable[[int, int], None] | None,
) -> None:
    """Do the pieces that are missing, each written as it comes."""
    done = len(calls) - len(missing)
    with open_executor(workers, scheduler) as pool:
        if isinstance(pool, InProcess):  # one after the other, so that each is written before the next begins
            finished = ((k, function(*calls[k])) for k in missing)
        else:
            waiting = {pool.submit(function, *calls[k]): k for k in missing}
            finished = ((waiting[future], _result(future, waiting[future])) for future in as_completed(waiting))
        for k, result in finished:
            write_bytes(files[k], result)
            done += 1
            if on_piece is not None:
                on_piece(done, len(calls))


def _result(future: Future[bytes], piece: int) -> bytes:
    """Return a result, or say which piece dask gave up because each worker that tried it died."""
    # an error of dask's own, no BrokenExecutor; it can only come from a module that is loaded
    killed = (sys.modules["distributed"].KilledWorker,) if "distributed" in sys.modules else ()
    try:
        return future.result()
    except killed as error:
        raise MachineError(
            f"every worker that tried piece {piece} died",
            where=str(error),
            do="look at the workers' memory and logs, and run the same command again: what is done is kept",
        ) from error


def _claim(folder: Path, purpose: str, pieces: int) -> None:
    """Note what the folder is for, or refuse one that is for something else."""
    setup = {"purpose": purpose, "pieces": pieces}
    file = folder / SETUP
    if not file.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"cannot make the folder {folder}", where=error.strerror) from error
        write_bytes(file, orjson.dumps(setup))
        return
    found = orjson.loads(file.read_bytes())
    if found != setup:
        raise ConfigError(
            "the folder holds pieces of other work", where=str(folder), do="name another folder, or remove this one"
        )
