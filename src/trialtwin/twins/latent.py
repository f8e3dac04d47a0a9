"""Blocks of a cohort (omics, wearables) as joint latent factors, learned from one cohort and found in any other."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.cohort import Block, Cohort
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.infer.factors import FactorModel, Factors, fit_factors

MOST_FACTORS = 15
LEAST_SHARE = 0.005


@dataclass(frozen=True, eq=False)
class Latent:
    """The latent space of some blocks and the covariates beside them.

    Parameters
    ----------
    blocks
        Names of the blocks.
    features
        Names of each block's features.
    model
        The factor model; its first block is the standardised covariates.
    columns : shape (factor,)
        Factors that say something of a block; one that covariates alone share would only repeat them.
    """

    blocks: tuple[str, ...]
    features: tuple[tuple[str, ...], ...]
    model: FactorModel
    columns: Int[np.ndarray, " factor"]

    @property
    def explained(self) -> dict[str, float]:
        """Share of the variance of each block that the factors explain."""
        shares = self.model.explained[1:, self.columns].sum(axis=1)
        return dict(zip(self.blocks, shares.tolist(), strict=True))


def learn_latent(cohort: Cohort, covariates: Float[np.ndarray, "patient column"]) -> Latent | None:
    """Learn the latent space of a cohort's blocks; ``None`` where no block varies, or nothing in them goes together.

    Raises
    ------
    DataError
        If a block holds an infinite value.
    ConvergenceError
        If the factor model does not converge.
    """
    views = {name: _cells(name, block, block.features) for name, block in cohort.blocks.items()}
    views = {name: view for name, view in views.items() if _varies(view)}
    if not views:
        return None
    model = fit_factors([covariates, *views.values()], factors=MOST_FACTORS, least_share=LEAST_SHARE)
    columns = np.flatnonzero((model.explained[1:] >= LEAST_SHARE).any(axis=0))
    if len(columns) == 0:
        return None
    return Latent(tuple(views), tuple(cohort.blocks[name].features for name in views), model, columns)


def latent_factors(latent: Latent, cohort: Cohort, covariates: Float[np.ndarray, "patient column"]) -> Factors:
    """Return each patient's factors given the covariates and whichever blocks and cells there are.

    A block that the cohort does not have is missing for all; features are found by name, in any order.

    Raises
    ------
    MismatchError
        If a block is there under its name and none of its features is one that was learned from.
    DataError
        If a block holds an infinite value.
    """
    views = [covariates]
    for name, features in zip(latent.blocks, latent.features, strict=True):
        if name in cohort.blocks:
            views.append(_cells(name, cohort.blocks[name], features))
        else:
            views.append(np.full((len(cohort), len(features)), np.nan))
    found = latent.model.posterior(views)
    return Factors(found.mean[:, latent.columns], found.covariance[:, latent.columns][:, :, latent.columns])


def _cells(name: str, block: Block, features: tuple[str, ...]) -> Float[np.ndarray, "patient wanted"]:
    """Return the wanted features of a block, NaN where missing."""
    place = {feature: j for j, feature in enumerate(block.features)}
    if features and not any(feature in place for feature in features):
        raise MismatchError(
            f"block {name!r} has none of the {len(features)} features that the twin learned from",
            where=f"wanted {', '.join(features[:5])}",
            exists=block.features,
            do="name features as in the cohort learned from, or leave the block out",
        )
    values = np.full((len(block.present), len(features)), np.nan)
    there = [j for j, feature in enumerate(features) if feature in place]
    values[:, there] = block.values[:, [place[features[j]] for j in there]]
    values[~block.present] = np.nan
    if np.isinf(values).any():
        raise DataError(f"block {name!r} holds infinite values", do="use NaN for a missing value")
    return values


def _varies(view: Float[np.ndarray, "patient feature"]) -> bool:
    """Tell whether a feature differs between patients."""
    known = np.isfinite(view)
    low = np.where(known, view, np.inf).min(axis=0, initial=np.inf)
    high = np.where(known, view, -np.inf).max(axis=0, initial=-np.inf)
    return bool((high - low > 1e-9 * np.maximum(1.0, np.abs(high))).any())
