"""Forecasts of many patients a chunk at a time, on all processors; memory does not grow with their number."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Array

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError
from trialtwin.core.files import replacing
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractTwin, Times, patient_times

CHUNK = 1000  # patients
MOST_WORKERS = 8  # chunks made at a time: each takes memory
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def stream_predict(
    twin: AbstractTwin,
    patients: Cohort,
    treatment: AbstractTreatment,
    times: Times,
    *,
    draws: int,
    key: Array,
    chunk: int = CHUNK,
) -> Iterator[Trajectories]:
    """Yield the forecasts of the patients in order, a chunk of them at a time.

    Each chunk has a key of its own, from its place: draws do not depend on how fast or where chunks are made, but do on
    their size. What all patients share in one draw (the coefficients of a population) is shared within a chunk.

    Raises
    ------
    ConfigError
        If a chunk is to hold nobody.
    DataError
        If there are no patients, or the times cannot be predicted at.

    Examples
    --------
    >>> from trialtwin.core.treatment import NoTreatment
    >>> from trialtwin.core.variables import Variable
    >>> from trialtwin.twins.baseline import Baseline
    >>> line = np.random.default_rng(0).normal(size=(40, 2)).cumsum(axis=1)
    >>> days = np.array([0.0, 100.0])
    >>> cohort = Cohort(
    ...     tuple(f"P{i}" for i in range(40)), (), np.zeros((40, 0)), (Variable("Y", unit="points"),), ("A", "B"),
    ...     days, np.tile(days, (40, 1)), line[..., None], np.ones((40, 2, 1), dtype=bool), ("Placebo",),
    ...     np.zeros(40, dtype=np.int64))
    >>> twin, key = Baseline().fit(cohort, key=jax.random.key(0)), jax.random.key(1)
    >>> [len(part) for part in stream_predict(twin, cohort, NoTreatment(), days, draws=16, key=key, chunk=15)]
    [15, 15, 10]
    """
    if chunk < 1:
        raise ConfigError(f"chunks of {chunk} patients", do="give at least one")
    patient_times(patients, times, draws)
    return _chunks(twin, patients, treatment, times, draws, key, chunk)


def _chunks(
    twin: AbstractTwin,
    patients: Cohort,
    treatment: AbstractTreatment,
    times: Times,
    draws: int,
    key: Array,
    chunk: int,
) -> Iterator[Trajectories]:
    def forecast(number: int) -> Trajectories:
        index = np.arange(number * chunk, min((number + 1) * chunk, len(patients)))
        own = times if np.ndim(times) == 1 else times[index]
        return twin.predict(patients.take(index), treatment, own, draws=draws, key=jax.random.fold_in(key, number))

    count, workers = -(-len(patients) // chunk), min(os.cpu_count() or 1, MOST_WORKERS)
    pool = ThreadPoolExecutor(workers)
    try:
        # the first alone: what it compiles is there for the others
        yield forecast(0)
        ahead = deque(pool.submit(forecast, number) for number in range(1, min(1 + workers, count)))
        for number in range(1 + len(ahead), count):
            yield ahead.popleft().result()
            ahead.append(pool.submit(forecast, number))
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def write_forecasts(
    path: Path | str,
    twin: AbstractTwin,
    patients: Cohort,
    treatment: AbstractTreatment,
    times: Times,
    *,
    draws: int,
    key: Array,
    chunk: int = CHUNK,
    on_chunk: Callable[[int, int], None] | None = None,
) -> None:
    """Write what is expected of each patient, with SD and quantiles of the draws, as Parquet: a row a time and outcome.

    Columns are patient, time (days), outcome, expected, sd, and q05, q25, q50, q75, q95. The file appears when it is
    complete.

    Parameters
    ----------
    on_chunk
        Called with the number of patients done, and of all.

    Raises
    ------
    MachineError
        If the file cannot be written.
    """
    parts = stream_predict(twin, patients, treatment, times, draws=draws, key=key, chunk=chunk)
    done = 0
    with replacing(path) as draft:
        writer: pq.ParquetWriter | None = None
        try:
            for part in parts:
                table = summary_table(part)
                writer = writer or pq.ParquetWriter(draft, table.schema)
                writer.write_table(table)
                done += len(part)
                if on_chunk is not None:
                    on_chunk(done, len(patients))
        finally:
            if writer is not None:
                writer.close()


def summary_table(part: Trajectories) -> pa.Table:
    """Return expectation, SD and quantiles of trajectories: a row a patient, time and outcome."""
    n, t, k = part.expected.shape
    times = np.broadcast_to(part.times, (n, t))
    names = np.array([v.name for v in part.outcomes])
    # single precision is ample for a quantile of a thousand draws, and a contiguous axis sorts three times as fast
    ordered = np.sort(np.moveaxis(part.values, 0, -1).astype(np.float32), axis=-1)
    quantiles = np.quantile(ordered, LEVELS, axis=-1)
    columns = {
        "patient": pa.array(np.repeat(np.array(part.ids), t * k)),
        "time": pa.array(np.repeat(times.ravel(), k)),
        "outcome": pa.array(np.tile(names, n * t)),
        "expected": pa.array(part.expected.ravel()),
        "sd": pa.array(part.values.std(axis=0).ravel()),
    }
    columns |= {f"q{round(100 * q):02d}": pa.array(row.ravel()) for q, row in zip(LEVELS, quantiles, strict=True)}
    return pa.table(columns)
