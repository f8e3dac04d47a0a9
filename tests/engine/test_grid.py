"""Grids: doses and outputs on points, refinement after doses, filling up, and doses that make no sense."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pharmacokinetics import RATES, TWO_COMPARTMENTS, doses

from trialtwin.core.errors import DataError
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import Grid, align, stack

P = {name: jnp.asarray(value) for name, value in RATES.items()}


def test_every_dose_start_end_and_output_is_a_point_and_amounts_are_kept():
    given = doses([0.3, 7.7, 11.1], 50.0, 0.0417)
    outputs = np.array([0.31, 5.0, 11.12, 20.0])
    grid = align(given, outputs, inputs=1, longest=2.0, first=0.5, infusion=3)
    times = np.asarray(grid.times)
    wanted = np.concatenate([given.time, given.time + given.duration, outputs])
    assert np.abs(times[:, None] - wanted).min(axis=0).max() < 1e-9
    np.testing.assert_allclose(times[np.asarray(grid.outputs)], outputs)
    lengths = np.diff(times)
    assert (lengths >= 0).all()
    assert lengths.max() <= 2.0
    # what a dose brings in is rate times length, whatever stands between
    assert float((np.asarray(grid.rates)[:, 0] * lengths).sum()) == pytest.approx(150.0)
    on = np.asarray(grid.rates)[:, 0] > 0
    assert on.sum() >= 9
    assert int(grid.asked.sum()) == 3


def test_steps_grow_with_the_time_since_a_dose():
    grid = align(doses([0.0, 14.0], 1.0), np.array([28.0]), inputs=1, longest=4.0, first=0.25, growth=0.5)
    times = np.asarray(grid.times)
    lengths = np.diff(times)[np.diff(times) > 0]
    since = times[:-1][np.diff(times) > 0] % 14.0
    assert (lengths <= np.minimum(4.0, np.maximum(0.25, 0.5 * since)) * 1.001).all()


def test_simultaneous_and_overlapping_doses_add_up():
    given = doses([1.0, 1.0, 1.2], 10.0, np.array([0.5, 0.5, 0.5]))
    grid = align(given, np.array([3.0]), inputs=1, longest=1.0)
    lengths = np.diff(np.asarray(grid.times))
    assert float((np.asarray(grid.rates)[:, 0] * lengths).sum()) == pytest.approx(30.0)
    assert float(np.asarray(grid.rates).max()) == pytest.approx(60.0)


def test_a_dose_too_short_to_have_a_length_is_a_bolus():
    grid = align(doses([1.0], 10.0, 1e-12), np.array([3.0]), inputs=1, longest=1.0)
    assert float(grid.amounts.sum()) == 10.0


def test_filling_up_changes_nothing():
    grid = align(doses([0.0, 3.0], 100.0, 0.1), np.array([2.0, 6.0]), inputs=1, longest=0.5)
    longer = jax.tree.map(lambda x: jnp.concatenate([x, jnp.zeros((40, *x.shape[1:]), x.dtype)]), grid)
    longer = Grid(
        jnp.concatenate([grid.times, jnp.full(40, grid.times[-1])]),
        longer.amounts,
        longer.rates,
        longer.asked,
        grid.outputs,
    )
    for order in (3, 5, 8):
        plain, filled = (Fixed(order).solve(TWO_COMPARTMENTS, P, g) for g in (grid, longer))
        for a, b in zip((*plain.values, *plain.error), (*filled.values, *filled.error), strict=True):
            np.testing.assert_array_equal(a, b)


def test_few_lengths_are_compiled():
    lengths = {len(align(None, np.array([float(n)]), inputs=0, longest=1.0).asked) for n in range(1, 513, 3)}
    assert len(lengths) <= 56
    assert all(
        len(align(None, np.array([float(n)]), inputs=0, longest=1.0).asked) <= max(4, 1.15 * n + 4)
        for n in (5, 100, 700)
    )


def test_grids_of_patients_are_stacked_to_the_longest():
    grids = [align(doses([0.0], a), np.array([1.0, e]), inputs=1, longest=0.5) for a, e in ((1.0, 3.0), (2.0, 30.0))]
    both = stack(grids)
    assert both.times.shape[0] == 2
    for i, grid in enumerate(grids):
        alone = Fixed().solve(TWO_COMPARTMENTS, P, grid).values[0]
        together = Fixed().solve(TWO_COMPARTMENTS, P, jax.tree.map(lambda x, i=i: x[i], both)).values[0]
        np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize(
    ("given", "outputs", "longest", "says"),
    [
        (doses([1.0], -5.0), [2.0], 1.0, "dose 1: -5 at day 1"),
        (doses([-1.0], 5.0), [2.0], 1.0, "before the start"),
        (doses([1.0], np.nan), [2.0], 1.0, "not a finite number"),
        (None, [2.0, 1.0], 1.0, "increasing"),
        (None, [], 1.0, "increasing"),
        (None, [np.inf], 1.0, "finite"),
        (None, [2.0], 0.0, "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(given, outputs, longest, says):
    with pytest.raises(DataError, match=says):
        align(given, np.array(outputs), inputs=1, longest=longest)
