"""Array types at the border between rooms, and the few checks that every room needs.

Shapes are written as jaxtyping annotations; the tests run the whole suite with them checked by beartype.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from trialtwin.core.errors import DataError

type Vector = Float[np.ndarray, " n"]
type Matrix = Float[np.ndarray, "n p"]
type Mask = Bool[np.ndarray, "..."]
type Codes = Int[np.ndarray, " n"]


def frozen(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Return a read-only view of an array that nobody else will write to."""
    view = array.view()
    view.flags.writeable = False
    return view


def owned(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Return a read-only array that no later change of the source can reach: a copy where the source can be written."""
    return frozen(array.copy()) if array.flags.writeable else array


def require_finite(name: str, array: Shaped[np.ndarray, "..."]) -> None:
    """Refuse an array that holds NaN or infinity.

    Raises
    ------
    DataError
        With the count and the first position of a value that is not finite.
    """
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(axis[0]) for axis in np.nonzero(bad))
        raise DataError(
            f"{name} has {int(bad.sum())} value(s) that are not finite numbers",
            where=f"first at index {first[0] if len(first) == 1 else first} of shape {array.shape}",
            do="impute, drop or correct them before the analysis, and say so in the study file",
        )


def require_length(name: str, array: Shaped[np.ndarray, "..."], length: int) -> None:
    """Refuse an array whose first axis is not as long as the others'."""
    if array.shape[0] != length:
        raise DataError(f"{name} has {array.shape[0]} rows where the other arrays have {length}")


def digest(parts: Iterable[bytes | str | Shaped[np.ndarray, "..."]]) -> str:
    """Hash bytes, strings and arrays (with their shape and type) to a SHA-256 hexadecimal string."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.dtype.str}{part.shape}".encode())
            sha.update(np.ascontiguousarray(part).tobytes())
        else:
            sha.update(part.encode() if isinstance(part, str) else part)
        sha.update(b"\x1f")
    return sha.hexdigest()
