"""Full Bayes by the no-U-turn sampler: any log density, and populations from the same description as a fit.

The sampler is numpyro's; what it needs, what it refuses and what it hands back are ours. Effects are sampled as
standard normal numbers (non-centred), so that small variances do not make a funnel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.errors import FitError, MismatchError
from trialtwin.infer.diagnostics import Diagnostic, check_chains, require, uninformed
from trialtwin.infer.likelihood import log_joint
from trialtwin.infer.model import Model, Patients


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws of a density: those whose chains were found good, with their checks."""

    names: tuple[str, ...]
    draws: Float[np.ndarray, "chain draw parameter"]
    checks: tuple[Diagnostic, ...]

    def merged(self) -> Float[np.ndarray, "draw parameter"]:
        """Return the draws of all chains one after another."""
        return self.draws.reshape(-1, self.draws.shape[-1])


def sample_density(
    log_density: Callable[[Float[Array, " parameter"]], Float[Array, ""]],
    start: Float[np.ndarray, "chain parameter"],
    names: tuple[str, ...],
    *,
    seed: int = 0,
    warmup: int = 500,
    draws: int = 500,
    accept: float = 0.8,
    watched: int | None = None,
) -> Chains:
    """Draw from a log density by NUTS, one chain a row of ``start``.

    Parameters
    ----------
    watched
        How many leading parameters are kept and checked by name; all when None.

    Raises
    ------
    FitError
        If the density is not finite where a chain begins.
    ConvergenceError
        If a chain diverged, chains disagree (rank-normalised split R-hat above 1.01), effective numbers are below
        100 a chain, or E-BFMI is below 0.3.

    References
    ----------
    Hoffman MD, Gelman A (2014), JMLR 15:1593. Vehtari A et al. (2021), doi:10.1214/20-BA1221.

    Examples
    --------
    >>> import numpy as np, jax.numpy as jnp
    >>> normal = sample_density(lambda x: -0.5 * jnp.sum(x**2), np.ones((4, 1)) * 0.1, ("x",), draws=1000)
    >>> bool(abs(normal.merged().std() - 1) < 0.15)
    True
    """
    from numpyro.infer import MCMC, NUTS  # takes a second to import, and few need it

    heights = jax.vmap(log_density)(jnp.asarray(start))
    if not bool(jnp.isfinite(heights).all()):
        raise FitError("the density is not finite where a chain begins", do="begin at a fit, or look at the data")
    kernel = NUTS(potential_fn=lambda x: -log_density(x), target_accept_prob=accept)
    sampler = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=draws,
        num_chains=len(start),
        chain_method="vectorized",
        progress_bar=False,
    )
    first = jnp.asarray(start) if len(start) > 1 else jnp.asarray(start)[0]
    sampler.run(jax.random.key(seed), init_params=first, extra_fields=("diverging", "energy"))
    found = np.asarray(sampler.get_samples(group_by_chain=True))[..., : watched or None]
    extra = sampler.get_extra_fields(group_by_chain=True)
    checks = check_chains(found, names, int(np.asarray(extra["diverging"]).sum()), np.asarray(extra["energy"]))
    require(checks, do="draw longer, accept more (0.95), give tighter priors, or begin at a fit")
    return Chains(names, found, checks)


@dataclass(frozen=True)
class Priors:
    """Normal priors around the model's start, on the scale of the search.

    Parameters
    ----------
    theta
        SD of each free fixed effect on its scale: 0.5 on a logarithm says "within a factor of 2.7, with 95 %".
    spread
        SD of every log SD of effects and residuals.
    correlation
        SD of every free number below L's diagonal.
    """

    theta: Mapping[str, float]
    spread: float = 1.0
    correlation: float = 1.0

    def sds(self, model: Model) -> Float[np.ndarray, " parameter"]:
        """Return the SDs in the order of the search.

        Raises
        ------
        MismatchError
            If a free fixed effect has no prior, or a prior no fixed effect.
        """
        for name in model.free_names:
            if name not in self.theta:
                raise MismatchError(f"{name} has no prior", exists=self.theta, do="give its SD on its scale")
        for name in self.theta:
            if name not in model.free_names:
                raise MismatchError(f"a prior is given for {name!r}", exists=model.free_names)
        spreads = len(model.names) - len(model.free_names) - len(model.omega) - len(model.pairs)
        return np.array(
            [self.theta[n] for n in model.free_names]
            + [self.spread] * len(model.omega)
            + [self.correlation] * len(model.pairs)
            + [self.spread] * spreads
        )


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a population's parameters, on their natural scales, with checks and what the data do not inform."""

    names: tuple[str, ...]
    draws: Float[np.ndarray, "draw parameter"]
    free: Float[np.ndarray, "draw parameter"]
    checks: tuple[Diagnostic, ...]
    uninformed: tuple[str, ...]

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float, float]:
        """Return median, low and high of one parameter."""
        column = self.draws[:, self.names.index(name)]
        low, mid, high = np.quantile(column, [0.5 - level / 2, 0.5, 0.5 + level / 2])
        return float(mid), float(low), float(high)


def sample_population(
    model: Model,
    patients: Patients,
    priors: Priors,
    *,
    seed: int = 0,
    chains: int = 4,
    warmup: int = 500,
    draws: int = 500,
    accept: float = 0.9,
) -> Posterior:
    """Draw from the posterior of a population model, effects included.

    Raises
    ------
    MismatchError
        If priors and fixed effects do not match.
    ConvergenceError
        If the chains are not to be relied upon (see ``sample_density``).
    """
    joint = log_joint(model)
    sds, centre = priors.sds(model), model.start()
    count, patients_count = len(model.names), len(patients.ids)

    def log_density(z: Array) -> Array:
        x = centre + sds * z[:count]
        effects = z[count:].reshape(patients_count, model.size)
        rows: Any = jax.vmap(lambda u, one: joint(x, u, one))(effects, patients)
        return rows.sum() - 0.5 * jnp.sum(z[:count] ** 2)

    rng = np.random.default_rng(seed)
    start = 0.1 * rng.normal(size=(chains, count + patients_count * model.size))
    found = sample_density(
        log_density, start, model.names, seed=seed, warmup=warmup, draws=draws, accept=accept, watched=count
    )
    free = centre + sds * found.merged()
    natural = np.asarray(jax.vmap(model.natural)(jnp.asarray(free)))
    lost = uninformed(model.names, np.ones(count), found.merged().std(axis=0, ddof=1))
    return Posterior(model.names, natural, free, found.checks, lost)
