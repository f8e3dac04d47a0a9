"""Patients of the Cao model who enter a trial with a given CDR-SB and amyloid burden.

Two unknowns answer two numbers: the years since onset, and a multiplier of the rate kAO at which monomers aggregate,
which is what genotype and stage act on in the published model. Everything else is typical.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import optimize

from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.diseases.cao import SEEN, SPREADS, STATES, Cao, Patient

_CLOSE = 1e-6  # of a point, and of a Centiloid


def enter(*, cdr_sb: float, centiloid: float, age: float) -> Patient:
    """Return the typical patient who has a given CDR-SB and amyloid PET at entry.

    Parameters
    ----------
    cdr_sb
        Points, above 0.69 (what the model sees in health) and below 18.
    centiloid
        Amyloid PET, CL.
    age
        Years; enters what lecanemab does to plaque, and ADAS-Cog.

    Raises
    ------
    DataError
        If CDR-SB is outside what the model can show.
    ConvergenceError
        If no such patient exists.

    Examples
    --------
    >>> patient = enter(cdr_sb=3.2, centiloid=91.0, age=72.0)
    >>> round(float(patient.years), 1), round(float(patient.own["kAO"]), 2)
    (25.4, 1.22)
    """
    if not 0.7 < cdr_sb < 18:
        raise DataError(f"a CDR-SB of {cdr_sb:g} at entry", do="give one above 0.7, which is health here, and below 18")
    disease = Cao()
    wanted = np.array([np.log(cdr_sb), centiloid / 10])

    def miss(x: np.ndarray) -> np.ndarray:
        return np.asarray(_seen(disease, jnp.asarray(x), jnp.asarray(age))) - wanted

    # differences of a course solved to 1e-7 do for a slope, and compile in a tenth of the time of an exact one
    found = optimize.root(miss, np.array([3.24, 0.2]), method="hybr", options={"xtol": 1e-10, "eps": 1e-6})
    if not (np.isfinite(found.fun).all() and np.abs(found.fun).max() < _CLOSE):
        raise ConvergenceError(
            f"no typical patient has CDR-SB {cdr_sb:g} with {centiloid:g} CL",
            do="give amyloid between about 40 and 120 CL: the model ties decline to it",
        )
    return _patient(jnp.asarray(found.x), jnp.asarray(age))


def _patient(x: Float[Array, "2"], age: Float[Array, ""]) -> Patient:
    own = {name: jnp.ones(()) for name in SPREADS}
    return Patient(jnp.exp(x[0]), age, own | {"kAO": jnp.exp(x[1])})


@eqx.filter_jit
def _seen(disease: Cao, x: Array, age: Array) -> Float[Array, "2"]:
    """Return log CDR-SB and tens of Centiloid at entry."""
    person = _patient(x, age)
    state, zero = disease.initial(person), jnp.zeros(())
    apparent = disease.apparent(state, person, disease.signals(zero, state, person, disease.neutral()))
    at = len(STATES)
    return jnp.stack([jnp.log(apparent[at + SEEN.index("CDR-SB")]), apparent[at + SEEN.index("amyloid-PET")] / 10])
