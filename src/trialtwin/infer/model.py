"""Descriptions of nonlinear mixed-effects models: theta, omega, sigma, and patients' measurements.

    y_ij = f(θ, η_i, x_ij) + error(σ),   η_i ~ N(0, Ω),   Ω = L Lᵀ

Searches run on unbounded numbers: each theta on its scale, log SDs for Ω with the lower part of L relative to them, and
log SDs for σ. Effects are η = L u with u standard normal, so that a variance may shrink without a division by it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trialtwin.core.backend import enable_float64
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.infer.residuals import AbstractResidual

enable_float64()

type Column = Sequence[Any] | np.ndarray
# mean of every row of one patient, given theta and effects by name and that patient's inputs
type Predict = Callable[[dict[str, Array], dict[str, Array], Any], Float[Array, " row"]]


@dataclass(frozen=True)
class Theta:
    """A fixed effect: where the search begins, and the scale on which it is estimated.

    Parameters
    ----------
    start
        First guess.
    scale
        "log" for what is positive, "logit" for what lies between ``low`` and ``high``, "identity" for the rest.
    fixed
        Whether it stays at ``start``.

    Raises
    ------
    ConfigError
        If the start is not inside the scale.
    """

    start: float
    scale: Literal["log", "logit", "identity"] = "log"
    low: float = 0.0
    high: float = 1.0
    fixed: bool = False

    def __post_init__(self) -> None:
        """Refuse a start outside the scale."""
        inside = {"log": self.start > 0, "logit": self.low < self.start < self.high, "identity": True}
        if self.scale not in inside:
            raise ConfigError(f"no such scale: {self.scale!r}", exists=inside)
        if not (np.isfinite(self.start) and inside[self.scale]):
            raise ConfigError(f"a start of {self.start} is not inside the {self.scale} scale")

    def free(self, value: float) -> float:
        """Bring a value to the scale of the search."""
        if self.scale == "log":
            return float(np.log(value))
        if self.scale == "logit":
            return float(np.log((value - self.low) / (self.high - value)))
        return float(value)

    def natural(self, free: Any) -> Any:
        """Bring a number of the search back."""
        if self.scale == "log":
            return jnp.exp(free)
        if self.scale == "logit":
            return self.low + (self.high - self.low) * jax.nn.sigmoid(free)
        return free


class Patients(eqx.Module):
    """Measurements of patients, one row of arrays each, padded; ``inputs`` is what the model is told of each."""

    ids: tuple[str, ...] = eqx.field(static=True)
    value: Float[Array, "*patient row"]
    measured: Bool[Array, "*patient row"]
    below: Bool[Array, "*patient row"]
    inputs: Any

    @property
    def rows(self) -> int:
        """How many measurements there are, those below the limit of quantification included."""
        return int(self.measured.sum())


def gather_patients(
    ids: Column,
    value: Column,
    *,
    rows: Mapping[str, Column],
    own: Mapping[str, Mapping[str, Any]] | None = None,
    below: Column | None = None,
) -> Patients:
    """Turn a long table of measurements into arrays of patients.

    Padding repeats a patient's last row, so that a model never sees times that do not exist.

    Parameters
    ----------
    ids, value
        Patient and measurement, one a row. A measurement below the limit of quantification has that limit here.
    rows
        Columns that the model needs, such as time, one number a row; each reaches it as an array of rows.
    own
        What the model needs of each patient (dose, weight), by name and patient.
    below
        Which rows are below the limit of quantification.

    Raises
    ------
    DataError
        If columns differ in length or a measurement is not a number.
    MismatchError
        If a patient lacks an input of its own.

    Examples
    --------
    >>> own = {"dose": {"a": 1, "b": 2}}
    >>> two = gather_patients(["a", "a", "b"], [3.0, 2.0, 5.0], rows={"time": [0, 1, 0]}, own=own)
    >>> two.measured.tolist(), two.inputs["dose"].tolist()
    ([[True, True], [True, False]], [1.0, 2.0])
    """
    number = np.asarray(value, dtype=float)
    marks = np.zeros(len(number), dtype=bool) if below is None else np.asarray(below, dtype=bool)
    columns = {name: np.asarray(column, dtype=float) for name, column in rows.items()}
    for name, column in {"value": number, "below": marks, **columns}.items():
        if len(column) != len(ids):
            raise DataError(f"the column {name} has {len(column)} rows, and there are {len(ids)} ids")
        if not np.isfinite(column).all():
            raise DataError(f"{name} is not a number in row {int(np.argmin(np.isfinite(column)))}")
    names = tuple(dict.fromkeys(str(i) for i in ids))
    if not names:
        raise DataError("there are no measurements", do="give at least one patient with one row")
    places = [np.flatnonzero(np.asarray([str(i) == name for i in ids])) for name in names]
    longest = max(map(len, places))
    take = np.array([np.pad(place, (0, longest - len(place)), mode="edge") for place in places])
    real = np.array([np.arange(longest) < len(place) for place in places])
    inputs = {name: jnp.asarray(column[take]) for name, column in columns.items()}
    for name, by in (own or {}).items():
        missing = [i for i in names if i not in by]
        if missing:
            raise MismatchError(f"patient {missing[0]} has no {name}", exists=[str(k) for k in by])
        inputs[name] = jnp.asarray(np.array([by[i] for i in names], dtype=float))
    return Patients(names, jnp.asarray(number[take]), jnp.asarray(real), jnp.asarray(marks[take]), inputs)


@dataclass(frozen=True)
class Model:
    """A nonlinear mixed-effects model: what is predicted, theta, omega, sigma.

    Parameters
    ----------
    predict
        Mean of every row of one patient: ``predict(theta, eta, inputs)``, theta and eta by name.
    theta
        Fixed effects by name; a plain number stands for ``Theta(number)``, estimated as a logarithm.
    omega
        Variances of the random effects by name, where the search begins.
    sigma
        Residual error.
    blocks
        Groups of effects that are correlated; all others are independent.
    occasions
        Effects that also vary between occasions: number of occasions by name, and ``iov`` their variances. Such an
        effect reaches ``predict`` as one more entry "name.iov", an array with one number an occasion.

    Raises
    ------
    ConfigError
        If a variance is not positive, or a name is used twice.
    MismatchError
        If a block or an occasion names an effect that does not exist.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from trialtwin.infer.residuals import Proportional
    >>> def decay(theta, eta, one):
    ...     return theta["start"] * jnp.exp(eta["start"] - theta["rate"] * one["time"])
    >>> model = Model(decay, {"start": 10.0, "rate": 0.3}, {"start": 0.1}, Proportional(0.2))
    >>> model.names
    ('start', 'rate', 'omega.start', 'sigma.proportional')
    """

    predict: Predict
    theta: Mapping[str, Theta | float]
    omega: Mapping[str, float]
    sigma: AbstractResidual
    blocks: tuple[tuple[str, ...], ...] = ()
    occasions: Mapping[str, int] = field(default_factory=dict)
    iov: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse descriptions that cannot be meant."""
        for name, variance in {**self.omega, **self.iov}.items():
            if not variance > 0:
                raise ConfigError(f"omega of {name} must be positive, not {variance}", do="leave the effect out")
        if set(self.occasions) != set(self.iov):
            raise MismatchError("occasions and iov must name the same effects", exists=self.occasions)
        placed = [name for block in self.blocks for name in block]
        for name in (*placed, *self.occasions):
            if name not in self.omega:
                raise MismatchError(f"no such effect: {name!r}", exists=self.omega)
        if len(set(placed)) < len(placed):
            raise ConfigError("an effect is in two blocks", where=", ".join(placed))

    @cached_property
    def thetas(self) -> dict[str, Theta]:
        """Fixed effects, plain numbers made into ``Theta``."""
        return {n: t if isinstance(t, Theta) else Theta(float(t)) for n, t in self.theta.items()}

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Places below the diagonal of L that are free."""
        order = list(self.omega)
        member = {name: k for k, block in enumerate(self.blocks) for name in block}
        return tuple(
            (i, j)
            for i in range(len(order))
            for j in range(i)
            if order[i] in member and member.get(order[i]) == member.get(order[j])
        )

    @cached_property
    def free_names(self) -> tuple[str, ...]:
        """Fixed effects that are estimated."""
        return tuple(name for name, theta in self.thetas.items() if not theta.fixed)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all that is estimated, in the order of the search."""
        order = list(self.omega)
        return (
            *self.free_names,
            *(f"omega.{name}" for name in order),
            *(f"omega.{order[i]}.{order[j]}" for i, j in self.pairs),
            *(f"iov.{name}" for name in self.iov),
            *(f"sigma.{name}" for name in self.sigma.parts()),
        )

    @property
    def size(self) -> int:
        """How many standard normal numbers a patient has."""
        return len(self.omega) + sum(self.occasions.values())

    def start(self) -> Float[np.ndarray, " parameter"]:
        """Return where the search begins."""
        return np.array(
            [self.thetas[n].free(self.thetas[n].start) for n in self.free_names]
            + [0.5 * np.log(v) for v in self.omega.values()]
            + [0.0] * len(self.pairs)
            + [0.5 * np.log(v) for v in self.iov.values()]
            + [np.log(v) for v in self.sigma.parts().values()]
        )

    def unpack(
        self, x: Float[Array, " parameter"]
    ) -> tuple[dict[str, Array], Array, dict[str, Array], dict[str, Array]]:
        """Return theta by name, L, SDs between occasions, and sigma, of a point of the search."""
        place = len(self.free_names)
        moving = dict(zip(self.free_names, x[:place], strict=True))
        theta = {
            n: jnp.asarray(t.start) if t.fixed else jnp.asarray(t.natural(moving[n])) for n, t in self.thetas.items()
        }
        effects, pairs = len(self.omega), len(self.pairs)
        sd = jnp.exp(x[place : place + effects])
        place += effects
        unit = jnp.eye(effects)
        if pairs:
            unit = unit.at[tuple(np.array(self.pairs).T)].set(x[place : place + pairs])
        place += pairs
        between = {n: jnp.exp(x[place + k]) for k, n in enumerate(self.iov)}
        place += len(self.iov)
        sigma = {n: jnp.exp(x[place + k]) for k, n in enumerate(self.sigma.parts())}
        return theta, sd[:, None] * unit, between, sigma

    def effects(self, root: Array, between: Mapping[str, Array], u: Float[Array, " effect"]) -> dict[str, Array]:
        """Return the effects of one patient by name."""
        eta = root @ u[: len(self.omega)]
        named = {name: eta[k] for k, name in enumerate(self.omega)}
        place = len(self.omega)
        for name, count in self.occasions.items():
            named[f"{name}.iov"] = between[name] * u[place : place + count]
            place += count
        return named

    def natural(self, x: Float[Array, " parameter"]) -> Float[Array, " parameter"]:
        """Return theta, variances and covariances, and residual SDs, in the order of ``names``."""
        theta, root, between, sigma = self.unpack(x)
        omega = root @ root.T
        return jnp.array(
            [theta[n] for n in self.free_names]
            + [omega[k, k] for k in range(len(self.omega))]
            + [omega[i, j] for i, j in self.pairs]
            + [sd**2 for sd in between.values()]
            + list(sigma.values())
        )
