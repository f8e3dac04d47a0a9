"""Study files: what is read, and errors that name the key and the choices."""

from pathlib import Path
from typing import Any

import pytest

from trialtwin.core.errors import ConfigError
from trialtwin.study.load import check_study, load_study
from trialtwin.study.spec import StudySpec, TwinSpec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def refuse(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        check_study(content, where="study.toml")
    return str(caught.value)


def test_every_shipped_study_file_is_read() -> None:
    for path in EXAMPLES.glob("*.toml"):
        assert load_study(path).study.id == path.stem


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_study(tmp_path / "absent.toml")


def test_broken_toml_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('[study]\nid = "a"\ntitle = \n')
    with pytest.raises(ConfigError, match=r"line 3, column \d+"):
        load_study(path)


def test_a_typing_error_is_met_with_the_nearest_key_and_all_others(study_content: dict[str, Any]) -> None:
    study_content["arms"]["contol"] = study_content["arms"].pop("control")
    message = refuse(study_content)
    assert "arms.contol: no such key; did you mean 'control'?" in message
    assert "treated" in message
    assert "arms.control: missing" in message


def test_a_key_inside_a_list_is_located(study_content: dict[str, Any]) -> None:
    study_content["analyses"][1]["varience"] = "HC3"
    assert "analyses[1].varience: no such key; did you mean 'variance'?" in refuse(study_content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["analyses"][0].update(method="anova"), "'ancova'"),
        (lambda s: s["analyses"][0].update(variance="HC9"), "'HC3'"),
        (lambda s: s["endpoint"].update(visit="Week 99"), "there is: Week 8, Week 16, Week 24"),
        (lambda s: s["endpoint"].update(outcome="MMSETOT"), "there is: ACTOT"),
        (lambda s: s["endpoint"].update(primary="none"), "there is: unadjusted"),
        (lambda s: s["analyses"][2].update(covariates=["WEIGHT"]), "there is: BASE, SITEGR1"),
        (lambda s: s["outcomes"][0].update(dataset="advs"), "there is: adqsadas"),
        (lambda s: s["scoring"].update(folds=1), "greater than or equal to 2"),
        (lambda s: s["scoring"].update(score="neural"), "there is: baseline"),
        (lambda s: s["arms"].update(treated=["Placebo"]), "arms repeat"),
        (lambda s: s["arms"].update(dose={"Placebo": 0.0}), "dose must be given for each arm"),
        (lambda s: s["visits"].append(dict(s["visits"][0])), "visits have names that repeat: Baseline"),
        (lambda s: s["twins"][0].update(disease="alzheimer"), "a baseline twin learns from data alone"),
        (lambda s: s["twins"][0].update(model="hybrid"), "give disease to a hybrid twin"),
        (lambda s: s["analyses"][0].update(interaction=True), "interaction is an option of procova only"),
        (lambda s: s["estimand"].pop("population"), "estimand.population: missing"),
        (lambda s: s["study"].update(seed=-1), "greater than or equal to 0"),
        (lambda s: s["plan"].update(effect=0.0), "cannot be detected"),
    ],
)
def test_what_contradicts_itself_is_refused(study_content: dict[str, Any], change: Any, words: str) -> None:
    change(study_content)
    assert words in refuse(study_content)


def test_json_schema_names_every_section() -> None:
    schema = StudySpec.model_json_schema()
    assert set(schema["properties"]) == set(StudySpec.model_fields)
    assert schema["additionalProperties"] is False


def test_the_study_file_may_name_every_registered_model() -> None:
    from typing import get_args

    from trialtwin.study.spec import TwinModel
    from trialtwin.twins.registry import MODELS

    assert set(get_args(TwinModel.__value__)) == set(MODELS)
    for name, entry in MODELS.items():
        if entry.takes_disease:
            TwinSpec(name="one", model=name, disease="alzheimer")
        if not entry.needs_disease:
            TwinSpec(name="one", model=name)
