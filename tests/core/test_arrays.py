"""Checks and hashes of arrays."""

import hashlib

import numpy as np
import pytest

from trialtwin.core.arrays import digest, frozen, require_finite, require_length
from trialtwin.core.errors import DataError


def test_a_frozen_array_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        frozen(np.zeros(3))[0] = 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_counted_and_found(bad: float) -> None:
    array = np.zeros((3, 4))
    array[1, 2] = array[2, 0] = bad
    with pytest.raises(
        DataError, match=r"score has 2 value\(s\)[^,]*\n  where: first at index \(1, 2\) of shape \(3, 4\)"
    ):
        require_finite("score", array)


def test_finite_numbers_pass() -> None:
    require_finite("score", np.array([0, 1]))
    require_finite("score", np.zeros((0, 2)))


def test_a_length_that_differs_is_refused() -> None:
    require_length("score", np.zeros(3), 3)
    with pytest.raises(DataError, match="score has 3 rows where the other arrays have 4"):
        require_length("score", np.zeros(3), 4)


def test_a_digest_sees_shape_type_and_order() -> None:
    array = np.arange(6.0)
    different = [
        [array],
        [array.reshape(2, 3)],
        [array.astype(np.float32)],
        [array, array],
        [array, "a", "b"],
        [array, "b", "a"],
        [array, "ab"],
        [],
    ]
    hashes = {digest(parts) for parts in different}
    assert len(hashes) == len(different)
    assert all(len(h) == 64 for h in hashes)


def test_independent_digest() -> None:
    """What is hashed is written down here once more, so that hashes in old manifests stay true."""
    array = np.arange(6.0).reshape(2, 3)
    written = b"a\x1f" + b"<f8(2, 3)" + array.tobytes() + b"\x1f" + "µ".encode() + b"\x1f"
    assert digest(["a", array, b"\xc2\xb5"]) == hashlib.sha256(written).hexdigest()
