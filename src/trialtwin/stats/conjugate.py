"""The linear model under a normal-inverse-gamma prior: posterior, evidence and the t law of a coefficient, exactly.

    y | β, σ² ~ N(Xβ, σ² I),      β | σ² ~ N(m, σ² V),      σ² ~ InverseGamma(a, b).

The posterior is of the same family, with

    V′ = (V⁻¹ + XᵀX)⁻¹,   m′ = V′ (V⁻¹m + Xᵀy),   a′ = a + n/2,   b′ = b + ½ [(y − Xm)ᵀ (I + XVXᵀ)⁻¹ (y − Xm)],

the evidence is a multivariate t,

    log p(y) = −(n/2) log 2π + ½ log(|V′|/|V|) + a log b − a′ log b′ + log Γ(a′) − log Γ(a),

and a coefficient is βⱼ ~ mⱼ + √(V′ⱼⱼ b′/a′) t(2a′).

Source: Gelman et al. (2013), Bayesian Data Analysis, chapter 14, doi:10.1201/b16018.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

from trialtwin.core.arrays import frozen, require_finite, require_length
from trialtwin.core.errors import ConfigError


@dataclass(frozen=True, eq=False)
class NormalInverseGamma:
    """A law of coefficients and residual variance; immutable.

    Parameters
    ----------
    mean : shape (column,)
        m, the centre of the coefficients.
    scale : shape (column, column)
        V, their covariance in units of σ²; symmetric and positive definite.
    shape, rate
        a and b of the inverse gamma law; b in the squared unit of the response.

    Raises
    ------
    ConfigError
        If shapes differ, V is not symmetric and positive definite, or a or b is not positive.
    """

    mean: Float[np.ndarray, " column"]
    scale: Float[np.ndarray, "one other"]
    shape: float
    rate: float

    def __post_init__(self) -> None:
        p = len(self.mean)
        if self.scale.shape != (p, p):
            raise ConfigError(f"a prior of {p} coefficients has a covariance of shape {self.scale.shape}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all()):
            raise ConfigError("a prior holds numbers that are not finite")
        if not np.allclose(self.scale, self.scale.T, rtol=1e-9) or np.linalg.eigvalsh(self.scale)[0] <= 0:
            raise ConfigError("the prior covariance is not symmetric and positive definite")
        if not (0 < self.shape < np.inf and 0 < self.rate < np.inf):
            raise ConfigError(f"an inverse gamma law of shape {self.shape:g} and rate {self.rate:g} does not exist")
        object.__setattr__(self, "mean", frozen(self.mean))
        object.__setattr__(self, "scale", frozen(self.scale))

    @property
    def df(self) -> float:
        """Degrees of freedom of the coefficients' t law."""
        return 2 * self.shape

    def coefficient(self, j: int) -> tuple[float, float]:
        """Return centre and scale of one coefficient's t law."""
        return float(self.mean[j]), float(np.sqrt(self.scale[j, j] * self.rate / self.shape))

    def posterior(
        self, X: Float[np.ndarray, "row column"], y: Float[np.ndarray, " row"]
    ) -> tuple["NormalInverseGamma", float]:
        """Return the law after data, and the log evidence of the data.

        Raises
        ------
        DataError
            If lengths differ or a number is not finite.

        Examples
        --------
        >>> prior = NormalInverseGamma(np.zeros(1), np.eye(1), 1.0, 1.0)
        >>> after, evidence = prior.posterior(np.ones((2, 1)), np.array([1.0, 2.0]))
        >>> after.mean.tolist(), after.shape, after.rate, round(evidence, 4)
        ([1.0], 2.0, 2.0, -3.7735)
        """
        require_length("the response", y, len(X))
        require_finite("the design", X)
        require_finite("the response", y)
        precision = np.linalg.inv(self.scale)
        scale = np.linalg.inv(precision + X.T @ X)
        scale = (scale + scale.T) / 2
        residual = y - X @ self.mean
        moved = X.T @ residual
        # (I + XVXᵀ)⁻¹ = I − X V′ Xᵀ, so that no matrix of the size of the sample is needed
        shape, rate = self.shape + len(y) / 2, self.rate + float(residual @ residual - moved @ scale @ moved) / 2
        evidence = (
            -len(y) / 2 * np.log(2 * np.pi)
            + (np.linalg.slogdet(scale)[1] - np.linalg.slogdet(self.scale)[1]) / 2
            + self.shape * np.log(self.rate)
            - shape * np.log(rate)
            + gammaln(shape)
            - gammaln(self.shape)
        )
        return NormalInverseGamma(self.mean + scale @ moved, scale, shape, rate), float(evidence)
