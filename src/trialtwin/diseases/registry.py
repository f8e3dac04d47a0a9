"""Diseases by name: adding one is a file beside this one and a line here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from trialtwin.core.errors import MismatchError
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.diseases.base import AbstractDisease
from trialtwin.diseases.cao import Cao

DISEASES: Mapping[str, Callable[[], AbstractDisease]] = MappingProxyType({"alzheimer": Alzheimer, "alzheimer-cao": Cao})


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
