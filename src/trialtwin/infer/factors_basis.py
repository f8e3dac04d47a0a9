"""Another basis of the same factors, in which relevances can tell them apart.

Factors z → R⁻¹z with loadings w → Rᵀw leave the fit as it is, and change the bound by

    −½ tr(R⁻¹ S R⁻ᵀ) + (D − N) log|det R| − Σ_m Σ_k (a + D_m/2) log(b + ½ r_kᵀ M_m r_k)

with S = Σ E[z zᵀ], M_m = Σ E[w wᵀ] over block m. Updates one by one hardly move along R; this step does (Virtanen S et
al., 2011, ICML; Klami A et al., 2013, JMLR 14:965).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy import optimize

from trialtwin.infer.factors_posterior import Given, State, update_relevance


def turn_basis(given: Given, state: State, prior: float) -> State:
    """Return the state in the basis that raises the bound most, relevances updated; the same state if none does."""
    size = state.size
    if size == 0:
        return state
    square = state.mean.T @ state.mean + np.einsum("p,pkl->kl", given.counts, state.covariance)
    second = state.full_second[:, 1:, 1:]
    by_block = np.stack([second[given.block == m].sum(axis=0) for m in range(given.blocks)])
    weights = prior + np.bincount(given.block, minlength=given.blocks) / 2
    surplus = len(given.block) - len(state.mean)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        return _minus_gain(flat.reshape(size, size), square, by_block, weights, surplus, prior)

    start = np.eye(size).ravel()
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 25, "maxcor": 5})
    turn = found.x.reshape(size, size)
    better = np.isfinite(found.fun) and found.fun < objective(start)[0] and np.linalg.cond(turn) < 1e8
    return update_relevance(given, _turned(state, turn), prior) if better else state


def _minus_gain(
    turn: Float[np.ndarray, "factor factor"],
    square: Float[np.ndarray, "factor factor"],
    by_block: Float[np.ndarray, "block factor factor"],
    weights: Float[np.ndarray, " block"],
    surplus: int,
    prior: float,
) -> tuple[float, Float[np.ndarray, " entry"]]:
    """Return minus what the module's head says, and its gradient."""
    sign, log_size = np.linalg.slogdet(turn)
    if sign <= 0:
        return np.inf, np.zeros(turn.size)
    inverse = np.linalg.inv(turn)
    moved = np.einsum("mkl,lj->mkj", by_block, turn)
    inside = prior + 0.5 * np.einsum("lj,mlj->mj", turn, moved)
    value = -0.5 * np.trace(inverse @ square @ inverse.T) + surplus * log_size
    value -= (weights[:, None] * np.log(inside)).sum()
    gradient = inverse.T @ inverse @ square @ inverse.T + surplus * inverse.T
    gradient -= np.einsum("mj,mkj->kj", weights[:, None] / inside, moved)
    return -float(value), -gradient.ravel()


def _turned(state: State, turn: Float[np.ndarray, "factor factor"]) -> State:
    """Return factors and loadings in another basis."""
    inverse = np.linalg.inv(turn)
    both = np.eye(state.size + 1)
    both[1:, 1:] = turn
    covariance = inverse @ state.covariance @ inverse.T
    loading_covariance = both.T @ state.loading_covariance @ both
    return replace(
        state,
        mean=state.mean @ inverse.T,
        covariance=(covariance + covariance.swapaxes(1, 2)) / 2,
        loadings=state.loadings @ both,
        loading_covariance=(loading_covariance + loading_covariance.swapaxes(1, 2)) / 2,
    )
