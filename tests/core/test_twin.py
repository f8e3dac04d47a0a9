"""Treatments meet twins by the names of mechanisms."""

from typing import final

import jax.numpy as jnp
import pytest
from jaxtyping import Array
from plain_treatment import PlainTreatment

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import MismatchError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.core.twin import AbstractTwin, Times, require_mechanisms


@final
class NamedTwin(AbstractTwin):
    """A twin that has mechanisms and predicts nothing."""

    mechanisms: tuple[str, ...]
    assumptions: tuple[Assumption, ...] = ()
    learned: tuple[Learned, ...] = ()

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Predict nothing."""
        raise NotImplementedError


def acting_on(*targets: str) -> AbstractTreatment:
    """Return a treatment that multiplies given mechanisms by 1."""
    return PlainTreatment("x", lambda _, y: dict.fromkeys(targets, 1 + 0 * y), dict.fromkeys(targets, "multiply"))


TWIN = NamedTwin(("amyloid_production", "amyloid_clearance"))


def test_a_mismatch_names_what_is_missing_and_what_there_is() -> None:
    with pytest.raises(MismatchError) as caught:
        require_mechanisms(TWIN, acting_on("tau_spread", "amyloid_clearance"))
    assert caught.value.what == "'x' acts on ['tau_spread'], which this twin does not have"
    assert caught.value.exists == ("amyloid_production", "amyloid_clearance")


def test_a_data_driven_twin_says_that_it_has_no_mechanisms() -> None:
    with pytest.raises(MismatchError, match="data-driven twin"):
        require_mechanisms(NamedTwin(()), acting_on("tau_spread"))


@pytest.mark.parametrize("treatment", [NoTreatment(), acting_on("amyloid_clearance")])
def test_a_treatment_that_fits_is_accepted(treatment: AbstractTreatment) -> None:
    require_mechanisms(TWIN, treatment)


def test_no_treatment_suits_every_twin_and_has_no_state() -> None:
    none = NoTreatment()
    require_mechanisms(NamedTwin(()), none)
    zero = jnp.zeros(())
    assert none.initial(()) == none.flow(zero, (), (), ()) == none.receive((), (), ()) == ()
    assert none.modulation(zero, (), ()) == {}
    assert not none.decide(zero, {}, (), ())[1]
