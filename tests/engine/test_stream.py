"""Streams: the same bytes whatever the workers and the stops, failures said per patient, and folders not mixed up."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from pharmacokinetics import RATES, TWO_COMPARTMENTS, doses

from trialtwin.core.errors import ConfigError
from trialtwin.engine.ensemble import solve_ensemble
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import align
from trialtwin.engine.stream import Progress, stream_ensemble
from trialtwin.engine.system import Equations

GRID = align(doses([0.0, 7.0], 100.0, 0.1), np.array([7.0, 20.0]), inputs=1, longest=1.0)
KEY = jax.random.key(3)


@jax.jit
def draw(numbers):
    z = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(KEY, i), (3,)))(numbers)
    return {name: value * jnp.exp(0.2 * z[:, c]) for c, (name, value) in enumerate(RATES.items())}


def stream(folder: Path, **changes) -> list[Path]:
    settings = {"patients": 300, "chunk": 64, "purpose": "test 3", "workers": 2} | changes
    return stream_ensemble(TWO_COMPARTMENTS, draw, GRID, Fixed(), folder, **settings)


def test_a_stream_holds_what_the_ensemble_gives(tmp_path: Path):
    seen: list[Progress] = []
    files = stream(tmp_path / "new", progress=seen.append)
    table = pq.read_table(files)
    whole = solve_ensemble(TWO_COMPARTMENTS, draw(jnp.arange(300)), GRID, Fixed())
    assert table["patient"].to_pylist() == np.repeat(np.arange(300), 2).tolist()
    assert table["time"].to_pylist() == [7.0, 20.0] * 300
    for name, values, error in zip(TWO_COMPARTMENTS.states, whole.values, whole.error, strict=True):
        np.testing.assert_allclose(table[name].to_numpy(), np.asarray(values).ravel(), rtol=1e-12)
        np.testing.assert_allclose(table[f"error.{name}"].to_numpy()[::2], error, rtol=1e-6)
    assert seen[0] == (0, 300, 0)
    assert seen[-1] == (300, 300, 0)
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_a_stream_that_was_stopped_is_taken_up_with_the_same_bytes(tmp_path: Path):
    files = stream(tmp_path / "whole", workers=1)

    class StopHereError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done >= 64:
            raise StopHereError

    with pytest.raises(StopHereError):
        stream(tmp_path / "stopped", progress=stop)
    written = sorted((tmp_path / "stopped").glob("*.parquet"))
    assert 0 < len(written) < len(files)
    assert not list((tmp_path / "stopped").glob("*.part"))
    kept = {file.name: file.stat().st_mtime_ns for file in written}
    again = stream(tmp_path / "stopped", workers=3)
    assert [file.name for file in again] == [file.name for file in files]
    for one, other in zip(files, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert all((tmp_path / "stopped" / name).stat().st_mtime_ns == when for name, when in kept.items())


def test_a_patient_who_is_not_solved_has_no_values_and_is_counted(tmp_path: Path):
    bursting = Equations(("x",), (), start=lambda p: (jnp.ones_like(p),), rhs=lambda t, y, r, p: (p * y[0] ** 2,))
    grid = align(None, np.array([0.5, 1.0]), inputs=0, longest=0.02)
    seen: list[Progress] = []

    def run() -> list[Path]:
        return stream_ensemble(
            bursting,
            lambda i: jnp.where(i % 10 == 3, 4.0, 0.5),
            grid,
            Fixed(),
            tmp_path,
            patients=30,
            purpose="burst",
            chunk=20,
            progress=seen.append,
        )

    table = pq.read_table(run())
    assert seen[-1] == (30, 30, 3)
    bad = ~table["ok"].to_numpy()
    assert set(table["patient"].to_numpy()[bad]) == {3, 13, 23}
    assert table["x"].is_null().to_numpy().tolist() == bad.tolist()
    assert not np.isnan(table["x"].drop_null().to_numpy()).any()
    run()
    assert seen[-1] == (30, 30, 3)


@pytest.mark.parametrize(("change", "name"), [({"patients": 301}, "patients"), ({"purpose": "test 4"}, "purpose")])
def test_a_folder_of_another_stream_is_refused(tmp_path: Path, change, name):
    stream(tmp_path, patients=64)
    with pytest.raises(ConfigError, match=f"another stream: .*{name}"):
        stream(tmp_path, **({"patients": 64} | change))


def test_numbers_that_make_no_sense_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="0 patients"):
        stream(tmp_path, patients=0)
