"""Analysis of covariance by least squares, with model-based and heteroscedasticity-consistent variances.

β̂ = (XᵀX)⁻¹ Xᵀ y by the QR decomposition X = QR, and

    V_model = σ̂² (XᵀX)⁻¹,      V_HC = (XᵀX)⁻¹ Xᵀ diag(ω) X (XᵀX)⁻¹,

with residual eᵢ, leverage hᵢ, n rows and p coefficients:

    HC0  ωᵢ = eᵢ²                    HC3  ωᵢ = eᵢ² / (1 − hᵢ)²
    HC1  ωᵢ = eᵢ² n / (n − p)        HC4  ωᵢ = eᵢ² / (1 − hᵢ)^min(4, n hᵢ / p)
    HC2  ωᵢ = eᵢ² / (1 − hᵢ)

Sources: MacKinnon and White (1985), doi:10.1016/0304-4076(85)90158-7; Long and Ervin (2000),
doi:10.1080/00031305.2000.10474549; Cribari-Neto (2004), doi:10.1016/S0167-9473(02)00366-3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trialtwin.core.arrays import frozen, require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.modelmatrix import ModelMatrix, contrast_weights
from trialtwin.stats.wald import wald_estimate

VARIANCES = ("model", "HC0", "HC1", "HC2", "HC3", "HC4")
_DEPENDENT = 1e-7  # share of a column's own variation that the columns before it must leave, as in R's lm
_ROUNDING = 1e-13
_SATURATED = 1e-10


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A fitted linear model; immutable.

    Parameters
    ----------
    names
        Coefficients.
    coefficients : shape (column,)
        Least-squares estimates.
    fitted, residuals, leverage : shape (row,)
        Fitted values, residuals, and the diagonal of the hat matrix.
    df
        Residual degrees of freedom, rows − columns.
    sigma
        Residual standard deviation, in the unit of the response.
    r_squared
        Share of variation explained: about the mean where the model holds an intercept, about zero elsewhere.
    orthonormal : shape (row, column), inverse : shape (column, column)
        Q and R⁻¹ of the decomposition X = QR.
    rows
        Names of the rows for messages, such as subject identifiers; empty where there are none.
    """

    names: tuple[str, ...]
    coefficients: Float[np.ndarray, " column"]
    fitted: Float[np.ndarray, " row"]
    residuals: Float[np.ndarray, " row"]
    leverage: Float[np.ndarray, " row"]
    df: int
    sigma: float
    r_squared: float
    orthonormal: Float[np.ndarray, "row column"]
    inverse: Float[np.ndarray, "column column"]
    rows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("coefficients", "fitted", "residuals", "leverage", "orthonormal", "inverse"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.residuals)

    def coefficient(self, name: str) -> float:
        """Return one coefficient by name."""
        return float(contrast_weights(self.names, {name: 1.0}) @ self.coefficients)

    def covariance(self, kind: str = "model") -> Float[np.ndarray, "column column"]:
        """Return the covariance matrix of the coefficients.

        Raises
        ------
        ConfigError
            If ``kind`` is not one of "model", "HC0", "HC1", "HC2", "HC3", "HC4".
        FitError
            If a row has leverage 1, which leaves HC2, HC3 and HC4 undefined; the message names the rows.
        """
        if kind == "model":
            return self.sigma**2 * (self.inverse @ self.inverse.T)
        meat = (self.orthonormal.T * self._squares(kind)) @ self.orthonormal
        return self.inverse @ meat @ self.inverse.T

    def estimate(
        self,
        weights: Mapping[str, float],
        label: str,
        *,
        variance: str = "model",
        level: float = 0.95,
        null: float = 0.0,
        method: str = "least squares",
        unit: str = "",
        estimand: Estimand | None = None,
    ) -> Estimate:
        """Estimate a linear combination of coefficients, with t inference on the residual degrees of freedom.

        Raises
        ------
        MismatchError
            If a weight names a coefficient that the model does not have.
        ConfigError, FitError
            As for ``covariance``.

        Examples
        --------
        >>> from trialtwin.stats.modelmatrix import factor_columns, intercept, join
        >>> arm = factor_columns("arm", ["control", "active"], np.array([0, 0, 0, 1, 1, 1]))
        >>> fit = least_squares(join(intercept(6), arm), np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.0]))
        >>> effect = fit.estimate({"arm[active]": 1.0}, "active − control", variance="HC2")
        >>> round(effect.value, 3), round(effect.se, 3), effect.df
        (1.0, 0.816, 4.0)
        """
        contrast = contrast_weights(self.names, weights)
        # The variance of a contrast needs one row of the sandwich, not the matrix.
        half = contrast @ self.inverse
        if variance == "model":
            square = self.sigma**2 * float(half @ half)
        else:
            square = float(self._squares(variance) @ (self.orthonormal @ half) ** 2)
        return wald_estimate(
            float(contrast @ self.coefficients),
            float(np.sqrt(square)),
            contrast=label,
            n=self.n,
            df=float(self.df),
            null=null,
            level=level,
            method=method,
            variance=variance,
            unit=unit,
            estimand=estimand,
        )

    def _squares(self, kind: str) -> Float[np.ndarray, " row"]:
        """Return ω, the weighted squared residuals of a robust variance."""
        squares = self.residuals**2
        n, p = self.orthonormal.shape
        match kind:
            case "HC0":
                return squares
            case "HC1":
                return squares * (n / (n - p))
            case "HC2" | "HC3" | "HC4":
                power = {"HC2": 1.0, "HC3": 2.0}.get(kind, np.minimum(4.0, n * self.leverage / p))
                return squares / self._free(kind) ** power
        raise ConfigError(f"no variance estimator {kind!r}", exists=VARIANCES)

    def _free(self, kind: str) -> Float[np.ndarray, " row"]:
        """Return 1 − leverage, or refuse rows that the model fits whatever their response is."""
        free = 1 - self.leverage
        full = np.flatnonzero(free < _SATURATED)
        if len(full):
            names = [self.rows[i] if self.rows else f"row {i}" for i in full]
            raise FitError(
                f"{kind} is undefined: {len(full)} patient(s) have leverage 1",
                where=", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else ""),
                do="pool factor levels that hold one patient, or use 'model', 'HC0' or 'HC1'",
            )
        return free


def least_squares(
    design: ModelMatrix,
    response: Float[np.ndarray, " row"],
    *,
    rows: Sequence[str] = (),
    name: str = "the response",
) -> LinearFit:
    """Fit a linear model by least squares.

    Parameters
    ----------
    design
        Columns of the model.
    response : shape (row,)
        What is modelled.
    rows
        Names of the rows, for messages.
    name
        Name of the response, for messages.

    Raises
    ------
    DataError
        If lengths differ or the response holds NaN or infinity.
    FitError
        If there are no residual degrees of freedom, the design is singular (the message names the columns that
        depend on each other), or the model fits every row exactly.
    """
    _require_rows(design, response, rows, name)
    n, p = design.values.shape
    Q, R = np.linalg.qr(design.values)
    require_rank(design, R)
    projected = Q.T @ response
    fitted = Q @ projected
    residuals = response - fitted
    rss = float(residuals @ residuals)
    if rss <= _ROUNDING**2 * float(response @ response):
        raise FitError(
            f"the model fits {name} exactly in every row: no variation is left to judge by",
            where=", ".join(design.names[:20]),
            do="check that it is not constant and not one of the covariates",
        )
    # LU of a triangular matrix is back-substitution; scipy's solve_triangular starts threads for matrices this small.
    inverse = np.linalg.solve(R, np.eye(p))
    return LinearFit(
        names=design.names,
        coefficients=inverse @ projected,
        fitted=fitted,
        residuals=residuals,
        leverage=np.einsum("ij,ij->i", Q, Q),
        df=n - p,
        sigma=float(np.sqrt(rss / (n - p))),
        r_squared=1 - rss / _total(Q, response),
        orthonormal=Q,
        inverse=inverse,
        rows=tuple(rows),
    )


def _require_rows(design: ModelMatrix, response: Float[np.ndarray, " row"], rows: Sequence[str], name: str) -> None:
    """Refuse a response that does not belong to the design, and a design with too few rows."""
    n, p = design.values.shape
    require_length(name, response, n)
    require_finite(name, response)
    if rows and len(rows) != n:
        raise DataError(f"{len(rows)} row names for {n} rows")
    if n <= p:
        raise FitError(
            f"{n} patients leave no residual degrees of freedom for {p} coefficients",
            where=", ".join(design.names[:20]),
            do="drop covariates or pool factor levels",
        )


def _total(Q: Float[np.ndarray, "row column"], response: Float[np.ndarray, " row"]) -> float:
    """Return the total sum of squares: about the mean where the columns span the constant, about zero elsewhere."""
    n = len(response)
    ones = Q.sum(axis=0)
    spans_constant = abs(float(ones @ ones) - n) < _SATURATED * n
    deviation = response - response.mean() if spans_constant else response
    return float(deviation @ deviation)


def require_rank(design: ModelMatrix, R: Float[np.ndarray, "column column"]) -> None:
    """Refuse columns that are linear combinations of those before them, and say of which.

    Parameters
    ----------
    design
        Columns of the model.
    R : shape (column, column)
        Triangular factor of its QR decomposition.

    Raises
    ------
    FitError
        If a column depends on those before it; the message names the first such column and its partners.
    """
    X = design.values
    own = np.sqrt(((X - X.mean(axis=0)) ** 2).sum(axis=0))
    size = np.sqrt((X**2).sum(axis=0))
    remaining = np.abs(np.diag(R))
    dependent = np.flatnonzero(remaining <= np.maximum(_DEPENDENT * own, _ROUNDING * size))
    if len(dependent) == 0:
        return
    j = int(dependent[0])
    combination = np.zeros(0)
    if j > 0:
        # Coefficients in units of each column's size: what is left of rounding falls below the threshold.
        combination = np.abs(np.linalg.solve(R[:j, :j], R[:j, j])) * size[:j]
    partners = [design.names[i] for i in np.flatnonzero(combination > 1e-6 * max(float(size[j]), 1e-300))]
    others = [design.names[i] for i in dependent[1:]]
    more = f"; so are {', '.join(others)} on the columns before them" if others else ""
    raise FitError(
        f"the design is singular: {design.names[j]!r} is "
        + (f"a linear combination of {', '.join(partners)}" if partners else "zero in every row")
        + more,
        where=f"{len(design.names)} columns, rank {len(design.names) - len(dependent)}",
        do="drop one of these terms",
    )
