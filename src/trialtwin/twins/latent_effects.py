"""What is not known of a patient's latent factors, carried into a forecast that is linear in them.

A patient's effects Γ z with z ~ N(ẑ, V) have mean Γ ẑ and covariance Γ V Γᵀ. With Γ uncertain too, that covariance is
E[Γ V Γᵀ] over the posterior of Γ, which itself depends on how much each patient counts: fitting starts without it and
is repeated a few rounds with the posterior of the round before. The error is Berkson's (what is regressed on is the
expectation given what was measured), so that Γ is not biased towards 0 (Carroll RJ et al. (2006),
doi:10.1201/9781420010138).
"""

import numpy as np
from jaxtyping import Float

from trialtwin.core.finding import Assumption
from trialtwin.infer.factors import Factors
from trialtwin.twins.latent import Latent

ROUNDS = 2
FIXED = 3
"""Coefficients of the mean curve, which stand before those of the covariates."""


def second_moment(
    mean: Float[np.ndarray, " coefficient"],
    root: Float[np.ndarray, "coefficient coefficient"],
    columns: int,
    factors: int,
) -> Float[np.ndarray, "2 2 factor factor"]:
    """Return E[Γ_aj Γ_bk] of the factors' effects on level and slope, which are the last of each row's columns.

    ``root`` is the lower Cholesky factor of the precision of the coefficients.
    """
    inverse = np.linalg.inv(root)
    square = inverse.T @ inverse + np.outer(mean, mean)
    rows = FIXED + columns * np.arange(2)[:, None] + np.arange(columns - factors, columns)
    return square[rows[:, None, :, None], rows[None, :, None, :]]


def widening(
    second: Float[np.ndarray, "2 2 factor factor"] | None, factors: Factors | None
) -> Float[np.ndarray, "patient 2 2"] | None:
    """Return E[Γ V Γᵀ] of each patient; ``None`` where there are no factors, or nothing is known of Γ yet."""
    if second is None or factors is None:
        return None
    return np.einsum("abjk,njk->nab", second, factors.covariance)


def assumption_of(latent: Latent | None) -> tuple[Assumption, ...]:
    """Say what enters of the blocks, where there are any."""
    if latent is None:
        return ()
    shares = ", ".join(f"{share:.0%} of the variance of {name}" for name, share in latent.explained.items())
    return (
        Assumption(
            name="blocks enter as latent factors",
            value=f"{len(latent.columns)} factors, which explain {shares}; linear, normal, missing at random",
            source="group factor analysis of the cohort learned from (doi:10.15252/msb.20178124)",
            confidence="medium",
        ),
    )
