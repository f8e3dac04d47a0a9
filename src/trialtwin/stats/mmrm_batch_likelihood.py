"""The restricted likelihood of many trials at once, where every covariate has a coefficient at every visit.

Then Xᵢ = I ⊗ zᵢᵀ with zᵢ the covariates of a patient, and with Z_g = Σᵢ zᵢ zᵢᵀ over the patients of pattern g

    A = Σ_g S_g ⊗ Z_g,      ∂A/∂σₖ = − Σ_g S_g Eₖ S_g ⊗ Z_g,

where σₖ are the elements of Σ and Eₖ where they stand. Derivatives are taken in σ first, in which they are products of
elements of S, and carried to the parameters of `mmrm_covariance` by the chain rule. All arrays have the trial as
their first axis; see `mmrm_likelihood` for the quantities themselves.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

type Trials = Float[np.ndarray, "trial ..."]


@dataclass(frozen=True, eq=False)
class BatchMoments:
    """What the likelihood of each trial depends on.

    Parameters
    ----------
    count : shape (trial, pattern)
        Patients of each pattern.
    covariates : shape (trial, pattern, covariate, covariate)
        Σᵢ zᵢ zᵢᵀ.
    mixed : shape (trial, pattern, covariate, visit)
        Σᵢ zᵢ yᵢᵀ.
    outcomes : shape (trial, pattern, visit, visit)
        Σᵢ yᵢ yᵢᵀ.
    """

    count: Trials
    covariates: Trials
    mixed: Trials
    outcomes: Trials

    def of(self, trials: Bool[np.ndarray, " trial"] | Int[np.ndarray, " chosen"]) -> "BatchMoments":
        """Return the moments of some trials."""
        return BatchMoments(*(getattr(self, field.name)[trials] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class BatchPoint:
    """The likelihood of each trial at its parameters; ``value`` is infinite where it cannot be evaluated."""

    theta: Trials
    factor: Trials
    precision: Trials
    inverse: Trials
    coefficients: Trials
    residual: Trials
    value: Trials

    def of(self, trials: Bool[np.ndarray, " trial"] | Int[np.ndarray, " chosen"]) -> "BatchPoint":
        """Return the points of some trials."""
        return BatchPoint(*(getattr(self, field.name)[trials] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class BatchCurvature:
    """Derivatives of −log L of each trial in the parameters, and of A in the elements of Σ.

    Parameters
    ----------
    gradient, hessian, information
        As of one trial.
    slopes : shape (trial, element, column, column)
        ∂A/∂σ.
    jacobian : shape (trial, element, parameter)
        ∂σ/∂θ.
    """

    gradient: Trials
    hessian: Trials
    information: Trials
    slopes: Trials
    jacobian: Trials


@dataclass(frozen=True, eq=False)
class Elements:
    """The elements σ of a symmetric matrix in the order of the parameters: those of D L, row by row."""

    visits: int

    @cached_property
    def row(self) -> Int[np.ndarray, " element"]:
        """Rows of the elements: the diagonal, then the lower triangle."""
        return np.concatenate([np.arange(self.visits), np.tril_indices(self.visits, -1)[0]])

    @cached_property
    def column(self) -> Int[np.ndarray, " element"]:
        """Columns of the elements."""
        return np.concatenate([np.arange(self.visits), np.tril_indices(self.visits, -1)[1]])

    def traces(self, a: Trials, b: Trials) -> Trials:
        """Return Σ_g tr a_g Eₖ b_g Eₗ for all pairs of elements, of symmetric matrices a and b."""
        trials, patterns, m = a.shape[0], a.shape[1], self.visits
        outer = a.reshape(trials, patterns, m * m).mT @ b.reshape(trials, patterns, m * m)
        outer = outer.reshape(trials, m, m, m, m)
        i, j = self.row[:, None], self.column[:, None]
        k, l = self.row[None, :], self.column[None, :]  # noqa: E741
        total = outer[:, i, l, j, k] + outer[:, i, k, j, l] + outer[:, j, l, i, k] + outer[:, j, k, i, l]
        return total * np.multiply.outer(self._half, self._half)

    def products(self, s: Trials) -> Trials:
        """Return s Eₖ s for all elements: shape (trial, pattern, element, visit, visit)."""
        left, right = s[:, :, :, self.row].swapaxes(2, 3), s[:, :, :, self.column].swapaxes(2, 3)
        outer = left[..., :, None] * right[..., None, :]
        return (outer + outer.mT) * self._half[:, None, None]

    @cached_property
    def _half(self) -> Float[np.ndarray, " element"]:
        """Return the factor that keeps a diagonal element from being counted twice."""
        return np.where(self.row == self.column, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class BatchLikelihood:
    """Patterns that the trials share."""

    observed: Bool[np.ndarray, "pattern visit"]

    @property
    def visits(self) -> int:
        """Number of visits."""
        return self.observed.shape[1]

    @cached_property
    def elements(self) -> Elements:
        """Elements of the covariance matrix."""
        return Elements(self.visits)

    def point(self, moments: BatchMoments, theta: Trials) -> BatchPoint:
        """Evaluate the likelihood of each trial at its parameters."""
        m, trials = self.visits, len(theta)
        elements = self.elements
        with np.errstate(over="ignore", invalid="ignore"):
            scale = np.exp(np.clip(theta[:, :m], -100, 100))
            factor = np.zeros((trials, m, m))
            factor[:, elements.row, elements.column] = np.concatenate([np.ones((trials, m)), theta[:, m:]], axis=1)
            factor *= scale[:, :, None]
            sigma = factor @ factor.mT
        sane = np.isfinite(sigma).all(axis=(1, 2)) & (np.abs(theta[:, :m]) < 100).all(axis=1)
        sigma[~sane] = np.eye(m)
        pairs = self.observed[:, :, None] & self.observed[:, None, :]
        padded = np.where(pairs, sigma[:, None], np.eye(m))
        signs, logdets = np.linalg.slogdet(padded)
        sane &= (signs > 0).all(axis=1)
        padded[~sane] = np.eye(m)
        precision = np.linalg.inv(padded) * pairs
        r = moments.covariates.shape[-1]
        cross = _kronecker(precision[:, None], moments.covariates)[:, 0]
        right = np.einsum("tgij,tgcj->tic", precision, moments.mixed, optimize=True).reshape(trials, m * r)
        sign, logdet = np.linalg.slogdet(cross)
        sane &= sign > 0
        cross[~sane] = np.eye(m * r)
        inverse = np.linalg.inv(cross)
        coefficients = (inverse @ right[..., None])[..., 0]
        squares = np.einsum("tgij,tgij->t", precision, moments.outcomes) - np.einsum("tc,tc->t", right, coefficients)
        value = 0.5 * (np.einsum("tg,tg->t", moments.count, logdets) + squares + logdet)
        beta = coefficients.reshape(trials, m, r)
        residual = moments.mixed - moments.covariates @ beta.mT[:, None]
        value = np.where(sane & np.isfinite(value), value, np.inf)
        return BatchPoint(theta, factor, precision, inverse, coefficients, residual, value)

    def curvature(self, moments: BatchMoments, point: BatchPoint) -> BatchCurvature:
        """Return gradient and Hessian of each trial at a point where its value is finite."""
        trials, m, r = len(point.theta), self.visits, moments.covariates.shape[-1]
        S, Z, elements = point.precision, moments.covariates, self.elements
        count = moments.count[:, :, None, None]
        beta = point.coefficients.reshape(trials, 1, m, r)
        # Σᵢ rᵢ rᵢᵀ = Y − B M − (B R)ᵀ with M = Σ z yᵀ and R = Σ z rᵀ
        squares = moments.outcomes - beta @ moments.mixed - (beta @ point.residual).mT
        blocks = point.inverse.reshape(trials, m, r, m, r).transpose(0, 1, 3, 2, 4).reshape(trials, m * m, r * r)
        leverage = (Z.reshape(trials, -1, r * r) @ blocks.mT).reshape(trials, -1, m, m)
        spread, T = S @ leverage @ S, S @ squares @ S
        products = elements.products(S)
        slopes = -_kronecker(products.swapaxes(1, 2), Z)
        against = np.einsum("tgkij,tgcj->tkic", products, point.residual, optimize=True).reshape(trials, -1, m * r)
        q = len(elements.row)
        turned = (slopes.reshape(trials, q * m * r, m * r) @ point.inverse).reshape(trials, q, m * r, m * r)
        # tr Φ Aₖ Φ Aₗ from Aₖ Φ and the transpose of Aₗ Φ
        traces = turned.reshape(trials, q, -1) @ turned.mT.reshape(trials, q, -1).mT
        T = T + spread
        hessian = elements.traces(S, T - 0.5 * count * S) - against @ point.inverse @ against.mT - 0.5 * traces
        information = elements.traces(S, 0.5 * count * S - spread) + 0.5 * traces
        excess = 0.5 * (count * S - T).sum(axis=1)
        gradient = excess[:, elements.row, elements.column] * np.where(elements.row == elements.column, 1.0, 2.0)
        jacobian, bend = self._chain(point, excess)
        hessian = jacobian.mT @ hessian @ jacobian + bend
        return BatchCurvature(
            gradient=(gradient[:, None] @ jacobian)[:, 0],
            hessian=(hessian + hessian.mT) / 2,
            information=jacobian.mT @ information @ jacobian,
            slopes=slopes,
            jacobian=jacobian,
        )

    def _chain(self, point: BatchPoint, excess: Trials) -> tuple[Trials, Trials]:
        """Return ∂σ/∂θ, and the part of the Hessian that second derivatives of Σ make."""
        m, trials = self.visits, len(point.theta)
        elements = self.elements
        row, column = elements.row, elements.column
        q, each, below = len(row), np.arange(m), np.arange(m, len(row))
        scale = np.exp(point.theta[:, :m])
        first = np.zeros((trials, q, m, m))
        first[:, each, each] = point.factor
        first[:, below, row[m:], column[m:]] = scale[:, row[m:]]
        left = first @ point.factor[:, None].mT
        change = left + left.mT
        # Σₐᵦ = Gₐᵦ Gᵀ + Gₐ Gᵦᵀ and its transpose, against 2 × excess / 2
        weighted = (excess[:, None] @ first).reshape(trials, q, m * m)
        bend = 2 * weighted @ first.reshape(trials, q, m * m).mT
        pull = 2 * excess @ point.factor
        bend[:, each, each] += np.einsum("tij,tij->ti", pull, point.factor)
        own = pull[:, row[m:], column[m:]] * scale[:, row[m:]]
        bend[:, below, row[m:]] += own
        bend[:, row[m:], below] += own
        return change[:, :, row, column].mT, bend


def _kronecker(weights: Trials, covariates: Trials) -> Trials:
    """Return Σ_g w_g ⊗ Z_g: weights (trial, k, pattern, visit, visit), result (trial, k, column, column)."""
    trials, k, patterns, m = weights.shape[:4]
    r = covariates.shape[-1]
    flat = weights.transpose(0, 1, 3, 4, 2).reshape(trials, k * m * m, patterns)
    total = flat @ covariates.reshape(trials, patterns, r * r)
    return total.reshape(trials, k, m, m, r, r).transpose(0, 1, 2, 4, 3, 5).reshape(trials, k, m * r, m * r)
