"""The unconditional covariance of marginal means, under the randomisation that the trial used.

With outcome Y, predictions μₐ(X) of every patient under every arm, shares πₐ and sample variances (divisor n − 1),
the covariance of √n (m̂ − m) under simple randomisation is

    V_aa = Var(Y − μₐ | A = a)/πₐ + 2 Cov(Y, μₐ | A = a) − Var(μₐ)
    V_ab = Cov(Y, μ_b | A = a) + Cov(Y, μₐ | A = b) − Cov(μₐ, μ_b).

The decomposed form takes Var(μₐ) over all patients inside the first term: Var(Y | a) − 2 Cov(Y, μₐ | a) + Var(μₐ).
Permuted blocks within strata z balance arms, which takes away what strata explain of the residuals:

    V − Σ_z (n_z/n) R_z [diag(π) − ππᵀ] R_z,      R_z = diag( mean(Y − μₐ | A = a, Z = z)/πₐ ).

How far Pocock–Simon minimisation balances the joint strata is not known. Where the residuals of each arm average to
zero in every joint stratum, the correction vanishes whatever it is; any other working model is refused.

Sources: Ye, Shao, Yi and Zhao (2023), doi:10.1080/01621459.2022.2049278; Ye, Bannick, Yi and Shao (2023),
doi:10.1080/24754269.2023.2205802; Bannick, Shao, Liu, Du, Yi and Ye (2025), doi:10.1093/biomet/asaf029.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.arrays import frozen, require_length
from trialtwin.core.errors import ConfigError, DataError
from trialtwin.stats.armmodel import ArmModel

SCHEMES = ("simple", "permuted block", "minimisation")
_BALANCED = 1e-8


@dataclass(frozen=True, eq=False)
class Randomisation:
    """How patients were put into arms; immutable.

    Parameters
    ----------
    scheme
        "simple", "permuted block" or "minimisation" (Pocock and Simon).
    strata : shape (row,)
        Joint stratum of each patient as a code, where the scheme balances within strata; ``None`` for one stratum.

    Raises
    ------
    ConfigError
        If the scheme is another, simple randomisation is given strata, or minimisation none.
    """

    scheme: str = "simple"
    strata: Int[np.ndarray, " row"] | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ConfigError(f"no randomisation scheme {self.scheme!r}", exists=SCHEMES)
        if self.scheme == "simple" and self.strata is not None:
            raise ConfigError(
                "simple randomisation does not use strata",
                do="name the scheme that balanced them: permuted block or minimisation",
            )
        if self.scheme == "minimisation" and self.strata is None:
            raise ConfigError("minimisation needs the joint strata of the factors that it balanced")
        if self.strata is not None:
            object.__setattr__(self, "strata", frozen(self.strata))

    @property
    def label(self) -> str:
        """The scheme in words, for a result's variance."""
        return self.scheme if self.strata is None else f"{self.scheme} within strata"


def unconditional_covariance(
    model: ArmModel,
    response: Float[np.ndarray, " row"],
    predictions: Float[np.ndarray, "row arm"],
    randomisation: Randomisation,
    *,
    decomposed: bool = True,
) -> Float[np.ndarray, "arm arm"]:
    """Return the covariance of marginal means over samples of patients and allocations.

    Parameters
    ----------
    model
        Arms and who is in them.
    response : shape (row,)
        Outcomes.
    predictions : shape (row, arm)
        Prediction of each patient under each arm, unbiased in each arm.
    randomisation
        Scheme and strata.
    decomposed
        Take the variance of predictions over all patients inside the first term as well, as beeca and RobinCar do.

    Raises
    ------
    DataError
        If lengths differ, or a stratum lacks an arm.
    ConfigError
        If minimisation is combined with a working model whose residuals do not average to zero in every arm of
        every stratum.

    Examples
    --------
    >>> model = ArmModel(("a", "b"), np.array([0, 0, 1, 1]))
    >>> y = np.array([1.0, 3.0, 2.0, 6.0])
    >>> unconditional_covariance(model, y, np.tile([2.0, 4.0], (4, 1)), Randomisation())
    array([[1., 0.],
           [0., 4.]])
    """
    require_length("the response", response, model.n)
    require_length("the predictions", predictions, model.n)
    shares, k = model.shares, len(model.arms)
    overall = np.atleast_2d(np.cov(predictions, rowvar=False))
    first, cross = np.zeros(k), np.zeros((k, k))
    for a in range(k):
        members = model.arm == a
        y, mu = response[members], predictions[members]
        joint = np.cov(np.column_stack([y, mu]), rowvar=False)
        cross[a] = joint[0, 1:]
        if decomposed:
            first[a] = (joint[0, 0] - 2 * cross[a, a] + overall[a, a]) / shares[a]
        else:
            first[a] = np.var(y - mu[:, a], ddof=1) / shares[a]
    covariance = np.diag(first) + cross + cross.T - overall
    residuals = response - predictions[np.arange(model.n), model.arm]
    return (covariance - _explained(model, residuals, randomisation)) / model.n


def _explained(
    model: ArmModel, residuals: Float[np.ndarray, " row"], randomisation: Randomisation
) -> Float[np.ndarray, "arm arm"]:
    """Return what balance within strata takes from the covariance of √n (m̂ − m)."""
    k = len(model.arms)
    if randomisation.strata is None:
        return np.zeros((k, k))
    require_length("the strata", randomisation.strata, model.n)
    codes, strata = np.unique(randomisation.strata, return_inverse=True)
    cells = strata * k + model.arm
    counts = np.bincount(cells, minlength=len(codes) * k).reshape(-1, k)
    if (counts == 0).any():
        z, a = (int(i[0]) for i in np.nonzero(counts == 0))
        raise DataError(
            f"{int((counts == 0).sum())} combination(s) of stratum and arm hold no patient",
            where=f"stratum {codes[z]}, arm {model.arms[a]!r}",
            do="pool strata, or state the randomisation as simple",
        )
    means = np.bincount(cells, weights=residuals, minlength=counts.size).reshape(-1, k) / counts
    if randomisation.scheme == "minimisation":
        spread = float(np.sqrt(np.mean(residuals**2)))
        if np.abs(means).max() > _BALANCED * spread:
            z, a = divmod(int(np.abs(means).argmax()), k)
            raise ConfigError(
                "under minimisation the variance is known only where residuals average to zero in each arm of each "
                f"joint stratum; in arm {model.arms[a]!r} of stratum {codes[z]} they average {means[z, a]:.3g}",
                do="put the joint strata into the covariates and let them interact with arm",
            )
        return np.zeros((k, k))
    shares = model.shares
    scaled = means / shares * np.sqrt(counts.sum(axis=1) / model.n)[:, None]
    return (scaled.T @ scaled) * (np.diag(shares) - np.outer(shares, shares))
