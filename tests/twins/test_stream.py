"""Forecasts in chunks: the same expectations as at once, repeatable, whole files or none."""

from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from known_law import Law, lines

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.core.treatment import NoTreatment
from trialtwin.twins.baseline import Baseline
from trialtwin.twins.stream import stream_predict, write_forecasts

KEY = jax.random.key(6)
AT = np.array([150.0, 300.0])


def test_chunks_expect_what_is_expected_at_once() -> None:
    twin, asked = Baseline().fit(lines(1), key=KEY), lines(2).until(0)
    whole = twin.predict(asked, NoTreatment(), AT, draws=16, key=KEY)
    parts = list(stream_predict(twin, asked, NoTreatment(), AT, draws=16, key=KEY, chunk=25))
    assert [len(part) for part in parts] == [25, 25, 10]
    assert sum((part.ids for part in parts), ()) == asked.ids
    np.testing.assert_allclose(np.concatenate([part.expected for part in parts]), whole.expected, rtol=1e-9)


def test_many_chunks_come_in_order_and_do_not_depend_on_how_many_are_made_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twin, asked = Baseline().fit(lines(1), key=KEY), lines(2).until(0)
    found = []
    for processors in (1, 2, 16):
        monkeypatch.setattr("os.cpu_count", lambda n=processors: n)
        found.append(list(stream_predict(twin, asked, NoTreatment(), AT, draws=16, key=KEY, chunk=5)))
        assert sum((part.ids for part in found[-1]), ()) == asked.ids
    for parts in found[1:]:
        for one, other in zip(found[0], parts, strict=True):
            np.testing.assert_array_equal(one.values, other.values)


def test_a_stream_can_be_left_early() -> None:
    twin, asked = Law().fit(lines(1), key=KEY), lines(2).until(0)
    parts = stream_predict(twin, asked, NoTreatment(), AT, draws=16, key=KEY, chunk=5)
    assert len(next(parts)) == len(next(parts)) == 5
    parts.close()
    assert list(parts) == []


def test_own_times_are_each_patients_own() -> None:
    twin, asked = Law().fit(lines(1), key=KEY), lines(2).until(0)
    own = AT + np.arange(60)[:, None]
    parts = list(stream_predict(twin, asked, NoTreatment(), own, draws=16, key=KEY, chunk=25))
    np.testing.assert_array_equal(np.concatenate([part.times for part in parts]), own)


def test_the_file_has_a_row_a_time_and_is_the_same_each_time(tmp_path: Path) -> None:
    twin, asked = Law().fit(lines(1), key=KEY), lines(2).until(0)
    told: list[tuple[int, int]] = []
    for name in ("a", "b"):
        write_forecasts(
            tmp_path / name,
            twin,
            asked,
            NoTreatment(),
            AT,
            draws=2000,
            key=KEY,
            chunk=25,
            on_chunk=lambda *n: told.append(n),
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert told == [(25, 60), (50, 60), (60, 60)] * 2
    table = pl.read_parquet(tmp_path / "a")
    assert table.shape == (120, 10)
    np.testing.assert_allclose(table["sd"], 1, atol=0.08)
    np.testing.assert_allclose(table["q95"] - table["expected"], 1.645, atol=0.2)
    np.testing.assert_allclose(table["q50"] - table["expected"], 0, atol=0.12)


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    twin, asked = Law().fit(lines(1), key=KEY), lines(2).until(0)
    with pytest.raises(KeyboardInterrupt):
        write_forecasts(tmp_path / "a", twin, asked, NoTreatment(), AT, draws=32, key=KEY, on_chunk=stop)
    assert not list(tmp_path.iterdir())


def test_bad_questions_are_refused_at_once() -> None:
    twin, asked = Law().fit(lines(1), key=KEY), lines(2).until(0)
    with pytest.raises(ConfigError, match="chunks of 0"):
        stream_predict(twin, asked, NoTreatment(), AT, draws=16, key=KEY, chunk=0)
    with pytest.raises(DataError, match="0 draws"):
        stream_predict(twin, asked, NoTreatment(), AT, draws=0, key=KEY)
