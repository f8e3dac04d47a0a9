"""The library: every file reads, agrees with the tables that it was made from, and names mechanisms that exist."""

import csv
import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from trialtwin.diseases.registry import DISEASES, find_disease
from trialtwin.drugs.lines import line_of
from trialtwin.drugs.mechanisms import MECHANISMS
from trialtwin.drugs.registry import DRUGS, find_drug
from trialtwin.drugs.therapy import prescribe

ASKED_FOR = {
    "lecanemab",
    "donanemab",
    "aducanumab",
    "gantenerumab",
    "solanezumab",
    "verubecestat",
    "donepezil",
    "rivastigmine",
    "memantine",
    "bepranemab",
    "posdinemab",
    "metformin-like",
    "insulin-like",
    "antiretroviral-example",
    "cytotoxic-example",
}


def test_the_library_has_what_was_asked_for() -> None:
    assert set(DRUGS) >= ASKED_FOR


@pytest.mark.parametrize("disease", [name for name in DISEASES if name in MECHANISMS])
def test_mechanisms_are_those_of_the_disease(disease: str) -> None:
    """The table by which drug files are checked says what the disease itself says."""
    found = {m.name: "multiply" if m.neutral == 1.0 else "add" for m in find_disease(disease).mechanisms}
    assert found == dict(MECHANISMS[disease])


@pytest.mark.parametrize("name", DRUGS)
def test_every_drug_has_effects_that_a_known_disease_takes(name: str) -> None:
    drug = find_drug(name)
    assert drug.name == name
    for disease in drug.diseases:
        therapy = prescribe(drug, disease=disease, until=100.0)
        assert dict(zip(therapy.targets, therapy.ways, strict=True)).items() <= MECHANISMS[disease].items()
        assert therapy.targets == drug.mechanisms(disease)


@pytest.mark.parametrize("name", DRUGS)
def test_recalled_and_assumed_numbers_are_marked(name: str) -> None:
    """A number whose source says that it was recalled or set by hand is provisional, and so is its line in a report."""
    page = find_drug(name).page
    for place, words, fact in page.facts():
        source = page.sources[fact.source]
        if re.search(r"\brecalled\b|set by hand|\bassumed\b|taken over", source):
            assert fact.provisional, (place, words, source)
    lines = find_drug(name).assumptions()
    assert len({line.name for line in lines}) == len(lines)
    assert all(line.source for line in lines)


@pytest.mark.parametrize("name", DRUGS)
def test_files_fit_one_page_and_places_have_lines(name: str) -> None:
    path = Path(__file__).resolve().parents[2] / "src/trialtwin/drugs/library" / f"{name}.toml"
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for place, words, _ in find_drug(name).page.facts():
        line = text.splitlines()[line_of(text, place) - 1]
        # an entry of an inline array stands below the key of its array
        assert str(place[-1] if isinstance(place[-1], str) else place[-2]) in line, (words, line)


def test_reference_drug_table(shared: Path) -> None:
    """Clearances, volumes and variability as in the table of published drugs."""
    with (shared / "science" / "drugs.csv").open(encoding="utf-8") as stream:
        rows = {row["drug"]: row for row in csv.DictReader(stream)}
    checked = 0
    hours = {"lecanemab": 24, "donanemab": 24, "aducanumab": 24, "gantenerumab": 1, "donepezil": 24}
    for name, unit in hours.items():
        therapy = prescribe(find_drug(name), until=300.0, detail="full")
        typical = {item.name: float(item.value) for item in therapy.pk.quantities.items}
        row = rows[name]
        assert typical["CL"] == pytest.approx(float(row["CL"]) * unit, rel=1e-6), name
        assert typical["V1"] == pytest.approx(float(row["Vc_L"]), rel=1e-6), name
        assert typical["V2"] == pytest.approx(float(row["Vp_L"]), rel=1e-6), name
        flow = float(re.findall(r"[\d.]+", row["Q"])[0])
        assert typical["Q"] == pytest.approx(flow * unit, rel=1e-6), name
        checked += 1
    assert checked == 5


def test_reference_cao_effects() -> None:
    """Cao 2026: protofibril clearance × (1 + 0.068 Css), plaque clearance × (1 + 0.0015 e^(0.041 age) Css)."""
    therapy = prescribe(find_drug("lecanemab"), disease="alzheimer-cao", until=300.0)
    own = therapy.individual(jnp.zeros(len(therapy.effects)), {"age": jnp.asarray(75.0)})
    state = (own.pk.volume * 135.0, jnp.zeros(()))
    found = therapy.modulation(jnp.zeros(()), state, own)
    assert float(found["protofibril_clearance"]) == pytest.approx(1 + 0.068 * 135)
    assert float(found["plaque_clearance"]) == pytest.approx(1 + 0.0015 * float(jnp.exp(0.041 * 75)) * 135)


def test_reference_verubecestat_in_spinal_fluid() -> None:
    """CSF amyloid-β −57 to −60 % at 12 mg and −75 to −80 % at 40 mg; harm worth +0.44 CDR-SB points in 104 weeks."""
    drug = find_drug("verubecestat")
    for dose, low, high in ((12, 0.57, 0.60), (40, 0.75, 0.80)):
        therapy = prescribe(drug, f"{dose} mg qd", until=1000.0)
        own = therapy.individual(jnp.zeros(len(therapy.effects)), {})
        values = therapy.modulation(jnp.zeros(()), (own.pk.volume * dose,), own)
        assert low <= 1 - float(values["amyloid_production"]) <= high
    mean_harm = 0.0017 * 40
    z = jnp.log(4.3 / 13.7)
    points = 18 * (jnp.exp(z) / (1 + jnp.exp(z)) ** 2) * mean_harm * 104 * 7 / 365.25
    assert float(points) == pytest.approx(0.44, rel=0.05)


def test_the_page_of_the_library_names_every_drug() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/drugs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z][a-z-]*) \|", page, flags=re.MULTILINE)
    assert set(rows) - {"drug"} == set(DRUGS)
