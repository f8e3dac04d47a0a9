"""Randomisation: balance where it is promised, chances that are known, and errors that say what to do."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.trials.design import Design
from trialtwin.trials.randomise import BiasedCoin, Minimisation, PermutedBlock, Simple, randomise

RATIOS = [(1, 1), (2, 1), (1, 2, 3)]
FACTORS = np.random.default_rng(7).integers(0, [2, 3, 5], size=(400, 3))


def schemes(ratio: tuple[int, ...]) -> list[Simple | PermutedBlock | BiasedCoin | Minimisation]:
    size = sum(ratio)
    return [
        Simple(ratio),
        PermutedBlock((size, 2 * size), ratio),
        BiasedCoin(0.7, ratio),
        Minimisation(0.8, ratio=ratio),
    ]


def needs(scheme: object, patients: int) -> np.ndarray | None:
    return FACTORS[:patients] if isinstance(scheme, Minimisation) else None


@pytest.mark.parametrize("ratio", RATIOS)
def test_same_seed_gives_the_same_list_and_another_seed_another(ratio: tuple[int, ...]) -> None:
    for scheme in schemes(ratio):
        first, again, other = (randomise(scheme, 100, seed=s, factors=needs(scheme, 100)) for s in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        generator = randomise(scheme, 100, seed=np.random.default_rng(3), factors=needs(scheme, 100))
        np.testing.assert_array_equal(first, generator)


@pytest.mark.parametrize("ratio", RATIOS)
def test_law_the_chance_of_an_arm_is_its_ratio_at_every_allocation(ratio: tuple[int, ...]) -> None:
    """Allocations 1, 2, 5 and 8 of 1,500 lists: each chi-square at 1e-4."""
    for scheme in schemes(ratio):
        lists = np.array([randomise(scheme, 8, seed=(1, k), factors=needs(scheme, 8)) for k in range(1500)])
        for place in (0, 1, 4, 7):
            seen = np.bincount(lists[:, place], minlength=len(ratio))
            assert chisquare(seen, 1500 * np.array(ratio) / sum(ratio)).pvalue > 1e-4, (scheme, place)


@pytest.mark.parametrize("ratio", RATIOS)
def test_each_block_holds_the_ratio(ratio: tuple[int, ...]) -> None:
    size = 2 * sum(ratio)
    arms = randomise(PermutedBlock((size,), ratio), 10 * size + 1, seed=1)
    for block in arms[:-1].reshape(10, size):
        np.testing.assert_array_equal(np.bincount(block, minlength=len(ratio)), 2 * np.array(ratio))


def test_random_block_sizes_are_all_used_and_each_block_is_balanced() -> None:
    """With sizes 2 and 6 the list is balanced after every block: at least after every sixth patient or sooner."""
    lead = np.cumsum(1 - 2 * randomise(PermutedBlock((2, 6)), 3000, seed=1))
    level = np.flatnonzero(lead == 0) + 1
    assert np.abs(lead).max() == 3
    assert np.diff(level).max() <= 6
    assert np.abs(lead[level[-1] - 1 :]).max() <= 3


def test_law_every_order_of_a_block_is_equally_likely() -> None:
    blocks = randomise(PermutedBlock((4,)), 4 * 6000, seed=1).reshape(-1, 4) @ [8, 4, 2, 1]
    orders = [int(np.dot(o, [8, 4, 2, 1])) for o in product((0, 1), repeat=4) if sum(o) == 2]
    assert set(blocks) == set(orders)
    assert chisquare([(blocks == o).sum() for o in orders]).pvalue > 1e-4


def test_blocks_are_kept_within_every_stratum() -> None:
    arms = randomise(PermutedBlock((4, 6)), 400, seed=1, factors=FACTORS)
    for levels in np.unique(FACTORS, axis=0):
        within = arms[(levels == FACTORS).all(axis=1)]
        assert np.abs(np.cumsum(1 - 2 * within)).max() <= 3
    fixed = randomise(PermutedBlock((4,)), 400, seed=1, factors=FACTORS[:, 0])
    for level in (0, 1):
        within = fixed[FACTORS[:, 0] == level]
        blocks = within[: len(within) // 4 * 4].reshape(-1, 4)
        assert (blocks.sum(axis=1) == 2).all()


def test_law_rerandomisation_within_strata_keeps_its_level() -> None:
    """Outcomes differ by stratum, no effect: p ≤ 0.1 in 10 % of 300 trials, within an exact binomial test at 1e-3."""
    rng, strata, scheme = np.random.default_rng(5), FACTORS[:48, 1], PermutedBlock((4,))
    rejected = 0
    for _ in range(300):
        y = 3.0 * strata + rng.standard_normal(48)
        lists = np.array([randomise(scheme, 48, seed=rng, factors=strata) for _ in range(20)])
        shift = np.abs([y[a == 1].mean() - y[a == 0].mean() for a in lists])
        rejected += (shift >= shift[0]).mean() <= 0.1
    assert binomtest(rejected, 300, 0.1).pvalue > 1e-3


def coin_distance(probability: float, patients: int) -> np.ndarray:
    """Return the distribution of |difference| under Efron's coin, from the chain over differences."""
    chance = np.zeros(patients + 2)
    chance[0] = 1.0
    for _ in range(patients):
        after = np.zeros_like(chance)
        after[1] += chance[0]
        after[:-2] += probability * chance[1:-1]
        after[2:] += (1 - probability) * chance[1:-1]
        chance = after
    return chance[: patients + 1]


def test_the_chain_has_efrons_limit() -> None:
    """Efron (1971): the chance of exact balance after an even number tends to 1 − q/p, 1/2 for a coin of 2/3."""
    assert coin_distance(2 / 3, 400)[0] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("probability", [0.6, 2 / 3, 0.9])
def test_law_independent_efrons_coin_has_the_moments_of_its_chain(probability: float) -> None:
    """1,500 lists of 12 patients: the first two moments of the distance within four standard errors."""
    lists = np.array([randomise(BiasedCoin(probability), 12, seed=(2, k)) for k in range(1500)])
    distance = np.abs((1 - 2 * lists).sum(axis=1)).astype(float)
    chance, values = coin_distance(probability, 12), np.arange(13.0)
    for power in (1, 2):
        mean, square = chance @ values**power, chance @ values ** (2 * power)
        error = np.sqrt((square - mean**2) / 1500)
        assert abs((distance**power).mean() - mean) < 4 * error


def test_a_sure_coin_alternates() -> None:
    arms = randomise(BiasedCoin(1.0, (2, 1)), 30, seed=1).reshape(10, 3)
    assert (arms.sum(axis=1) == 1).all()


def margins(arms: np.ndarray, factors: np.ndarray) -> int:
    """Return the largest difference between two arms at any level of any factor."""
    return max(
        int(abs((1 - 2 * arms[factors[:, f] == level]).sum()))
        for f in range(factors.shape[1])
        for level in np.unique(factors[:, f])
    )


@pytest.mark.parametrize("imbalance", ["range", "variance"])
def test_minimisation_balances_margins_as_simple_randomisation_does_not(imbalance: str) -> None:
    found = [
        margins(randomise(Minimisation(0.9, imbalance=imbalance), 400, seed=s, factors=FACTORS), FACTORS)
        for s in range(20)
    ]
    plain = [margins(randomise(Simple(), 400, seed=s), FACTORS) for s in range(20)]
    assert max(found) <= 8
    assert np.mean(plain) > 3 * np.mean(found)


def test_a_factor_of_more_weight_is_balanced_better() -> None:
    def lag(weights: tuple[float, ...]) -> float:
        return float(
            np.mean(
                [
                    margins(randomise(Minimisation(0.8, weights), 400, seed=s, factors=FACTORS), FACTORS[:, 2:])
                    for s in range(20)
                ]
            )
        )

    assert lag((1, 1, 20)) < lag((20, 20, 1))


def test_independent_minimisation_by_hand() -> None:
    """Counted patient by patient: with a sure coin, the arm of least summed range wins; ties are not asked."""
    factors = FACTORS[:60]
    weights = (1.0, 2.0, 0.5)
    arms = randomise(Minimisation(1.0, weights), 60, seed=9, factors=factors)
    ties = 0
    for i in range(60):
        total = [0.0, 0.0]
        for arm in (0, 1):
            for f in range(3):
                same = arms[:i][factors[:i, f] == factors[i, f]].tolist()
                n = [same.count(0), same.count(1)]
                n[arm] += 1
                total[arm] += weights[f] * abs(n[0] - n[1])
        if total[0] == total[1]:
            ties += 1
        else:
            assert arms[i] == int(total[1] < total[0])
    assert ties < 30


def test_minimisation_with_one_level_is_efrons_coin() -> None:
    one = np.zeros(50, dtype=int)
    minimised = randomise(Minimisation(0.7), 50, seed=4, factors=one)
    np.testing.assert_array_equal(minimised, randomise(BiasedCoin(0.7), 50, seed=4))


def test_codes_may_have_gaps() -> None:
    wide = np.where(FACTORS == 1, 1_000_000, FACTORS)
    order = np.array([0, 4, 1, 2, 3])  # 1 becomes the highest
    for scheme in (Minimisation(0.8), PermutedBlock((4,))):
        found = randomise(scheme, 400, seed=1, factors=wide)
        np.testing.assert_array_equal(found, randomise(scheme, 400, seed=1, factors=order[FACTORS]))


@pytest.mark.parametrize("scheme", ["simple", "permuted block"])
def test_simulated_designs_are_randomised_alike(scheme: str) -> None:
    plan = Design(
        title="B against A",
        patients=50,
        visits=(0, 1),
        arms=({"name": "A"}, {"name": "B", "share": 2}),
        endpoint={"name": "change"},
        randomisation={"scheme": scheme},
    )
    same = Simple((1, 2)) if scheme == "simple" else PermutedBlock((3,), (1, 2))
    assert plan.scheme() == same


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Simple((1,)), r"1 arm\(s\)"),
        (lambda: Simple((1, 0)), "ratio of 1:0"),
        (lambda: Simple((True, 1)), "ratio of True:1"),
        (lambda: PermutedBlock((5,)), "block of 5 cannot hold a ratio of 1:1"),
        (lambda: PermutedBlock((4, 6), (2, 1)), "block of 4 cannot hold a ratio of 2:1"),
        (lambda: PermutedBlock(()), "no size"),
        (lambda: PermutedBlock((0,)), "block of 0"),
        (lambda: PermutedBlock((4, 4)), "sizes repeat"),
        (lambda: BiasedCoin(0.5), "coin of probability 0.5"),
        (lambda: BiasedCoin(1.1), "coin of probability 1.1"),
        (lambda: BiasedCoin(0.33, (2, 1)), "above 0.333"),
        (lambda: Minimisation(float("nan")), "probability nan"),
        (lambda: Minimisation(weights=(1.0, 0.0)), "weight of factor 1 is 0"),
        (lambda: Minimisation(imbalance="spread"), "no imbalance 'spread'"),
        (lambda: randomise(Simple(), 0, seed=1), "0 patients"),
        (lambda: randomise(Simple(), 400, seed=1, factors=FACTORS), "does not use factors"),
        (lambda: randomise(Minimisation(), 400, seed=1), "no factors"),
        (lambda: randomise(Minimisation(weights=(1.0,)), 400, seed=1, factors=FACTORS), r"1 weight\(s\) for 3 factor"),
    ],
)
def test_schemes_that_make_no_sense_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (FACTORS[:10], "for 400 patients"),
        (FACTORS.astype(float), "float64 values"),
        (np.where(FACTORS == 4, -1, FACTORS), "the code -1"),
        (np.zeros((400, 0), dtype=int), "for 400 patients"),
    ],
)
def test_factors_that_are_no_codes_are_refused(factors: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        randomise(PermutedBlock((4,)), 400, seed=1, factors=factors)
