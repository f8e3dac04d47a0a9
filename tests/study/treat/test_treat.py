"""Patients treated with candidates: what must hold whatever the numbers, and the routes that drugs take."""

from pathlib import Path

import numpy as np
import pytest

from trialtwin.core.dossier import Dossier
from trialtwin.core.errors import ConfigError, DataError, MismatchError, TrialTwinError
from trialtwin.diseases.registry import find_disease
from trialtwin.report.html import render
from trialtwin.study.treat.patients import GENOTYPES, cohort_of, read_patients, virtual_patients
from trialtwin.study.treat.run import Question, Treated, ask, require_patients, treat, write
from trialtwin.study.treat.spec import NONE, make_spec, parse_candidate

CANDIDATES = ("lecanemab", "donepezil: 10 mg qd", "solanezumab", "verubecestat")
PATIENTS = {
    "id": ["a", "b", "c", "d"],
    "age": [70, 75, 66, None],
    "sex": ["F", "m", "", "male"],
    "APOE4": [0, 1, 2, None],
    "CDR-SB": [2.5, 4.0, 3.0, None],
    "amyloid_CL": [60, 110, 90, None],
}


def question(**more: object) -> Question:
    content: dict[str, object] = {"candidates": [parse_candidate(c) for c in CANDIDATES], "draws": 32}
    return ask(make_spec(**(content | more)))


@pytest.fixture(scope="module")
def asked() -> Question:
    """Return a question about four drugs."""
    return question(weights={"ARIA-E": 1.0})


@pytest.fixture(scope="module")
def treated(asked: Question) -> Treated:
    """Return four patients' answers; of the last nothing is known."""
    return treat(asked, cohort_of(PATIENTS, asked.disease, asked.also, where="here"))


def test_chances_of_being_best_add_up_to_1(treated: Treated) -> None:
    np.testing.assert_allclose(treated.decided.best.sum(axis=1), 1.0, atol=1e-12)
    assert treated.decided.names[-1] == NONE


def test_patients_start_where_they_were_measured(treated: Treated) -> None:
    """Measured CDR-SB of 2.5, 4 and 3 within the instrument's own error; the unknown patient is far less sure."""
    start = treated.simulated.untreated[..., 0]
    np.testing.assert_allclose(start.mean(axis=0)[:3], [2.5, 4.0, 3.0], atol=0.5)
    assert start[:, 3].std() > 1.5 * start[:, :3].std(axis=0).max()


def test_all_candidates_start_from_the_same_patients(treated: Treated) -> None:
    for scores in treated.simulated.treated.values():
        np.testing.assert_allclose(scores[..., 0], treated.simulated.untreated[..., 0], atol=1e-6)


def test_drugs_do_what_they_are_known_to_do(treated: Treated) -> None:
    """Lecanemab and donepezil help, the BACE inhibitor harms, solanezumab does next to nothing."""
    benefit = dict(zip(treated.decided.names, treated.decided.benefit.mean(axis=(0, 1)), strict=True))
    assert benefit["lecanemab"] > 0.15
    assert benefit["donepezil: 10 mg qd"] > 0.2
    assert benefit["verubecestat"] < -0.1
    assert abs(benefit["solanezumab"]) < 0.1
    assert benefit[NONE] == 0


@pytest.mark.parametrize(
    ("candidate", "routes"),
    [
        ("lecanemab", {"amyloid", "tau"}),
        ("donepezil: 10 mg qd", {"symptoms"}),
        ("verubecestat", {"amyloid", "tau", "synapses"}),
    ],
)
def test_benefit_runs_along_the_routes_that_a_drug_takes(treated: Treated, candidate: str, routes: set[str]) -> None:
    parts = treated.simulated.pathways[candidate]
    carrying = {route for route, share in parts.shares.items() if np.abs(share).max() > 1e-6}
    assert carrying == routes
    np.testing.assert_allclose(sum(parts.shares.values()), parts.total, atol=1e-9)
    draws = len(parts.total)
    change = treated.simulated.treated[candidate] - treated.simulated.untreated
    # with every route open the whole effect is that of the drug, solved once more with the copy beside it
    np.testing.assert_allclose(parts.total, change[:draws, :, -1], atol=2e-3)


def test_risk_follows_genotype(treated: Treated) -> None:
    """ARIA-E of none, one and two APOE4 alleles under lecanemab: 5.4, 10.9 and 32.6 % were seen."""
    risk = treated.simulated.risk["lecanemab"]["ARIA-E"].mean(axis=0)
    assert risk[0] < risk[1] < risk[2]
    np.testing.assert_allclose(risk[:3], [0.054, 0.109, 0.326], atol=0.05)


def test_weights_turn_risk_into_points(treated: Treated) -> None:
    k = treated.decided.names.index("lecanemab")
    lost = treated.decided.benefit[..., k] - treated.decided.utility[..., k]
    np.testing.assert_allclose(lost, treated.simulated.excess["lecanemab"]["ARIA-E"], atol=1e-12)


def test_a_dose_of_almost_nothing_does_almost_nothing_and_the_same_seed_gives_the_same() -> None:
    tiny = question(candidates=[parse_candidate("lecanemab: 0.0001 mg/kg q2w")], pathways=False, draws=16)
    cohort = virtual_patients(2, tiny.disease, tiny.also, seed=3)
    first, second = treat(tiny, cohort), treat(tiny, cohort)
    assert np.abs(first.decided.benefit).max() < 1e-3
    assert first.table().equals(second.table())
    assert first.dossier == second.dossier


def test_files_are_whole_and_cards_ask_nothing_of_the_network(
    asked: Question, treated: Treated, tmp_path: Path
) -> None:
    report, cards = write(asked, treated, tmp_path, render=render, cards=["b"])
    assert [card.name for card in cards] == ["b.html"]
    for page in (report, *cards):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text
        assert 'href="http' not in text
        assert "@import" not in text
    assert "Treatment card: b" in cards[0].read_text(encoding="utf-8")
    assert Dossier.model_validate_json((tmp_path / "dossier.json").read_bytes()) == treated.dossier
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


def test_every_patient_has_a_card_of_their_own(tmp_path: Path) -> None:
    """Identifiers that read the same as names of files do not write over one another."""
    few = question(candidates=[parse_candidate("donepezil")], weeks=26, pathways=False, draws=16)
    cohort = cohort_of({"id": ["a/b", "a-b", "A b"], "CDR-SB": [2, 3, 4]}, few.disease, few.also, where="here")
    _, cards = write(few, treat(few, cohort), tmp_path, render=render)
    assert [card.name for card in cards] == ["a-b.html", "a-b-2.html", "A-b-3.html"]
    for name, card in zip(cohort.ids, cards, strict=True):
        assert name in card.read_text()


def test_provisional_numbers_are_marked_in_the_dossier(treated: Treated) -> None:
    marked = {group.twin: group.provisional for group in treated.dossier.assumptions}
    assert marked["alzheimer"] > 0
    assert "lecanemab" in marked


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ({"candidates": [parse_candidate("lecanemab: -10 mg/kg q2w")]}, ConfigError, "-10"),
        ({"candidates": [parse_candidate("lecanemap")]}, TrialTwinError, "lecanemab"),
        ({"candidates": [parse_candidate("lecanemab: 10 mg/kg every fortnight")]}, ConfigError, "every"),
        ({"disease": "gout"}, MismatchError, "alzheimer"),
        ({"endpoint": "CDR"}, ConfigError, "CDR-SB"),
        ({"candidates": [parse_candidate("metformin-like")]}, MismatchError, "diabetes"),
    ],
    ids=["negative dose", "unknown drug", "regimen", "disease", "endpoint", "another disease's drug"],
)
def test_bad_questions_are_refused_before_any_work(
    content: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        question(**content)


@pytest.mark.parametrize("content", [{"weeks": 0}, {"draws": 3}, {"candidates": []}, {"weights": {"ARIA-E": -1}}])
def test_numbers_out_of_range_are_refused_by_key(content: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        question(**content)


def test_an_event_that_nobody_carries_cannot_be_weighed() -> None:
    """Refused before any work, as is a card for a patient who is not there."""
    with pytest.raises(MismatchError, match="no candidate carries the event 'ARIA-E'"):
        question(candidates=[parse_candidate("donepezil")], weights={"ARIA-E": 1.0})
    asked = question(candidates=[parse_candidate("donepezil")])
    with pytest.raises(DataError, match="no patient 'B' to write a card for"):
        require_patients(["B"], cohort_of({"id": ["A"]}, asked.disease, asked.also, where="here"))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("id,age\na,140\n", "age = 140 is out of range"),
        ("id,age\na,old\n", "age is 'old', which is not a number"),
        ("id,shoe\na,42\n", "column 'shoe' is not known"),
        ("id,sex\na,X\n", "sex is 'X'"),
        ("id,CDR-SB\na,19\n", "CDR-SB = 19 is out of range"),
        ("id,age\n", "there are no patients"),
        ("id,APOE4\na,0.5\n", "APOE4 = 0.5 is no number of alleles"),
        ("id,weight,WT\na,70,71\n", "columns 'weight' and 'WT' both say weight"),
        ("id,subject\na,b\n", "columns 'id' and 'subject' both say id"),
    ],
)
def test_bad_patients_are_refused_with_their_place(asked: Question, tmp_path: Path, table: str, words: str) -> None:
    path = tmp_path / "patients.csv"
    path.write_text(table)
    with pytest.raises((DataError, MismatchError), match=words):
        read_patients(path, asked.disease, asked.also)


def test_risk_of_an_unknown_genotype_is_that_of_the_genotypes_mixed() -> None:
    """Not that of a patient with 0.72 alleles: risk is no straight line in their number."""
    asked = question(candidates=[parse_candidate("lecanemab")], pathways=False, draws=64)
    cohort = cohort_of({"id": ["unknown", *"012"], "APOE4": [None, 0, 1, 2]}, asked.disease, asked.also, where="here")
    risk = treat(asked, cohort).simulated.risk["lecanemab"]["ARIA-E"].mean(axis=0)
    mixed = float(np.dot(GENOTYPES, risk[1:]))
    assert risk[0] == pytest.approx(mixed, rel=0.1)  # exposures of 64 draws: about 3 %
    assert mixed > 1.2 * risk[1:] @ np.array([0.28, 0.72, 0.0])


def test_the_good_way_of_an_endpoint_is_known() -> None:
    """Scores of ability and measurements that fall with disease are better higher, all others lower, unless told."""
    for disease, endpoint, higher in (
        ("alzheimer", "CDR-SB", False),
        ("alzheimer", "iADRS", True),
        ("alzheimer", "amyloid-PET", False),
        ("alzheimer", "Aβ42/40", True),
        ("hiv", "HIV-RNA", False),
        ("hiv", "CD4", True),
    ):
        spec = make_spec(disease=disease, endpoint=endpoint, candidates=[parse_candidate("x")])
        assert spec.higher_is_better(find_disease(disease)) is higher, endpoint
    told = make_spec(disease="hiv", endpoint="CD4", better="lower", candidates=[parse_candidate("x")])
    assert not told.higher_is_better(find_disease("hiv"))


def test_patients_unlike_the_calibration_trials_are_named(asked: Question) -> None:
    few = question(candidates=[parse_candidate("donepezil")], pathways=False, draws=16)
    cohort = cohort_of({"id": ["old"], "age": [97], "CDR-SB": [3]}, few.disease, few.also, where="here")
    finding = next(f for f in treat(few, cohort).dossier.findings if f.id == "unlike")
    assert finding.verdict == "fail"
    assert finding.table is not None
    assert "age 97" in str(finding.table.rows[0])


@pytest.mark.law
def test_law_intervals_cover_patients_drawn_from_the_model() -> None:
    """CDR-SB at entry is simulated from patients whose untreated course is known; 90 % intervals of it cover 90 %.

    64 patients, one a draw of the population: the Monte-Carlo standard error of the coverage is 3.8 %, and 3 of them
    are allowed.
    """
    asked = question(candidates=[parse_candidate("donepezil")], pathways=False, draws=64)
    unknown = cohort_of({"id": [f"p{i}" for i in range(64)]}, asked.disease, asked.also, where="here")
    truth = treat(asked, unknown).simulated.untreated[np.arange(64), np.arange(64)]
    rng = np.random.default_rng(5)
    seen = np.clip(truth[:, 0] + np.hypot(0.52, 0.16 * truth[:, 0]) * rng.normal(size=64), 0, 18)
    measured = cohort_of({"id": unknown.ids, "CDR-SB": seen.tolist()}, asked.disease, asked.also, where="here")
    forecast = treat(asked, measured).simulated.untreated[..., -1]
    low, high = np.quantile(forecast, [0.05, 0.95], axis=0)
    covered = float(((truth[:, -1] >= low) & (truth[:, -1] <= high)).mean())
    assert abs(covered - 0.9) < 3 * np.sqrt(0.9 * 0.1 / 64)


@pytest.mark.parametrize(
    ("disease", "drug", "endpoint"),
    [("hiv", "antiretroviral-example", "HIV-RNA"), ("diabetes", "metformin-like", "HbA1c")],
)
def test_other_diseases_are_treated_by_their_drugs(disease: str, drug: str, endpoint: str) -> None:
    """Nothing is known of the patients, and HIV is too fast for fixed steps; both drugs help, and the report warns."""
    asked = question(disease=disease, candidates=[parse_candidate(drug)], weeks=8, draws=16, pathways=False)
    assert asked.spec.endpoint_of(asked.disease) == endpoint
    answer = treat(asked, virtual_patients(2, asked.disease, asked.also, seed=1))
    assert (answer.decided.benefit[..., 0] > 0).all()
    unlike = next(f for f in answer.dossier.findings if f.id == "unlike")
    assert "was not calibrated" in unlike.text
