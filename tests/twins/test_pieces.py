"""Patients are inferred in pieces: the pieces change nothing, and join in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from trialtwin.twins.posterior import PIECE, by_pieces


@pytest.mark.parametrize("patients", [1, PIECE, PIECE + 1, 3 * PIECE - 5])
def test_pieces_join_in_order(patients: int) -> None:
    rng = np.random.default_rng(patients)
    a, b = jnp.asarray(rng.normal(size=(patients, 3))), jnp.asarray(rng.normal(size=patients))
    seen = jnp.asarray(rng.random(patients) < 0.5)

    def function(first: Array, rest: tuple[Array, Array]) -> tuple[Array, Array]:
        return first * rest[0][:, None], jnp.where(rest[1], first.sum(axis=1), -1.0)

    product, total = by_pieces(function, a, (b, seen))
    assert np.array_equal(np.asarray(product), np.asarray(a) * np.asarray(b)[:, None])
    assert np.allclose(np.asarray(total), np.where(np.asarray(seen), np.asarray(a).sum(axis=1), -1.0), rtol=1e-14)


def test_more_patients_compile_nothing_anew() -> None:
    traced = []

    @jax.jit
    def function(a: Array) -> Array:
        traced.append(a.shape)
        return 2.0 * a

    for patients in (PIECE, PIECE + 1, 2 * PIECE + 7, 5 * PIECE):
        assert by_pieces(function, jnp.ones((patients, 2))).shape == (patients, 2)
    assert traced == [(PIECE, 2)]


def test_the_error_of_a_piece_is_raised() -> None:
    def function(a: Array) -> Array:
        raise ValueError("no such patient")

    with pytest.raises(ValueError, match="no such patient"):
        by_pieces(function, jnp.ones((2 * PIECE, 1)))
