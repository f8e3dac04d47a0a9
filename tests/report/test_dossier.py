"""A dossier is whole, immutable, and the same after a trip through JSON."""

import pydantic
import pytest

from trialtwin.core.dossier import Dossier, Section, TwinAssumptions
from trialtwin.core.errors import MismatchError
from trialtwin.core.finding import Verdict

from .sample_dossier import ESTIMAND, finding


def test_a_dossier_survives_json(dossier: Dossier) -> None:
    assert Dossier.model_validate_json(dossier.model_dump_json()) == dossier


def test_a_dossier_cannot_be_changed(dossier: Dossier) -> None:
    with pytest.raises(pydantic.ValidationError):
        dossier.title = "another"  # type: ignore[misc]


def test_verdicts_are_counted_and_those_that_do_not_occur_are_zero(dossier: Dossier) -> None:
    counts = dossier.counts()
    assert sum(counts.values()) == len(dossier.findings)
    assert counts[Verdict.FAIL] == 2
    assert Dossier(title="x", sections=()).counts() == dict.fromkeys(Verdict, 0)


def test_a_finding_in_an_unknown_section_is_refused_with_the_sections_that_exist() -> None:
    with pytest.raises(MismatchError, match="no section 'twin'") as caught:
        Dossier(title="x", sections=[Section(id="twins", title="Twins")], findings=[finding("f", "twin", "F")])
    assert caught.value.exists == ("twins",)
    assert "'f'" in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        {"sections": [Section(id="a", title="A"), Section(id="a", title="B")]},
        {"sections": [Section(id="a", title="A")], "findings": [finding("f", "a", "F"), finding("f", "a", "G")]},
        {"sections": [], "assumptions": [TwinAssumptions(twin="t", assumptions=())] * 2},
    ],
)
def test_identifiers_that_repeat_are_refused(parts: dict[str, object]) -> None:
    with pytest.raises(MismatchError, match="identifiers repeat"):
        Dossier(title="x", **parts)


def test_only_one_section_may_show_the_results() -> None:
    with pytest.raises(MismatchError, match="all claim the table of results"):
        Dossier(title="x", sections=[Section(id=i, title=i, results=True) for i in "ab"])


def test_questions_are_the_distinct_estimands_with_their_analyses(dossier: Dossier) -> None:
    (question,) = dossier.questions()
    assert question.estimand == ESTIMAND
    assert question.analyses == ("Table 14-3.01", "PROCOVA")


def test_a_second_estimand_of_the_results_is_a_second_question(dossier: Dossier) -> None:
    other = ESTIMAND.model_copy(update={"population": "completers"})
    result = dossier.results[0]
    changed = result.model_copy(update={"estimate": result.estimate.model_copy(update={"estimand": other})})
    questions = dossier.model_copy(update={"results": (*dossier.results, changed)}).questions()
    assert [q.estimand.population for q in questions] == [ESTIMAND.population, "completers"]


def test_findings_keep_their_order_in_a_section(dossier: Dossier) -> None:
    twins = dossier.sections[1]
    assert [f.id for f in dossier.in_section(twins)] == ["fan", "pit", "coverage", "scatter"]
