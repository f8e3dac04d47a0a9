"""A dossier such as a run makes: every kind of figure, long names, gaps, empty tables, and strings that mean harm."""

import numpy as np

from trialtwin.core.dossier import Dossier, Provenance, Result, Section, TwinAssumptions
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.core.finding import Assumption, Column, Evidence, Figure, Finding, Table, Verdict

ARMS = ("Placebo", "Xanomeline Low Dose", "Xanomeline High Dose")
TWINS = ("baseline (mixed-effects, ridge)", "mechanistic Alzheimer’s")
VISITS = ("Week 8", "Week 16", "Week 24")
HOSTILE = '<script>alert("x")</script>&\'$a_b$\u202e\x07'
EVIDENCE = Evidence(data={"adsl.xpt": "3f" * 32, "adqsadas.xpt": "9b" * 32}, seed=20, software="trialtwin 0.1.0")

ESTIMAND = Estimand(
    treatment="xanomeline 81 mg patch against placebo patch, both with usual care",
    population="randomised patients with a baseline and a later ADAS-Cog (efficacy population)",
    variable="change from baseline in ADAS-Cog (11) at Week 24",
    intercurrent_events=[
        {"event": "treatment discontinuation", "strategy": "treatment policy", "note": "LOCF as the protocol states"},
        {"event": "rescue medication", "strategy": "hypothetical"},
    ],
    summary="difference in means",
)


def finding(name: str, section: str, title: str, **parts: object) -> Finding:
    """Make a finding with what most of them share."""
    given = {"verdict": Verdict.INFO, "text": "As the table shows.", "evidence": EVIDENCE} | parts
    return Finding(id=name, section=section, title=title, **given)


def columns(*names: str, **labels: str) -> list[Column]:
    return [Column(name=name, label=labels.get(name, "")) for name in names]


def fan(patients: int = 12) -> Finding:
    rng = np.random.default_rng(1)
    rows: list[list[object]] = []
    for place in range(patients):
        subject = HOSTILE if place == 1 else f"01-701-{1015 + 13 * place}"
        start = 12 + 25 * rng.random()
        for day in (0, 56, 112, 168):
            middle, spread = start + 0.02 * day, 2.0 + 0.035 * day
            seen = None if rng.random() < 0.2 else round(middle + spread * rng.standard_normal(), 0)
            limits = [round(middle + z * spread, 3) for z in (-1.645, -0.674, 0, 0.674, 1.645)]
            rows.append([subject, day, *(limits if day else [None] * 5), seen])
    return finding(
        "fan",
        "twins",
        "Twins against what happened, twelve placebo patients drawn at random",
        text="Bands are posterior-predictive given baseline only.\n\nThe patients were drawn before fitting.",
        table=Table(
            columns=columns("panel", "day", "low2", "low1", "median", "high1", "high2", "seen", panel="Subject"),
            rows=rows,
        ),
        figure=Figure(
            kind="fan",
            encoding={
                "panel": "panel", "x": "day", "low": "low2", "inner_low": "low1", "median": "median",
                "inner_high": "high1", "high": "high2", "observed": "seen",
            },
            x_label="Days since baseline",
            y_label="ADAS-Cog (11) (points)",
            alt="Twelve panels, one a patient: predicted bands widen over 168 days and hold most observed scores.",
        ),
    )  # fmt: skip


def histogram() -> Finding:
    counts = ([9, 11, 8, 12, 10, 9, 13, 8, 10, 9], [15, 12, 9, 8, 6, 7, 9, 8, 11, 14])
    rows = [
        [twin, 0.05 + 0.1 * k, n, 4.8, 15.4] for twin, ns in zip(TWINS, counts, strict=True) for k, n in enumerate(ns)
    ]
    return finding(
        "pit",
        "twins",
        "Probability integral transform",
        verdict=Verdict.PASS,
        table=Table(columns=columns("twin", "pit", "count", "low", "high"), rows=rows, note="Randomised PIT, Week 24."),
        figure=Figure(
            kind="histogram",
            encoding={"panel": "twin", "x": "pit", "y": "count", "low": "low", "high": "high"},
            x_label="PIT value",
            y_label="Patients",
            reference=9.9,
            alt="PIT histograms of both twins lie within the expected range.",
        ),
    )


def coverage() -> Finding:
    rows = [
        [twin, visit, level, share, share - 0.07, min(share + 0.06, 1.0), nominal]
        for twin in TWINS
        for visit, wide, narrow in zip(VISITS, (0.93, 0.91, 0.84), (0.55, 0.52, 0.44), strict=True)
        for level, share, nominal in (("90% interval", wide, 0.9), ("50% interval", narrow, 0.5))
    ]
    return finding(
        "coverage",
        "twins",
        "Coverage of prediction intervals by visit",
        verdict=Verdict.FAIL,
        text="At Week 24 the 50% intervals of the mechanistic twin hold 44% of the observed scores.",
        table=Table(columns=columns("twin", "visit", "level", "coverage", "low", "high", "nominal"), rows=rows),
        figure=Figure(
            kind="interval",
            encoding={
                "panel": "twin", "x": "visit", "group": "level", "y": "coverage", "low": "low", "high": "high",
                "reference": "nominal",
            },
            x_label="Analysis visit",
            y_label="Share of observed scores inside",
            alt="Coverage by visit with 95% limits, against the nominal levels 0.9 and 0.5.",
        ),
    )  # fmt: skip


def missingness() -> Finding:
    rows = []
    for arm, shares in zip(ARMS, ((0.06, 0.14, 0.24), (0.14, 0.45, 0.69), (0.17, 0.51, None)), strict=True):
        for visit, share in zip(VISITS, shares, strict=True):
            rows.append([visit, arm, share, *(None if share is None else x for x in (0, 0))])
            if share is not None:
                rows[-1][3:] = [max(share - 0.09, 0.0), share + 0.1]
    return finding(
        "missing",
        "data",
        "Missing ADAS-Cog scores by visit and arm",
        table=Table(
            columns=[
                Column(name="visit", label="Visit"), Column(name="arm", label="Arm"),
                Column(name="share", label="Missing", decimals=2), *columns("low", "high"),
            ],
            rows=rows,
        ),
        figure=Figure(
            kind="interval",
            encoding={"x": "visit", "group": "arm", "y": "share", "low": "low", "high": "high"},
            x_label="Analysis visit",
            y_label="Share missing",
            reference=0.2,
            alt="Missingness rises over visits, and is highest on active treatment.",
        ),
    )  # fmt: skip


def scatter() -> Finding:
    rng = np.random.default_rng(2)
    rows = []
    for twin, noise in zip((*TWINS, "mean of both (equal weights)"), (5.2, 5.6, 5.1), strict=True):
        for k in range(65):
            truth = float(rng.normal(2.5, 5.8))
            rows.append(
                [twin, ARMS[k % 3], round(0.3 * truth + noise * 0.3 * rng.standard_normal() + 1.7, 3), round(truth, 0)]
            )
    return finding(
        "scatter",
        "twins",
        "Predicted against observed change at Week 24, out of fold",
        table=Table(columns=columns("twin", "arm", "predicted", "observed"), rows=rows),
        figure=Figure(
            kind="scatter",
            encoding={"panel": "twin", "group": "arm", "x": "predicted", "y": "observed"},
            x_label="Predicted change (points)",
            y_label="Observed change (points)",
            alt="Predicted changes vary less than observed ones; correlation is moderate.",
        ),
    )


def bars() -> Finding:
    sites = [f"Site {701 + k}" for k in range(8)]
    rows = [[site, arm, 3 + (7 * k + 5 * a) % 11] for k, site in enumerate(sites) for a, arm in enumerate(ARMS)]
    return finding(
        "bars",
        "data",
        "Patients by site and arm",
        verdict=Verdict.PASS,
        table=Table(columns=columns("site", "arm", "patients"), rows=rows),
        figure=Figure(
            kind="bars",
            encoding={"x": "site", "group": "arm", "y": "patients"},
            x_label="Site",
            y_label="Patients randomised",
            alt="Three to thirteen patients in each arm and site.",
        ),
    )


def forest() -> Finding:
    methods = (
        "Unadjusted difference in means",
        "ANCOVA: baseline, site group",
        "PROCOVA with the cross-fitted mechanistic twin",
    )
    numbers = {
        "Xanomeline High Dose - Placebo": ((-1.1, 0.853), (-1.006, 0.8405), (-0.942, 0.801)),
        "Xanomeline Low Dose - Placebo": ((-0.52, 0.86), (-0.4668, 0.818), (-0.41, 0.79)),
    }
    rows = [
        [contrast, method, value, round(value - 1.971 * se, 4), round(value + 1.971 * se, 4)]
        for contrast, pairs in numbers.items()
        for method, (value, se) in zip(methods, pairs, strict=True)
    ]
    return finding(
        "forest",
        "effect",
        "Effect on ADAS-Cog (11) at Week 24",
        table=Table(
            columns=columns(
                "contrast", "method", "value", "low", "high", low="Lower 95% limit", high="Upper 95% limit"
            ),
            rows=rows,
        ),
        figure=Figure(
            kind="forest",
            encoding={"group": "contrast", "label": "method", "y": "value", "low": "low", "high": "high"},
            x_label="Difference in mean change at Week 24 (points); negative favours xanomeline",
            y_label="Contrast and analysis",
            alt="All intervals hold zero; PROCOVA has the narrowest.",
        ),
    )


def plain_findings() -> list[Finding]:
    table = Table(
        columns=[
            Column(name="rule", label="Rule"), Column(name="subject", label="Subject"),
            Column(name="value", label="Value", unit="points"), Column(name="p"), Column(name="ok", label="Corrected"),
        ],
        rows=[
            ["R01", HOSTILE, -71.25, 3e-9, True], ["R02", "01-703-1042", None, 0.2447, False],
            ["R03", None, 0.5, 0.0496, None],
        ],
    )  # fmt: skip
    many = Table(columns=columns("subject", "score"), rows=[[f"01-{k}", k / 7] for k in range(40)])
    empty = Table(columns=columns("x", "y"), rows=[])
    picture = Figure(kind="bars", encoding={"x": "x", "y": "y"}, x_label="x", y_label="y", alt="Nothing.")
    return [
        finding("hostile", "data", f"Rules broken by {HOSTILE}", verdict=Verdict.FAIL, text=HOSTILE, table=table),
        finding("long", "data", "Reliability of each patient", table=many, verdict=Verdict.PASS),
        finding(
            "empty", "data", "Impossible dates", verdict=Verdict.PASS, text="None found.", table=empty, figure=picture
        ),
        finding("words", "data", "Same subjects in both formats", verdict=Verdict.PASS, text="254 of 254."),
    ]


def results() -> list[Result]:
    made = []
    for analysis, method, variance, (value, se, df, p), estimand in (
        ("Table 14-3.01", "ANCOVA", "model", (-1.006, 0.8405, 227.0, 0.2327), ESTIMAND),
        ("PROCOVA", "ANCOVA with prognostic score", "HC3", (-0.942, 0.801, 226.0, 0.2409), ESTIMAND),
        ("Sensitivity", "MMRM, Kenward–Roger", "model", (-0.8282, 1.07, 163.47, 4e-9), None),
        (
            "Sensitivity, large sample",
            "augmented inverse-probability weighting",
            "sandwich",
            (-0.9, 0.9, None, 0.317),
            None,
        ),
    ):
        estimate = Estimate(
            contrast="Xanomeline High Dose - Placebo", value=value, se=se, lower=value - 1.97 * se,
            upper=value + 1.97 * se, statistic=value / se, p=p, df=df, n=153, method=method, variance=variance,
            unit="points", estimand=estimand, software="trialtwin 0.1.0",
        )  # fmt: skip
        made.append(
            Result(
                analysis=analysis,
                endpoint="ADAS-Cog (11) change",
                visit="Week 24",
                population="Efficacy",
                estimate=estimate,
            )
        )
    return made


def assumptions() -> list[TwinAssumptions]:
    given = [
        Assumption(
            name="amyloid half-life",
            value="9.4",
            unit="h",
            source="Bateman 2006, doi:10.1038/nm1438",
            confidence="high",
        ),
        Assumption(
            name="tau spread rate",
            value="0.12",
            unit="1/year",
            source="expert opinion",
            confidence="low",
            provisional=True,
        ),
    ]
    return [
        TwinAssumptions(twin="mechanistic Alzheimer’s", assumptions=given),
        TwinAssumptions(twin="baseline", assumptions=given[:1]),
    ]


def build_dossier() -> Dossier:
    """Make the dossier that most tests look at."""
    return Dossier(
        title="CDISCPILOT01: a twin-adjusted analysis of xanomeline in mild to moderate Alzheimer’s disease",
        subtitle="Safety and efficacy of the xanomeline transdermal therapeutic system; 254 patients, 26 weeks",
        study={
            "Design": "randomised, double-blind, three parallel arms", "Randomised": "254 (86 / 84 / 84)",
            "Primary endpoint": "ADAS-Cog (11), change at Week 24", "Data": "ADaM, SAS transport v5",
            "Twin fitted on": "placebo arm, 5-fold cross-fitting", "Level": "two-sided 5%",
        },
        estimand=ESTIMAND,
        summary=(
            "Table 14-3.01 is reproduced to four decimals: High − Placebo −1.0060 (SE 0.8405), p = 0.233.",
            "PROCOVA with the mechanistic twin has a standard error of 0.801, 4.7% less than the pre-specified ANCOVA.",
        ),
        sections=(
            Section(id="data", title="Is the data fit to use?", intro="Every rule is run on every record."),
            Section(id="twins", title="How well do the twins forecast unseen patients?"),
            Section(id="effect", title="Effect of treatment", intro="The pre-specified analysis first.", results=True),
            Section(id="later", title="Planned, not run"),
        ),
        findings=(
            *plain_findings(), missingness(), bars(), fan(), histogram(), coverage(), scatter(), forest(),
        ),
        results=tuple(results()),
        assumptions=tuple(assumptions()),
        provenance=Provenance(
            data={"adsl.xpt": "3f" * 32, "adqsadas.xpt": "9b" * 32}, configuration="c0" * 32, lock="1a" * 32,
            versions={"numpy": "2.5.5", "jax": "0.12.0.1"}, seed=20, software="trialtwin 0.1.0",
            command="uv run trialtwin run examples/cdiscpilot01.toml --data ../shared/data/cdiscpilot01/adam --seed 20",
        ),
    )  # fmt: skip
