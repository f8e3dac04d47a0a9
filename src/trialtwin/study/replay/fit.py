"""Calibration: parameters and spreads that fit the published numbers, by linearising again and again.

Each round takes expectations and their derivatives at the present parameters, and solves the linear Gaussian model with
random effects of ``infer.restricted`` exactly. It ends when no parameter moves by more than a fraction of its posterior
SD.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from trialtwin.core.errors import ConvergenceError, FitError
from trialtwin.infer.restricted import Linear, Solved, solve_restricted
from trialtwin.study.replay.expected import Expected, Simulator, expect
from trialtwin.study.replay.parameters import NAMES, SPREAD_SD, SPREADS, prior
from trialtwin.study.replay.readouts import Row, informs
from trialtwin.study.replay.sampling import correlation, standard_error, weighted_error

LONGEST_STEP = 1.0  # of a prior SD, in one round
SETTLED = 0.1  # of a posterior SD


@dataclass(frozen=True, eq=False)
class Fitted:
    """Where a calibration ended: parameters, spreads, expectations there, and errors of each row.

    ``plain`` is the sampling error, ``counted`` the one with which the row counts; ``used`` tells which rows took part.
    """

    rows: tuple[Row, ...]
    vector: Float[np.ndarray, " parameter"]
    covariance: Float[np.ndarray, "parameter parameter"]
    spreads: Float[np.ndarray, " spread"]
    spread_sds: Float[np.ndarray, " spread"]
    expected: Expected
    observed: Float[np.ndarray, " row"]
    plain: Float[np.ndarray, " row"]
    counted: Float[np.ndarray, " row"]
    used: Bool[np.ndarray, " row"]
    rounds: int


def calibrate(
    rows: Sequence[Row],
    simulator: Simulator,
    *,
    start: Float[np.ndarray, " parameter"] | None = None,
    rounds: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Fit the parameters and spreads to the rows that may inform them.

    Raises
    ------
    FitError
        If no row may inform a calibration.
    ConvergenceError
        If parameters still move after the last round; the message names those that move most.
    """
    used = np.array([informs(row) for row in rows], dtype=bool)
    if not used.any():
        raise FitError(
            "no readout may inform a calibration",
            do="mark rows with use (column split) = 'calibration', or leave --calibrate out",
        )
    vector = prior()[0] if start is None else start
    spreads: Float[np.ndarray, " spread"] | None = None
    length, before = np.ones(len(vector)), np.zeros(len(vector))
    for done in range(rounds):
        expected = expect(rows, simulator, vector, progress)
        solved = solve(rows, expected, vector, used, spreads)
        step = solved.parameters - vector
        spreads = solved.spreads
        moved = np.abs(step) / np.sqrt(np.diag(solved.covariance))
        length = np.where(step * before < 0, 0.5 * length, np.minimum(1.2 * length, 1.0))  # half as far on a way back
        before = step
        if moved.max() < SETTLED:
            plain, counted = errors(rows, expected)
            observed = np.array([row.readout.value for row in rows])
            return Fitted(
                tuple(rows),
                vector,
                solved.covariance,
                spreads,
                solved.spread_sds,
                expected,
                observed,
                plain,
                counted,
                used,
                done + 1,
            )
        vector = vector + length * np.clip(step, -LONGEST_STEP * prior()[1], LONGEST_STEP * prior()[1])
    worst = np.argsort(-moved)[:3]
    raise ConvergenceError(
        f"the calibration did not settle in {rounds} rounds",
        where="; ".join(f"{NAMES[i]} moves by {moved[i]:.2f} SD" for i in worst),
        do="look at these parameters' readouts, or allow more rounds",
    )


def solve(
    rows: Sequence[Row],
    expected: Expected,
    vector: Float[np.ndarray, " parameter"],
    used: Bool[np.ndarray, " row"],
    start: Float[np.ndarray, " spread"] | None = None,
) -> Solved:
    """Solve the model linearised at a vector, on the rows that are used."""
    _, counted = errors(rows, expected)
    chosen = [int(i) for i in np.flatnonzero(used)]
    columns = np.array([column[chosen] for _, column in expected.deviates]).T
    mean, sd = prior()
    return solve_restricted(
        Linear(
            observed=np.array([rows[i].readout.value for i in chosen]),
            mean=expected.mean[chosen],
            jacobian=expected.jacobian[chosen],
            at=vector,
            prior_mean=mean,
            prior_sd=sd,
            sampling=correlation([rows[i] for i in chosen]) * np.outer(counted[chosen], counted[chosen]),
            columns=columns,
            groups=np.array([place for place, _ in expected.deviates]),
            guesses=np.array([s.guess for s in SPREADS]),
            guess_sd=np.full(len(SPREADS), SPREAD_SD),
        ),
        None if start is None else list(start),
    )


def errors(rows: Sequence[Row], expected: Expected) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Return the sampling error of each row, and the error with which it counts."""
    pieces = zip(rows, expected.mean, expected.fraction, expected.baseline, strict=True)
    plain = np.array([standard_error(row, m, f, b) for row, m, f, b in pieces])
    return plain, np.array([weighted_error(row, error) for row, error in zip(rows, plain, strict=True)])
