"""The likelihood of repeated measures, restricted or full, with exact gradient and Hessian.

With subjects i of pattern g, X = QR scaled so that Σᵢ = Σ_g, A = Σᵢ Xᵢᵀ Σ_g⁻¹ Xᵢ, Φ = A⁻¹, residuals rᵢ at the
estimate of least squares, and S = Σ_g⁻¹,

    −2 log L = (N − p) log 2π + Σᵢ log|Σ_g| + Σᵢ rᵢᵀ S rᵢ + log|A|              (REML; ML has N for N − p, no log|A|)

Nothing in it needs single subjects: moments Σᵢ zᵢₐ zᵢᵦᵀ of z = (X, y) for each pair of visits of a pattern suffice,
so that an evaluation takes as long for a thousand subjects as for ten. Write M = Σᵢ (rᵢ rᵢᵀ + Xᵢ Φ Xᵢᵀ) (ML: without
the second term), T = S M S, and Aₐ = −Σᵢ Xᵢᵀ S Σₐ S Xᵢ, uₐ = its counterpart against residuals. Then

    ∂(−log L)/∂θₐ     = ½ Σ_g tr Σₐ (n_g S − T)
    ∂²(−log L)/∂θₐ∂θᵦ = ½ Σ_g tr Σₐᵦ (n_g S − T) + Σ_g tr S Σₐ (T − ½ n_g S) Σᵦ − ½ tr Φ Aₐ Φ Aᵦ − uₐᵀ Φ uᵦ.

Source: Lindstrom and Bates (1988), doi:10.1080/01621459.1988.10478693.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.stats.mmrm_covariance import Structure
from trialtwin.stats.mmrm_data import Patterns

type Square = Float[np.ndarray, "_ _"]
type ByPattern = Float[np.ndarray, "_ _ _"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums of products Σᵢ zᵢₐ zᵢᵦᵀ over the subjects of each pattern, for each pair of observed visits a ≤ b.

    Parameters
    ----------
    pattern, row, column : shape (pair,)
        Pattern and visits of each pair.
    sums : shape (pair, product)
        Upper triangles, symmetrised: an off-diagonal pair holds the sum for (a, b) and for (b, a).
    count : shape (pattern,)
        Subjects of each pattern.
    width
        Length of z.
    """

    pattern: Int[np.ndarray, " pair"]
    row: Int[np.ndarray, " pair"]
    column: Int[np.ndarray, " pair"]
    sums: Float[np.ndarray, "pair product"]
    count: Float[np.ndarray, " pattern"]
    width: int

    @cached_property
    def _triangle(self) -> tuple[np.ndarray, np.ndarray]:
        return np.triu_indices(self.width)

    def total(self, weights: Float[np.ndarray, "*lead pattern slot slot"]) -> Float[np.ndarray, "*lead width width"]:
        """Return Σ_g Σ_ab w_gab Σᵢ zᵢₐ zᵢᵦᵀ for symmetric weights."""
        packed = weights[..., self.pattern, self.row, self.column] @ self.sums
        full = np.empty((*packed.shape[:-1], self.width, self.width))
        upper, right = self._triangle
        full[..., upper, right] = packed
        full[..., right, upper] = packed
        return full

    def against(self, matrix: Square, slots: int) -> ByPattern:
        """Return Σᵢ zᵢₐᵀ M zᵢᵦ for each pattern and pair of visits, for a symmetric matrix M."""
        upper, right = self._triangle
        products = self.sums @ (matrix[upper, right] * np.where(upper == right, 1.0, 2.0))
        products = np.where(self.row == self.column, products, products / 2)
        full = np.zeros((len(self.count), slots, slots))
        full[self.pattern, self.row, self.column] = products
        full[self.pattern, self.column, self.row] = products
        return full


def find_moments(
    z: Float[np.ndarray, "subject slot width"],
    of_subject: Int[np.ndarray, " subject"],
    observed: Bool[np.ndarray, "pattern slot"],
) -> Moments:
    """Sum products over the subjects of each pattern."""
    width = z.shape[-1]
    upper, right = np.triu_indices(width)
    pattern, row, column, sums = [], [], [], []
    for g, seen in enumerate(observed):
        slots = np.flatnonzero(seen)
        rows = z[of_subject == g][:, slots].reshape(-1, len(slots) * width)
        products = (rows.T @ rows).reshape(len(slots), width, len(slots), width)
        for a in range(len(slots)):
            for b in range(a, len(slots)):
                block = products[a, :, b]
                pattern.append(g)
                row.append(slots[a])
                column.append(slots[b])
                sums.append(((block + block.T) / (1 if b > a else 2))[upper, right])
    return Moments(
        pattern=np.array(pattern),
        row=np.array(row),
        column=np.array(column),
        sums=np.array(sums),
        count=np.bincount(of_subject, minlength=len(observed)).astype(float),
        width=width,
    )


@dataclass(frozen=True, eq=False)
class PatternCovariance:
    """Covariance matrices of all patterns, with derivatives.

    Patterns that are cut from the same matrix share a template. Where a pattern has no visit, its matrix holds the
    identity and its derivatives zero.
    """

    value: ByPattern
    first: Float[np.ndarray, "pattern parameter slot slot"]
    second: Float[np.ndarray, "template parameter parameter slot slot"]
    template: Int[np.ndarray, " pattern"]
    pairs: Bool[np.ndarray, "pattern slot slot"]

    def against_second(self, weights: ByPattern) -> Float[np.ndarray, "parameter parameter"]:
        """Return Σ_g tr Σₐᵦ w_g."""
        gathered = np.zeros((len(self.second), *weights.shape[1:]))
        np.add.at(gathered, self.template, weights * self.pairs)
        return np.einsum("tabij,tij->ab", self.second, gathered, optimize=True)

    def mixed_second(self, weights: Square) -> ByPattern:
        """Return Σ_ab w_ab Σₐᵦ for each pattern."""
        mixed = np.einsum("tabij,ab->tij", self.second, weights, optimize=True)
        return mixed[self.template] * self.pairs


@dataclass(frozen=True, eq=False)
class CovarianceModel:
    """A structure over patterns of visits; each covariance group has parameters of its own."""

    structure: Structure
    patterns: Patterns
    groups: int

    @cached_property
    def _templates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first pattern of each template, and the template of each pattern."""
        spatial = self.structure.spatial
        key = np.arange(len(self.patterns.group)) if spatial else self.patterns.group
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        return first, inverse

    @property
    def slots(self) -> int:
        """Places for visits."""
        return self.patterns.observed.shape[1]

    @property
    def size(self) -> int:
        """Number of parameters of all groups."""
        return self.groups * self.structure.size(self.slots)

    def at(self, theta: Float[np.ndarray, " parameter"]) -> PatternCovariance:
        """Return the covariance matrices of all patterns at these parameters."""
        q, each, m = len(theta), len(theta) // self.groups, self.slots
        leaders, template = self._templates
        value = np.tile(np.eye(m), (len(leaders), 1, 1))
        first = np.zeros((len(leaders), q, m, m))
        second = np.zeros((len(leaders), q, q, m, m))
        for t, g in enumerate(leaders):
            own = slice(self.patterns.group[g] * each, (self.patterns.group[g] + 1) * each)
            k = int(self.patterns.observed[g].sum()) if self.structure.spatial else m
            found = self.structure.derivatives(theta[own], self.patterns.time[g, :k])
            value[t, :k, :k] = found.value
            first[t, own, :k, :k] = found.first
            second[t, own, own, :k, :k] = found.second
        seen = self.patterns.observed
        pairs = seen[:, :, None] & seen[:, None, :]
        return PatternCovariance(
            value=np.where(pairs, value[template], np.eye(m)),
            first=first[template] * pairs[:, None],
            second=second,
            template=template,
            pairs=pairs,
        )


@dataclass(frozen=True, eq=False)
class Point:
    """The likelihood at one set of covariance parameters.

    Parameters
    ----------
    theta
        Covariance parameters.
    covariance
        Covariance matrices with derivatives.
    precision
        S of each pattern, zero at visits that it does not have.
    coefficients, inverse
        Least-squares estimate at these parameters, and Φ.
    value
        −log L, without terms that do not depend on the parameters.
    """

    theta: Float[np.ndarray, " parameter"]
    covariance: PatternCovariance
    precision: ByPattern
    coefficients: Float[np.ndarray, " column"]
    inverse: Square
    value: float


@dataclass(frozen=True, eq=False)
class Curvature:
    """Derivatives of −log L at a point.

    Parameters
    ----------
    gradient, hessian
        Exact derivatives.
    information
        Expected Hessian (of the restricted likelihood for both).
    slopes : shape (parameter, column, column)
        ∂A/∂θ, where A⁻¹ is the covariance of the coefficients.
    """

    gradient: Float[np.ndarray, " parameter"]
    hessian: Square
    information: Square
    slopes: Float[np.ndarray, "parameter column column"]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Moments and a covariance model: all that the likelihood depends on."""

    moments: Moments
    model: CovarianceModel
    restricted: bool

    def point(self, theta: Float[np.ndarray, " parameter"]) -> Point | None:
        """Evaluate at parameters; ``None`` where a matrix is not positive definite there."""
        with np.errstate(over="ignore", invalid="ignore"):
            covariance = self.model.at(theta)
        if not np.isfinite(covariance.value).all():
            return None
        try:
            lower = np.linalg.cholesky(covariance.value)
            half = np.linalg.inv(lower)
            precision = (half.mT @ half) * covariance.pairs
            cross = self.moments.total(precision)
            root = np.linalg.cholesky(cross[:-1, :-1])
        except np.linalg.LinAlgError:
            return None
        back = np.linalg.inv(root)
        inverse = back.T @ back
        coefficients = inverse @ cross[:-1, -1]
        logdets = 2 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
        squares = cross[-1, -1] - cross[-1, :-1] @ coefficients
        value = 0.5 * (self.moments.count @ logdets + squares)
        if self.restricted:
            value += np.log(np.diag(root)).sum()
        return Point(theta, covariance, precision, coefficients, inverse, float(value))

    def curvature(self, point: Point) -> Curvature:
        """Return gradient and Hessian at a point."""
        S, first, inverse = point.precision, point.covariance.first, point.inverse
        width, slots = self.moments.width, S.shape[-1]
        count = self.moments.count[:, None, None]
        residual = np.append(point.coefficients, -1.0)
        leverage = np.zeros((width, width))
        leverage[:-1, :-1] = inverse
        spread = S @ self.moments.against(leverage, slots) @ S
        squares = S @ self.moments.against(np.outer(residual, residual), slots) @ S
        T = squares + spread if self.restricted else squares
        excess = count * S - T
        left = S[:, None] @ first
        changes = -self.moments.total((left @ S[:, None]).swapaxes(0, 1))
        against = (changes @ residual)[:, :-1]
        slopes = changes[:, :-1, :-1]
        turned = inverse @ slopes
        traces = _traces(turned, turned)
        hessian = (
            0.5 * point.covariance.against_second(excess)
            + _pattern_traces(left, (T - 0.5 * count * S)[:, None] @ first)
            - against @ inverse @ against.T
        )
        if self.restricted:
            hessian -= 0.5 * traces
        information = _pattern_traces(left, (0.5 * count * S - spread)[:, None] @ first) + 0.5 * traces
        return Curvature(
            gradient=0.5 * np.einsum("gaij,gij->a", first, excess, optimize=True),
            hessian=(hessian + hessian.T) / 2,
            information=(information + information.T) / 2,
            slopes=slopes,
        )


def _traces(a: Float[np.ndarray, "parameter n n"], b: Float[np.ndarray, "parameter n n"]) -> Square:
    """Return tr aᵢ bⱼ for all pairs."""
    return a.reshape(len(a), -1) @ b.mT.reshape(len(b), -1).T


def _pattern_traces(
    a: Float[np.ndarray, "pattern parameter n n"], b: Float[np.ndarray, "pattern parameter n n"]
) -> Square:
    """Return Σ_g tr aᵢ bⱼ for all pairs."""
    q = a.shape[1]
    return a.swapaxes(0, 1).reshape(q, -1) @ b.mT.swapaxes(0, 1).reshape(q, -1).T
