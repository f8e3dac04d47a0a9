"""Who gets which arm: simple, permuted blocks, Efron's biased coin and Pocock–Simon minimisation, at any ratio.

A scheme is a value; ``randomise`` turns it into each patient's arm, in order of entry. Arms are 0, 1, … in the order of
the allocation ratio. With unequal ratios the coin and minimisation work on as many equal shares as the ratio adds up
to, and an arm gets the patients of its shares. By symmetry the chance of an arm is then its ratio at every single
allocation; the price is a balance no tighter than that of blocks of one round.

Sources: Efron (1971), doi:10.1093/biomet/58.3.403; Pocock and Simon (1975), doi:10.2307/2529712; equal shares:
Kuznetsova and Tymofyeyev (2012), Statistics in Medicine 31.
"""

from dataclasses import dataclass
from math import gcd
from typing import assert_never, final

import numpy as np
from jaxtyping import Float, Int, Shaped

from trialtwin.core.errors import ConfigError, DataError

IMBALANCES = ("range", "variance")
_TIE = 1e-9  # imbalances are sums of weights: equal ones may differ in the last digit


@final
@dataclass(frozen=True)
class Simple:
    """Every patient independently, in the chances of the ratio.

    Parameters
    ----------
    ratio
        Shares of the arms, such as ``(2, 1)``.

    Raises
    ------
    ConfigError
        If there are fewer than two arms, or a share is no whole number above zero.
    """

    ratio: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        _require_ratio(self.ratio)


@final
@dataclass(frozen=True)
class PermutedBlock:
    """Blocks in random order that each hold the ratio exactly; within strata where ``randomise`` is given factors.

    Parameters
    ----------
    sizes
        Patients in a block; where there are several sizes, each block's is drawn with equal chances.
    ratio
        Shares of the arms.

    Raises
    ------
    ConfigError
        If there is no size, one is no multiple of the sum of the ratio, or the ratio is wrong.
    """

    sizes: tuple[int, ...]
    ratio: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        _require_ratio(self.ratio)
        round_ = sum(self.ratio)
        if not self.sizes:
            raise ConfigError("permuted blocks have no size", do=f"give multiples of {round_}")
        for size in self.sizes:
            if not _is_whole(size) or size < 1 or size % round_:
                raise ConfigError(
                    f"a block of {size} cannot hold a ratio of {_words(self.ratio)}", do=f"give multiples of {round_}"
                )
        if len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"block sizes repeat: {self.sizes}", do="name each once: they have equal chances")


@final
@dataclass(frozen=True)
class BiasedCoin:
    """Efron's coin: the arm that is behind gets the next patient with this probability; at a tie chances are equal.

    Within strata where ``randomise`` is given factors.

    Parameters
    ----------
    probability
        Of the share that is behind: above 1 over the sum of the ratio (a fair coin), at most 1.
    ratio
        Shares of the arms.

    Raises
    ------
    ConfigError
        If the probability is out of range, or the ratio is wrong.
    """

    probability: float = 2 / 3
    ratio: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        _require_ratio(self.ratio)
        _require_coin(self.probability, self.ratio)


@final
@dataclass(frozen=True)
class Minimisation:
    """Pocock and Simon: the arm that leaves the margins of the factors least unequal is the likely one.

    For a patient with levels l_f, arm k would leave the imbalance Σ_f w_f D(n_f,l_f + e_k), where n_f,l are the numbers
    of patients with that level in each arm and D is their range or variance. The arm of least imbalance is given with
    the coin's probability, every other share with an equal part of the rest; ties are broken at random.

    Parameters
    ----------
    probability
        Of the share of least imbalance: above 1 over the sum of the ratio, at most 1 (which is predictable).
    weights
        w_f, one a factor; ``None`` weighs all alike.
    imbalance
        "range" or "variance".
    ratio
        Shares of the arms.

    Raises
    ------
    ConfigError
        If the probability is out of range, a weight is not above zero, the imbalance is another, or the ratio is wrong.
    """

    probability: float = 0.8
    weights: tuple[float, ...] | None = None
    imbalance: str = "range"
    ratio: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        _require_ratio(self.ratio)
        _require_coin(self.probability, self.ratio)
        if self.imbalance not in IMBALANCES:
            raise ConfigError(f"no imbalance {self.imbalance!r}", exists=IMBALANCES)
        for number, weight in enumerate(self.weights or ()):
            if not (np.isfinite(weight) and weight > 0):
                raise ConfigError(f"the weight of factor {number} is {weight:g}", do="give weights above zero")


type Scheme = Simple | PermutedBlock | BiasedCoin | Minimisation


def randomise(
    scheme: Scheme,
    patients: int,
    *,
    seed: int | tuple[int, ...] | np.random.Generator,
    factors: Shaped[np.ndarray, "..."] | None = None,
) -> Int[np.ndarray, " patient"]:
    """Return each patient's arm, in order of entry: 0 is the first of the ratio.

    Parameters
    ----------
    scheme
        `Simple`, `PermutedBlock`, `BiasedCoin` or `Minimisation`.
    patients
        How many.
    seed
        A number, several (of a trial: ``(seed, cell, trial)``), or a generator, which is drawn from.
    factors : shape (patient,) or (patient, factor)
        Levels as codes, 0 or above. Blocks and the coin balance within every combination of levels that occurs;
        minimisation balances the margins, and cannot do without.

    Raises
    ------
    ConfigError
        If simple randomisation is given factors, minimisation none, or weights of other factors.
    DataError
        If factors are of other patients, or no codes.

    Examples
    --------
    >>> arms = randomise(PermutedBlock((6,), ratio=(2, 1)), 12, seed=1)
    >>> np.bincount(arms[:6]), np.bincount(arms)
    (array([4, 2]), array([8, 4]))
    >>> site = np.tile([0, 0, 1], 20)
    >>> [int(abs(np.diff(np.bincount(randomise(Minimisation(1.0), 60, seed=1, factors=site)[site == s])))[0])
    ...  for s in (0, 1)]
    [0, 0]
    """
    if not _is_whole(patients) or patients < 1:
        raise ConfigError(f"{patients} patients to randomise", do="give a whole number, 1 or more")
    rng = np.random.default_rng(seed)
    levels = _levels(factors, patients)
    _require_factors(scheme, levels.shape[1])
    match scheme:
        case Simple():
            shares = np.array(scheme.ratio)
            return rng.choice(len(shares), size=patients, p=shares / shares.sum())
        case PermutedBlock():
            return _in_blocks(scheme, _strata(levels), rng)
        case BiasedCoin():
            single = Minimisation(scheme.probability, ratio=scheme.ratio)
            return _minimise(single, _strata(levels)[:, None], rng)
        case Minimisation():
            return _minimise(scheme, levels, rng)
        case _:
            assert_never(scheme)


def _require_factors(scheme: Scheme, factors: int) -> None:
    """Refuse factors that a scheme would not look at, and a scheme that has none to look at."""
    if isinstance(scheme, Simple) and factors:
        raise ConfigError(
            "simple randomisation does not use factors", do="leave them out, or name a scheme that balances"
        )
    if isinstance(scheme, Minimisation):
        if not factors:
            raise ConfigError(
                "minimisation has no factors to balance", do="give factors, or name the biased coin instead"
            )
        if scheme.weights is not None and len(scheme.weights) != factors:
            raise ConfigError(f"{len(scheme.weights)} weight(s) for {factors} factor(s)", do="give one a factor")


def _in_blocks(
    scheme: PermutedBlock, strata: Int[np.ndarray, " patient"], rng: np.random.Generator
) -> Int[np.ndarray, " patient"]:
    """Fill each stratum with blocks of its own; the last block may stay open."""
    arms = np.empty(len(strata), dtype=np.int64)
    for stratum in range(strata.max() + 1):
        members = np.flatnonzero(strata == stratum)
        arms[members] = _blocks(scheme, len(members), rng)
    return arms


def _blocks(scheme: PermutedBlock, patients: int, rng: np.random.Generator) -> Int[np.ndarray, " patient"]:
    """Return arms of one list, with all blocks of a size permuted at once."""
    shares, most = np.array(scheme.ratio), -(-patients // min(scheme.sizes))
    if len(scheme.sizes) == 1:
        sizes = np.full(most, scheme.sizes[0])
    else:
        sizes = rng.choice(scheme.sizes, size=most)
        sizes = sizes[: np.searchsorted(np.cumsum(sizes), patients) + 1]
    starts = np.cumsum(sizes) - sizes
    arms = np.empty(int(sizes.sum()), dtype=np.int64)
    for size in np.unique(sizes):
        first = starts[sizes == size]
        one = np.repeat(np.arange(len(shares)), shares * (size // shares.sum()))
        arms[first[:, None] + np.arange(size)] = rng.permuted(np.tile(one, (len(first), 1)), axis=1)
    return arms[:patients]


def _minimise(
    scheme: Minimisation, levels: Int[np.ndarray, "patient factor"], rng: np.random.Generator
) -> Int[np.ndarray, " patient"]:
    """Give patients one after the other to the equal shares, and shares to their arms."""
    ratio = np.array(scheme.ratio) // gcd(*scheme.ratio)
    owner = np.repeat(np.arange(len(ratio)), ratio)
    shares, factors = len(owner), np.arange(levels.shape[1])
    weights = np.ones(len(factors)) if scheme.weights is None else np.array(scheme.weights, dtype=float)
    counts = np.zeros((len(factors), int(levels.max()) + 1, shares))
    one_more = np.eye(shares)
    rest = (1 - scheme.probability) / (shares - 1)
    turns = rng.random((len(levels), 2))
    arms = np.empty(len(levels), dtype=np.int64)
    for i, level in enumerate(levels):
        after = counts[factors, level][:, None, :] + one_more
        imbalance = weights @ _imbalances(after, scheme.imbalance)
        least = np.flatnonzero(imbalance <= imbalance.min() + _TIE * (1 + imbalance.max()))
        share = int(least[int(turns[i, 0] * len(least))])
        if turns[i, 1] >= scheme.probability:
            other = min(int((turns[i, 1] - scheme.probability) / rest), shares - 2)
            share = other + (other >= share)
        counts[factors, level, share] += 1
        arms[i] = owner[share]
    return arms


def _imbalances(after: Float[np.ndarray, "factor share share"], kind: str) -> Float[np.ndarray, "factor share"]:
    """Return the imbalance of each factor's level (rows) if each share (columns) had the patient."""
    return after.max(axis=2) - after.min(axis=2) if kind == "range" else after.var(axis=2, ddof=1)


def _levels(factors: Shaped[np.ndarray, "..."] | None, patients: int) -> Int[np.ndarray, "patient factor"]:
    """Return factors as columns of codes from 0 without gaps; no column where there are none."""
    if factors is None:
        return np.zeros((patients, 0), dtype=np.int64)
    codes = np.asarray(factors)
    if codes.ndim not in {1, 2} or len(codes) != patients or codes.size == 0:
        raise DataError(
            f"factors of shape {codes.shape} for {patients} patients", do="give one row a patient, one column a factor"
        )
    if codes.dtype.kind not in "iu":
        raise DataError(f"factors hold {codes.dtype} values", do="give levels as whole numbers, such as np.unique's")
    columns = codes.reshape(patients, -1)
    if columns.min() < 0:
        row, column = (int(at[0]) for at in np.nonzero(columns < 0))
        raise DataError(
            f"a factor has the code {columns[row, column]}",
            where=f"patient {row}, factor {column}",
            do="code levels 0, 1, …; give a missing level a code of its own",
        )
    return np.column_stack([np.unique(column, return_inverse=True)[1] for column in columns.T])


def _strata(levels: Int[np.ndarray, "patient factor"]) -> Int[np.ndarray, " patient"]:
    """Return each patient's combination of levels as a code from 0; one stratum where there are no factors."""
    if not levels.shape[1]:
        return np.zeros(len(levels), dtype=np.int64)
    return np.unique(levels, axis=0, return_inverse=True)[1].reshape(-1)


def _require_ratio(ratio: tuple[int, ...]) -> None:
    if len(ratio) < 2:
        raise ConfigError(
            f"an allocation ratio of {len(ratio)} arm(s)", do="give one share an arm, of two or more arms"
        )
    if not all(_is_whole(share) and share > 0 for share in ratio):
        raise ConfigError(f"an allocation ratio of {_words(ratio)}", do="give whole shares above zero, such as (2, 1)")


def _require_coin(probability: float, ratio: tuple[int, ...]) -> None:
    fair = gcd(*ratio) / sum(ratio)
    if not fair < probability <= 1:
        raise ConfigError(
            f"a coin of probability {probability:g} at a ratio of {_words(ratio)}",
            do=f"give a probability above {fair:.3g}, which is fair, and at most 1",
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _words(ratio: tuple[int, ...]) -> str:
    return ":".join(map(str, ratio))
