"""How simulated trials are analysed: each method a plain function of one signature, found by name.

Every method takes the simulated trials, the design and a treated arm, and returns value, standard error and degrees of
freedom of its contrast with control in each trial, NaN where a trial cannot be analysed. It sees what an analyst
would, arms, what was measured and scores, and never the truth. To add one, write such a function and enter it in
`METHODS` with the endpoints that it is for.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import DataError, FitError, MismatchError
from trialtwin.stats.adjusted_logrank import adjusted_hazard_ratio, adjusted_log_rank
from trialtwin.stats.ancova_batch import BatchEstimate, least_squares_batch
from trialtwin.stats.armmodel import ArmModel
from trialtwin.stats.glm_batch import log_rate_ratio_batch, logistic_difference_batch
from trialtwin.stats.mmrm_batch import batch_mmrm
from trialtwin.stats.modelmatrix import continuous_columns
from trialtwin.stats.survival_batch import cox_batch, log_rank_batch
from trialtwin.trials.design import Design
from trialtwin.trials.simulate import Trials

type Analyse = Callable[[Trials, Design, int], BatchEstimate]


class Method(NamedTuple):
    """A way to analyse, the kinds of endpoints that it is for, and what its number is.

    ``number`` is "marginal" (what the estimand asks for), "conditional" (given the score: the same only where there
    is nothing to be averaged over) or "none" (a test).
    """

    analyse: Analyse
    endpoints: tuple[str, ...]
    number: str = "marginal"


def unadjusted(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare mean changes of completers, one variance for both arms (Student)."""
    return _compare(trials, design, treated, [], variance="model")


def ancova(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare changes of completers adjusted for baseline, HC3 variance."""
    return _compare(trials, design, treated, [trials.values[..., 0]], variance="HC3")


def procova(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare changes of completers adjusted for baseline and the prognostic score, HC3 variance."""
    return _compare(trials, design, treated, [trials.values[..., 0], trials.score], variance="HC3")


def mmrm(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare changes at the last visit by a mixed model of all visits: baseline by visit, unstructured, Kenward–Roger.

    Patients who leave count with what was seen of them: right where that says why they left (missing at random).
    """
    return _repeated(trials, design, treated, [trials.values[..., 0]])


def procova_mmrm(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare as ``mmrm``, adjusted for the prognostic score by visit as well."""
    return _repeated(trials, design, treated, [trials.values[..., 0], trials.score])


def believed_score(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare treated patients' changes with their own scores, as a trial without controls would: no randomisation.

    It is here to show what a twin that drifts does to a trial that believes it.
    """
    del design
    on = (trials.arm == treated) & np.isfinite(trials.change)
    gain = np.where(on, trials.change - trials.score, np.nan)
    return least_squares_batch(np.ones((*gain.shape, 1)), gain, np.ones(1))


def proportions(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare proportions of those whose response is known."""
    return _responses(trials, design, treated, [])


def logistic(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare risks by logistic g-computation adjusted for baseline, Ye's unconditional variance."""
    return _responses(trials, design, treated, [trials.values[..., 0]])


def procova_logistic(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare risks by logistic g-computation adjusted for the score, and for baseline where there is one."""
    baseline = [trials.values[..., 0]] if design.endpoint.measured else []
    return _responses(trials, design, treated, [*baseline, trials.score])


def rates(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare rates by a log-linear model with time at risk as offset, HC3 variance: right whatever the dispersion."""
    return log_rate_ratio_batch(trials.outcome, trials.exposure, _arms(trials, design), _columns(trials, []), treated)


def procova_rates(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Compare rates as ``rates``, adjusted for the score."""
    columns = _columns(trials, [trials.score])
    return log_rate_ratio_batch(trials.outcome, trials.exposure, _arms(trials, design), columns, treated)


def log_rank_test(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Test survival by the log-rank test; its number is Peto's one-step estimate, which is shown for its sign only."""
    del design
    pair = (trials.arm == treated) | (trials.arm == 0)
    time = np.where(pair, trials.exposure, 0.0)
    return log_rank_batch(time, (trials.outcome == 1) & pair, trials.arm == treated)


def procova_log_rank(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Test survival by the log-rank test adjusted for the score (Ye, Shao and Yi), the same null hypothesis."""
    del design

    def test(model: ArmModel, time: np.ndarray, event: np.ndarray) -> tuple[float, float]:
        found = adjusted_log_rank(model, time, event)
        return found.score / found.variance, found.variance**-0.5

    return _each(trials, treated, test)


def cox_unadjusted(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Estimate the marginal hazard ratio by a Cox model of the arms."""
    return cox_batch(trials.exposure, trials.outcome == 1, _arms(trials, design)[..., 1:].astype(float), treated - 1)


def procova_hazard_ratio(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Estimate the marginal hazard ratio adjusted for the score (Ye, Shao and Yi), the same number as ``cox``."""
    del design

    def estimate(model: ArmModel, time: np.ndarray, event: np.ndarray) -> tuple[float, float]:
        found = adjusted_hazard_ratio(model, time, event)
        return found.value, found.se

    return _each(trials, treated, estimate)


def procova_cox(trials: Trials, design: Design, treated: int) -> BatchEstimate:
    """Estimate the hazard ratio given the score by a Cox model of arms and score."""
    columns = np.concatenate([_arms(trials, design)[..., 1:].astype(float), trials.score[..., None]], axis=2)
    return cox_batch(trials.exposure, trials.outcome == 1, columns, treated - 1)


_RESPONSES = ("responder", "binary")
_TIMES = ("time to event",)

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "unadjusted": Method(unadjusted, ("continuous",)),
        "ancova": Method(ancova, ("continuous",)),
        "procova": Method(procova, ("continuous",)),
        "mmrm": Method(mmrm, ("continuous",)),
        "procova mmrm": Method(procova_mmrm, ("continuous",)),
        "believed score": Method(believed_score, ("continuous",)),
        "proportions": Method(proportions, _RESPONSES),
        "logistic": Method(logistic, ("responder",)),
        "procova logistic": Method(procova_logistic, _RESPONSES),
        "rates": Method(rates, ("count",)),
        "procova rates": Method(procova_rates, ("count",)),
        "log-rank": Method(log_rank_test, _TIMES, "none"),
        "procova log-rank": Method(procova_log_rank, _TIMES, "none"),
        "cox": Method(cox_unadjusted, _TIMES),
        "procova hazard ratio": Method(procova_hazard_ratio, _TIMES),
        "procova cox": Method(procova_cox, _TIMES, "conditional"),
    }
)


def find_method(name: str, endpoint: str) -> Method:
    """Return a method by name, for a kind of endpoint.

    Raises
    ------
    MismatchError
        If there is none, or it is for other endpoints; with the names of those that are for this one.

    Examples
    --------
    >>> find_method("procova", "continuous").analyse is procova
    True
    """
    fit = [one for one, method in METHODS.items() if endpoint in method.endpoints]
    if name not in METHODS:
        raise MismatchError(f"no method {name!r} for simulated trials", exists=fit)
    if name not in fit:
        raise MismatchError(
            f"method {name!r} does not analyse a {endpoint} endpoint", exists=fit, do="name methods that do"
        )
    return METHODS[name]


def _arms(trials: Trials, design: Design) -> np.ndarray:
    """Return membership, the control first."""
    return trials.arm[..., None] == np.arange(len(design.arms))


def _columns(trials: Trials, columns: list[Float[np.ndarray, "trial patient"]]) -> np.ndarray:
    return np.stack(columns, axis=-1) if columns else np.zeros((*trials.arm.shape, 0))


def _responses(
    trials: Trials, design: Design, treated: int, adjusters: list[Float[np.ndarray, "trial patient"]]
) -> BatchEstimate:
    return logistic_difference_batch(trials.outcome, _arms(trials, design), _columns(trials, adjusters), treated)


def _each(
    trials: Trials, treated: int, estimate: Callable[[ArmModel, np.ndarray, np.ndarray], tuple[float, float]]
) -> BatchEstimate:
    """Analyse trial by trial those patients of the two arms who were at risk, adjusted for the score."""
    found = np.full((len(trials.arm), 2), np.nan)
    for k, (arm, time, event) in enumerate(zip(trials.arm, trials.exposure, trials.outcome == 1, strict=True)):
        rows = ((arm == treated) | (arm == 0)) & (time > 0)
        score = continuous_columns({"score": trials.score[k][rows]})
        try:
            model = ArmModel(("control", "treated"), (arm[rows] == treated).astype(int), score)
            found[k] = estimate(model, time[rows], event[rows])
        except (FitError, DataError):
            continue
    value, se = found.T
    return BatchEstimate(value, se, np.where(np.isfinite(value), np.inf, np.nan))


def _compare(
    trials: Trials, design: Design, treated: int, adjusters: list[Float[np.ndarray, "trial patient"]], *, variance: str
) -> BatchEstimate:
    """Fit one linear model to all arms of each trial; adjusters are centred by trial."""
    arms = [trials.arm == a for a in range(1, len(design.arms))]
    centred = [x - x.mean(axis=1, keepdims=True) for x in adjusters]
    X = np.stack([np.ones(trials.arm.shape), *(a.astype(float) for a in arms), *centred], axis=-1)
    contrast = (np.arange(X.shape[2]) == treated).astype(float)
    return least_squares_batch(X, trials.change, contrast, variance=variance)


def _repeated(
    trials: Trials, design: Design, treated: int, adjusters: list[Float[np.ndarray, "trial patient"]]
) -> BatchEstimate:
    """Fit a mixed model of all visits to each trial."""
    arms = [(trials.arm == a).astype(float) for a in range(1, len(design.arms))]
    centred = [x - x.mean(axis=1, keepdims=True) for x in adjusters]
    names = [*design.names[1:], *(f"adjuster {k}" for k in range(len(adjusters)))]
    change = trials.values[..., 1:] - trials.values[..., :1]
    fit = batch_mmrm(np.stack([*arms, *centred], axis=-1), change, names=names, columns=[design.names[treated]])
    return BatchEstimate(fit.estimate[:, 0, -1], fit.se[:, 0, -1], fit.df[:, 0, -1])
