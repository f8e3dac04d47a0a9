"""The sequence twin: a recurrent unit in continuous time, for visits at any gaps, with an exact probabilistic head."""

from dataclasses import replace
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times, require_mechanisms
from trialtwin.twins.boltzmann_machine import NOISE_PRIOR
from trialtwin.twins.ensemble_training import train
from trialtwin.twins.panel import Frame, Panel, learn_frame, pad, panel_of, time_terms
from trialtwin.twins.sequence_filter import (
    PRIORS,
    Net,
    backward,
    filtered,
    law,
    log_density,
    penalty,
    start_net,
)


@final
class SequenceTwin(AbstractTwin):
    """A fitted ensemble of continuous recurrent units, whose density is the members' average."""

    net: Net
    frame: Frame
    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...]
    learned: tuple[Learned, ...]

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return posterior-predictive trajectories given each patient's covariates and history.

        The ensemble's density p(y | x) = Σ_m p_m(y | x) / M is conditioned exactly: members weigh by how well they
        foretold the history, and each tells its state at the times asked for, before, between or after the visits, by
        filter and smoother. ``expected`` is the exact conditional mean. A draw takes one member, one path of its state,
        and measurement error. A binary outcome is a number to the filter: its expectation, cut to [0, 1], is the
        probability with which it is drawn as 1. Draws of numbers may leave a scale.

        Raises
        ------
        MismatchError
            If the treatment acts on any mechanism, or patients lack an outcome or a covariate.
        """
        require_mechanisms(self, treatment)
        frame, n = self.frame, len(patients)
        at = patient_times(patients, times, draws)
        rows = pad((panel_of(frame, patients), jnp.asarray(time_terms(frame, at)), jnp.asarray(at / frame.horizon)))
        binary = jnp.asarray(np.array(frame.binary))
        expected, values = _predict(jax.tree.map(jnp.asarray, self.net), *rows, binary, key, draws)
        return Trajectories(
            patients.ids,
            frame.variables,
            times,
            frame.centres + frame.scales * np.asarray(values)[:, :n],
            frame.centres + frame.scales * np.asarray(expected)[:n],
        )


@final
class Sequence(AbstractModel):
    """A continuous recurrent unit over each patient's visits: the state drifts in a gap and is corrected at a visit.

    Parameters
    ----------
    states
        Latent states for each outcome: its level, slow change, quick change, ….
    width
        Units of the networks' hidden layer.
    members
        Units in the ensemble, each stopped early on its own held-out patients.

    Raises
    ------
    ConfigError
        If a number is out of range.

    References
    ----------
    Schirmer M, Eltayeb M, Lessmann S, Rudolph M (2022), Modeling irregular time series with continuous recurrent units,
    arXiv:2111.11344; here with covariates, missing outcomes, and a linear read-out that keeps all of it exact.
    """

    states: int = 3
    width: int = 12
    members: int = 4

    def __check_init__(self) -> None:
        if min(self.states, self.width) < 1 or self.members < 2:
            raise ConfigError(
                f"{self.states} states, width {self.width}, {self.members} members",
                do="give at least one state, width 1 and two members",
            )

    def fit(self, cohort: Cohort, *, key: Array) -> SequenceTwin:
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
        panel = pad(panel_of(frame, cohort))
        outcomes, terms = len(frame.variables), frame.basis.shape[1]
        start_key, train_key = jax.random.split(key)
        begin = partial(
            start_net,
            columns=panel.x.shape[1],
            outcomes=outcomes,
            terms=terms,
            states=self.states * outcomes,
            width=self.width,
        )
        start = jax.vmap(begin)(jax.random.split(start_key, self.members))
        trained = train(_loss, _loss, _penalty, start, panel, len(cohort), None, train_key)
        net = jax.tree.map(np.asarray, trained.weights)
        return SequenceTwin(
            net=net,
            frame=frame,
            mechanisms=(),
            assumptions=_assumptions(self, frame),
            learned=_learned(net, panel, frame),
        )


def _loss(net: Net, panel: Panel, share: Array, key: Array, constants: None) -> Array:
    """Return minus the mean log density a patient."""
    del key, constants
    return -jnp.sum(share * log_density(net, panel))


def _penalty(net: Net, constants: None) -> Array:
    del constants
    return penalty(net)


def _assumptions(model: Sequence, frame: Frame) -> tuple[Assumption, ...]:
    binary = [v.name for v, flag in zip(frame.variables, frame.binary, strict=True) if flag]
    form = Assumption(
        name="form of the sequence twin",
        value=f"{model.states} latent states an outcome, normal, forgetting at learned rates; read out linearly; "
        f"{model.members} members with {model.width} units"
        + (f"; probabilities of {', '.join(binary)} taken as linear" if binary else ""),
        source="continuous recurrent units, Schirmer M et al. (2022), arXiv:2111.11344, with a linear read-out",
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


def _learned(net: Net, panel: Panel, frame: Frame) -> tuple[Learned, ...]:
    """Return log residual SD of each outcome: Laplace with all else held, and the spread between members added."""
    information = np.asarray(_information(net, panel))
    mean, sd = NOISE_PRIOR
    found = []
    for k, variable in enumerate(frame.variables):
        level = net.noise[:, 0, k, 0]
        precision = np.maximum(information[:, k].mean(), 0.0) + 1 / sd**2
        spread = float(np.sqrt(1 / precision + np.var(level)))
        name = f"{variable.name}: log residual SD"
        found.append(Learned(name=name, value=float(level.mean()), sd=spread, prior_mean=mean, prior_sd=sd))
    return tuple(found)


@jax.jit
def _information(net: Net, panel: Panel) -> Float[Array, "member outcome"]:
    """Return the observed information of each outcome's log residual SD."""

    def one(member: Net) -> Array:
        def value(moved: Array) -> Array:
            return -log_density(replace(member, noise=member.noise.at[0, :, 0].add(moved)), panel).sum()

        return jnp.diag(jax.hessian(value)(jnp.zeros(member.noise.shape[1])))

    return jax.vmap(one)(net)


@partial(jax.jit, static_argnames="draws")
def _predict(
    net: Net,
    panel: Panel,
    phi: Float[Array, "patient time term"],
    at: Float[Array, "patient time"],
    binary: Bool[Array, " outcome"],
    key: Array,
    draws: int,
) -> tuple[Float[Array, "patient time outcome"], Float[Array, "draw patient time outcome"]]:
    """Return the exact conditional mean, and draws, both standardised."""
    members, patients = len(net.rate), len(panel.x)
    log_joint = jax.vmap(lambda m: log_density(m, panel))(net)
    share = jax.nn.softmax(log_joint, axis=0)
    pick_key, state_key, error_key = jax.random.split(key, 3)
    picked = jax.random.categorical(pick_key, log_joint.T, shape=(draws, patients))
    error = jax.random.normal(error_key, (draws, *at.shape, len(binary)))
    coin = jax.scipy.stats.norm.cdf(error)
    expected, values = jnp.zeros((*at.shape, len(binary))), jnp.zeros_like(error)
    for m in range(members):
        one = jax.tree.map(lambda a, m=m: a[m], net)
        keys = jax.random.split(jax.random.fold_in(state_key, m), patients)
        mean, centre, noise = jax.vmap(partial(_course, one, draws))(panel, phi, at, keys)
        centre = jnp.moveaxis(centre, 1, 0)
        likely, chance = jnp.clip(mean, 0.0, 1.0), jnp.clip(centre, 0.0, 1.0)
        drawn = jnp.where(binary, (coin < chance).astype(float), centre + noise * error)
        expected = expected + share[m][:, None, None] * jnp.where(binary, likely, mean)
        values = values + jnp.where((picked == m)[..., None, None], drawn, 0.0)
    return jnp.where(binary, jnp.minimum(expected, 1.0), expected), values


def _course(
    net: Net, draws: int, row: Panel, phi: Float[Array, "time term"], at: Float[Array, " time"], key: Array
) -> tuple[Float[Array, "time outcome"], Float[Array, "draw time outcome"], Float[Array, "time outcome"]]:
    """Return a patient's expected course, draws of it without measurement error, and that error's SD.

    The times asked for join the visits, in order, as visits at which nothing was measured.
    """
    blank = jnp.zeros((len(at), row.values.shape[1]))
    times = jnp.concatenate([row.times, at])
    order = jnp.argsort(times)
    place = jnp.argsort(order)[len(row.times) :]
    functions = law(net, row.x, jnp.concatenate([row.phi, phi])[order])
    values, weight = (jnp.concatenate([a, blank])[order] for a in (row.values, row.weight))
    known, _ = filtered(functions, times[order], values, weight)
    white = jax.random.normal(key, (draws, *known.corrected.shape))
    mean, drawn = backward(known, white)
    mean, drawn = mean[place], drawn[:, place]
    centre = functions.mean[place]
    return (
        centre + mean @ functions.loading.T,
        centre + jnp.einsum("dts,qs->dtq", drawn, functions.loading),
        functions.noise[place],
    )
