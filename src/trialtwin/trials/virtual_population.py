r"""Where the patients of a simulated trial come from: their untreated courses, and what a twin said of each beforehand.

A population gives, for any number of patients, their untreated course y₀ at the visits and a prognostic score s, the
twin's forecast of the change at the last visit. ``Normal`` is a law that is known:

    y₀ ~ N(m, Σ),   s = b + β (ρ z + √(1 − ρ²) e),   z the standardised change of y₀ at the last visit,  e ~ N(0, 1),

so that ρ is the correlation of score and untreated change, b the twin's drift (it forecasts too much decline) and β its
scale: neither is to matter to a trial that adjusts for the score, and both to one that believes it. ``Forecast`` draws
patients from a twin itself: then the twin is calibrated by construction, and what the trial gains is what it promises.
"""

from abc import abstractmethod
from typing import NamedTuple, final

import equinox as eqx
import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.core.trajectories import Trajectories


class People(NamedTuple):
    """Patients before anything is done to them: untreated courses, the score, and the SD of the endpoint."""

    course: Float[np.ndarray, "patient visit"]
    score: Float[np.ndarray, " patient"]


class AbstractPopulation(eqx.Module):
    """Patients to be recruited."""

    @abstractmethod
    def recruit(self, patients: int, rng: np.random.Generator) -> People:
        """Draw patients."""

    @abstractmethod
    def average(self) -> Float[np.ndarray, " visit"]:
        """Return the mean of the course at each visit."""

    @abstractmethod
    def spread(self) -> Float[np.ndarray, " visit"]:
        """Return the standard deviation of the course at each visit."""


@final
class Normal(AbstractPopulation):
    """Patients whose untreated course is normal, with a twin of known quality.

    Parameters
    ----------
    mean : shape (visit,)
        Untreated course.
    covariance : shape (visit, visit)
        Of the course; the change from the first to the last visit must vary.
    rho
        Correlation of the twin's score with the untreated change at the last visit, 0 to 1.
    drift, scale
        What the score is off by, in the outcome's unit, and by which factor its spread differs from the change's.

    Raises
    ------
    ConfigError
        If shapes differ, the covariance is not positive semi-definite, or ρ is outside [0, 1].
    """

    mean: Float[np.ndarray, " visit"]
    covariance: Float[np.ndarray, "visit visit"]
    rho: float = 0.5
    drift: float = 0.0
    scale: float = 1.0

    def __check_init__(self) -> None:
        if self.covariance.shape != (len(self.mean),) * 2:
            raise ConfigError(f"a covariance of shape {self.covariance.shape} for {len(self.mean)} visits")
        if not np.allclose(self.covariance, self.covariance.T) or np.linalg.eigvalsh(self.covariance)[0] < -1e-9:
            raise ConfigError("the covariance of the visits is no covariance", do="check that it is symmetric")
        if not 0 <= self.rho <= 1:
            raise ConfigError(f"a correlation of {self.rho:g} between score and outcome", do="give 0 to 1")
        if self._change_sd() <= 0:
            raise ConfigError("the change from the first to the last visit does not vary")

    def recruit(self, patients: int, rng: np.random.Generator) -> People:
        """Draw courses, and scores of the correlation asked for."""
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        course = self.mean + rng.standard_normal((patients, len(self.mean))) @ root.T
        sd, expected = self._change_sd(), self.mean[-1] - self.mean[0]
        z = (course[:, -1] - course[:, 0] - expected) / sd
        noise = rng.standard_normal(patients)
        score = expected + self.drift + self.scale * sd * (self.rho * z + np.sqrt(1 - self.rho**2) * noise)
        return People(course, score)

    def average(self) -> Float[np.ndarray, " visit"]:
        """Return the mean at each visit."""
        return self.mean

    def spread(self) -> Float[np.ndarray, " visit"]:
        """Return the standard deviation at each visit."""
        return np.sqrt(np.diag(self.covariance))

    def _change_sd(self) -> float:
        c = self.covariance
        return float(np.sqrt(max(c[-1, -1] + c[0, 0] - 2 * c[0, -1], 0.0)))


@final
class Prognosis(AbstractPopulation):
    """Patients of an endpoint that is no course: each with a prognosis z ~ N(0, 1), and a twin that knows a part of it.

    The score is ``drift`` + ``scale`` (ρ z + √(1 − ρ²) e): an index on the scale of z, higher for more events.

    Parameters
    ----------
    base : shape (piece,)
        For a patient of average prognosis under control: the log odds of a response, or the log rate, or log hazards, a
        year, in pieces.
    weight
        What one SD of prognosis adds to it.
    cuts : shape (cut,)
        Days at which the pieces meet, one fewer.
    dispersion
        Variance of the rate between patients of one prognosis, over its square.
    rho, drift, scale
        As for ``Normal``.

    Raises
    ------
    ConfigError
        If the number of pieces is not one more than that of the cuts, cuts do not rise from above 0, the dispersion is
        negative, or ρ is outside [0, 1].
    """

    base: Float[np.ndarray, " piece"]
    weight: float = 0.0
    cuts: Float[np.ndarray, " cut"] = eqx.field(default_factory=lambda: np.zeros(0))
    dispersion: float = 0.0
    rho: float = 0.5
    drift: float = 0.0
    scale: float = 1.0

    def __check_init__(self) -> None:
        if len(self.base) != len(self.cuts) + 1:
            raise ConfigError(
                f"{len(self.base)} hazards for {len(self.cuts)} cuts", do="give one hazard more than cuts"
            )
        if (np.diff(self.cuts, prepend=0.0) <= 0).any():
            raise ConfigError(f"cuts of the hazard must rise from above 0: {self.cuts.tolist()}")
        if not self.dispersion >= 0:
            raise ConfigError(f"a dispersion of {self.dispersion:g} is a negative variance", do="give 0 or more")
        if not 0 <= self.rho <= 1:
            raise ConfigError(f"a correlation of {self.rho:g} between score and prognosis", do="give 0 to 1")

    def recruit(self, patients: int, rng: np.random.Generator) -> People:
        """Draw prognoses, in place of courses, and scores of the correlation asked for."""
        z, noise = rng.standard_normal(patients), rng.standard_normal(patients)
        return People(z[:, None], self.drift + self.scale * (self.rho * z + np.sqrt(1 - self.rho**2) * noise))

    def frailty(self, patients: int, rng: np.random.Generator) -> Float[np.ndarray, " patient"]:
        """Draw what multiplies the rate of each patient, of mean 1."""
        if self.dispersion == 0:
            return np.ones(patients)
        return rng.gamma(1 / self.dispersion, self.dispersion, patients)

    def average(self) -> Float[np.ndarray, " visit"]:
        """Return the mean of the prognosis."""
        return np.zeros(1)

    def spread(self) -> Float[np.ndarray, " visit"]:
        """Return the standard deviation of the prognosis."""
        return np.ones(1)


@final
class Forecast(AbstractPopulation):
    """Patients drawn from a twin's forecasts: one of its patients at random, and one draw of the course.

    Parameters
    ----------
    course : shape (draw, patient, visit)
        Untreated courses at the design's visits, measurement error included.
    expected : shape (patient,)
        The twin's forecast of each patient's change at the last visit.
    """

    course: Float[np.ndarray, "draw patient visit"]
    expected: Float[np.ndarray, " patient"]

    def recruit(self, patients: int, rng: np.random.Generator) -> People:
        """Draw patients with replacement, each with one draw of the own future."""
        draws, known, _ = self.course.shape
        who, which = rng.integers(0, known, patients), rng.integers(0, draws, patients)
        return People(self.course[which, who], self.expected[who])

    def average(self) -> Float[np.ndarray, " visit"]:
        """Return the mean at each visit over patients and draws."""
        return self.course.mean(axis=(0, 1))

    def spread(self) -> Float[np.ndarray, " visit"]:
        """Return the standard deviation at each visit over patients and draws."""
        return self.course.std(axis=(0, 1))


def of_forecast(
    course: Trajectories, outcome: str, *, baseline: Float[np.ndarray, " patient"] | None = None
) -> Forecast:
    """Return a population of a twin's untreated forecasts; its first time is the trial's baseline.

    Parameters
    ----------
    baseline : shape (patient,)
        What was measured at baseline, from which every draw of a patient then starts; else the twin's own draws.

    Raises
    ------
    DataError
        If times differ between patients: a trial's visits are everybody's.
    """
    if course.times.ndim != 1:
        raise DataError("these forecasts have times of each patient's own", do="forecast at the design's visits")
    k = [v.name for v in course.outcomes].index(outcome)
    values, expected = np.array(course.values[..., k]), np.asarray(course.expected)[..., k]
    start = expected[:, 0] if baseline is None else baseline
    if baseline is not None:
        values[..., 0] = baseline
    return Forecast(values, expected[:, -1] - start)
