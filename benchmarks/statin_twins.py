"""Twins of LDL under a statin for the benchmark: with the equations told, and with nothing told.

- **known**: the equations, the series of Kin, the day of treatment, and the units (mean and SD by which the data were
  standardised) are told; K, H, D50, the starting values, the noise and the law of the coefficients are learned. Given
  the shared parameters everything is linear in a unit's coefficients, so that they are found by least squares with
  the coefficients projected out, and the coefficients by a mixture population (``infer.hierarchical_linear``).
- **none**: histories and outcomes are jointly normal with a few latent factors and equal noise (probabilistic principal
  components). The number of factors is chosen by cross-validation on controls.

Each gives the expected untreated outcome of each treated unit of the test fold, and a denoised effect.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize
from statin_simulator import TERMS, Fold, chebyshev, respond

from trialtwin.infer.hierarchical_linear import fit_population, infer_units, summarise_rows

GUESS = np.log([0.1, 0.3, 0.3, 1.0, 1.0])  # K, H, D50, P and R at the start
GUESS_SD = 1.5  # of logarithms: nearly 20-fold either way; without it H has no lower limit where few days are seen
NOISE_GUESS = 0.1
MOST_FACTORS = 8
PARTS = 5


@dataclass(frozen=True, eq=False)
class Answer:
    """Of the treated units of the test fold, shape (unit, day): outcome expected untreated, and denoised effect.

    ``learned`` names what was learned of what all units share.
    """

    untreated: np.ndarray
    effect: np.ndarray
    learned: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Linear:
    """Rows of a unit as offset + columns · coefficients, in the units of a fold, treated or not."""

    offset: np.ndarray
    columns: np.ndarray


def _unit_courses(before: int, days: int, log_shared: np.ndarray) -> dict[bool, tuple[np.ndarray, ...]]:
    """Return Kin, P and R of the offset and of each term, shape (1 + term, day), treated or not."""
    k, h, d50, p0, r0 = np.exp(log_shared)
    inflow = np.concatenate([np.zeros((1, days + 1)), chebyshev(days).T])
    start = np.zeros((TERMS + 1, 2))
    start[0] = p0, r0
    return {arm: (inflow, *respond(inflow, start, (k, h, d50), before if arm else None)) for arm in (False, True)}


def _linear(fold: Fold, courses: tuple[np.ndarray, ...]) -> _Linear:
    """Return the rows of a unit: Kin, P and R of each day before treatment, then R of each day after."""
    before, after = fold.history.shape[1], fold.outcome.shape[1]
    pieces = [(0, slice(before)), (1, slice(before)), (2, slice(before)), (2, slice(before, before + after))]
    rows = np.concatenate([courses[j][:, days].T / fold.sd[j] for j, days in pieces])
    rows[:, 0] -= np.concatenate([np.full(rows_of, fold.mean[j] / fold.sd[j]) for j, rows_of in _lengths(fold)])
    return _Linear(rows[:, 0], rows[:, 1:])


def _lengths(fold: Fold) -> list[tuple[int, int]]:
    """Return which variable each piece of the rows is of, and how many rows it has."""
    before, after = fold.history.shape[1], fold.outcome.shape[1]
    return [(0, before), (1, before), (2, before), (2, after)]


def _seen(fold: Fold) -> np.ndarray:
    """Return what is seen of each unit, in the order of rows, shape (unit, row)."""
    return np.concatenate([fold.history.transpose(0, 2, 1).reshape(len(fold.history), -1), fold.outcome], axis=1)


def find_shared(folds: tuple[Fold, ...]) -> np.ndarray:
    """Return the logarithms of K, H, D50 and the starting values: least squares, coefficients projected out.

    A weak prior, N(GUESS, GUESS_SD²), keeps what the data do not determine within reason.
    """
    before, days = folds[0].history.shape[1], folds[0].history.shape[1] + folds[0].outcome.shape[1]
    halves = [(fold, arm, _seen(fold)[fold.treated == arm]) for fold in folds for arm in (False, True)]
    # only the second moments of the rows matter: Σ‖M (y − o)‖² over units
    moments = [(fold, arm, len(y), y.mean(0), np.linalg.cholesky(np.cov(y.T, bias=True)).T) for fold, arm, y in halves]

    def residuals(log_shared: np.ndarray) -> np.ndarray:
        found = [NOISE_GUESS * (log_shared - GUESS) / GUESS_SD]
        courses = _unit_courses(before, days, log_shared)
        for fold, arm, n, mean, root in moments:
            linear = _linear(fold, courses[arm])
            basis, _ = np.linalg.qr(linear.columns)
            left = np.concatenate([root, (mean - linear.offset)[None]])
            found.append((np.sqrt(n) * (left - left @ basis @ basis.T)).ravel())
        return np.concatenate(found)

    found = optimize.least_squares(residuals, GUESS)
    if not found.success:
        raise RuntimeError(f"shared parameters were not found: {found.message}")
    return found.x


def answer_known(folds: tuple[Fold, Fold, Fold]) -> Answer:
    """Return the answer of the arm that is told the equations."""
    test = folds[0]
    shared = find_shared(folds)
    before, after = test.history.shape[1], test.outcome.shape[1]
    courses = _unit_courses(before, before + after, shared)
    rows, values = [], []
    for fold in folds:
        for arm in (False, True):
            linear = _linear(fold, courses[arm])
            seen = _seen(fold)[fold.treated == arm] - linear.offset
            values.append(seen)
            rows.append(np.broadcast_to(linear.columns, (len(seen), *linear.columns.shape)))
    population = fit_population(summarise_rows(np.concatenate(rows), np.concatenate(values)), components=2)
    treated, untreated = (_linear(test, courses[arm]) for arm in (True, False))
    seen = _seen(test)[test.treated] - treated.offset
    coefficients = infer_units(
        population, summarise_rows(np.broadcast_to(treated.columns, (len(seen), *treated.columns.shape)), seen)
    ).expected
    late = slice(-after, None)
    with_drug, without = (
        linear.offset[late] + coefficients @ linear.columns[late].T for linear in (treated, untreated)
    )
    learned = dict(zip(("K", "H", "D50", "P0", "R0"), np.exp(shared).tolist(), strict=True))
    return Answer(without, with_drug - without, learned | {"noise": population.noise})


@dataclass(frozen=True, eq=False)
class Factors:
    """Jointly normal rows with a few factors: mean, loadings (row, factor) and noise variance."""

    mean: np.ndarray
    loadings: np.ndarray
    variance: float


def fit_factors(rows: np.ndarray, factors: int) -> Factors:
    """Return the maximum likelihood factors with equal noise (Tipping and Bishop 1999, doi:10.1111/1467-9868.00196)."""
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = min(len(rows) - 1, rows.shape[1])
    variance = values[factors:rank].sum() / (rank - factors)
    loadings = vectors[:, :factors] * np.sqrt(np.maximum(values[:factors] - variance, 0))
    return Factors(mean, loadings, float(variance))


def complete(model: Factors, seen: np.ndarray) -> np.ndarray:
    """Return the expected rows without noise given the first columns of them, shape (unit, row)."""
    first = model.loadings[: seen.shape[1]]
    inner = first.T @ first + model.variance * np.eye(first.shape[1])
    scores = np.linalg.solve(inner, first.T @ (seen - model.mean[: seen.shape[1]]).T).T
    return model.mean + scores @ model.loadings.T


def choose_factors(rows: np.ndarray, known: int) -> int:
    """Return the number of factors that predicts the later columns from the first ``known`` best, out of sample."""
    part = np.random.default_rng(0).permutation(len(rows)) % PARTS
    errors = np.zeros(MOST_FACTORS)
    for held in range(PARTS):
        for q in range(1, MOST_FACTORS + 1):
            model = fit_factors(rows[part != held], q)
            missed = complete(model, rows[part == held][:, :known]) - rows[part == held]
            errors[q - 1] += (missed[:, known:] ** 2).sum()
    return int(errors.argmin()) + 1


def answer_none(folds: tuple[Fold, Fold, Fold]) -> Answer:
    """Return the answer of the arm that is told nothing: factors of controls, and of treated units, of all folds."""
    test = folds[0]
    known = 3 * test.history.shape[1]
    controls = np.concatenate([_common_units(fold, test)[~fold.treated] for fold in folds])
    treated = np.concatenate([_common_units(fold, test)[fold.treated] for fold in folds])
    count, count_treated = choose_factors(controls, known), choose_factors(treated, known)
    model = fit_factors(controls, count)
    own = _seen(test)[test.treated]
    untreated = complete(model, own[:, :known])[:, known:]
    smooth = complete(fit_factors(treated, count_treated), own)[:, known:]
    return Answer(untreated, smooth - untreated, {"factors": count, "factors of treated": count_treated})


def _common_units(fold: Fold, test: Fold) -> np.ndarray:
    """Return what is seen in a fold in the units of the test fold."""
    of = np.concatenate([np.full(rows, j) for j, rows in _lengths(fold)])
    return (_seen(fold) * fold.sd[of] + fold.mean[of] - test.mean[of]) / test.sd[of]


ARMS = {"known": answer_known, "none": answer_none}
