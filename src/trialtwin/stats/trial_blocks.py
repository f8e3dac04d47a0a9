"""Many trials of one shape, put into lanes a block at a time and worked through on all cores.

A block lies in memory that the compiler can read where it is, so that nothing is copied but the trials' own arrays.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.arrays import require_finite
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.trial_kernels import LANES, padded

_ROOM = 2**22  # bytes of a block: fewer calls, and chunks of it still fit a core's cache
_ALIGNED = 64

type Kernel = Callable[[Float[np.ndarray, "chunk place entry lane"], int], jax.Array]


def require_trials(
    outcome: Float[np.ndarray, "..."], treated: Bool[np.ndarray, "..."], covariates: Float[np.ndarray, "..."]
) -> None:
    """Refuse arrays that are not the trials of one shape, each with two arms.

    Raises
    ------
    DataError
        If shapes differ, there is no trial, or an arm has fewer than two patients.
    """
    if treated.shape != outcome.shape or covariates.shape[:2] != outcome.shape:
        raise DataError(
            f"outcomes of shape {outcome.shape}, arms of {treated.shape} and covariates of {covariates.shape} do not "
            "belong together",
            do="give [trial, patient], [trial, patient] and [trial, patient, column]",
        )
    if len(outcome) == 0:
        raise DataError("there are no trials")
    counts = np.count_nonzero(treated, axis=1)
    few = np.flatnonzero((counts < 2) | (counts > outcome.shape[1] - 2))
    if len(few):
        raise DataError(f"{len(few)} trial(s) have an arm of fewer than two patients", where=f"trial {int(few[0])}")


def require_numbers(outcome: Float[np.ndarray, "..."], covariates: Float[np.ndarray, "..."]) -> None:
    """Refuse numbers that are not finite; asked only where a result is not, since looking at all takes its time.

    Raises
    ------
    DataError
        With the place of the first.
    """
    require_finite("the outcome", outcome)
    require_finite("the covariates", covariates)


def in_lanes(
    kernel: Kernel,
    outcome: Float[np.ndarray, "trial patient"],
    treated: Bool[np.ndarray, "trial patient"],
    covariates: Float[np.ndarray, "trial patient column"],
    *,
    threads: int | None,
) -> Float[np.ndarray, "statistic trial"]:
    """Return what a kernel says of every trial.

    Raises
    ------
    ConfigError
        If the number of threads is not positive.
    """
    cores = _cores() if threads is None else threads
    if cores < 1:
        raise ConfigError(f"{cores} threads cannot work")
    trials, n = outcome.shape
    columns = covariates.shape[2] + 2
    chunks = _chunks(trials, _ROOM // (8 * padded(n) * columns * LANES))
    starts = list(range(0, trials, chunks * LANES))
    found: dict[int, np.ndarray] = {}

    def work(share: list[int]) -> None:
        block = _aligned((chunks, padded(n), columns, LANES))
        with jax.enable_x64(new_val=True):
            for start in share:
                _fill(block, outcome, treated, covariates, start)
                # the block is written to again only after the answer is here
                answer = np.asarray(kernel(block, n))
                found[start] = answer.transpose(1, 0, 2).reshape(answer.shape[1], -1)

    cores = min(cores, len(starts))
    if cores == 1:
        work(starts)
    else:
        with ThreadPoolExecutor(cores) as pool:
            for future in [pool.submit(work, starts[k::cores]) for k in range(cores)]:
                future.result()
    return np.concatenate([found[start] for start in starts], axis=1)[:, :trials]


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunks(trials: int, most: int) -> int:
    """Return chunks of a block: a power of two, so that trials in other numbers need no compiling."""
    chunks = 1
    while chunks * LANES < trials and 2 * chunks <= most:
        chunks *= 2
    return chunks


def _aligned(shape: tuple[int, ...]) -> Float[np.ndarray, "chunk place entry lane"]:
    """Return zeros that begin at a multiple of 64 bytes, as the compiled functions want them."""
    size = 8 * int(np.prod(shape))
    room = np.zeros(size + _ALIGNED, dtype=np.uint8)
    begin = -room.ctypes.data % _ALIGNED
    return room[begin : begin + size].view(np.float64).reshape(shape)


def _fill(
    block: Float[np.ndarray, "chunk place entry lane"],
    outcome: Float[np.ndarray, "trial patient"],
    treated: Bool[np.ndarray, "trial patient"],
    covariates: Float[np.ndarray, "trial patient column"],
    start: int,
) -> None:
    """Put the trials from ``start`` into lanes; beyond the last trial it is repeated."""
    chunks, _, columns, _ = block.shape
    trials, n = outcome.shape
    size, p = chunks * LANES, columns - 2
    where: slice | np.ndarray = slice(start, start + size)
    if start + size > trials:
        where = np.minimum(np.arange(start, start + size), trials - 1)
    # Copies in one piece come first: a transpose that reads from afar, or that converts, takes twice as long.
    near = np.empty((LANES, n, p))
    for chunk, part in zip(block, covariates[where].reshape(chunks, LANES, n, p), strict=True):
        near[...] = part
        chunk[:n, :p] = near.transpose(1, 2, 0)
    block[:, :n, p] = treated[where].astype(float).reshape(chunks, LANES, n).transpose(0, 2, 1)
    block[:, :n, p + 1] = outcome[where].reshape(chunks, LANES, n).transpose(0, 2, 1)
