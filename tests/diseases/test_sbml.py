"""SBML: five published models against libroadrunner, every kind of construct, treatments, and what is refused."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import roadrunner
from jaxtyping import Array
from plain_treatment import PlainTreatment

from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.core.treatment import NoTreatment
from trialtwin.diseases.sbml import SbmlDisease, load_sbml
from trialtwin.diseases.table import Instrument
from trialtwin.engine.adaptive import Adaptive
from trialtwin.engine.method import AbstractMethod
from trialtwin.engine.stiff import Stiff
from trialtwin.twins.virtual import draw_individuals, simulate_courses

FOLDER = Path(__file__).parent / "sbml"
POINTS = 7
# model: end in its own unit of time, that unit in seconds, and whether it is stiff
MODELS = {
    "repressilator": (300.0, 60.0, False),
    "tyson1991": (60.0, 60.0, True),
    "goldbeter1991": (60.0, 60.0, False),
    "kholodenko2000": (2000.0, 1.0, False),
    "goldbeter1995": (48.0, 3600.0, False),
    "constructs": (12.0, 3600.0, False),
}


def accurate(disease: SbmlDisease, *, stiff: bool) -> AbstractMethod:
    atol = tuple(1e-7 * tolerance for tolerance in disease.tolerances)
    return Stiff(rtol=1e-9, atol=atol) if stiff else Adaptive(rtol=1e-10, atol=atol)


def reference(name: str, states: tuple[str, ...], end: float) -> np.ndarray:
    """Return libroadrunner's course, of shape (time, state)."""
    model = roadrunner.RoadRunner(str(FOLDER / f"{name}.xml"))
    model.integrator.relative_tolerance, model.integrator.absolute_tolerance = 1e-12, 1e-14
    species = {*model.model.getFloatingSpeciesIds(), *model.model.getBoundarySpeciesIds()} - {"D"}  # D is an amount
    model.timeCourseSelections = [f"[{s}]" if s in species else s for s in states]
    return np.array(model.simulate(0, end, POINTS))


@pytest.mark.reference
@pytest.mark.parametrize("name", MODELS)
def test_reference_libroadrunner(name: str) -> None:
    """Libroadrunner 2.11 at 1e-12: each state at seven times to 1e-6 of its largest value."""
    end, unit, stiff = MODELS[name]
    disease = load_sbml(FOLDER / f"{name}.xml")
    assert disease.unit_days * 86400 == pytest.approx(unit)
    person = draw_individuals(disease, {}, np.zeros((1, 0)), {})
    times = np.linspace(0, end, POINTS) * disease.unit_days
    course = simulate_courses(disease, person, NoTreatment(), times, method=accurate(disease, stiff=stiff))
    ours = np.stack([course.states[s][0] for s in disease.states], axis=1)
    theirs = reference(name, disease.states, end)
    assert (np.abs(ours - theirs).max(axis=0) <= 1e-6 * np.abs(theirs).max(axis=0)).all()
    assert np.ptp(theirs, axis=0).min() > 0


CLOSED = """<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level2/version4" level="2" version="4"><model id="decay">
<listOfCompartments><compartment id="c" size="2"/></listOfCompartments>
<listOfSpecies><species id="A" compartment="c" initialAmount="6"/></listOfSpecies>
<listOfParameters><parameter id="scale" value="0.5"/>PARAMETER</listOfParameters>RULES
<listOfReactions><reaction id="loss" reversible="false"FAST><listOfReactants><speciesReference species="A"/></listOfReactants>
<kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><times/><ci>c</ci><ci>k</ci><ci>scale</ci><ci>A</ci>
MORE</apply></math><listOfParameters><parameter id="k" value="4e-5"/></listOfParameters></kineticLaw></reaction>
</listOfReactions>EVENTS</model></sbml>"""  # noqa: E501


def write(folder: Path, **parts: str) -> Path:
    text = CLOSED
    for key in ("PARAMETER", "RULES", "FAST", "MORE", "EVENTS"):
        text = text.replace(key, parts.get(key.lower(), ""))
    path = folder / "decay.xml"
    path.write_text(text, encoding="utf-8")
    return path


def acts(numbers: dict[str, Array], y: Array) -> dict[str, Array]:
    return {name: value + 0 * y for name, value in numbers.items()}


def test_closed_form_under_a_treatment_that_multiplies_a_parameter_of_a_reaction(tmp_path: Path) -> None:
    """Level 2 in seconds; patients differ in ``scale``: A(t) = 3 e^(−k scale m t), and an instrument reads it."""
    instrument = Instrument("A in blood", "mmol/L", 0.0, 100.0, 0.1, 0.0, "made up", "low", 0.1)
    disease = load_sbml(
        write(tmp_path),
        spreads={"scale": 0.3},
        learned={"scale": 0.1},
        observed={"A": instrument},
        ranges={"A": (0, 9)},
    )
    assert [m.name for m in disease.mechanisms] == ["scale", "loss.k"]
    assert [c.name for c in disease.constants] == ["c", "scale", "A", "loss.k", "SD of log scale"]
    people = draw_individuals(disease, {"log multiplier of scale": 0.2}, np.array([[0.0], [1.0]]), {})
    treatment = PlainTreatment("half", acts, {"loss.k": "multiply"}, numbers={"loss.k": jnp.asarray(0.5)})
    days = np.array([0.0, 0.5, 1.0])
    course = simulate_courses(
        disease, people, treatment, days, scales=("A in blood",), method=Adaptive(rtol=1e-10, atol=1e-12)
    )
    rate = 4e-5 * 86400 * 0.5 * 0.5 * np.exp(0.2 + 0.3 * np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(course.scores["A in blood"], 3 * np.exp(-rate * days), rtol=1e-8)
    hours = load_sbml(write(tmp_path), unit_days=1 / 24)
    assert hours.unit_days == pytest.approx(1 / 24)


ALGEBRAIC = '<listOfRules><algebraicRule><math xmlns="http://www.w3.org/1998/Math/MathML"><ci>scale</ci></math></algebraicRule></listOfRules>'
SIZE = '<listOfRules><rateRule variable="c"><math xmlns="http://www.w3.org/1998/Math/MathML"><cn>1</cn></math></rateRule></listOfRules>'
DELAY = '<apply><csymbol encoding="text" definitionURL="http://www.sbml.org/sbml/symbols/delay">delay</csymbol><ci>A</ci><cn>1</cn></apply>'
EVENT = '<listOfEvents><event id="dose"><trigger><math xmlns="http://www.w3.org/1998/Math/MathML"><true/></math></trigger><listOfEventAssignments><eventAssignment variable="scale"><math xmlns="http://www.w3.org/1998/Math/MathML"><cn>1</cn></math></eventAssignment></listOfEventAssignments></event></listOfEvents>'  # noqa: E501


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"events": EVENT}, r"events are not supported\n.*event 'dose'"),
        ({"rules": ALGEBRAIC}, r"algebraic rules are not supported\n.*rule 1"),
        ({"rules": SIZE, "parameter": ""}, r"compartments that change are not supported\n.*compartment 'c'"),
        ({"fast": ' fast="true"'}, r"fast reactions are not supported\n.*reaction 'loss'"),
        ({"more": DELAY}, r"'delay', which is not supported\n.*kinetic law of reaction 'loss'"),
        ({"parameter": '<parameter id="q"/>'}, r"a parameter without a value\n.*parameter 'q'"),
        ({"more": "<ci>nothing</ci>"}, r"reads 'nothing', which has no value\n.*'loss'"),
        ({"more": "<broken"}, r"not SBML that can be read.*\n.*line \d+"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_sbml(write(tmp_path, **parts))


def test_formulas_that_would_grow_without_end_are_refused(tmp_path: Path) -> None:
    """A definition that doubles, called in one that doubles it, and so on: refused, not expanded."""
    math = '<math xmlns="http://www.w3.org/1998/Math/MathML">'
    bodies = ["<apply><plus/><ci>x</ci><ci>x</ci></apply>"]
    call = "<apply><ci>f{0}</ci><ci>x</ci></apply>"
    bodies += [f"<apply><plus/>{call.format(i)}{call.format(i)}</apply>" for i in range(40)]
    definitions = "".join(
        f'<functionDefinition id="f{i}">{math}<lambda><bvar><ci>x</ci></bvar>{b}</lambda></math></functionDefinition>'
        for i, b in enumerate(bodies)
    )
    path = write(tmp_path, more="<apply><ci>f40</ci><ci>A</ci></apply>")
    text = path.read_text(encoding="utf-8")
    head = "<listOfCompartments>"
    path.write_text(text.replace(head, f"<listOfFunctionDefinitions>{definitions}</listOfFunctionDefinitions>{head}"))
    with pytest.raises(DataError, match="too deep or too long"):
        load_sbml(path)


def test_names_and_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(MismatchError, match=r"no parameter 'k' of its own\n.*scale, loss\.k"):
        load_sbml(path, spreads={"k": 0.1})
    with pytest.raises(MismatchError, match="no state 'B'"):
        load_sbml(path, ranges={"B": (0.0, 1.0)})
    with pytest.raises(ConfigError, match=r"spreads\['scale'\] = -1"):
        load_sbml(path, spreads={"scale": -1.0})
    with pytest.raises(ConfigError, match="unit_days"):
        load_sbml(path, unit_days=0.0)
    with pytest.raises(DataError, match="no file"):
        load_sbml(tmp_path / "absent.xml")
    text = (FOLDER / "goldbeter1995.xml").read_text(encoding="utf-8").replace(' timeUnits="time_unit"', "")
    (tmp_path / "unitless.xml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="does not say its unit of time"):
        load_sbml(tmp_path / "unitless.xml")
