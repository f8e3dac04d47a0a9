"""Covariance of coefficients from the scores of subjects: right whatever the true covariance of repeated measures.

In units in which the fitted covariance of a subject is the identity (its inverse Cholesky factor applied to Xᵢ and to
the residuals eᵢ), with hat matrices Hᵢ = Xᵢ Φ Xᵢᵀ,

    V = Φ [ Σᵢ Xᵢᵀ Bᵢ eᵢ eᵢᵀ Bᵢ Xᵢ ] Φ,      CR0: B = I,   CR2: B = (I − H)^(−1/2),   CR3: B = (I − H)⁻¹.

Degrees of freedom are Bell and McCaffrey's under the fitted covariance: cᵀVc is a quadratic form in normal variables
with matrix G, and ν = (tr G)² / tr G². R mmrm calls these "Empirical", "Empirical-Bias-Reduced" and
"Empirical-Jackknife".

Sources: Liang and Zeger (1986), doi:10.1093/biomet/73.1.13; Bell and McCaffrey (2002), Survey Methodology 28, 169;
Pustejovsky and Tipton (2018), doi:10.1080/07350015.2016.1247004.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.errors import FitError
from trialtwin.stats.mmrm_df import combined_df
from trialtwin.stats.mmrm_likelihood import Point

type Square = Float[np.ndarray, "_ _"]

_FULL = 1e-10


@dataclass(frozen=True, eq=False)
class Sandwich:
    """A robust covariance matrix and what its degrees of freedom need.

    Parameters
    ----------
    covariance : shape (column, column)
        V.
    inverse : shape (column, column)
        Φ.
    rows : shape (subject, slot, column)
        Bᵢ Xᵢ.
    crossed : shape (subject, column, column)
        Xᵢᵀ Bᵢ Xᵢ.
    """

    covariance: Square
    inverse: Square
    rows: Float[np.ndarray, "subject slot column"]
    crossed: Float[np.ndarray, "subject column column"]

    def df(self, contrast: Float[np.ndarray, " column"]) -> float:
        """Return the degrees of freedom of one contrast."""
        turned = self.inverse @ contrast
        own = ((self.rows @ turned) ** 2).sum(axis=1)
        scores = self.crossed @ turned
        shared = scores @ self.inverse
        leverage = np.einsum("ij,ij->i", shared, scores)
        gram = self.inverse @ (scores.T @ scores)
        square = float(own @ own - 2 * own @ leverage + np.trace(gram @ gram))
        return float(own.sum() - leverage.sum()) ** 2 / square

    def df_several(self, contrasts: Float[np.ndarray, "contrast column"]) -> float:
        """Return the denominator degrees of freedom of several contrasts."""
        _, vectors = np.linalg.eigh(contrasts @ self.covariance @ contrasts.T)
        return combined_df(np.array([self.df(row) for row in vectors.T @ contrasts]))


def sandwich(
    kind: str,
    point: Point,
    z: Float[np.ndarray, "subject slot width"],
    of_subject: Int[np.ndarray, " subject"],
    names: tuple[str, ...],
) -> Sandwich:
    """Return the robust covariance "CR0", "CR2" or "CR3".

    Raises
    ------
    FitError
        If a subject has leverage 1, which leaves CR2 and CR3 undefined; the message names the subjects.
    """
    half = np.linalg.inv(np.linalg.cholesky(point.covariance.value))[of_subject]
    whitened = half @ z
    X = whitened[..., :-1]
    residuals = whitened[..., -1] - X @ point.coefficients
    rows = X
    if kind != "CR0":
        free = np.eye(X.shape[1]) - X @ point.inverse @ X.mT
        values, vectors = np.linalg.eigh(free)
        full = np.flatnonzero(values[:, 0] < _FULL)
        if len(full):
            raise FitError(
                f"{kind} is undefined: {len(full)} subject(s) have leverage 1",
                where=", ".join(names[i] for i in full[:10]),
                do="pool factor levels that one subject has alone, or use 'model' or 'CR0'",
            )
        power = {"CR2": -0.5, "CR3": -1.0}[kind]
        rows = (vectors * values[:, None, :] ** power) @ vectors.mT @ X
    scores = np.einsum("isj,is->ij", rows, residuals)
    return Sandwich(
        covariance=point.inverse @ (scores.T @ scores) @ point.inverse,
        inverse=point.inverse,
        rows=rows,
        crossed=X.mT @ rows,
    )
