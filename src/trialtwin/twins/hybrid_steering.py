"""Where a hybrid twin steers each patient: what covariates say of the effects, as far as patients like this were seen.

A patient's Mahalanobis distance d among the encoded covariates of the cohort learned from sets the weight

    w = 1 where d ≤ d₀,  0 where d ≥ 2 d₀,  a smooth cubic between,   d₀ the 99th percentile in that cohort,

and the patient's effects are u ~ N(w ĝ, 1 − w (1 − min(1, s² + δ))), δ the variance of g that comes with the weights of
the network and with covariates that are missing. At w = 0 that is N(0, 1), what the disease itself says.
"""

from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.variables import Variable
from trialtwin.twins.features import Encoder, encode, factors_of, known_columns
from trialtwin.twins.hybrid_disease import FAR, TRUST, fade, shift_of, spread_of
from trialtwin.twins.hybrid_network import Network
from trialtwin.twins.posterior import normal_points

QUANTILE = 0.99
POINTS = 32  # of the distribution of a missing covariate


class Steering(eqx.Module):
    """What covariates say of patients' effects, and of whom they may say it.

    ``precision`` and ``reach`` measure how far a patient's covariates lie from those of the cohort learned from;
    ``blur`` is the mean uncertainty of its latent factors, ``None`` where there were none.
    """

    effects: tuple[str, ...]
    encoder: Encoder
    network: Network
    precision: Float[np.ndarray, "column column"]
    reach: float
    blur: Float[np.ndarray, "factor factor"] | None

    def weight(self, patients: Cohort) -> Float[np.ndarray, " patient"]:
        """Return how far the network and the residual are trusted in each patient: 1 among those seen, 0 far away."""
        distance = _distance(encode(self.encoder, patients), self.precision)
        return np.asarray(fade(jnp.asarray(distance / self.reach), FAR), dtype=float)

    def steer(self, patients: Cohort) -> Cohort:
        """Return the patients with shift and spread of each effect, and the trust in the residual, as covariates."""
        weight = self.weight(patients)
        mean, variance = self._said(patients)
        left = np.minimum(self.network.left + variance, 1.0)
        shift = weight[:, None] * mean
        spread = np.sqrt(1.0 - weight[:, None] * (1.0 - left))
        names = (*map(shift_of, self.effects), *map(spread_of, self.effects), TRUST)
        return replace(
            patients,
            variables=(*patients.variables, *(Variable(name, concept=name) for name in names)),
            covariates=np.concatenate([patients.covariates, shift, spread, weight[:, None]], axis=1),
        )

    def _said(
        self, patients: Cohort
    ) -> tuple[Float[np.ndarray, "patient effect"], Float[np.ndarray, "patient effect"]]:
        """Return mean and variance of g, over what the weights may be and what is missing."""
        x = encode(self.encoder, patients)
        mean, variance = self.network.shift(x), self.network.doubt(x)
        known = known_columns(self.encoder, patients)
        gaps = np.flatnonzero(~known.all(axis=1))
        if len(gaps):
            # columns are standardised: a missing one may be anything that has mean 0 and SD 1
            points = normal_points(POINTS, x.shape[1])
            filled = np.where(known[gaps, None], x[gaps, None], points)
            values = self.network.shift(filled)
            mean[gaps], variance[gaps] = values.mean(axis=1), variance[gaps] + values.var(axis=1)
        factors = factors_of(self.encoder, patients)
        if factors is not None and self.blur is not None:
            slopes = self.network.slope(x)[..., x.shape[1] - factors.mean.shape[1] :]
            more = np.einsum("nkf,nfg,nkg->nk", slopes, factors.covariance - self.blur, slopes)
            variance = variance + np.maximum(more, 0.0)
        return mean, variance


def learn_steering(effects: tuple[str, ...], encoder: Encoder, cohort: Cohort, network: Network) -> Steering:
    """Return the steering of a network that was learned from a cohort."""
    x = encode(encoder, cohort)
    n, columns = x.shape
    # with few patients the sample covariance has no inverse: it is shrunk towards that of standardised columns
    share = columns / (columns + n)
    covariance = (1.0 - share) * (x.T @ x) / n + share * np.eye(columns)
    precision = np.linalg.inv(covariance)
    factors = factors_of(encoder, cohort)
    blur = None if factors is None else factors.covariance.mean(axis=0)
    reach = float(np.quantile(_distance(x, precision), QUANTILE)) if columns else 1.0
    return Steering(effects, encoder, network, precision, max(reach, 1e-6), blur)


def _distance(x: Float[np.ndarray, "patient column"], precision: np.ndarray) -> Float[np.ndarray, " patient"]:
    """Return each patient's Mahalanobis distance from the centre."""
    return np.sqrt(np.einsum("nc,cd,nd->n", x, precision, x))
