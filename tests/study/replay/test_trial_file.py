"""Trial files: what ships can be read, and mistakes are named by key with what could stand there."""

import json

import pytest

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.study.replay.load import load_trial, parse_trial, shipped_names, shipped_trials, trial_schema
from trialtwin.study.replay.readouts import attach, informs, read_readouts, rows_of

TRIAL = """
id = "X"
title = "A trial"
control = "placebo"
visits = [26, 52]
endpoints = ["CDR-SB", "amyloid_CL"]

[population]
apoe4 = { carrier = 0.6 }

[population.scores]
"CDR-SB" = { mean = 3.0, sd = 1.3, min = 0.5 }

[[arms]]
name = "placebo"
n = 100

[[arms]]
name = "drug"
n = 100
drug = "lecanemab"
regimen = "10 mg/kg over 1h q2w x 26"
"""


READOUT = (
    'readouts = [{{ arm = "drug", endpoint = "CDR-SB", week = 52, stat = "change",'
    " value = {value}, low = {low}, high = 1 }}]"
)


def test_shipped_trials_hold_what_the_calibration_needs() -> None:
    """Eleven descriptions, with the readouts that they are held against."""
    trials = shipped_trials()
    assert len(trials) == len(shipped_names()) == 11
    rows, left = rows_of(trials)
    assert len(rows) + len(left) == sum(len(trial.readouts) for trial in trials) == 221
    assert sum(informs(row) for row in rows) > 100
    assert {item.readout.endpoint for item in left} >= {"ADCOMS", "PACC"}  # listed, not dropped


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('control = "placebo"', 'control = "Placbo"', "control = 'Placbo' is no arm; there are: placebo, drug"),
        ('"amyloid_CL"]', '"PACC"]', "no endpoint 'PACC'; there are: CDR-SB"),
        ('"CDR-SB" = {', '"CDR" = {', "no scale 'CDR'; there are: CDR-SB"),
        ("sd = 1.3", "sd = -1.3", "population.scores.CDR-SB.sd"),
        ("n = 100\ndrug", "n = 100\ndrugs = 1\ndrug", "arms[1].drugs: no such key; did you mean 'drug'?"),
        ("visits = [26, 52]\n", "", "visits: missing; it is needed"),
        ("mean = 3.0", "mean = nan", "population.scores.CDR-SB.mean: Input should be a finite number"),
        ("sd = 1.3", "sd = inf", "population.scores.CDR-SB.sd: Input should be a finite number"),
        ("[26, 52]", "[26, inf]", "visits[1]: Input should be a finite number"),
        ("[26, 52]", "[26, 26]", "visits repeat: 26, 26"),
        ("n = 100\n", "n = 100\ndropout = 1\n", "arms[0].dropout: Input should be less than 1"),
        ('"amyloid_CL"]', f'"amyloid_CL"]\n{READOUT.format(value="nan", low=-1)}', "readouts[0].value is nan"),
        ('"amyloid_CL"]', f'"amyloid_CL"]\n{READOUT.format(value=0, low=2)}', "low 2 is not below high 1"),
        ("min = 0.5", "min = 4", "mean 3 is not inside the entry criterion"),
        ("carrier = 0.6", "noncarrier = 0.6", "give carrier alone, or noncarrier, heterozygote and homozygote"),
        ('drug = "lecanemab"\n', "", "a regimen without a drug"),
        ('"10 mg/kg over 1h q2w x 26"', '{ carrier = "10 mg/kg q2w x 3" }', "give regimens for noncarrier and carrier"),
    ],
)
def test_mistakes_are_named_by_key(old: str, new: str, words: str) -> None:
    """The message says which key, and what could stand there."""
    assert parse_trial(TRIAL, where="x.toml").arms[1].drug == "lecanemab"
    with pytest.raises(ConfigError) as caught:
        parse_trial(TRIAL.replace(old, new, 1), where="x.toml")
    assert words in str(caught.value)
    assert "x.toml" in str(caught.value)


def test_a_trial_that_does_not_ship_lists_those_that_do() -> None:
    """A near miss is offered."""
    with pytest.raises(ConfigError, match="did you mean 'clarity-ad'") as caught:
        load_trial("clarty-ad")
    assert "trailblazer-alz-2" in caught.value.exists


def test_the_schema_is_json_with_every_key() -> None:
    """What --schema prints can be read by an editor."""
    schema = json.loads(trial_schema())
    assert set(schema["properties"]) >= {"id", "arms", "population", "readouts", "visits"}
    assert "intensity" in schema["$defs"]["Arm"]["properties"]


def test_readouts_of_a_table_replace_those_of_the_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A table is matched by trial and arm; rows that belong nowhere are listed with the reason."""
    table = tmp_path / "readouts.csv"
    table.write_text(
        "trial,arm,population,endpoint,visit_wk,stat,value,se,ci_lo,ci_hi,n,source,confidence,split\n"
        "X,drug,all,CDR-SB,52,diff_vs_placebo,-0.3,,-0.6,0.0,100,a paper,high,prediction\n"
        "X,other,all,CDR-SB,52,change,1.0,,,,100,a paper,high,calibration\n"
        "Y,drug,all,CDR-SB,52,change,1.0,,,,100,a paper,high,calibration\n"
    )
    (trial,), left = attach([parse_trial(TRIAL, where="x.toml")], read_readouts(table))
    rows, _ = rows_of([trial])
    assert [row.readout.value for row in rows] == [-0.3]
    assert not informs(rows[0])  # 'prediction' informs nothing
    assert [item.reason for item in left] == ["no arm 'other' in the trial file", "no trial file"]


def test_a_row_that_is_no_readout_is_named_by_line(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The message names the line and the column."""
    table = tmp_path / "readouts.csv"
    head = "trial,arm,population,endpoint,visit_wk,stat,value,se,ci_lo,ci_hi,n\n"
    table.write_text(head + "X,drug,all,CDR-SB,52,mean change,1.0,,,,\n")
    with pytest.raises(DataError, match="line 2") as caught:
        read_readouts(table)
    assert "stat" in str(caught.value)
    assert "diff_vs_placebo" in str(caught.value)
    table.write_text(head + "X,drug,all,CDR-SB,52,change,nan,,,,\n")
    with pytest.raises(DataError, match="a row without a number"):
        read_readouts(table)
    table.write_text("trial,arm\nX,drug\n")
    with pytest.raises(DataError, match="lack population, endpoint"):
        read_readouts(table)


def test_second_analyses_and_implied_rows_do_not_inform() -> None:
    """NCS2 beside MMRM, the treated arm's change beside the difference, and rows of other use are checked only."""
    rows, _ = rows_of(shipped_trials())
    for row in rows:
        if not informs(row):
            continue
        assert row.readout.endpoint != "CDR-SB(NCS2)"
        assert row.readout.stat not in ("diff_vs_external", "relative_slowing")
        if "PD only" in row.readout.use:
            assert row.endpoint.kind in ("amyloid", "negative")
    assert not [r for r in rows if informs(r) and r.trial.id == "A4" and r.treated]
