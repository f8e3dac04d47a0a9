"""Which methods an endpoint admits, and which options a method takes: read from the functions themselves."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from trialtwin.trials.analyse_continuous import CONTINUOUS
from trialtwin.trials.analyse_marginal import BINARY, COUNT
from trialtwin.trials.analyse_repeated import REPEATED
from trialtwin.trials.analyse_survival import SURVIVAL
from trialtwin.trials.answer import Answer

type Method = Callable[..., Answer]

METHODS: Mapping[str, Mapping[str, Method]] = MappingProxyType(
    {
        "continuous": CONTINUOUS,
        "repeated": REPEATED,
        "binary": BINARY,
        "count": COUNT,
        "time to event": SURVIVAL,
    }
)
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "unadjusted": "Difference in means",
        "ancova": "ANCOVA",
        "procova": "PROCOVA",
        "dose_response": "Linear dose response",
        "mmrm": "MMRM",
        "procova_mmrm": "PROCOVA-MMRM",
        "reference_based": "Reference-based imputation",
        "gcomputation": "G-computation",
        "aipw": "AIPW",
        "miettinen_nurminen": "Miettinen–Nurminen",
        "cmh": "Cochran–Mantel–Haenszel",
        "kaplan_meier": "Kaplan–Meier",
        "log_rank": "Log-rank",
        "max_combo": "MaxCombo",
        "cox": "Cox model",
        "adjusted_log_rank": "Covariate-adjusted log-rank",
        "rmst": "Restricted mean survival time",
    }
)


def options_of(method: Method) -> tuple[str, ...]:
    """Return the options that a method takes.

    Examples
    --------
    >>> options_of(METHODS["time to event"]["rmst"])
    ('horizon', 'covariates', 'measures', 'level')
    """
    parameters = inspect.signature(method).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
