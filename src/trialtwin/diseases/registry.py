"""Diseases by name: adding one is a file beside this one and a line here."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from trialtwin.core.errors import MismatchError
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.diseases.amyloid_turnover import AmyloidTurnover
from trialtwin.diseases.base import AbstractDisease
from trialtwin.diseases.bergman import Bergman
from trialtwin.diseases.cao import Cao
from trialtwin.diseases.diabetes import Diabetes
from trialtwin.diseases.hiv import Hiv
from trialtwin.diseases.tumour import Tumour
from trialtwin.diseases.tumour_claret import ClaretTumour
from trialtwin.diseases.tumour_geng import GengTumour

DISEASES: Mapping[str, Callable[[], AbstractDisease]] = MappingProxyType(
    {
        "alzheimer": Alzheimer,
        "alzheimer-cao": Cao,
        "amyloid-turnover": AmyloidTurnover,
        "amyloid-turnover-kandadi": partial(AmyloidTurnover, "amyloid-turnover-kandadi"),
        "bergman": Bergman,
        "diabetes": Diabetes,
        "hiv": Hiv,
        "tumour": Tumour,
        "tumour-claret": ClaretTumour,
        "tumour-geng": GengTumour,
    }
)


def find_disease(name: str) -> AbstractDisease:
    """Return a disease by name.

    Raises
    ------
    MismatchError
        With the diseases that exist.

    Examples
    --------
    >>> find_disease("alzheimer").name
    'alzheimer'
    """
    if name not in DISEASES:
        raise MismatchError(f"no disease {name!r}", exists=DISEASES)
    return DISEASES[name]()
