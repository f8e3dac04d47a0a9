"""Every rule twice: on the clean small trial, and on one with a defect planted, which it finds and nothing else."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from trialtwin.core.variables import Variable
from trialtwin.data.cdisc import TrialTables
from trialtwin.data.layout import Layout
from trialtwin.data.reliability import RULES, Examination, Trial
from trialtwin.data.reliability.digits import digits_preferred

from .reliability_trial import (
    ITEMS,
    LAYOUT,
    Plant,
    both,
    cast_column,
    change,
    clean,
    day,
    drop_column,
    drop_rows,
    of,
    put,
    repeat_rows,
)

CUTOFF = date(2030, 1, 1)
BY_ID = {rule.id: rule for rule in RULES}

type Found = tuple[str, str, str | None]


def who(*subjects: str) -> pl.Expr:
    return pl.col("USUBJID").is_in(list(subjects))


def record(subject: str, paramcd: str, visit: str) -> pl.Expr:
    return who(subject) & (pl.col("PARAMCD") == paramcd) & (pl.col("AVISIT") == visit)


def event(subject: str, sequence: int) -> pl.Expr:
    return who(subject) & (pl.col("AESEQ") == sequence)


def plus(points: float) -> pl.Expr:
    return pl.col("AVAL") + points


def same_values(tables: TrialTables) -> TrialTables:
    """Give P05 the values of P03."""
    frame = of(tables, "ADQS").frame
    copied = frame.filter(who("P03")).with_columns(pl.lit("P05").alias("USUBJID"))
    return put(tables, "ADQS", pl.concat([frame.filter(~who("P05")), copied]))


def same_form(tables: TrialTables) -> TrialTables:
    """Give P03 at Week 8 the answers of Week 4."""
    frame = of(tables, "ADQS").frame
    before = frame.filter(who("P03") & (pl.col("AVISIT") == "Week 4"))
    values = dict(zip(before["PARAMCD"], before["AVAL"], strict=True))
    mine = who("P03") & (pl.col("AVISIT") == "Week 8")
    copied = pl.col("PARAMCD").replace_strict(values, default=None, return_dtype=pl.Float64)
    return put(tables, "ADQS", frame.with_columns(pl.when(mine).then(copied).otherwise(pl.col("AVAL")).alias("AVAL")))


SITE = ("P07", "P08", "P09", "P10", "P11", "P12")
LAST = (pl.col("AVISIT") == "Week 8") & (pl.col("PARAMCD") == "TOT")
W4, W8, TOTAL_4 = "Week 4", "Week 8", record("P03", "TOT", "Week 4")

PLANTS: list[tuple[str, str, Plant, list[Found]]] = [
    ("REL-S01", "covariate absent", drop_column("ADSL", "WEIGHTBL"), [("", "WEIGHTBL", None)]),
    ("REL-S02", "value as text", cast_column("ADQS", "AVAL", pl.String()), [("", "AVAL", None)]),
    ("REL-S03", "sex", change("ADSL", who("P03"), SEX="X"), [("P03", "SEX", None)]),
    ("REL-S03", "flag", change("ADSL", who("P03"), SAFFL="yes"), [("P03", "SAFFL", None)]),
    ("REL-S03", "derivation", change("ADQS", who("P12") & LAST, DTYPE="GUESS"), [("P12", "DTYPE", W8)]),
    ("REL-S04", "term", change("ADSL", who("P03"), COUNTRY="XXX"), [("P03", "COUNTRY", None)]),
    ("REL-S04", "arm", change("ADSL", who("P03"), TRT01P="Other"), [("P03", "TRT01P", None)]),
    ("REL-S05", "visit absent", drop_rows("ADQS", LAST), [("", "AVISIT", None)]),
    ("REL-S06", "visit number", change("ADQS", TOTAL_4, AVISITN=5.0), [("", "AVISIT", None)] * 2),
    ("REL-K01", "stranger", repeat_rows("ADAE", event("P02", 1), USUBJID="P99"), [("P99", "USUBJID", None)]),
    ("REL-K02", "no endpoint", drop_rows("ADQS", who("P03")), [("P03", "TOT", None)]),
    ("REL-K03", "copy differs", change("ADQS", who("P03"), AGE=33.0), [("P03", "AGE", None)]),
    ("REL-K03", "arm differs", change("ADTTE", who("P03"), TRTP="Active"), [("P03", "TRTP", None)]),
    ("REL-K04", "never treated", change("ADSL", who("P03"), TRTSDT=None), [("P03", "SAFFL", None)]),
    ("REL-K04", "never seen", drop_rows("ADQS", who("P03") & (pl.col("ADY") > 1)), [("P03", "EFFFL", None)]),
    ("REL-K05", "disposition", change("ADSL", who("P03"), DISCONFL="Y"), [("P03", "DISCONFL", None)]),
    ("REL-K05", "completion", change("ADSL", who("P03"), COMP8FL="N"), [("P03", "COMP8FL", None)]),
    ("REL-K06", "other arm", change("ADSL", who("P03"), TRT01A="Active"), [("P03", "TRT01A", None)]),
    ("REL-U01", "subject twice", repeat_rows("ADSL", who("P03"), AGE=61.0), [("P03", "USUBJID", None)] * 2),
    ("REL-U02", "record twice", repeat_rows("ADQS", TOTAL_4, AVAL=9.0), [("P03", "TOT", W4)] * 2),
    ("REL-U02", "time twice", repeat_rows("ADTTE", who("P03"), AVAL=9.0), [("P03", "TTRASH", None)] * 2),
    ("REL-U03", "row twice", repeat_rows("ADQS", TOTAL_4), [("P03", "TOT", W4)]),
    ("REL-U04", "event twice", repeat_rows("ADAE", event("P08", 1), AESEQ=3.0), [("P08", "AEDECOD", None)]),
    ("REL-U05", "copied patient", same_values, [("P03", "AVAL", None), ("P05", "AVAL", None)]),
    ("REL-U06", "copied form", same_form, [("P03", "TOT", W8)]),
    ("REL-R01", "age", change("ADSL", who("P03"), AGE=130.0), [("P03", "AGE", None)]),
    ("REL-R01", "MMSE", change("ADSL", who("P03"), MMSETOT=31.0), [("P03", "MMSETOT", None)]),
    ("REL-R02", "total", change("ADQS", TOTAL_4, AVAL=99.0), [("P03", "TOT", W4)]),
    ("REL-R03", "item", change("ADQS", record("P03", "ITEM03", W4), AVAL=7.0), [("P03", "ITEM03", W4)]),
    ("REL-R03", "negative", change("ADQS", TOTAL_4, AVAL=-1.0), [("P03", "TOT", W4)]),
    ("REL-R04", "body mass index", change("ADSL", who("P03"), BMIBL=40.0), [("P03", "BMIBL", None)]),
    ("REL-R05", "jump", change("ADQS", TOTAL_4, AVAL=plus(30)), [("P03", "TOT", W4), ("P03", "TOT", W8)]),
    ("REL-R07", "constant", change("ADSL", who(*SITE), WEIGHTBL=60.0), [("", "WEIGHTBL", None)]),
    ("REL-D01", "treatment", change("ADSL", who("P03"), TRTEDT=day(-5)), [("P03", "TRTEDT", None)]),
    ("REL-D02", "study day", change("ADQS", TOTAL_4, ADY=30.0), [("P03", "ADY", W4)]),
    ("REL-D02", "day of event", change("ADAE", event("P02", 1), AENDY=10.0), [("P02", "AENDY", None)]),
    ("REL-D03", "randomised late", change("ADSL", who("P03"), RANDDT=day(3)), [("P03", "TRTSDT", None)]),
    ("REL-D04", "before consent", change("ADQS", TOTAL_4, ADT=date(2020, 1, 1)), [("P03", "ADT", W4)]),
    ("REL-D04", "before birth", change("ADAE", event("P02", 1), ASTDT=date(1940, 1, 1)), [("P02", "ASTDT", None)]),
    ("REL-D05", "visit order", change("ADQS", record("P03", "TOT", W8), ADT=day(20)), [("P03", "TOT", W8)]),
    ("REL-D06", "future", change("ADQS", TOTAL_4, ADT=date(2031, 1, 1)), [("P03", "ADT", W4)]),
    ("REL-D07", "after death", change("ADQS", record("P24", "TOT", W4), ADT=day(43)), [("P24", "ADT", W4)]),
    ("REL-D08", "off drug", change("ADSL", who("P03"), TRTEDT=day(20)), [("P03", "TOT", W4), ("P03", "TOT", W8)]),
    ("REL-A01", "ends early", change("ADAE", event("P08", 1), AENDT=day(2)), [("P08", "AENDT", None)]),
    ("REL-A02", "no start", change("ADAE", event("P08", 1), ASTDT=None), [("P08", "ASTDT", None)]),
    ("REL-A03", "not emergent", change("ADAE", event("P02", 1), TRTEMFL="N"), [("P02", "TRTEMFL", None)]),
    ("REL-A03", "emergent", change("ADAE", event("P05", 1), TRTEMFL="Y"), [("P05", "TRTEMFL", None)]),
    ("REL-A04", "history", change("ADAE", event("P05", 1), ASTDT=date(2018, 1, 1)), [("P05", "ASTDT", None)]),
    ("REL-A05", "criterion met", change("ADAE", event("P08", 2), AESER="N"), [("P08", "AESER", None)]),
    ("REL-A05", "no criterion", change("ADAE", event("P08", 1), AESER="Y"), [("P08", "AESER", None)]),
    ("REL-A06", "criterion", change("ADAE", event("P24", 1), AESDTH="N"), [("P24", "AEOUT", None)]),
    ("REL-A06", "flag", change("ADSL", who("P24"), DTHFL=None), [("P24", "AEOUT", None)]),
    ("REL-A07", "ended", change("ADAE", event("P02", 2), AENDT=day(20)), [("P02", "AEOUT", None)]),
    ("REL-A07", "no end", change("ADAE", event("P02", 1), AENDT=None), [("P02", "AEOUT", None)]),
    ("REL-E01", "negative", change("ADTTE", who("P03"), AVAL=-1.0), [("P03", "TTRASH", None)]),
    ("REL-E01", "censoring", change("ADTTE", who("P03"), CNSR=None), [("P03", "TTRASH", None)]),
    ("REL-E01", "before start", change("ADTTE", who("P03"), ADT=day(-2)), [("P03", "TTRASH", None)]),
    ("REL-E02", "before start", change("ADTTE", who("P03"), ADT=day(-2)), [("P03", "TTRASH", None)]),
    ("REL-E03", "time", change("ADTTE", who("P03"), AVAL=99.0), [("P03", "TTRASH", None)]),
    ("REL-E04", "source date", change("ADTTE", who("P02"), ADT=day(7)), [("P02", "TTRASH", None)]),
    ("REL-E04", "source absent", change("ADTTE", who("P02"), SRCSEQ=9.0), [("P02", "TTRASH", None)]),
    ("REL-B01", "no baseline", drop_rows("ADQS", record("P03", "TOT", "Baseline")), [("P03", "TOT", None)]),
    (
        "REL-B02",
        "two baselines",
        change("ADQS", TOTAL_4, ABLFL="Y"),
        [("P03", "TOT", "Baseline"), ("P03", "TOT", W4)],
    ),
    ("REL-B03", "late", change("ADQS", record("P03", "TOT", "Baseline"), ADY=2.0), [("P03", "TOT", "Baseline")]),
    (
        "REL-B04",
        "not the last",
        both(change("ADQS", record("P03", "TOT", "Baseline"), ADY=-3.0), change("ADQS", TOTAL_4, ADY=1.0)),
        [("P03", "TOT", "Baseline")],
    ),
    ("REL-B05", "BASE", change("ADQS", TOTAL_4, BASE=39.0), [("P03", "TOT", W4)]),
    ("REL-B05", "BASE blank", change("ADQS", TOTAL_4, BASE=None), [("P03", "TOT", W4)]),
    ("REL-B06", "CHG", change("ADQS", TOTAL_4, CHG=39.0), [("P03", "TOT CHG", W4)]),
    ("REL-B06", "CHG blank", change("ADQS", TOTAL_4, CHG=None), [("P03", "TOT CHG", W4)]),
    ("REL-B06", "PCHG", change("ADQS", TOTAL_4, PCHG=39.0), [("P03", "TOT PCHG", W4)]),
    ("REL-T01", "total", change("ADQS", TOTAL_4, AVAL=plus(1)), [("P03", "TOT", W4)]),
    ("REL-T02", "carried", change("ADQS", who("P12") & LAST, AVAL=plus(1)), [("P12", "TOT", W8)]),
    ("REL-T03", "no total", drop_rows("ADQS", TOTAL_4), [("P03", "TOT", "WEEK 4")]),
    (
        "REL-T03",
        "too few items",
        both(*(change("ADQS", record("P03", code, W4), AVAL=None) for code in list(ITEMS)[:4])),
        [("P03", "TOT", "WEEK 4")],
    ),
    (
        "REL-T03",
        "no item at all",
        drop_rows("ADQS", who("P03") & (pl.col("AVISIT") == W4) & (pl.col("PARAMCD") != "TOT")),
        [("P03", "TOT", "WEEK 4")],
    ),
    ("REL-T04", "prorated", change("ADQS", record("P03", "ITEM01", W4), AVAL=None), [("P03", "TOT", "WEEK 4")]),
    ("REL-W01", "window", change("ADQS", TOTAL_4, ADY=44.0), [("P03", "TOT", W4)]),
    ("REL-W02", "window", change("ADQS", TOTAL_4, ADY=44.0), [("P03", "TOT", W4)]),
    (
        "REL-W03",
        "a nearer record",
        both(change("ADQS", TOTAL_4, ADY=35.0), repeat_rows("ADQS", TOTAL_4, ADY=30.0, ANL01FL=None)),
        [("P03", "TOT", W4)],
    ),
    ("REL-W04", "carried", change("ADQS", who("P12") & LAST, AVAL=plus(1)), [("P12", "TOT", W8)]),
    ("REL-W04", "nothing to carry", drop_rows("ADQS", who("P12") & pl.col("DTYPE").is_null()), [("P12", "TOT", W8)]),
    ("REL-W05", "both", repeat_rows("ADQS", record("P03", "TOT", W8), DTYPE="LOCF"), [("P03", "TOT", W8)]),
    ("REL-M02", "visit missed", drop_rows("ADQS", TOTAL_4), [("P03", "TOT", W4)]),
    ("REL-M04", "item missing", drop_rows("ADQS", record("P03", "ITEM02", W4)), [("P03", "ITEM02", W4)]),
    ("REL-M05", "covariate", change("ADSL", who("P03"), AGE=None), [("P03", "AGE", None)]),
    ("REL-C01", "mean", change("ADQS", who(*SITE) & LAST, AVAL=plus(15)), [("", "TOT mean", None)]),
    (
        "REL-C02",
        "spread",
        both(
            change("ADQS", who(*SITE[::2]) & LAST, AVAL=plus(25)),
            change("ADQS", who(*SITE[1::2]) & LAST, AVAL=plus(-25)),
        ),
        [("", "TOT spread", None)],
    ),
    ("REL-C03", "missing", drop_rows("ADQS", who(*SITE) & LAST), [("", "TOT missing", None)]),
]
# These describe, or are planted in data of their own (below, and in test_reliability_missingness.py).
ELSEWHERE = {"REL-M01", "REL-M03", "REL-R06"}


def answer(rule: str, tables: TrialTables, layout: Layout = LAYOUT) -> Examination:
    return BY_ID[rule].check(Trial(tables, layout, CUTOFF))


def found(examination: Examination) -> list[Found]:
    rows = examination.violations.select("subject", "variable", "visit").rows()
    return sorted(rows, key=lambda row: tuple(map(str, row)))


@pytest.mark.parametrize("rule", sorted(BY_ID))
def test_clean_trial_violates_no_rule(rule: str) -> None:
    examination = answer(rule, clean())
    assert examination.violations.is_empty(), examination.violations
    assert rule == "REL-R06" or not examination.examined.is_empty(), "the rule examined nothing"


@pytest.mark.parametrize(("rule", "plant", "expected"), [pytest.param(r, p, e, id=f"{r} {w}") for r, w, p, e in PLANTS])
def test_planted_defect_is_found_and_nothing_else(rule: str, plant: Plant, expected: list[Found]) -> None:
    assert found(answer(rule, plant(clean()))) == sorted(expected, key=lambda row: tuple(map(str, row)))


def test_every_rule_has_a_planted_defect() -> None:
    assert {rule for rule, *_ in PLANTS} | ELSEWHERE == set(BY_ID)


def test_rule_ids_are_unique_and_say_their_topic() -> None:
    assert len(BY_ID) == len(RULES)
    assert all(rule.id.startswith("REL-") and rule.title and rule.states.endswith(".") for rule in RULES)


def heights(values: np.ndarray) -> tuple[TrialTables, Layout]:
    """Return a trial of many subjects with these heights, and a layout that knows them."""
    tables = clean()
    frame = pl.DataFrame({"USUBJID": [f"H{i}" for i in range(len(values))], "HEIGHTBL": values})
    return put(tables, "ADSL", frame), Layout("ARM", ("A",), (), (), covariates=(Variable("HEIGHTBL"),))


def test_even_digits_pass() -> None:
    tables, layout = heights(np.round(np.random.default_rng(1).normal(170, 10, 400), 1))
    assert digits_preferred.check(Trial(tables, layout)).violations.is_empty()


def test_planted_preference_for_whole_and_half_centimetres_is_found() -> None:
    values = np.round(np.random.default_rng(1).normal(170, 10, 400), 1)
    values[:120] = np.round(values[:120] * 2) / 2
    tables, layout = heights(values)
    assert found(digits_preferred.check(Trial(tables, layout))) == [("", "HEIGHTBL", None)]


def test_body_mass_index_is_judged_to_its_precision() -> None:
    tables = change("ADSL", who("P03"), BMIBL=pl.col("BMIBL") + 0.04)(clean())
    assert answer("REL-R04", tables).violations.is_empty()


def test_months_and_days_are_both_conventions_of_time() -> None:
    frame = of(clean(), "ADTTE").frame
    months = frame.with_columns((pl.col("AVAL") / 30.4375).round(1).alias("AVAL"))
    assert answer("REL-E03", put(clean(), "ADTTE", months)).violations.is_empty()


def test_times_of_no_known_convention_are_not_judged_and_that_is_said() -> None:
    frame = of(clean(), "ADTTE").frame.with_columns((pl.col("AVAL") * 3.3).alias("AVAL"))
    examination = answer("REL-E03", put(clean(), "ADTTE", frame))
    assert examination.violations.is_empty()
    assert examination.skipped == ("TTRASH: times follow no known convention of their dates",)


def test_total_is_prorated_over_the_maxima_of_the_items_answered() -> None:
    prorated = change("ADQS", record("P03", "ITEM01", W4), AVAL=None)(clean())
    frame = of(prorated, "ADQS").frame
    rest = frame.filter(who("P03") & (pl.col("AVISIT") == W4) & pl.col("PARAMCD").str.starts_with("ITEM"))
    total = float(rest["AVAL"].sum()) * 40 / 36
    assert found(answer("REL-T01", change("ADQS", TOTAL_4, AVAL=total)(prorated))) == []
    assert found(answer("REL-T01", change("ADQS", TOTAL_4, AVAL=total + 0.01)(prorated))) == [("P03", "TOT", W4)]


def test_a_rule_says_what_it_could_not_examine() -> None:
    examination = answer("REL-W01", drop_column("ADQS", "AWLO", "AWHI")(clean()))
    assert examination.skipped == ("ADQS has no usable AWLO, AWHI",)
    assert examination.examined.is_empty()
