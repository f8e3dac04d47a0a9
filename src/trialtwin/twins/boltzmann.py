"""The neural Boltzmann twin: all outcomes of a whole course as one density, exact to condition on any history."""

from dataclasses import replace
from functools import partial
from typing import Literal, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times, require_mechanisms
from trialtwin.twins.boltzmann_gibbs import contrastive_loss
from trialtwin.twins.boltzmann_machine import (
    NOISE_PRIOR,
    PRIORS,
    Constants,
    Net,
    condition,
    constants_of,
    law,
    log_density,
    penalty,
    start_net,
)
from trialtwin.twins.ensemble_training import train
from trialtwin.twins.panel import Frame, Panel, learn_frame, pad, panel_of, time_terms

MOST_HIDDEN = 12


@final
class BoltzmannTwin(AbstractTwin):
    """A fitted ensemble of neural Boltzmann machines, whose density is the members' average."""

    net: Net
    frame: Frame
    hidden: int
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return posterior-predictive trajectories given each patient's covariates and history.

        The ensemble's density p(y | x) = Σ_m p_m(y | x) / M is conditioned exactly: members and states of the hidden
        units weigh by how well they foretold the history. ``expected`` is the exact conditional mean. A draw takes one
        member and state, one z, and measurement error; a binary outcome is drawn as 0 or 1 and expected as its
        probability. Draws of numbers may leave a scale.

        Raises
        ------
        MismatchError
            If the treatment acts on any mechanism, or patients lack an outcome or a covariate.
        """
        require_mechanisms(self, treatment)
        at = patient_times(patients, times, draws)
        rows = pad((panel_of(self.frame, patients), jnp.asarray(time_terms(self.frame, at))))
        constants = constants_of(self.frame, self.hidden)
        expected, values = _predict(jax.tree.map(jnp.asarray, self.net), constants, *rows, key, draws)
        n, frame = len(patients), self.frame
        return Trajectories(
            patients.ids,
            frame.variables,
            times,
            frame.centres + frame.scales * np.asarray(values)[:, :n],
            frame.centres + frame.scales * np.asarray(expected)[:n],
        )


@final
class Boltzmann(AbstractModel):
    """A conditional neural Boltzmann machine of all followed outcomes, trained by likelihood or contrastive divergence.

    Parameters
    ----------
    hidden
        Binary hidden units, 1 to 12; the density is a mixture of 2^hidden normals.
    normal
        Normal hidden units for each outcome: its level, slope, ….
    width
        Units of the networks' hidden layer.
    members
        Machines in the ensemble, each stopped early on its own held-out patients.
    training
        ``"likelihood"`` enumerates the hidden units; ``"contrastive divergence"`` samples them, cheaper from about 8.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    hidden: int = 4
    normal: int = 2
    width: int = 12
    members: int = 4
    training: Literal["likelihood", "contrastive divergence"] = "likelihood"

    def __check_init__(self) -> None:
        if not 1 <= self.hidden <= MOST_HIDDEN:
            raise ConfigError(f"{self.hidden} hidden units", do=f"give 1 to {MOST_HIDDEN}: they are enumerated")
        if min(self.normal, self.width) < 1 or self.members < 2:
            raise ConfigError(
                f"{self.normal} normal units, width {self.width}, {self.members} members",
                do="give at least one normal unit, width 1 and two members",
            )

    def fit(self, cohort: Cohort, *, key: Array) -> BoltzmannTwin:
        """Fit to every patient; the same key gives the same weights.

        Raises
        ------
        FitError
            If no outcome was measured after baseline in at least four patients, one is the same for all, is
            categorical, or is binary with codes other than 0 and 1.
        ConvergenceError
            If training does not end where held-out patients gain no more.
        """
        frame = learn_frame(cohort)
        constants, panel = constants_of(frame, self.hidden), pad(panel_of(frame, cohort))
        outcomes, terms = len(frame.variables), frame.basis.shape[1]
        start_key, train_key = jax.random.split(key)
        begin = partial(
            start_net,
            columns=panel.x.shape[1],
            outcomes=outcomes,
            terms=terms,
            normal=self.normal * outcomes,
            hidden=self.hidden,
            width=self.width,
        )
        start = jax.vmap(begin)(jax.random.split(start_key, self.members))
        objective = _likelihood if self.training == "likelihood" else contrastive_loss
        trained = train(objective, _likelihood, penalty, start, panel, len(cohort), constants, train_key)
        net = jax.tree.map(np.asarray, trained.weights)
        return BoltzmannTwin(
            net=net,
            frame=frame,
            hidden=self.hidden,
            mechanisms=(),
            assumptions=_assumptions(self),
            learned=_learned(net, constants, panel, frame),
        )


def _likelihood(net: Net, panel: Panel, share: Array, key: Array, constants: Constants) -> Array:
    """Return minus the mean log density a patient."""
    del key
    return -jnp.sum(share * log_density(net, constants, panel))


def _assumptions(model: Boltzmann) -> tuple[Assumption, ...]:
    form = Assumption(
        name="form of the neural Boltzmann machine",
        value=f"{model.hidden} binary and {model.normal} normal hidden units an outcome; {model.members} members with "
        f"{model.width} units; trained by {model.training}; independent measurement error given the hidden units",
        source="energy of Fisher CK et al. (2023), arXiv:2305.08337, with normal hidden units and hidden biases added",
        confidence="medium",
    )
    priors = Assumption(
        name="priors of the networks' weights, standardised data",
        value=PRIORS,
        source="set by hand, weak: prefers linear effects and smooth courses",
        confidence="low",
        provisional=True,
    )
    return form, priors


def _learned(net: Net, constants: Constants, panel: Panel, frame: Frame) -> tuple[Learned, ...]:
    """Return log residual SD of each outcome: Laplace with all else held, and the spread between members added.

    Of a binary outcome there is none; its average logit stands in, whose prior is N(0, 1²).
    """
    binary = np.array(frame.binary)
    information = np.asarray(_information(net, constants, panel))
    found = []
    for k, variable in enumerate(frame.variables):
        level = (net.mean if binary[k] else net.noise)[:, 0, k, 0]
        mean, sd = (0.0, 1.0) if binary[k] else NOISE_PRIOR
        precision = np.maximum(information[:, k].mean(), 0.0) + 1 / sd**2
        name = "average logit" if binary[k] else "log residual SD"
        spread = float(np.sqrt(1 / precision + np.var(level)))
        found.append(
            Learned(name=f"{variable.name}: {name}", value=float(level.mean()), sd=spread, prior_mean=mean, prior_sd=sd)
        )
    return tuple(found)


@jax.jit
def _information(net: Net, constants: Constants, panel: Panel) -> Float[Array, "member outcome"]:
    """Return the observed information of each outcome's log residual SD (average logit, of binary ones)."""

    def one(member: Net) -> Array:
        def value(moved: Array) -> Array:
            noise = member.noise.at[0, :, 0].add(moved * (1 - constants.binary))
            mean = member.mean.at[0, :, 0].add(moved * constants.binary)
            return -log_density(replace(member, noise=noise, mean=mean), constants, panel).sum()

        return jnp.diag(jax.hessian(value)(jnp.zeros(member.noise.shape[1])))

    return jax.vmap(one)(net)


@partial(jax.jit, static_argnames="draws")
def _predict(
    net: Net, constants: Constants, panel: Panel, phi: Float[Array, "patient time term"], key: Array, draws: int
) -> tuple[Float[Array, "patient time outcome"], Float[Array, "draw patient time outcome"]]:
    """Return the exact conditional mean, and draws, both standardised."""
    known = jax.vmap(lambda m: jax.vmap(lambda r: condition(m, constants, r.x, r.phi, r.values, r.weight))(panel))(net)
    at = jax.vmap(lambda m: jax.vmap(partial(law, m))(panel.x, phi))(net)
    joint = jnp.moveaxis(known.log_joint, 0, 1)  # patient, member, state
    share = jax.nn.softmax(joint.reshape(len(joint), -1)).reshape(joint.shape)
    logits = at.mean[..., None] + jnp.einsum("mntqh,sh->mntqs", at.shift, constants.signs)
    chance = jnp.einsum("mntqs,nms->ntq", jax.nn.sigmoid(logits), share)
    signs = jnp.einsum("nms,sh->mnh", share, constants.signs)
    weight = share.sum(axis=-1).T  # member, patient
    normal = weight[..., None] * known.location + jnp.einsum("mnrh,mnh->mnr", known.slope, signs)
    mean = (
        jnp.einsum("mntq,mn->ntq", at.mean, weight)
        + jnp.einsum("mntqh,mnh->ntq", at.shift, signs)
        + jnp.einsum("mntqr,mnr->ntq", at.factor, normal)
    )
    pick_key, normal_key, noise_key = jax.random.split(key, 3)
    picked = jax.random.categorical(pick_key, joint.reshape(len(joint), -1), shape=(draws, len(joint)))
    member, state = picked // joint.shape[-1], constants.signs[picked % joint.shape[-1]]
    white = jax.random.normal(normal_key, (draws, len(joint), at.factor.shape[-1]))
    error = jax.random.normal(noise_key, (draws, *mean.shape))
    coin = jax.scipy.stats.norm.cdf(error)
    total = jnp.zeros_like(error)
    for m in range(joint.shape[1]):
        one, laws = jax.tree.map(lambda a, m=m: a[m], (known, at))
        z = one.location + jnp.einsum("nrh,dnh->dnr", one.slope, state)
        # the precision is root rootᵀ, so that root⁻ᵀ times white noise has the covariance of z
        z = z + jax.vmap(lambda r, w: jax.scipy.linalg.solve_triangular(r.T, w.T, lower=False).T)(
            one.root, jnp.moveaxis(white, 0, 1)
        ).swapaxes(0, 1)
        centre = laws.mean + jnp.einsum("ntqh,dnh->dntq", laws.shift, state)
        number = centre + jnp.einsum("ntqr,dnr->dntq", laws.factor, z) + laws.noise * error
        flipped = (coin < jax.nn.sigmoid(centre)).astype(float)
        drawn = jnp.where(constants.binary > 0, flipped, number)
        total = total + jnp.where((member == m)[..., None, None], drawn, 0.0)
    return jnp.where(constants.binary > 0, chance, mean), total
