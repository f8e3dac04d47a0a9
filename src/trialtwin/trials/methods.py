"""How simulated trials are analysed: each method a plain function of one signature, found by name.

Every method takes the simulated trials, the design and a treated arm, and returns value, standard error and degrees of
freedom of its difference from control in each trial, NaN where a trial cannot be analysed. It sees what an analyst
would, arms, measured values and scores, and never the truth. To add one, write such a function and enter it in
`METHODS`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from trialtwin.core.errors import MismatchError
from trialtwin.stats.ancova_batch import BatchEstimate, least_squares_batch
from trialtwin.stats.mmrm_batch import batch_mmrm
from trialtwin.trials.design import Design
from trialtwin.trials.simulate import Trials

type Method = Callable[[Trials, Design, int], BatchEstimate]


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


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "unadjusted": unadjusted,
        "ancova": ancova,
        "procova": procova,
        "mmrm": mmrm,
        "procova mmrm": procova_mmrm,
        "believed score": believed_score,
    }
)


def find_method(name: str) -> Method:
    """Return a method by name.

    Raises
    ------
    MismatchError
        With the names that exist.

    Examples
    --------
    >>> find_method("procova") is procova
    True
    """
    if name not in METHODS:
        raise MismatchError(f"no method {name!r} for simulated trials", exists=METHODS)
    return METHODS[name]


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
