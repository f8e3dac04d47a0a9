"""Endpoints that a replay knows, by the names that tables of readouts use, and those that it does not model."""

from dataclasses import dataclass
from typing import Literal

type Kind = Literal["score", "amyloid", "negative", "aria", "listed"]


@dataclass(frozen=True)
class Endpoint:
    """An endpoint: how it is predicted, its unit, and the SD of a patient's change over 78 weeks.

    ``spread`` is used for sampling errors where a table gives none: SD(t) = spread · √(t / 78 weeks), never below
    ``repeat``, the SD of two readings of an unchanged patient. Both were read off printed standard errors with their n.
    """

    name: str
    kind: Kind
    unit: str = ""
    spread: float = 0.0
    repeat: float = 0.0
    other_names: tuple[str, ...] = ()


# spread: se / sqrt(1/n1 + 1/n2) of the differences at 76–78 weeks: CLARITY-AD CDR-SB 2.33, ADAS-Cog14 8.7, MCI-ADL 8.5;
# TRAILBLAZER-ALZ 2 CDR-SB 2.6, ADAS-Cog13 7.8, MMSE 3.8, iADL 8.8, iADRS 14.4; EMERGE CDR-SB 1.86, MMSE 3.5,
# ADAS-Cog13 6.6, MCI-ADL 6.2; PET: CLARITY-AD 18.3 CL. repeat: measurement errors of the disease model times √2.
_ENDPOINTS = (
    Endpoint("CDR-SB", "score", "points", 2.3, 1.0, ("CDR-SB(NCS2)",)),
    Endpoint("ADAS-Cog11", "score", "points", 7.2, 4.5, ("ADAS-Cog", "ADAS11")),
    Endpoint("ADAS-Cog13", "score", "points", 7.6, 4.5, ("ADAS13", "ADAS-Cog13(NCS2)")),
    Endpoint("ADAS-Cog14", "score", "points", 8.7, 4.5, ("ADAS14",)),
    Endpoint("MMSE", "score", "points", 3.6, 2.2),
    Endpoint("ADCS-MCI-ADL", "score", "points", 8.0, 4.2, ("ADCS-ADL-MCI",)),
    Endpoint("ADCS-iADL", "score", "points", 8.8, 5.0, ("ADCS-iADL(NCS2)",)),
    Endpoint("iADRS", "score", "points", 14.4, 7.0, ("iADRS(NCS2)",)),
    Endpoint("amyloid_CL", "amyloid", "CL", 18.3, 11.7, ("amyloid-PET", "amyloid")),
    Endpoint("amyloid_SUVR(florbetapir)", "amyloid", "SUVR", 0.1, 0.064, ("amyloid_SUVR",)),
    Endpoint("amyloid<24.1CL", "negative", "share"),
    Endpoint("ARIA-E", "aria", "share"),
    Endpoint("ARIA-H", "aria", "share"),
)
_BY_NAME = {endpoint.name: endpoint for endpoint in _ENDPOINTS}
_CANONICAL = {other: endpoint.name for endpoint in _ENDPOINTS for other in (endpoint.name, *endpoint.other_names)}
CL_PER_SUVR = 183.07  # florbetapir, whole cerebellum: CL = 183.07 SUVR − 177.26 (doi:10.1016/j.jalz.2018.06.1353)
NEGATIVE_CL = 24.1


def canonical(name: str) -> str:
    """Return the name under which an endpoint is known, or the name itself.

    Examples
    --------
    >>> from trialtwin.study.replay.endpoints import canonical
    >>> canonical("ADCS-ADL-MCI"), canonical("PACC")
    ('ADCS-MCI-ADL', 'PACC')
    """
    return _CANONICAL.get(name, name)


def endpoint(name: str) -> Endpoint | None:
    """Return an endpoint by any of its names, or ``None`` where it is not modelled."""
    return _BY_NAME.get(canonical(name))


def endpoint_names(*kinds: Kind) -> tuple[str, ...]:
    """List the endpoints of some kinds; all without one."""
    return tuple(e.name for e in _ENDPOINTS if not kinds or e.kind in kinds)
