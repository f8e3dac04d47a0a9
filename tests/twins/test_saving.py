"""Twins on disk: what comes back is what went in, and what was damaged, changed or foreign is refused."""

import enum
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import orjson
import pytest
from safetensors.numpy import load, save

from trialtwin.core.cohort import Block, Cohort
from trialtwin.core.errors import ConfigError, DataError, MachineError, MismatchError
from trialtwin.core.treatment import NoTreatment
from trialtwin.core.variables import Variable
from trialtwin.twins.baseline import Baseline, BaselineTwin
from trialtwin.twins.card import Card, Measure, make_card
from trialtwin.twins.saving import TWIN, WEIGHTS, load_twin, save_twin

KEY = jax.random.key(3)


def cohort(seed: int = 0, patients: int = 24) -> Cohort:
    """Return patients on straight lines, with a block of features that share one factor."""
    rng = np.random.default_rng(seed)
    times = np.tile([0.0, 100.0, 200.0], (patients, 1))
    slope = rng.normal(size=patients)
    values = 10 + slope[:, None] * times / 100 + rng.normal(0, 0.3, times.shape)
    features = slope[:, None] * rng.normal(1, 0.2, 6) + rng.normal(0, 0.5, (patients, 6))
    present = rng.random(patients) < 0.7
    features[~present] = np.nan
    return Cohort(
        ids=tuple(f"P{seed}-{i}" for i in range(patients)),
        variables=(Variable("AGE", unit="years"),),
        covariates=rng.normal(70, 5, (patients, 1)),
        outcomes=(Variable("Y", unit="points", lower=0.0, upper=40.0),),
        visits=("Baseline", "Week 14", "Week 28"),
        nominal=times[0],
        times=times,
        values=values[..., None],
        observed=np.ones((patients, 3, 1), dtype=bool),
        treatments=("Placebo",),
        received=np.zeros(patients, dtype=np.int64),
        blocks={"proteome": Block(tuple("abcdef"), features, present)},
    )


@pytest.fixture(scope="module")
def twin() -> BaselineTwin:
    return Baseline().fit(cohort(), key=KEY)


@pytest.fixture
def card(twin: BaselineTwin) -> Card:
    measure = Measure(name="RMSE", value=1.0, lower=0.8, upper=1.2, unit="points", n=24, how="10 folds, at baseline")
    return make_card(
        twin,
        cohort(),
        name="baseline",
        architecture="data-driven",
        summary="a mixed-effects model",
        measures=[measure],
        keeps_patients=True,
    )


@pytest.fixture
def saved(twin: BaselineTwin, card: Card, tmp_path: Path) -> Path:
    save_twin(twin, tmp_path / "twin", card)
    return tmp_path / "twin"


def test_a_twin_with_a_latent_space_comes_back_whole(twin: BaselineTwin, saved: Path) -> None:
    assert twin.encoder.latent is not None
    back, _ = load_twin(saved)
    asked = [
        t.predict(cohort(1).until(0), NoTreatment(), np.array([50.0, 200.0]), draws=16, key=KEY) for t in (twin, back)
    ]
    assert asked[0].values.tobytes() == asked[1].values.tobytes()
    assert asked[0].expected.tobytes() == asked[1].expected.tobytes()


def test_arrays_that_come_back_cannot_be_written_to(saved: Path) -> None:
    back, _ = load_twin(saved)
    assert isinstance(back, BaselineTwin)
    with pytest.raises(ValueError, match="read-only"):
        back.curves[0].components[0] = 1.0


def test_nothing_but_the_twin_is_left_behind(saved: Path) -> None:
    assert sorted(p.name for p in saved.parent.iterdir()) == ["twin"]
    assert sorted(p.name for p in saved.iterdir()) == ["card.json", "card.md", "twin.json", "weights.safetensors"]


def test_a_folder_that_is_there_is_not_written_over(twin: BaselineTwin, card: Card, saved: Path) -> None:
    with pytest.raises(MachineError, match="twin is there already"):
        save_twin(twin, saved, card)


@pytest.mark.parametrize("what", ["a weight", "the structure"])
def test_a_twin_that_was_changed_is_refused(saved: Path, what: str) -> None:
    if what == "a weight":
        tensors = {name: np.array(array) for name, array in load((saved / WEIGHTS).read_bytes()).items()}
        name = next(name for name in tensors if name.endswith("components"))
        tensors[name][0] += 1e-12
        (saved / WEIGHTS).write_bytes(save(tensors))
    else:
        text = (saved / TWIN).read_bytes()
        (saved / TWIN).write_bytes(text.replace(b'"horizon":200.0', b'"horizon":201.0'))
        assert (saved / TWIN).read_bytes() != text
    with pytest.raises(DataError, match="not what its hash says"):
        load_twin(saved)


def test_a_damaged_file_is_refused(saved: Path) -> None:
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:50])
    with pytest.raises(DataError, match="damaged"):
        load_twin(saved)


def test_a_missing_file_is_told_with_those_that_are_there(saved: Path) -> None:
    (saved / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"exists: card.json, card.md, twin.json"):
        load_twin(saved)


def test_another_format_is_refused(saved: Path) -> None:
    head = orjson.loads((saved / TWIN).read_bytes())
    (saved / TWIN).write_bytes(orjson.dumps(head | {"format": 99}))
    with pytest.raises(DataError, match="format 99; this version reads 1"):
        load_twin(saved)


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "trialtwin.twins.saving:shutil", "trialtwin.none:A"])
def test_a_class_that_is_not_ours_is_refused(twin: BaselineTwin, card: Card, tmp_path: Path, name: str) -> None:
    """Even where the hash is right: a file decides nothing about what is imported or called."""
    import trialtwin.twins.saving as saving

    save_twin(twin, tmp_path / "twin", card)
    head = orjson.loads((tmp_path / "twin" / TWIN).read_bytes())
    head["twin"]["$class"] = name
    head["sha256"] = saving._hash(head["twin"], load((tmp_path / "twin" / WEIGHTS).read_bytes()))
    (tmp_path / "twin" / TWIN).write_bytes(orjson.dumps(head))
    with pytest.raises(MismatchError, match="not a class of this package"):
        load_twin(tmp_path / "twin")


class Colour(enum.Enum):
    """A class of the tests, and so foreign to the package."""

    RED = "red"


@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        (lambda: len, "holds a builtin_function_or_method"),
        (lambda: jax.random.key(0), "holds a random key"),
        (lambda: np.array(["a"]), "array of <U1"),
        (lambda: eqx.nn.Linear(1, 1, key=jax.random.key(0)), "equinox"),
        (lambda: Colour.RED, "Colour"),
    ],
)
def test_what_cannot_be_saved_is_told_with_its_place(
    twin: BaselineTwin, card: Card, tmp_path: Path, foreign: Any, message: str
) -> None:
    odd = eqx.tree_at(lambda t: t.curves[0].records, twin, foreign(), is_leaf=lambda leaf: leaf is None)
    with pytest.raises(ConfigError, match=rf"{message}[\s\S]*where: twin\.curves\[0\]\.records"):
        save_twin(odd, tmp_path / "twin", card)
    assert not list(tmp_path.iterdir())


def test_every_kind_of_number_comes_back_to_the_last_bit(twin: BaselineTwin, card: Card, tmp_path: Path) -> None:
    kinds = {
        "float": [0.1, float("inf"), -0.0, 5e-324],
        "int": (2**60, -3),
        "flag": [True, None],
        "text": "σ – µ",
        "arrays": (np.float64(0.1), np.int64(3), np.arange(3, dtype=np.int32), jnp.ones((2, 0)), np.array(1.5)),
    }
    odd = eqx.tree_at(lambda t: t.curves[0].records, twin, kinds, is_leaf=lambda leaf: leaf is None)
    save_twin(odd, tmp_path / "twin", card)
    back = load_twin(tmp_path / "twin")[0]
    assert isinstance(back, BaselineTwin)
    found: Any = back.curves[0].records
    assert found["float"] == kinds["float"]
    assert np.signbit(found["float"][2])
    assert (found["int"], found["flag"], found["text"]) == (kinds["int"], kinds["flag"], kinds["text"])
    for old, new in zip(kinds["arrays"], found["arrays"], strict=True):
        assert (np.asarray(new).dtype, np.shape(new), isinstance(new, jax.Array)) == (
            np.asarray(old).dtype,
            np.shape(old),
            isinstance(old, jax.Array),
        )
        np.testing.assert_array_equal(new, old)


def test_the_card_tells_data_measures_and_limits(card: Card) -> None:
    page = card.markdown("abc")
    for words in (
        "24 patients, 72 visits, up to day 200",
        "| RMSE | 1 points | 0.8 to 1.2 | 24 | 10 folds, at baseline |",
        "Holds standardised data of the patients",
        "proteome (6 features)",
        "(provisional)",
    ):
        assert words in page


def test_a_card_without_measures_says_so(twin: BaselineTwin) -> None:
    bare = make_card(twin, cohort(), name="baseline", architecture="data-driven", summary="a model")
    assert "do not believe it yet" in bare.markdown()
