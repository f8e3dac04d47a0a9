"""The how-to of adding a disease does what it says: its file is entered, held to the contract, and treated."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path
from types import ModuleType

import pytest

from trialtwin.diseases import registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/add-a-disease.md"
CONTRACT = ROOT / "tests/contracts/test_diseases.py"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
PROMISES = (
    "test_names_are_unique",
    "test_everything_taken_as_given_has_a_source_and_a_confidence",
    "test_constants_are_numbers_and_priors_have_a_spread",
    "test_patients_at_five_standard_deviations_have_a_start_and_a_flow",
    "test_every_mechanism_moves_something",
    "test_signals_are_those_of_the_routes",
    "test_scores_stay_in_their_range",
    "test_every_scale_has_three_priors",
)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kidney(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Return the page's file, imported."""
    path = tmp_path_factory.mktemp("disease") / "kidney.py"
    path.write_text(next(body for kind, body in BLOCKS if kind == "python"), encoding="utf-8")
    return load(path)


def test_the_page_runs(kidney: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is entered, the drug's file saved, and the code prints what the page shows."""
    (_, _), (_, line), (_, drug), (_, code), (_, shown) = BLOCKS
    key, _, value = line.strip().rstrip(",").partition(": ")
    monkeypatch.setattr(registry, "DISEASES", {**registry.DISEASES, key.strip('"'): getattr(kidney, value)})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nephrostat.toml").write_text(drug, encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), {})  # noqa: S102
    assert printed.getvalue() == shown


def test_the_disease_of_the_page_keeps_what_every_disease_promises(kidney: ModuleType) -> None:
    promises = load(CONTRACT)
    disease = kidney.Kidney()
    for promise in PROMISES:
        getattr(promises, promise)(disease)
