"""Gradient boosting with conformal predictive laws: a forecast from whatever is known, with errors as they were.

Every landmark of every patient is a question (``landmarks.py``); its answer is forecast by a ridge regression and small
trees (``boosting_mean.py``); held-out errors give the width, law and course of the draws (``boosting_errors.py``).
"""

from dataclasses import dataclass
from typing import final

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from trialtwin.core.backend import enable_float64
from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import FitError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times, require_mechanisms
from trialtwin.core.variables import Variable
from trialtwin.twins.boosting_errors import (
    FLOOR,
    Copula,
    Errors,
    Scores,
    learn_copula,
    learn_errors,
    normal_scores,
    probabilities,
    spread_terms,
)
from trialtwin.twins.boosting_mean import Mean, fit_mean, linear_terms, tree_columns
from trialtwin.twins.features import Encoder, encode, factors_of, missing_share
from trialtwin.twins.landmarks import Scaling, history_of, questions, summarise
from trialtwin.twins.latent_effects import assumption_of

enable_float64()

FOLDS = 5
FEWEST = 4  # patients, below which nobody can be left out


@dataclass(frozen=True, eq=False)
class Forecaster:
    """What was learned of one outcome: its mean and its errors, in SDs of the outcome."""

    variable: Variable
    mean: Mean
    errors: Errors


@final
class BoostingTwin(AbstractTwin):
    """Fitted forecasters of each outcome, and how their errors hang together."""

    forecasters: tuple[Forecaster, ...]
    copula: Copula
    encoder: Encoder
    scaling: Scaling
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return posterior-predictive trajectories given each patient's covariates and history.

        A day is forecast from what was known up to it: of days before the last measurement, from the measurements until
        then. Draws carry the errors that patients left out had; the mean and the laws themselves are taken as they
        were estimated. ``expected`` is the exact mean of the draws. The model knows nothing of the bounds of a scale.

        Raises
        ------
        MismatchError
            If the treatment acts on any mechanism: this twin has none.
        """
        require_mechanisms(self, treatment)
        at = patient_times(patients, times, draws) / self.scaling.horizon
        n, asked = at.shape
        history = history_of(self.scaling, patients)
        x, unknown = np.asarray(encode(self.encoder, patients)), unknown_share(self.encoder, patients)
        known = np.stack([summarise(history, at[:, j], at[:, j]) for j in range(asked)], axis=1)
        rows = known.reshape(n * asked, *known.shape[2:])
        flat, who = at.reshape(-1), np.repeat(np.arange(n), asked)
        lasting_key, *noise_keys = jax.random.split(key, 1 + len(self.forecasters))
        lasting = self._lasting(at, times, draws, lasting_key)
        splits = tree_columns(rows, flat, x[who])
        expected, values = [], []
        for k, one in enumerate(self.forecasters):
            centre, scale = self.scaling.centres[k], self.scaling.scales[k]
            mean = one.mean.predict(linear_terms(rows, flat, x[who], k), splits).reshape(n, asked)
            spread = one.errors.spread(spread_terms(rows, flat, unknown[who], k)).reshape(n, asked)
            share = self.copula.lasting(spread, k)
            white = np.asarray(jax.random.normal(noise_keys[k], (draws, n, asked)))
            z = np.sqrt(share) * lasting[..., k] + np.sqrt(1 - share) * white
            expected.append(centre + scale * (mean + spread * one.errors.bias))
            values.append(centre + scale * (mean + spread * one.errors.law.quantile(probabilities(z))))
        return Trajectories(
            patients.ids,
            tuple(one.variable for one in self.forecasters),
            times,
            np.stack(values, axis=-1),
            np.stack(expected, axis=-1),
        )

    def _lasting(
        self, at: Float[np.ndarray, "patient time"], times: Times, draws: int, key: Array
    ) -> Float[np.ndarray, "draw patient time outcome"]:
        """Return correlated standard normals, what lasts of each error; times common to all take one root."""
        q = len(self.forecasters)
        white = np.asarray(jax.random.normal(key, (draws, len(at), at.shape[1] * q)))
        root = np.linalg.cholesky(self.copula.correlation(at[0] if np.ndim(times) == 1 else at))
        product = white @ root.T if root.ndim == 2 else np.einsum("nij,dnj->dni", root, white)
        return product.reshape(draws, *at.shape, q)


@final
class Boosting(AbstractModel):
    """Gradient boosting on a linear base with conformal predictive laws, learned from every landmark.

    Covariates, latent factors of blocks, and baseline values of outcomes that are not forecast enter every forecast;
    missing ones at the training mean. ``trees`` off leaves the linear base alone. References: van Houwelingen
    HC (2007), doi:10.1111/j.1467-9469.2006.00529.x; Ke G et al. (2017), LightGBM, NeurIPS 30; Vovk V et al. (2019),
    doi:10.1007/s10994-018-5755-8.
    """

    trees: bool = True

    def fit(self, cohort: Cohort, *, key: Array) -> BoostingTwin:
        """Fit to every patient; deterministic, so ``key`` is not used.

        Raises
        ------
        FitError
            If no outcome was measured after baseline in at least four patients, or one is the same for all.
        """
        del key
        scaling = Scaling.learn(cohort)
        encoder = Encoder.learn(cohort, modelled=scaling.outcomes)
        history, x = history_of(scaling, cohort), np.asarray(encode(encoder, cohort))
        unknown = unknown_share(encoder, cohort)
        folds = patient_folds(len(cohort))
        forecasters, scores = [], []
        for k, name in enumerate(scaling.outcomes):
            asked = questions(history, k)
            own = x[asked.patient]
            linear = linear_terms(asked.known, asked.time, own, k)
            splits = tree_columns(asked.known, asked.time, own)
            fitted = fit_mean(linear, splits, asked.answer, folds[asked.patient], trees=self.trees)
            left = asked.answer - fitted.held_out
            terms = spread_terms(asked.known, asked.time, unknown[asked.patient], k)
            errors = learn_errors(left, terms, asked.patient)
            forecasters.append(Forecaster(cohort.outcomes[cohort.outcome(name)], fitted.mean, errors))
            spread = errors.spread(terms)
            z = normal_scores(left / spread, errors.law)
            scores.append(Scores(asked.patient, asked.landmark, np.full(len(z), k), asked.time, spread, z))
        copula = learn_copula(_together(scores), len(forecasters))
        return BoostingTwin(
            forecasters=tuple(forecasters),
            copula=copula,
            encoder=encoder,
            scaling=scaling,
            mechanisms=(),
            assumptions=(*_assumptions(forecasters, copula), *assumption_of(encoder.latent)),
            learned=tuple(
                _learned(one, int(history.known[..., k].any(axis=1).sum())) for k, one in enumerate(forecasters)
            ),
        )


def unknown_share(encoder: Encoder, cohort: Cohort) -> Float[np.ndarray, " patient"]:
    """Return how much of a patient's covariates, or of the factors that stand for blocks as well, is not known."""
    factors = factors_of(encoder, cohort)
    return missing_share(encoder, cohort) if factors is None else 1.0 - factors.known


def patient_folds(patients: int) -> Int[np.ndarray, " patient"]:
    """Return each patient's fold: at random, the same every time, of sizes that differ by one at most.

    Raises
    ------
    FitError
        If there are fewer than four patients.
    """
    if patients < FEWEST:
        raise FitError(f"{patients} patients are too few to leave some out", do=f"give at least {FEWEST}")
    return np.random.default_rng(0).permutation(patients) % min(FOLDS, patients)


def _together(scores: list[Scores]) -> Scores:
    names = ("patient", "landmark", "outcome", "time", "spread", "z")
    return Scores(*(np.concatenate([getattr(one, name) for one in scores]) for name in names))


def _assumptions(forecasters: list[Forecaster], copula: Copula) -> tuple[Assumption, ...]:
    sizes = "; ".join(f"{f.variable.name}: penalty {f.mean.penalty:g}, {f.mean.rounds} trees" for f in forecasters)
    noise = ", ".join(f"{f.variable.name} {v**0.5:.2f}" for f, v in zip(forecasters, copula.noise, strict=True))
    return (
        Assumption(
            name="settings of the boosted twin",
            value=f"{sizes}; at most 6 leaves, rate 0.05",
            source=f"smallest error in {FOLDS} folds of patients left out; leaves and rate set by hand",
            confidence="medium",
        ),
        Assumption(
            name="errors of the boosted twin",
            value=f"new patients err as those left out did; noise, in SDs of the outcome: {noise}",
            source="conformal predictive law (doi:10.1007/s10994-018-5755-8), normal copula of held-out errors",
            confidence="medium",
        ),
    )


def _learned(one: Forecaster, patients: int) -> Learned:
    """Report the size of held-out errors against an outcome forecast by its mean, with the error of a log SD."""
    sd = 1.0 / np.sqrt(2.0 * patients)
    typical = 0.5 * np.log(one.errors.floor / FLOOR)
    name = f"{one.variable.name}: log error of patients left out, SDs of the outcome"
    return Learned(name=name, value=float(typical), sd=float(sd), prior_mean=0.0, prior_sd=1.0)
