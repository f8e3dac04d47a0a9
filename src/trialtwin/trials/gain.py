"""What a prognostic score bought in a finished trial, and what it would buy in the next one.

The achieved variance ratio, (se with the score / se without)², is a description of this trial and carries no interval
of its own. Its uncertainty is shown where it arises, in the correlation ρ of score and endpoint within arms: with one
variance for all arms the ratio is 1 − r² times a factor known from the design (degrees of freedom and chance
imbalance of the score), so that Fisher's interval for ρ gives the interval for the expected ratio 1 − ρ². A bootstrap
was left out: with small factor levels, such as sites, resamples have singular designs or patients of leverage 1, and
to drop those would bias what it is meant to judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import ConfigError
from trialtwin.core.estimate import Estimate
from trialtwin.stats.ancova import least_squares
from trialtwin.stats.calibration import correlation
from trialtwin.stats.modelmatrix import join
from trialtwin.stats.samplesize import Size, size_t
from trialtwin.stats.samplesize_prognostic import size_procova
from trialtwin.trials.analyse import ancova, arm_parts, covariate_parts, procova, unadjusted
from trialtwin.trials.record import Record


@dataclass(frozen=True)
class Plan:
    """The next trial: the effect to detect, and how cautiously to carry over what this one showed.

    The correlation is multiplied by ``deflation`` and the standard deviation by ``inflation``; ``ratio`` is
    treated : control and ``alpha`` two-sided.
    """

    effect: float
    power: float = 0.9
    alpha: float = 0.05
    ratio: float = 1.0
    deflation: float = 0.9
    inflation: float = 1.05


@dataclass(frozen=True)
class Prospect:
    """Size of the next trial, unadjusted and with the score; the same effect, power and inflated standard deviation.

    ``saved`` is the difference in whole patients.
    """

    plan: Plan
    sd: float
    correlation: float
    unadjusted: Size
    with_score: Size

    @property
    def saved(self) -> int:
        """Whole patients saved, both arms together."""
        return sum(self.unadjusted.whole) - sum(self.with_score.whole)


@dataclass(frozen=True)
class Comparison:
    """The score's analysis against another analysis of the same contrast.

    Parameters
    ----------
    against
        "unadjusted" or "adjusted" (the covariates without the score).
    comparator
        Its estimate.
    variance_ratio
        Achieved: (se with the score / se of the comparator)². Below 1 the score helped.
    expected_ratio
        1 − R², with R² the share of the comparator's residual variation that the additional terms explain.
    expected_lower, expected_upper
        Interval of 1 − ρ² where the score is the only additional term, else ``None``.
    effective_n
        Patients of the two arms / variance ratio: how many the comparator would have needed.
    saved_total
        Patients that the two arms could have spared at the comparator's standard error, in their present proportion:
        n (1 − variance ratio). Negative where the score cost precision.
    saved_control
        Control patients that could have been spared with the treated arm left whole, at equal spread in both arms;
        ``None`` where the score cost precision.
    """

    against: str
    comparator: Estimate
    variance_ratio: float
    expected_ratio: float
    expected_lower: float | None
    expected_upper: float | None
    effective_n: float
    saved_total: float
    saved_control: float | None


@dataclass(frozen=True)
class Gain:
    """What the score bought in one contrast.

    ``rho`` is the correlation of score and endpoint within arms, ``rho_adjusted`` the one that is left within arms
    given the covariates as well; ``control`` and ``treated`` count the patients of the contrast's two arms.
    """

    contrast: str
    control: int
    treated: int
    estimate: Estimate
    rho: Estimate
    rho_adjusted: Estimate
    comparisons: tuple[Comparison, ...]
    prospect: Prospect | None

    def against(self, name: str) -> Comparison:
        """Return the comparison with one comparator by name."""
        named = {comparison.against: comparison for comparison in self.comparisons}
        if name not in named:
            raise ConfigError(f"no comparison against {name!r}", exists=named)
        return named[name]


def gain(
    record: Record,
    *,
    score: Float[np.ndarray, " patient"],
    covariates: Sequence[str] = (),
    variance: str = "model",
    level: float = 0.95,
    interaction: bool = False,
    plan: Plan | None = None,
) -> tuple[Gain, ...]:
    """Compare PROCOVA with the unadjusted analysis, and with ANCOVA on the same covariates: one `Gain` a contrast.

    All three analyses use the same variance estimator. The correlations and the expected ratios are over all arms
    together and without the interaction. The next trial is sized for the score alone.

    Raises
    ------
    ConfigError
        If the variance is "Welch", or a number of the plan is out of range.
    DataError, FitError
        As for the analyses.
    """
    if variance == "Welch":
        raise ConfigError("the gain needs one variance estimator for all analyses", do="use 'model' or 'HC0' to 'HC4'")
    with_score = procova(
        record, score=score, covariates=covariates, variance=variance, level=level, interaction=interaction
    )
    comparators = {"unadjusted": unadjusted(record, variance=variance, level=level)}
    if covariates:
        comparators["adjusted"] = ancova(record, covariates=covariates, variance=variance, level=level)
    rho, partial, left, sd = _within_arms(record, score, covariates, level)
    expected = {"adjusted": 1 - partial.value**2, "unadjusted": left * (1 - partial.value**2)}
    prospect = None if plan is None else prospective(plan, sd=sd, correlation=rho.value)
    counts = record.counts()
    return tuple(
        Gain(
            contrast=estimate.contrast,
            control=counts[control],
            treated=counts[treated],
            estimate=estimate,
            rho=rho,
            rho_adjusted=partial,
            comparisons=tuple(
                _compare(
                    name,
                    estimate,
                    estimates[k],
                    expected=expected[name],
                    bounds=squared_left(partial) if name == "adjusted" or not covariates else None,
                    counts=(counts[control], counts[treated]),
                )
                for name, estimates in comparators.items()
            ),
            prospect=prospect,
        )
        for k, ((control, treated), estimate) in enumerate(zip(record.pairs(), with_score, strict=True))
    )


def _within_arms(
    record: Record, score: Float[np.ndarray, " patient"], covariates: Sequence[str], level: float
) -> tuple[Estimate, Estimate, float, float]:
    """Return ρ within arms, ρ given covariates too, the share of variance that covariates leave, and the sd."""
    arms = join(*arm_parts(record))
    adjusted = join(*arm_parts(record), *covariate_parts(record, covariates))
    rho = correlation(record.value, score, given=arms, label="ρ within arms", level=level)
    label = "ρ within arms given covariates" if covariates else rho.contrast
    partial = correlation(record.value, score, given=adjusted, label=label, level=level)
    plain, fitted = (least_squares(design, record.value) for design in (arms, adjusted))
    left = float(fitted.residuals @ fitted.residuals / (plain.residuals @ plain.residuals))
    return rho, partial, left, plain.sigma


def prospective(plan: Plan, *, sd: float, correlation: float) -> Prospect:
    """Size the next trial with and without a score, by the exact t test.

    Parameters
    ----------
    sd
        Standard deviation within arms.
    correlation
        Correlation of score and endpoint within arms.

    Examples
    --------
    >>> prospective(Plan(effect=2.0), sd=6.0, correlation=0.5).with_score.whole
    (168, 168)
    """
    shared = {"ratio": plan.ratio, "alpha": plan.alpha, "power": plan.power}
    return Prospect(
        plan=plan,
        sd=sd,
        correlation=correlation,
        unadjusted=size_t(plan.effect, sd * plan.inflation, **shared),
        with_score=size_procova(
            plan.effect, sd, correlation, deflation=plan.deflation, inflation=plan.inflation, **shared
        ),
    )


def squared_left(rho: Estimate) -> tuple[float, float]:
    """Turn the interval of ρ into the interval of 1 − ρ².

    Where the interval of ρ holds 0, the upper end is 1: a score that may be useless may save nothing.

    Examples
    --------
    >>> from trialtwin.stats.wald import wald_estimate
    >>> rho = wald_estimate(0.5, 0.1, contrast="ρ", n=50, method="z", variance="known", level=0.68268949)
    >>> tuple(round(end, 4) for end in squared_left(rho))
    (0.64, 0.84)
    """
    ends = rho.lower**2, rho.upper**2
    nearest = 0.0 if rho.lower <= 0 <= rho.upper else min(ends)
    return 1 - max(ends), 1 - nearest


def _compare(
    name: str,
    estimate: Estimate,
    comparator: Estimate,
    *,
    expected: float,
    bounds: tuple[float, float] | None,
    counts: tuple[int, int],
) -> Comparison:
    """Put one comparison together."""
    ratio = (estimate.se / comparator.se) ** 2
    n = sum(counts)
    return Comparison(
        against=name,
        comparator=comparator,
        variance_ratio=ratio,
        expected_ratio=expected,
        expected_lower=None if bounds is None else bounds[0],
        expected_upper=None if bounds is None else bounds[1],
        effective_n=n / ratio,
        saved_total=n * (1 - ratio),
        saved_control=_saved_control(*counts, ratio),
    )


def _saved_control(control: int, treated: int, ratio: float) -> float | None:
    """Solve ratio × (1/m + 1/n₁) = 1/n₀ + 1/n₁ for the control arm m that is enough, and return n₀ − m."""
    if ratio > 1:
        return None
    enough = 1 / ((1 / control + 1 / treated) / ratio - 1 / treated)
    return control - enough
