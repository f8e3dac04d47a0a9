"""What cells say together: accuracy and calibration of each model, paired differences, and the winner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri, stdtr

from trialtwin.core.errors import FitError
from trialtwin.stats.calibration import Measure, correlation, uniformity
from trialtwin.twins.compare.cases import LEVELS, Cases, Cell, join

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Score:
    """How well a model forecast one outcome of patients known up to one day, out of fold.

    ``r`` is the correlation of expected and measured value at the last visit with enough patients, ``r_change`` that of
    the changes from baseline, averaged over repeats; ``None`` where they cannot be had. ``scaled`` is the CRPS over the
    SD of the outcome in the cohort. ``uniform_p`` tests the PIT at that visit, of the first repeat.
    """

    model: str
    outcome: int
    known: int
    cases: int
    patients: int
    rmse: Measure
    crps: Measure
    scaled: Measure
    log_score: Measure
    coverage: tuple[Measure, ...]
    r: Measure | None
    r_change: Measure | None
    uniform_p: float | None
    implausible: float
    draws: int


@dataclass(frozen=True)
class Difference:
    """A model's mean scaled CRPS minus the reference's, over cases that both forecast; positive where it is worse.

    The interval is over patients, for the twins as they were fitted; ``p`` is of the corrected resampled t-test over
    splits (Nadeau and Bengio 2003, doi:10.1023/A:1024068626366), which allows for training sets that overlap, and
    ``p_holm`` is Holm's over all models.
    """

    model: str
    reference: str
    value: float
    se: float
    lower: float
    upper: float
    patients: int
    splits: int
    p: float
    p_holm: float


def scores_of(
    cells: Sequence[Cell], model: str, scales: Float[np.ndarray, " outcome"], *, last: int = 20
) -> list[Score]:
    """Return a model's scores by outcome and day known, from the cells of one variation.

    Parameters
    ----------
    scales
        SD of each outcome in the cohort.
    last
        Patients that a visit must have to give correlations.
    """
    own = [cell for cell in cells if cell.model == model and cell.cases is not None]
    if not own:
        return []
    everything = join([cell.cases for cell in own if cell.cases is not None])
    pairs = sorted(set(zip(everything.outcome.tolist(), everything.known.tolist(), strict=True)))
    return [_score(own, everything, model, outcome, known, scales, last) for outcome, known in pairs]


def _score(
    own: Sequence[Cell],
    everything: Cases,
    model: str,
    outcome: int,
    known: int,
    scales: Float[np.ndarray, " outcome"],
    last: int,
) -> Score:
    rows = (everything.outcome == outcome) & (everything.known == known)
    patient = everything.patient[rows]
    square = (everything.expected[rows] - everything.observed[rows]) ** 2
    mean_square = clustered_mean("mean square", square, patient)
    root = float(np.sqrt(mean_square.value))
    half = float(ndtri((1 + LEVEL) / 2)) * mean_square.se / (2 * root) if root > 0 else 0.0
    rmse = Measure(
        "RMSE", root, half / float(ndtri((1 + LEVEL) / 2)), root - half, root + half, mean_square.n, LEVEL, _CLUSTERED
    )
    crps = clustered_mean("CRPS", everything.crps[rows], patient)
    r, change, uniform = _at_last_visit(own, outcome, known, last)
    draws = int(everything.draws[outcome])
    return Score(
        model=model,
        outcome=outcome,
        known=known,
        cases=int(rows.sum()),
        patients=len(np.unique(patient)),
        rmse=rmse,
        crps=crps,
        scaled=clustered_mean("scaled CRPS", everything.crps[rows] / scales[outcome], patient),
        log_score=clustered_mean("log score", everything.log_score[rows], patient),
        coverage=tuple(
            clustered_mean(f"coverage of {level:.0%} intervals", everything.covered[rows, k].astype(float), patient)
            for k, level in enumerate(LEVELS)
        ),
        r=r,
        r_change=change,
        uniform_p=uniform,
        implausible=float(everything.implausible[outcome] / draws) if draws else 0.0,
        draws=draws,
    )


_CLUSTERED = "patients as clusters"


def clustered_mean(
    name: str, values: Float[np.ndarray, " case"], patient: Int[np.ndarray, " case"], *, level: float = LEVEL
) -> Measure:
    """Return the mean over cases with an interval that takes patients, not cases, as independent.

    With sᵢ and nᵢ the sum and number of patient i's cases, m = Σ sᵢ / Σ nᵢ and
    SE² = N/(N − 1) Σ (sᵢ − m nᵢ)² / (Σ nᵢ)², the linearised variance of a ratio (Cochran 1977, ISBN 978-0-471-16240-7,
    section 6.4); z interval.

    Examples
    --------
    >>> one = clustered_mean("a", np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
    >>> one.value, one.se, one.n
    (2.0, 1.0, 2)
    """
    _, index = np.unique(patient, return_inverse=True)
    count, total = np.bincount(index).astype(float), np.bincount(index, values)
    n, mean = len(count), float(total.sum() / count.sum())
    se = float(np.sqrt(n / (n - 1) * np.sum((total - mean * count) ** 2)) / count.sum()) if n > 1 else float("nan")
    half = float(ndtri((1 + level) / 2)) * se
    return Measure(name, mean, se, mean - half, mean + half, n, level, _CLUSTERED)


def _at_last_visit(
    own: Sequence[Cell], outcome: int, known: int, least: int
) -> tuple[Measure | None, Measure | None, float | None]:
    """Return correlations at the last visit with enough patients, and the p-value of the PIT's uniformity there."""
    repeats: dict[str, list[Cases]] = {}
    for cell in own:
        if cell.cases is not None:
            repeats.setdefault(cell.split.split(" fold")[0], []).append(cell.cases)
    joined = [join(parts) for parts in repeats.values()]
    first = joined[0]
    here = (first.outcome == outcome) & (first.known == known)
    visits, counts = np.unique(first.visit[here], return_counts=True)
    enough = visits[counts >= least]
    if len(enough) == 0:
        return None, None, None
    visit = enough[-1]
    value, change = [], []
    for cases in joined:
        rows = (cases.outcome == outcome) & (cases.known == known) & (cases.visit == visit)
        value.append((cases.expected[rows], cases.observed[rows]))
        based = rows & np.isfinite(cases.base)
        base = cases.base[based]
        change.append((cases.expected[based] - base, cases.observed[based] - base))
    rows = here & (first.visit == visit)
    return _correlated("R", value), _correlated("R of change", change), uniformity(first.pit[rows]).p


def _correlated(name: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Measure | None:
    """Return the correlation averaged over repeats on Fisher's scale, with Fisher's interval for one repeat's n."""
    found = []
    for expected, observed in pairs:
        try:
            found.append(correlation(expected, observed))
        except FitError:
            return None
    z, n = float(np.mean([np.arctanh(one.value) for one in found])), found[0].n
    half = float(ndtri((1 + LEVEL) / 2)) / np.sqrt(n - 3)
    low, mid, high = (float(np.tanh(x)) for x in (z - half, z, z + half))
    return Measure(name, mid, found[0].se, low, high, n, LEVEL, "Fisher z")


def differences(
    cells: Sequence[Cell], reference: str, models: Sequence[str], scales: Float[np.ndarray, " outcome"]
) -> list[Difference]:
    """Compare each model with the reference, case by case and patient by patient.

    Raises
    ------
    FitError
        If a model and the reference have no case in common.
    """
    found = [
        _difference(cells, reference, model, scales) for model in models if model != reference and _usable(cells, model)
    ]
    order = np.argsort([one.p for one in found])
    holm, running = np.empty(len(found)), 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, (len(found) - place) * found[i].p))
        holm[i] = running
    return [Difference(**{**vars(one), "p_holm": float(p)}) for one, p in zip(found, holm, strict=True)]


def _usable(cells: Sequence[Cell], model: str) -> bool:
    return any(cell.model == model and cell.cases is not None for cell in cells)


def _difference(cells: Sequence[Cell], reference: str, model: str, scales: Float[np.ndarray, " outcome"]) -> Difference:
    by_split: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        if cell.model in (reference, model) and cell.cases is not None:
            by_split.setdefault(cell.split, {})[cell.model] = cell
    values, patients, means, ratios = [], [], [], []
    for pair in by_split.values():
        if len(pair) < 2:
            continue
        gap, who = _gaps(pair[model].cases, pair[reference].cases, scales)
        if len(gap) == 0:
            continue
        values.append(gap)
        patients.append(who)
        means.append(gap.mean())
        ratios.append(pair[model].pupils / pair[model].teachers)
    if not values:
        raise FitError(f"{model} and {reference} forecast no case in common", do="compare models of the same outcomes")
    one = clustered_mean("difference", np.concatenate(values), np.concatenate(patients))
    return Difference(
        model=model,
        reference=reference,
        value=one.value,
        se=one.se,
        lower=one.lower,
        upper=one.upper,
        patients=one.n,
        splits=len(means),
        p=corrected_p(np.array(means), float(np.mean(ratios))),
        p_holm=1.0,
    )


def corrected_p(means: Float[np.ndarray, " split"], ratio: float) -> float:
    """Return the two-sided p-value of the corrected resampled t-test.

    t = d̄ / √((1/J + ratio) s²) with J − 1 degrees, ``ratio`` the size of the test set over that of the training set
    (Nadeau and Bengio 2003, doi:10.1023/A:1024068626366). 1 where all differences are zero, or there is one split only.

    Examples
    --------
    >>> round(corrected_p(np.array([1.0, 2.0, 3.0, 2.0, 2.0]), 0.25), 4)
    0.0135
    """
    splits = len(means)
    spread = float(means.std(ddof=1)) if splits > 1 else 0.0
    if spread == 0.0:
        return 1.0 if splits < 2 or means[0] == 0 else 0.0
    t = float(means.mean()) / (spread * np.sqrt(1 / splits + ratio))
    return float(2 * stdtr(splits - 1, -abs(t)))


def _gaps(
    cases: Cases | None, reference: Cases | None, scales: Float[np.ndarray, " outcome"]
) -> tuple[Float[np.ndarray, " case"], Int[np.ndarray, " case"]]:
    """Return the difference of scaled CRPS of each case that both have, and whose it is."""
    assert cases is not None  # noqa: S101 - both were looked at before
    assert reference is not None  # noqa: S101
    theirs = {name: i for i, name in enumerate(_names(reference))}
    both = [(i, theirs[name]) for i, name in enumerate(_names(cases)) if name in theirs]
    if not both:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    mine, other = np.array(both).T
    gap = (cases.crps[mine] - reference.crps[other]) / scales[cases.outcome[mine]]
    return gap, cases.patient[mine]


def _names(cases: Cases) -> list[tuple[int, int, int, int]]:
    columns = (cases.patient, cases.known, cases.visit, cases.outcome)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def overall(cells: Sequence[Cell], model: str, scales: Float[np.ndarray, " outcome"]) -> Measure | None:
    """Return a model's mean scaled CRPS over all its cases: what models are ranked by."""
    own = [cell.cases for cell in cells if cell.model == model and cell.cases is not None]
    if not own:
        return None
    cases = join(own)
    return clustered_mean("scaled CRPS", cases.crps / scales[cases.outcome], cases.patient)


def rank(
    cells: Sequence[Cell], models: Sequence[str], scales: Float[np.ndarray, " outcome"], splits: int
) -> list[tuple[str, Measure]]:
    """Order models by mean scaled CRPS over outcomes, days and visits; one that failed in any split has no rank.

    Raises
    ------
    FitError
        If every model failed, with their reasons.
    """
    sound = [name for name in models if sum(cell.model == name and cell.cases is not None for cell in cells) == splits]
    ranked = [(name, overall(cells, name, scales)) for name in sound]
    found = [(name, measure) for name, measure in ranked if measure is not None]
    if not found:
        raise FitError("no model could be fitted and judged in every split", where=reasons(cells))
    return sorted(found, key=lambda pair: pair[1].value)


def reasons(cells: Sequence[Cell]) -> str:
    """Return why cells failed, each reason once with its model."""
    told: Mapping[str, str] = {f"{c.model}: {c.failure.splitlines()[0]}": c.split for c in cells if c.failure}
    return "; ".join(f"{reason} ({split})" for reason, split in told.items())
