"""The parts of a factor model's variational posterior, and the closed-form update of each."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

FLAT = 1e-3
"""Prior precision of a feature's mean, on the standardised scale."""


@dataclass(frozen=True, eq=False)
class Given:
    """Standardised cells, 0 where missing; patients with the same cells measured, and features likewise, are grouped.

    ``patterns`` and ``row_of`` are the different rows of ``measured`` and which of them each patient has;
    ``columns`` and ``column_of`` the same of features. ``counts`` is the number of patients that have a pattern.
    """

    values: Float[np.ndarray, "patient feature"]
    measured: Float[np.ndarray, "patient feature"]
    block: Int[np.ndarray, " feature"]
    blocks: int
    patterns: Float[np.ndarray, "pattern feature"]
    row_of: Int[np.ndarray, " patient"]
    counts: Float[np.ndarray, " pattern"]
    columns: Float[np.ndarray, "patient kind"]
    column_of: Int[np.ndarray, " feature"]


@dataclass(frozen=True, eq=False)
class State:
    """The variational posterior.

    ``mean`` and ``covariance`` are those of the factors, the latter one a pattern of missing cells; ``loadings`` and
    ``loading_covariance`` those of (μ, w) of each feature; the relevance of a factor in a block is
    Gamma(``shape``, ``spread``), the noise precision of a feature Gamma(``noise_shape``, ``noise_rate``).
    """

    mean: Float[np.ndarray, "patient factor"]
    covariance: Float[np.ndarray, "pattern factor factor"]
    loadings: Float[np.ndarray, "feature one_and_factor"]
    loading_covariance: Float[np.ndarray, "feature one_and_factor one_and_factor"]
    shape: Float[np.ndarray, " block"]
    spread: Float[np.ndarray, "block factor"]
    noise_shape: Float[np.ndarray, " feature"]
    noise_rate: Float[np.ndarray, " feature"]

    @property
    def size(self) -> int:
        """Number of factors."""
        return self.mean.shape[1]

    @property
    def noise(self) -> Float[np.ndarray, " feature"]:
        """E[τ]."""
        return self.noise_shape / self.noise_rate

    @property
    def full_second(self) -> Float[np.ndarray, "feature one_and_factor one_and_factor"]:
        """E[(μ, w)(μ, w)ᵀ]."""
        return self.loading_covariance + self.loadings[:, :, None] * self.loadings[:, None, :]

    @property
    def moments(
        self,
    ) -> tuple[
        Float[np.ndarray, "feature factor"],
        Float[np.ndarray, "feature factor factor"],
        Float[np.ndarray, "feature factor"],
    ]:
        """E[w], E[w wᵀ] and E[μ w]."""
        second = self.full_second
        return self.loadings[:, 1:], second[:, 1:, 1:], second[:, 0, 1:]

    def replaced(
        self, mean: Float[np.ndarray, "patient factor"], covariance: Float[np.ndarray, "pattern factor factor"]
    ) -> "State":
        """Return the same with other factors."""
        return replace(self, mean=mean, covariance=covariance)

    def take(self, keep: Bool[np.ndarray, " factor"]) -> "State":
        """Return the same with the chosen factors only."""
        both = np.append(True, keep)
        return replace(
            self,
            mean=self.mean[:, keep],
            covariance=self.covariance[:, keep][:, :, keep],
            loadings=self.loadings[:, both],
            loading_covariance=self.loading_covariance[:, both][:, :, both],
            spread=self.spread[:, keep],
        )


def given_cells(
    standard: Float[np.ndarray, "patient feature"], block: Int[np.ndarray, " feature"], blocks: int
) -> Given:
    """Group patients, and features, that have the same cells measured (not NaN)."""
    measured = np.isfinite(standard)
    row_first, row_of = _group(measured)
    column_first, column_of = _group(measured.T)
    there = measured.astype(float)
    return Given(
        values=np.where(measured, standard, 0.0),
        measured=there,
        block=block,
        blocks=blocks,
        patterns=there[row_first],
        row_of=row_of,
        counts=np.bincount(row_of, minlength=len(row_first)).astype(float),
        columns=there[:, column_first],
        column_of=column_of,
    )


def _group(rows: Bool[np.ndarray, "row cell"]) -> tuple[Int[np.ndarray, " group"], Int[np.ndarray, " row"]]:
    """Return the first row of each group of equal rows, and the group of each row."""
    found: dict[bytes, int] = {}
    first: list[int] = []
    of = np.empty(len(rows), dtype=np.int64)
    for i, packed in enumerate(np.packbits(rows, axis=1)):
        name = packed.tobytes()
        if name not in found:
            found[name] = len(first)
            first.append(i)
        of[i] = found[name]
    return np.array(first, dtype=np.int64), of


def update_factors(
    given: Given,
    noise: Float[np.ndarray, " feature"],
    loadings: Float[np.ndarray, "feature factor"],
    second: Float[np.ndarray, "feature factor factor"],
    cross: Float[np.ndarray, "feature factor"],
) -> tuple[Float[np.ndarray, "patient factor"], Float[np.ndarray, "pattern factor factor"]]:
    """Return the mean of each patient's factors, and their covariance by pattern.

    C = (I + Σ_d τ_d E[w wᵀ])⁻¹ over measured features, mean = C Σ_d τ_d (y_d E[w] − E[μ w]).
    """
    size = loadings.shape[1]
    weighted = (noise[:, None, None] * second).reshape(len(noise), size * size)
    precision = np.eye(size) + (given.patterns @ weighted).reshape(len(given.patterns), size, size)
    covariance = np.linalg.inv(precision) if size else precision
    covariance = (covariance + covariance.swapaxes(1, 2)) / 2
    pull = (given.values * noise) @ loadings - (given.patterns @ (noise[:, None] * cross))[given.row_of]
    return np.einsum("nkl,nl->nk", covariance[given.row_of], pull), covariance


def sums(given: Given, state: State) -> tuple[np.ndarray, np.ndarray]:
    """Return Σᵢ y (1, z) and Σᵢ E[(1, z)(1, z)ᵀ] over the patients in whom each feature was measured."""
    size = state.size
    first = np.concatenate([np.ones((len(state.mean), 1)), state.mean], axis=1)
    outer = first[:, :, None] * first[:, None, :]
    outer[:, 1:, 1:] += state.covariance[given.row_of]
    kinds = given.columns.T @ outer.reshape(len(first), -1)
    return given.values.T @ first, kinds.reshape(-1, size + 1, size + 1)[given.column_of]


def update_loadings(given: Given, state: State) -> State:
    """Update the Gaussian of each feature's (μ, w) given the factors, relevances and noises."""
    linear, square = sums(given, state)
    noise = state.noise
    relevance = (state.shape[:, None] / state.spread)[given.block]
    precision = noise[:, None, None] * square
    diagonal = np.arange(state.size + 1)
    precision[:, diagonal, diagonal] += np.concatenate([np.full((len(noise), 1), FLAT), relevance], axis=1)
    covariance = np.linalg.inv(precision)
    covariance = (covariance + covariance.swapaxes(1, 2)) / 2
    mean = np.einsum("dkl,dl->dk", covariance, noise[:, None] * linear)
    return replace(state, loadings=mean, loading_covariance=covariance)


def update_relevance(given: Given, state: State, prior: float) -> State:
    """Update the Gamma of each block's relevance of each factor given the loadings."""
    squares = np.diagonal(state.full_second, axis1=1, axis2=2)[:, 1:]
    total = np.zeros((given.blocks, state.size))
    np.add.at(total, given.block, squares)
    width = np.bincount(given.block, minlength=given.blocks)
    return replace(state, shape=prior + width / 2, spread=prior + total / 2)


def update_noise(given: Given, state: State, prior: float) -> State:
    """Update the Gamma of each feature's noise precision given factors and loadings."""
    count = given.measured.sum(axis=0)
    return replace(state, noise_shape=prior + count / 2, noise_rate=prior + residual_squares(given, state) / 2)


def residual_squares(given: Given, state: State) -> Float[np.ndarray, " feature"]:
    """Return Σᵢ E[(y − μ − wᵀz)²] of each feature."""
    linear, square = sums(given, state)
    fit = 2 * (linear * state.loadings).sum(axis=1)
    return (given.values**2).sum(axis=0) - fit + (state.full_second * square).sum(axis=(1, 2))
