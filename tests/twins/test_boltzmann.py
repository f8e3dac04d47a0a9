"""The neural Boltzmann twin: what it learns of patients whose law is known, and what it refuses."""

from pathlib import Path

import jax
from neural_patients import courses

from trialtwin.core.treatment import NoTreatment
from trialtwin.twins.boltzmann import Boltzmann
from trialtwin.twins.card import make_card
from trialtwin.twins.saving import load_twin, save_twin

KEY = jax.random.key(0)


def test_saved_and_read_back_it_forecasts_the_same_bits(tmp_path: Path) -> None:
    training, others = courses(40, seed=1, visits=4), courses(8, seed=2, visits=4)
    twin = Boltzmann(members=2).fit(training, key=KEY)
    card = make_card(twin, training, name="boltzmann", architecture="data-driven", summary="a machine")
    save_twin(twin, tmp_path / "twin", card)
    asked = [
        one.predict(others.until(400.0), NoTreatment(), others.times, draws=8, key=KEY).values.tobytes()
        for one in (twin, load_twin(tmp_path / "twin")[0])
    ]
    assert asked[0] == asked[1]
