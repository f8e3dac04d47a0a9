"""How the patients decline and how they answer: latent course, treatment effect, and items with their noise."""

from functools import cache

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr

from trialtwin.core.errors import ConfigError
from trialtwin.data.examples.design import ARMS, ITEMS, VISITS
from trialtwin.data.examples.people import People

YEAR = 365.25
PROFILE = 0.5
FORM_OF_DAY = 0.16
ANSWER = 0.8
_GRID = 4001
_MAXIMA = np.array([item.maximum for item in ITEMS])
_HARDER = np.array([item.harder for item in ITEMS])
# Gauss–Hermite nodes and weights for a standard normal variable.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def draw_profiles(rng: np.random.Generator, people: People) -> Float[np.ndarray, "patient item"]:
    """Draw each patient's stable profile over the items, on the logit, difficulty included."""
    return _HARDER + PROFILE * rng.standard_normal((len(people), len(ITEMS)))


def expected_total(
    level: Float[np.ndarray, " patient"], profile: Float[np.ndarray, "patient item"]
) -> Float[np.ndarray, " patient"]:
    """Expect the total of patients at a latent level, over the form of the day and the noise of answers."""
    total = np.zeros(len(level))
    for node, weight in zip(FORM_OF_DAY * _NODES, _WEIGHTS, strict=True):
        share = expit(level[:, None] + profile + node)
        for k in range(len(ITEMS)):
            total += weight * np.interp(share[:, k], *_expected_answer(int(_MAXIMA[k])))
    return total


def effect_on_rate(
    people: People, profile: Float[np.ndarray, "patient item"], effect: tuple[float, float]
) -> Float[np.ndarray, " arm"]:
    """Find what each arm adds to the yearly rate so that the mean expected total at the last visit differs by effect.

    Raises
    ------
    ConfigError
        If no rate gives an effect of that size.
    """
    years = VISITS[-1].time / YEAR
    level = people.severity + people.rate * years
    base = float(expected_total(level, profile).mean())

    def miss(rate: float, wanted: float) -> float:
        return float(expected_total(level + rate * years, profile).mean()) - base - wanted

    rates = [0.0]
    for arm, wanted in zip(ARMS[1:], effect, strict=True):
        if not (miss(-12.0, wanted) < 0 < miss(12.0, wanted)):
            raise ConfigError(
                f"no effect of {wanted:g} points is possible in arm {arm!r}",
                where=f"expected total of {base:.1f} points at {VISITS[-1].name} on placebo",
                do="choose an effect that leaves totals between 0 and 70",
            )
        rates.append(float(brentq(miss, -12.0, 12.0, args=(wanted,), xtol=1e-10)) if wanted else 0.0)
    return np.array(rates)


def levels(
    people: People, added: Float[np.ndarray, " patient"], time: Float[np.ndarray, "patient visit"]
) -> Float[np.ndarray, "patient visit"]:
    """Return the latent level at times in days since the first dose; before it, that of baseline."""
    years = np.maximum(time, 0.0) / YEAR
    return people.severity[:, None] + (people.rate + added)[:, None] * years


def draw_answers(
    rng: np.random.Generator, level: Float[np.ndarray, "patient visit"], profile: Float[np.ndarray, "patient item"]
) -> Int[np.ndarray, "patient visit item"]:
    """Draw the answers to all items at all visits: whole numbers from 0 to the item's maximum."""
    form = FORM_OF_DAY * rng.standard_normal(level.shape)
    share = expit((level + form)[:, :, None] + profile[:, None, :])
    noise = rng.standard_normal(share.shape)
    drawn = _MAXIMA * share + ANSWER * np.sqrt(_MAXIMA * share * (1 - share)) * noise
    return np.clip(np.floor(drawn + 0.5), 0, _MAXIMA).astype(np.int64)


@cache
def _expected_answer(maximum: int) -> tuple[Float[np.ndarray, " grid"], Float[np.ndarray, " grid"]]:
    """Tabulate the expected answer to an item against the share p: the sum over j of P(answer ≥ j)."""
    share = expit(np.linspace(logit(1e-6), logit(1 - 1e-6), _GRID))
    spread = ANSWER * np.sqrt(maximum * share * (1 - share))
    steps = np.arange(1, maximum + 1) - 0.5
    expected = ndtr((maximum * share - steps[:, None]) / spread).sum(axis=0)
    return share, expected
