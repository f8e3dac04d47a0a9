"""The evidence bound of a factor model: what variational inference raises, term by term."""

import numpy as np
from jaxtyping import Float
from scipy.special import digamma, gammaln

from trialtwin.infer.factors_posterior import FLAT, Given, State, residual_squares

LOG_2PI = float(np.log(2 * np.pi))


def evidence_bound(given: Given, state: State, prior: float) -> float:
    """Return E[log p(y, z, μ, w, α, τ)] − E[log q], a lower bound of the log evidence.

    ``prior`` is shape and rate of the Gamma priors of relevances and noises.
    """
    log_noise = digamma(state.noise_shape) - np.log(state.noise_rate)
    count = given.measured.sum(axis=0)
    data = 0.5 * (count * (log_noise - LOG_2PI)).sum() - 0.5 * (state.noise * residual_squares(given, state)).sum()
    return float(data - _factors_apart(given, state) + _loadings(given, state) - _gammas(state, prior))


def _factors_apart(given: Given, state: State) -> float:
    """Return the divergence of the factors' posterior from N(0, I)."""
    trace = np.trace(state.covariance, axis1=1, axis2=2)
    logs = np.linalg.slogdet(state.covariance)[1] if state.size else np.zeros(len(trace))
    by_pattern = 0.5 * (given.counts * (trace - state.size - logs)).sum()
    return float(by_pattern + 0.5 * (state.mean**2).sum())


def _loadings(given: Given, state: State) -> float:
    """Return the expected log prior of the loadings plus their entropy."""
    squares = np.diagonal(state.full_second, axis1=1, axis2=2)
    log_relevance = (digamma(state.shape)[:, None] - np.log(state.spread))[given.block]
    relevance = (state.shape[:, None] / state.spread)[given.block]
    prior = 0.5 * (log_relevance - LOG_2PI - relevance * squares[:, 1:]).sum()
    prior += 0.5 * (np.log(FLAT) - LOG_2PI - FLAT * squares[:, 0]).sum()
    logs = np.linalg.slogdet(state.loading_covariance)[1]
    return float(prior + 0.5 * (logs + (state.size + 1) * (1 + LOG_2PI)).sum())


def _gammas(state: State, prior: float) -> float:
    """Return the divergence of relevances and noises from their priors."""
    shape = np.broadcast_to(state.shape[:, None], state.spread.shape)
    apart = _gamma_apart(shape, state.spread, prior).sum()
    return float(apart + _gamma_apart(state.noise_shape, state.noise_rate, prior).sum())


def _gamma_apart(
    shape: Float[np.ndarray, "*any"], rate: Float[np.ndarray, "*any"], prior: float
) -> Float[np.ndarray, "*any"]:
    """Return KL(Gamma(shape, rate) ‖ Gamma(prior, prior))."""
    return (
        (shape - prior) * digamma(shape)
        - gammaln(shape)
        + gammaln(prior)
        + prior * (np.log(rate) - np.log(prior))
        + shape * (prior - rate) / rate
    )
