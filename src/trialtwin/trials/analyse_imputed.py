"""An outcome over visits analysed after reference-based imputation, by a strategy for each intercurrent event."""

from collections.abc import Mapping, Sequence

import numpy as np

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.imputation_model import STRATEGIES
from trialtwin.stats.multiple_imputation import multiple_imputation
from trialtwin.stats.reference_imputation import RESAMPLING, conditional_mean
from trialtwin.stats.wald import wald_estimate
from trialtwin.trials.answer import MEANS, Answer, Found, asked
from trialtwin.trials.outcomes import RepeatedOutcome

INFERENCE = (*RESAMPLING, "Rubin")


def reference_based(
    record: RepeatedOutcome,
    *,
    covariates: Sequence[str] = (),
    strategies: Mapping[str, str] | None = None,
    delta: Mapping[str, float] | None = None,
    inference: str = "jackknife",
    draws: int = 250,
    seed: int = 1,
    level: float = 0.95,
) -> Answer:
    """Compare arms after imputation under a strategy for each intercurrent event, by ANCOVA at each visit.

    Each treated arm is analysed with the control alone.

    Parameters
    ----------
    record
        The outcome over visits, and each patient's intercurrent event.
    covariates
        Names of covariates and factors of the imputation model and of the ANCOVA.
    strategies
        Strategy of each intercurrent event by its name (``stats.imputation_model.STRATEGIES``).
    delta
        Added to imputed values, by arm.
    inference
        "jackknife" or "bootstrap" with conditional means, or "Rubin" with draws by approximate Bayes.
    draws, seed
        Bootstrap samples or imputations, and the seed of what is random.
    level
        Of the intervals.

    Raises
    ------
    ConfigError
        If a strategy, an arm or an inference does not exist, or patients have an event without a strategy.
    DataError, FitError, ConvergenceError
        As for ``conditional_mean`` and ``multiple_imputation``.
    """
    plans, shifts = dict(strategies or {}), dict(delta or {})
    _require_plans(record, plans, shifts)
    if inference not in INFERENCE:
        raise ConfigError(f"no inference {inference!r} after imputation", exists=INFERENCE)
    if record.patients.every_pair:
        raise ConfigError("imputation compares arms with the control only", do="set contrasts to 'control'")
    words = ", ".join(f"{event}: {plan}" for event, plan in plans.items()) or "MAR"
    words += f", shifted by {', '.join(f'{arm} {by:g}' for arm, by in shifts.items())}" if shifts else ""
    contrasts: list[Found] = []
    means: dict[tuple[str, str], Found] = {}
    for _, treated in record.patients.pairs():
        both = record.pair(0, treated)
        how = _Imputation(both, covariates, plans, shifts, words)
        rows = how.drawn(draws, seed, level) if inference == "Rubin" else how.resampled(inference, draws, seed, level)
        for one in rows:
            if one.estimate.estimand and one.estimate.estimand.summary == MEANS:
                contrasts.append(one)
            else:
                means.setdefault((one.visit, one.estimate.contrast), one)
    return Answer(contrasts=tuple(contrasts), means=tuple(means.values()))


class _Imputation:
    """Two arms, what is imputed for each patient, and what the estimates are called."""

    def __init__(
        self,
        both: RepeatedOutcome,
        covariates: Sequence[str],
        plans: Mapping[str, str],
        shifts: Mapping[str, float],
        words: str,
    ) -> None:
        people = both.patients
        columns = people.columns(covariates)
        self.both, self.words = both, words
        self.covariates = np.zeros((len(people), 0)) if columns is None else columns.values
        self.strategy = [plans.get(name, "MAR") for name in both.event_name]
        self.delta = np.array([shifts.get(people.arms[arm], 0.0) for arm in people.arm])

    def resampled(self, resampling: str, samples: int, seed: int, level: float) -> list[Found]:
        """Impute by conditional means; standard errors by the jackknife or the bootstrap."""
        both, n = self.both, len(self.both.patients)
        found = conditional_mean(
            both.value,
            both.patients.arm,
            self.covariates,
            event=both.event,
            strategy=self.strategy,
            delta=self.delta,
            resampling=resampling,
            samples=samples,
            seed=seed,
        )
        variance = resampling if resampling == "jackknife" else f"bootstrap, {samples} samples"
        method = f"conditional mean imputation ({self.words}), ANCOVA by visit"
        parts = (
            (found.effect, found.effect_se),
            (found.reference_mean, found.reference_se),
            (found.other_mean, found.other_se),
        )

        def estimate(part: int, visit: int, name: str, at: Estimand) -> Estimate:
            value, se = (float(numbers[visit]) for numbers in parts[part])
            return wald_estimate(
                value,
                se,
                contrast=name,
                n=n,
                level=level,
                method=method,
                variance=variance,
                unit=both.unit,
                estimand=at,
            )

        return [Found(estimate(*asks), both.visits[asks[1]]) for asks in self._asks()]

    def drawn(self, imputations: int, seed: int, level: float) -> list[Found]:
        """Impute by draws, and pool by Rubin's rules."""
        both = self.both
        found = multiple_imputation(
            both.value,
            both.patients.arm,
            self.covariates,
            event=both.event,
            strategy=self.strategy,
            delta=self.delta,
            imputations=imputations,
            seed=seed,
        )
        method = f"multiple imputation, {imputations} draws by approximate Bayes ({self.words}), ANCOVA by visit"
        parts = (found.effect, found.reference_mean, found.other_mean)
        return [
            Found(
                parts[part][visit].estimate(
                    name, n=len(both.patients), method=method, level=level, unit=both.unit, estimand=at
                ),
                both.visits[visit],
            )
            for part, visit, name, at in self._asks()
        ]

    def _asks(self) -> list[tuple[int, int, str, Estimand]]:
        """Return what is estimated: part (difference, control, treated), visit, name and question."""
        people = self.both.patients
        parts = ((people.label(0, 1), MEANS), (people.arms[0], "mean"), (people.arms[1], "mean"))
        return [
            (part, visit, name, asked(self.both.estimand, summary, where))
            for visit, where in enumerate(self.both.visits)
            for part, (name, summary) in enumerate(parts)
        ]


def _require_plans(record: RepeatedOutcome, plans: Mapping[str, str], shifts: Mapping[str, float]) -> None:
    """Refuse strategies and shifts that do not exist, and events without a strategy."""
    events = dict.fromkeys(name for name in record.event_name if name)
    for event, plan in plans.items():
        if plan not in STRATEGIES:
            raise ConfigError(f"no imputation strategy {plan!r} for {event!r}", exists=STRATEGIES)
    without = [event for event in events if event not in plans]
    if without:
        raise ConfigError(
            f"patients have the intercurrent event {without[0]!r}, and no strategy imputes after it",
            exists=STRATEGIES,
            do=f'write strategies = {{"{without[0]}" = "JR"}}, or "MAR"',
        )
    for arm in shifts:
        if arm not in record.patients.arms:
            raise MismatchError(f"a shift for an arm {arm!r} that does not exist", exists=record.patients.arms)
