"""Prediction intervals and distributions that hold whatever the model: conformal prediction, arrays in.

All of it rests on one fact: among n + 1 exchangeable scores the newest is as likely to be the largest as any. Coverage
is promised on average over calibration sets and patients, not for each patient; it needs patients of one kind, not a
true model. With too few scores for a level the promise would take an interval without end, and that is an error.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from trialtwin.core.arrays import owned, require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError, FitError

type Scores = Float[np.ndarray, " calibration"]
type New = Float[np.ndarray, " new"]


@dataclass(frozen=True, eq=False)
class Band:
    """Prediction intervals, one a new patient, with the coverage that is promised on average."""

    lower: Float[np.ndarray, " new"]
    upper: Float[np.ndarray, " new"]
    promised: float
    method: str


def conformal_quantile(scores: Scores, level: float) -> float:
    """Return the ⌈(n + 1) × level⌉-th smallest score: a new one is at or below it with probability ``level`` or more.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1.
    DataError
        If a score is not finite.
    FitError
        If there are too few scores: fewer than level / (1 − level).

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    """
    _require_share(level)
    require_finite("conformity scores", scores)
    return float(np.sort(scores)[_rank(len(scores), level) - 1])


def split_conformal(
    residuals: Scores,
    predicted: New,
    level: float,
    *,
    spread: Scores | None = None,
    new_spread: New | None = None,
) -> Band:
    """Return predicted ± the conformal quantile of |residuals| of patients that the model has not learned from.

    With ``spread`` the residuals are divided by it before, and the quantile multiplied by the new patients' after
    (locally weighted), so that intervals are wider where errors are larger. Covers with probability ``level`` or more,
    and at most 1/(n + 1) above it where no two scores are equal. Sources: Papadopoulos et al. 2002,
    doi:10.1007/3-540-36755-1_29; Lei et al. 2018, doi:10.1080/01621459.2017.1307116.

    Parameters
    ----------
    residuals
        Observed minus predicted of the calibration patients.
    predicted
        Of the new patients.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1, or only one of the spreads is given.
    DataError
        If lengths differ, a value is not finite, or a spread is not above zero.
    FitError
        If there are too few calibration patients for the level.

    Examples
    --------
    >>> band = split_conformal(np.arange(-9.0, 10.0), np.array([100.0]), 0.9)
    >>> float(band.lower[0]), float(band.upper[0])
    (91.0, 109.0)
    """
    if (spread is None) != (new_spread is None):
        raise ConfigError("a spread was given for one of calibration and new patients only", do="give both or none")
    require_finite("predictions", predicted)
    old = np.ones_like(residuals) if spread is None else _positive(spread, len(residuals))
    new = np.ones_like(predicted) if new_spread is None else _positive(new_spread, len(predicted))
    half = new * conformal_quantile(np.abs(residuals) / old, level)
    return Band(predicted - half, predicted + half, level, "split conformal")


def cv_plus(
    residuals: Scores,
    fold: Int[np.ndarray, " calibration"],
    predicted: Float[np.ndarray, "fold new"],
    level: float,
) -> Band:
    """Return the CV+ interval: nobody is set aside, and each residual stays with the model that it came from.

    With model −k fitted without fold k, and Rᵢ = |yᵢ − μ₋ₖ₍ᵢ₎(xᵢ)|: from the ⌊α(n + 1)⌋-th smallest of μ₋ₖ₍ᵢ₎(x) − Rᵢ
    to the ⌈(1 − α)(n + 1)⌉-th smallest of μ₋ₖ₍ᵢ₎(x) + Rᵢ, α = 1 − level. With a fold for each patient this is the
    jackknife+. It is promised to cover with 1 − 2α − min(2(1 − 1/K)/(n/K + 1), (1 − K/n)/(K + 1)), and covers with
    about 1 − α unless the model is unstable. Source: Barber et al. 2021, doi:10.1214/20-AOS1965, theorems 1 and 4.

    Parameters
    ----------
    residuals
        Observed minus predicted of each patient, by the model that has not seen the patient.
    fold
        Which model that was, counted from 0.
    predicted : shape (fold, new)
        The new patients by each of the models.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1.
    DataError
        If lengths differ, a value is not finite, or a fold does not exist.
    FitError
        If there are too few patients for the level.

    Examples
    --------
    >>> band = cv_plus(np.array([1.0, -1.0, 2.0, 0.5]), np.array([0, 0, 1, 1]), np.array([[10.0], [11.0]]), 0.7)
    >>> float(band.lower[0]), float(band.upper[0])
    (9.0, 13.0)
    """
    _require_share(level)
    require_finite("residuals", residuals)
    require_finite("predictions", predicted)
    require_length("fold", fold, len(residuals))
    if len(fold) and not (fold.min() >= 0 and fold.max() < len(predicted)):
        raise DataError(f"folds from {fold.min()} to {fold.max()} beside the predictions of {len(predicted)} models")
    n, folds = len(residuals), len(predicted)
    rank, alpha = _rank(n, level), 1 - level
    ends = np.abs(residuals)[:, None]
    lower = np.sort(predicted[fold] - ends, axis=0)[n - rank]
    upper = np.sort(predicted[fold] + ends, axis=0)[rank - 1]
    loss = min(2 * (1 - 1 / folds) / (n / folds + 1), (1 - folds / n) / (folds + 1))
    name = "jackknife+" if folds == n else f"CV+, {folds} folds"
    return Band(lower, upper, max(0.0, 1 - 2 * alpha - loss), name)


def conformalised_quantiles(
    lower: Scores, upper: Scores, observed: Scores, new_lower: New, new_upper: New, level: float
) -> Band:
    """Return quantile forecasts widened, or narrowed, until they cover: conformalised quantile regression.

    With E = max(lower − y, y − upper) of patients that the model has not learned from, both ends move out by E's
    conformal quantile. Intervals keep the shape that the model gave them; where narrowing turns one round it becomes
    the midpoint. Source: Romano, Patterson and Candès 2019, arXiv:1905.03222, theorem 1.

    Raises
    ------
    ConfigError
        If the level is not between 0 and 1.
    DataError
        If lengths differ or a value is not finite.
    FitError
        If there are too few calibration patients for the level.

    Examples
    --------
    >>> y = np.arange(19.0)
    >>> band = conformalised_quantiles(y - 1, y + 1, y, np.array([3.0]), np.array([7.0]), 0.9)
    >>> float(band.lower[0]), float(band.upper[0])
    (4.0, 6.0)
    """
    for name, array in (("upper", upper), ("observed", observed)):
        require_length(name, array, len(lower))
    require_length("new_upper", new_upper, len(new_lower))
    require_finite("new quantiles", np.concatenate([new_lower, new_upper]))
    shift = conformal_quantile(np.maximum(lower - observed, observed - upper), level)
    low, high = new_lower - shift, new_upper + shift
    middle = (low + high) / 2
    return Band(np.minimum(low, middle), np.maximum(high, middle), level, "conformalised quantiles")


@dataclass(frozen=True, eq=False)
class ErrorLaw:
    """The distribution that a new patient's score is drawn from, given others' scores: a conformal predictive law.

    ``place`` increases within (0, 1); the quantile function is straight between the scores there and, beyond the first
    and last, goes on as a normal with the scores' SD does, so that draws are finite where the promise of coverage
    says only that something lies beyond.
    """

    place: Float[np.ndarray, " score"]
    scores: Float[np.ndarray, " score"]
    sd: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", owned(self.place))
        object.__setattr__(self, "scores", owned(self.scores))

    def quantile(self, u: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return the score at each probability within (0, 1)."""
        inside = np.interp(u, self.place, self.scores)
        tail = ndtri(np.clip(u, 1e-12, 1 - 1e-12))
        low, high = ndtri(self.place[0]), ndtri(self.place[-1])
        return inside + self.sd * (np.minimum(tail - low, 0.0) + np.maximum(tail - high, 0.0))

    def mean(self, points: int = 4000) -> float:
        """Return the mean score, by the midpoint rule over the probabilities: the same every time."""
        return float(self.quantile((np.arange(points) + 0.5) / points).mean())


def error_law(scores: Scores, unit: Int[np.ndarray, " calibration"] | None = None) -> ErrorLaw:
    """Return the conformal predictive law of scores; several a patient share that patient's weight.

    A draw at uniform u falls at or below the i-th smallest of n scores with probability i/(n + 1): between two scores
    with 1/(n + 1), beyond either end likewise. An interval between quantiles a and b so covers with b − a, up to
    1/(n + 1) at each end. With ``unit``, each of N patients has 1/(N + 1) in all, spread evenly over their scores
    (Dunn, Wasserman and Ramdas 2022, doi:10.1080/01621459.2022.2060112, pooled distribution functions). Source: Vovk,
    Shen, Manokhin and Xie 2019, doi:10.1007/s10994-018-5755-8.

    Parameters
    ----------
    unit
        Whose score each is, as an integer; one patient a score by default.

    Raises
    ------
    DataError
        If lengths differ or a score is not finite.
    FitError
        If there are fewer than two patients, or all scores are equal.

    Examples
    --------
    >>> law = error_law(np.array([3.0, 1.0, 2.0]))
    >>> law.place.tolist(), law.quantile(np.array([0.5])).tolist()
    ([0.25, 0.5, 0.75], [2.0])
    """
    require_finite("conformity scores", scores)
    owner = np.arange(len(scores)) if unit is None else unit
    require_length("unit", owner, len(scores))
    _, index, count = np.unique(owner, return_inverse=True, return_counts=True)
    if len(count) < 2:
        raise FitError(f"scores of {len(count)} patient(s) tell no distribution", do="give at least two patients")
    share = 1 / count[index] / (len(count) + 1)
    order = np.argsort(scores, kind="stable")
    sorted_scores, sorted_share = scores[order], share[order]
    # a patient's share is spread around the score; for one score a patient this gives i/(n + 1)
    place = (1 - sorted_share.sum()) / 2 + np.cumsum(sorted_share) - sorted_share / 2
    total = float(np.average(scores, weights=share))
    sd = float(np.sqrt(np.average((scores - total) ** 2, weights=share)))
    if sd <= 1e-12 * max(1.0, float(np.abs(scores).max())):
        raise FitError(f"all {len(scores)} scores are {scores[0]:g}: there is no error to learn from")
    return ErrorLaw(place, sorted_scores, sd)


def _rank(n: int, level: float) -> int:
    """Return ⌈(n + 1) × level⌉, guarding against rounding just above a whole number."""
    rank = int(np.ceil((n + 1) * level - 1e-9))
    if rank > n:
        raise FitError(
            f"{n} score(s) are too few for {level:.0%} intervals that are sure to cover",
            do=f"give at least {int(np.ceil(level / (1 - level) - 1e-9))}, or ask for a lower level",
        )
    return rank


def _require_share(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level {level:g} is not between 0 and 1")


def _positive(spread: np.ndarray, length: int) -> np.ndarray:
    require_length("the spread", spread, length)
    require_finite("the spread", spread)
    if length and spread.min() <= 0:
        raise DataError(f"a spread of {spread.min():g}", do="a spread is above zero")
    return spread
