"""The stack: several kinds of twins as one, each trusted by how well it forecast patients that it had not seen.

For each outcome the forecast is the mixture Σ_k w_k p_k(y) of the members' forecasts, w on the simplex. With p_k(yᵢ)
the density that member k, fitted without patient i, gave to what was measured, the weights maximise

    Σᵢ log Σ_k w_k p_k(yᵢ) + Σ_k log w_k

(stacking of predictive distributions, Yao et al. 2018, doi:10.1214/17-BA1091, with one pseudo-case a member, so that
none is ruled out by few patients). The problem is concave; the weights are found by expectation–maximisation.
"""

from typing import final

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import logsumexp

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError, ConvergenceError, FitError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times, require_mechanisms
from trialtwin.core.variables import Variable
from trialtwin.twins.compare.cases import Cases, join, judge, scales_of
from trialtwin.twins.crossfit import assign_folds

DRAWS = 256  # of each held-out patient, for the log score
RESAMPLES = 100  # of patients, for the uncertainty of the weights
TOLERANCE = 1e-9
ROUNDS = 20_000
DISAGREE = 0.5  # share of a forecast's variance between members above which they disagree


@final
class StackTwin(AbstractTwin):
    """Fitted members and their weights.

    Parameters
    ----------
    names, members
        The members.
    outcomes
        What any member forecasts.
    weights : shape (outcome, member)
        0 where a member does not forecast the outcome.
    """

    names: tuple[str, ...]
    members: tuple[AbstractTwin, ...]
    outcomes: tuple[Variable, ...]
    weights: Float[np.ndarray, "outcome member"]
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return draws of the mixture: as many of each member as its weight says, to the nearest draw.

        A draw of a patient is one member's for all outcomes whose weights agree. ``expected`` is the weighted mean of
        the members'.

        Raises
        ------
        MismatchError
            If the treatment acts on a mechanism that not all members have.
        """
        patient_times(patients, times, draws)
        require_mechanisms(self, treatment)
        choice_key, *keys = jax.random.split(key, 1 + len(self.members))
        asked = self._ask(patients, treatment, times, draws, keys)
        place = (np.asarray(jax.random.permutation(choice_key, draws)) + 0.5) / draws
        shape = (draws, len(patients), np.shape(times)[-1], len(self.outcomes))
        values, expected = np.empty(shape), np.zeros(shape[1:])
        for k, variable in enumerate(self.outcomes):
            chosen = np.searchsorted(np.cumsum(self.weights[k])[:-1], place, side="right")
            for m, one in enumerate(asked):
                column = [v.name for v in one.outcomes].index(variable.name) if self.weights[k, m] > 0 else None
                if column is not None:
                    expected[..., k] += self.weights[k, m] * one.expected[..., column]
                    values[chosen == m, ..., k] = one.values[chosen == m, ..., column]
        return Trajectories(patients.ids, self.outcomes, times, values, expected)

    def disagreement(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Float[np.ndarray, "patient time outcome"]:
        """Return the share of each forecast's variance that lies between the members' expectations.

        B / (B + W) with B = Σ w_k (m_k − m)² and W = Σ w_k s_k². Near 0 where members agree; above ``DISAGREE`` most of
        what is uncertain is which kind of twin to believe.
        """
        asked = self._ask(patients, treatment, times, draws, list(jax.random.split(key, len(self.members))))
        share = np.zeros((len(patients), np.shape(times)[-1], len(self.outcomes)))
        for k, variable in enumerate(self.outcomes):
            use = [m for m in range(len(asked)) if self.weights[k, m] > 0]
            columns = [[v.name for v in asked[m].outcomes].index(variable.name) for m in use]
            weight = self.weights[k, use][:, None, None]
            mean = np.stack([asked[m].expected[..., c] for m, c in zip(use, columns, strict=True)])
            within = np.stack([asked[m].values[..., c].var(axis=0) for m, c in zip(use, columns, strict=True)])
            between = (weight * (mean - (weight * mean).sum(axis=0)) ** 2).sum(axis=0)
            total = between + (weight * within).sum(axis=0)
            share[..., k] = between / np.where(total > 0, total, 1.0)
        return share

    def _ask(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, draws: int, keys: list[Array]
    ) -> list[Trajectories]:
        return [
            member.predict(patients, treatment, times, draws=draws, key=key)
            for member, key in zip(self.members, keys, strict=True)
        ]


@final
class Stack(AbstractModel):
    """Several models, to be weighed against each other within the cohort that they learn from.

    Parameters
    ----------
    names, members
        The models by name.
    folds
        Of patients, for the weights.
    """

    names: tuple[str, ...]
    members: tuple[AbstractModel, ...]
    folds: int = 5

    def __check_init__(self) -> None:
        """Refuse a stack of none, or of members without a name each."""
        if len(self.names) != len(self.members) or len(set(self.names)) != len(self.names) or not self.names:
            raise ConfigError(
                f"a stack of {len(self.members)} models named {list(self.names)}", do="give each a name of its own"
            )

    def fit(self, cohort: Cohort, *, key: Array) -> StackTwin:
        """Fit every member without each fold, weigh them on the fold, and fit them to all.

        Patients of a fold are forecast as known at baseline, and as known at the middle planned visit. A member's fit
        to all patients has the same key whatever the other members.

        Raises
        ------
        FitError
            If a member cannot be fitted; the message names it.
        ConvergenceError
            If the weights are not found.
        """
        fold_key, weigh_key, *member_keys = jax.random.split(key, 2 + len(self.members))
        fold = assign_folds(cohort, min(self.folds, len(cohort)), key=fold_key)
        fitted = [self._fit(m, cohort, member_keys[m]) for m in range(len(self.members))]
        cases = [self._held_out(m, cohort, fold, member_keys[m]) for m in range(len(self.members))]
        forecast = [k for k in range(len(cohort.outcomes)) if any((one.outcome == k).any() for one in cases)]
        weights, learned = np.zeros((len(forecast), len(self.members))), []
        for row, k in enumerate(forecast):
            use = [m for m, one in enumerate(cases) if (one.outcome == k).any()]
            log_density, patient = _matched([cases[m] for m in use], k)
            weights[row, use] = stacking_weights(log_density)
            sd = _uncertainty(log_density, patient, np.random.default_rng(_seed(weigh_key) + k))
            names = [self.names[m] for m in use]
            learned += _learned(cohort.outcomes[k].name, names, weights[row, use], sd)
        shared = [name for name in fitted[0].mechanisms if all(name in twin.mechanisms for twin in fitted)]
        return StackTwin(
            names=self.names,
            members=tuple(fitted),
            outcomes=tuple(cohort.outcomes[k] for k in forecast),
            weights=weights,
            mechanisms=tuple(shared),
            assumptions=(_ASSUMPTION, *_prefixed(self.names, [twin.assumptions for twin in fitted])),
            learned=(*learned, *_prefixed(self.names, [twin.learned for twin in fitted])),
        )

    def _fit(self, m: int, cohort: Cohort, key: Array) -> AbstractTwin:
        try:
            return self.members[m].fit(cohort, key=key)
        except FitError as error:
            raise type(error)(f"{self.names[m]}, a member of the stack: {error}") from error

    def _held_out(self, m: int, cohort: Cohort, fold: Int[np.ndarray, " patient"], key: Array) -> Cases:
        """Return a member's scores of patients that it was fitted without."""
        later = np.sort(cohort.nominal[cohort.nominal > 0])
        known = (0.0, float(later[(len(later) - 1) // 2])) if len(later) > 1 else (0.0,)
        parts = []
        for number in range(int(fold.max()) + 1):
            there = np.flatnonzero(fold == number)
            fit_key, ask_key = jax.random.split(jax.random.fold_in(key, number))
            twin = self._fit(m, cohort.take(fold != number), fit_key)
            pupils = cohort.take(there)
            if (pupils.observed & (pupils.times > 0)[..., None]).any():
                parts.append(
                    judge(twin, pupils, there, known, bounds={}, scales=scales_of(cohort), draws=DRAWS, key=ask_key)
                )
        return join(parts)


def stacking_weights(log_density: Float[np.ndarray, "case member"]) -> Float[np.ndarray, " member"]:
    """Return the weights that maximise Σᵢ log Σ_k w_k p_k(yᵢ) + Σ_k log w_k.

    Raises
    ------
    ConvergenceError
        If expectation–maximisation does not converge.

    Examples
    --------
    >>> stacking_weights(np.log(np.array([[0.4, 0.1], [0.4, 0.1], [0.4, 0.1]]))).round(2).tolist()
    [0.75, 0.25]
    """
    n, members = log_density.shape
    weights = np.full(members, 1 / members)
    for _ in range(ROUNDS):
        joint = log_density + np.log(weights)
        share = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        moved = (share.sum(axis=0) + 1) / (n + members)
        if np.abs(moved - weights).max() < TOLERANCE:
            return moved / moved.sum()
        weights = moved
    raise ConvergenceError(f"the weights of {members} members did not converge in {ROUNDS} rounds")


def _matched(cases: list[Cases], outcome: int) -> tuple[Float[np.ndarray, "case member"], Int[np.ndarray, " case"]]:
    """Return the log densities of the cases that all members have, and whose they are."""
    tables = []
    for one in cases:
        rows = np.flatnonzero(one.outcome == outcome)
        names = zip(one.patient[rows].tolist(), one.known[rows].tolist(), one.visit[rows].tolist(), strict=True)
        tables.append(dict(zip(names, one.log_score[rows].tolist(), strict=True)))
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    density = np.array([[table[name] for table in tables] for name in shared])
    return density, np.array([name[0] for name in shared])


def _uncertainty(
    log_density: Float[np.ndarray, "case member"], patient: Int[np.ndarray, " case"], rng: np.random.Generator
) -> Float[np.ndarray, " member"]:
    """Return the SD of the weights over bootstrap samples of patients."""
    who, index = np.unique(patient, return_inverse=True)
    rows = [np.flatnonzero(index == i) for i in range(len(who))]
    found = [
        stacking_weights(log_density[np.concatenate([rows[i] for i in rng.integers(0, len(who), len(who))])])
        for _ in range(RESAMPLES)
    ]
    return np.std(found, axis=0)


def _learned(outcome: str, names: list[str], weights: np.ndarray, sd: np.ndarray) -> list[Learned]:
    """Return the weights beside their prior, Dirichlet with 2 for each member."""
    members = len(names)
    prior_sd = float(np.sqrt((members - 1) / (members**2 * (2 * members + 1)))) if members > 1 else 1.0
    return [
        Learned(name=f"{outcome}: weight of {name}", value=w, sd=s, prior_mean=1 / members, prior_sd=prior_sd)
        for name, w, s in zip(names, weights.tolist(), sd.tolist(), strict=True)
    ]


def _prefixed[Line: (Assumption, Learned)](names: tuple[str, ...], lines: list[tuple[Line, ...]]) -> list[Line]:
    return [
        line.model_copy(update={"name": f"{name}: {line.name}"})
        for name, own in zip(names, lines, strict=True)
        for line in own
    ]


def _seed(key: Array) -> int:
    return int(jax.random.randint(key, (), 0, 2**31 - 1))


_ASSUMPTION = Assumption(
    name="weights of the stack",
    value="one set for each outcome, the same for all patients, visits and histories",
    source="Yao et al. 2018, doi:10.1214/17-BA1091",
    confidence="medium",
)
