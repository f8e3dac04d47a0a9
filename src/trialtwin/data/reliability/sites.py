"""Rules on centres: mean and spread of the change in the endpoint, and missingness, of each site against the others.

Multiplicity: Holm's adjustment over the sites of one outcome, so that in a trial without outlying sites the chance of
naming any is about 5 % a rule and outcome. Small sites: their means are uncertain, which their standard errors say;
sites with fewer patients than a rule's least number are listed and not judged.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy.stats import hypergeom
from scipy.stats import t as student

from trialtwin.core.errors import ConvergenceError, DataError
from trialtwin.core.finding import Cell, Column, Figure, Table
from trialtwin.data.layout import Outcome
from trialtwin.data.reliability.missingness import exact_limits, presence
from trialtwin.data.reliability.rule import (
    Examination,
    Severity,
    Summary,
    Trial,
    judge,
    lacks,
    measured,
    merge,
    rule,
    skip,
)

LEAST_FOR_MEAN = 3
LEAST_FOR_SPREAD = 5
LEAST_SITES = 5
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Comparison:
    """Each group against the others: size, own mean, mean expected from the others, standard error, p, Holm's p."""

    n: Int[np.ndarray, " group"]
    mean: Float[np.ndarray, " group"]
    expected: Float[np.ndarray, " group"]
    se: Float[np.ndarray, " group"]
    p: Float[np.ndarray, " group"]
    holm: Float[np.ndarray, " group"]


@rule(
    "REL-C01",
    Severity.WARNING,
    title="Site means of the endpoint",
    examines="sites",
    states="No site's mean change to the last visit, adjusted for arm and baseline, lies off those of the other sites.",
)
def site_means(trial: Trial) -> Examination:
    """Compare site means of the change to the last visit, adjusted for arm and baseline."""
    return _over_outcomes(trial, spread=False)


@rule(
    "REL-C02",
    Severity.WARNING,
    title="Site spreads of the endpoint",
    examines="sites",
    states="No site's changes deviate more, or less, from the site's own mean than those of the other sites (Levene).",
)
def site_spreads(trial: Trial) -> Examination:
    """Compare site means of the absolute deviation of that change from the site's own mean (Levene's idea)."""
    return _over_outcomes(trial, spread=True)


@rule(
    "REL-C03",
    Severity.WARNING,
    title="Site missingness of the endpoint",
    examines="sites",
    states="No site has more, or fewer, patients without a value at the last visit than its arms make one expect.",
)
def site_missingness(trial: Trial) -> Examination:
    """Compare the sites' numbers of patients without a measured value at the last visit."""
    parts: list[Examination] = []
    rows: list[tuple[Cell, ...]] = []
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        if reason := lacks(outcome.dataset, frame, trial.subject, "PARAMCD", "AVISIT", "AVAL") or _siteless(trial):
            parts.append(skip(reason))
            continue
        who = presence(trial, outcome)
        site = _sites(trial)
        where = np.array([site.get(name, "") for name in who.subjects])
        gone = ~who.seen[:, -1]
        names = sorted(set(where))
        if len(names) < LEAST_SITES:
            parts.append(skip(f"{len(names)} sites, fewer than {LEAST_SITES}"))
            continue
        p = np.array([stratified_p(gone, np.array(who.arms), where == name) for name in names])
        adjusted = holm(p)
        for name, raw, adj in zip(names, p, adjusted, strict=True):
            mine = where == name
            low, high = exact_limits(int(gone[mine].sum()), int(mine.sum()))
            share = 100 * float(gone[mine].mean())
            cells = (outcome.paramcd, name, int(mine.sum()), int(gone[mine].sum()), share, 100 * low, 100 * high)
            rows.append((*cells, float(raw), float(adj), bool(adj < ALPHA)))
        parts.append(_judge_sites(outcome, rows, "missing", "% missing at the last visit"))
    columns = (
        Column(name="outcome", label="Outcome"),
        Column(name="site", label="Site"),
        Column(name="patients", label="Patients"),
        Column(name="missing", label="Missing at the last visit"),
        Column(name="percent", label="Missing", unit="%", decimals=1),
        Column(name="low", label="95 % limit, lower", unit="%", decimals=1),
        Column(name="high", label="95 % limit, upper", unit="%", decimals=1),
        *_P_COLUMNS,
    )
    return _with_summary(
        parts,
        rows,
        columns,
        "Two-sided exact test of each site against the others, given the numbers missing in each arm; Clopper–Pearson "
        "limits.",
        ("percent", "Patients without a value at the last visit (%)"),
    )


_P_COLUMNS = (
    Column(name="p", label="p", decimals=4),
    Column(name="holm", label="p, Holm", decimals=4),
    Column(name="outlying", label="Outlying"),
)


def compare_groups(values: Float[np.ndarray, " patient"], groups: Int[np.ndarray, " patient"]) -> Comparison:
    """Compare each group's mean with the others' in a random-effects model from which the group is left out.

    t = (m_s − μ_−s) / √(σ²/n_s + τ²_−s + V(μ_−s)), with σ² pooled within groups, and μ_−s, its variance and the
    variance τ²_−s between groups estimated from the other groups (empirical Bayes; Paule and Mandel 1982,
    doi:10.6028/jres.087.022), so that groups that differ a little anyway do not make each other outlying. Reference: t
    with k − 2 degrees of freedom for k groups, as for a prediction interval (Higgins et al. 2009,
    doi:10.1111/j.1467-985X.2008.00552.x). In simulated trials of 6 to 15 unequal sites it named a site in 0 to 6.5 % of
    those that had no outlying one. With few sites only large differences can be told from the ordinary.

    Raises
    ------
    DataError
        If there are fewer than three groups.

    Examples
    --------
    >>> codes = np.repeat(np.arange(5), 4)
    >>> values = np.tile([-1.0, 0.0, 0.0, 1.0], 5) + 9.0 * (codes == 2)
    >>> compare_groups(values, codes).holm.round(3).tolist()
    [1.0, 1.0, 0.001, 1.0, 1.0]
    """
    k = int(groups.max(initial=-1)) + 1
    if k < 3:
        raise DataError(f"{k} groups cannot be compared each with the others", do="give three at least")
    n = np.bincount(groups, minlength=k)
    mean = np.bincount(groups, weights=values, minlength=k) / n
    sigma2 = float(((values - mean[groups]) ** 2).sum() / (len(values) - k))
    expected, se = np.zeros(k), np.zeros(k)
    for s in range(k):
        others = np.arange(k) != s
        tau2 = between_variance(mean[others], sigma2 / n[others])
        weight = 1 / (sigma2 / n[others] + tau2)
        expected[s] = float(weight @ mean[others] / weight.sum())
        se[s] = float(np.sqrt(sigma2 / n[s] + tau2 + 1 / weight.sum()))
    p = 2 * student.sf(np.abs(mean - expected) / se, k - 2)
    return Comparison(n, mean, expected, se, np.asarray(p), holm(np.asarray(p)))


def stratified_p(gone: np.ndarray, arms: np.ndarray, mine: np.ndarray) -> float:
    """Two-sided exact p of one site's count, given each arm's total: a sum of independent hypergeometric counts.

    Examples
    --------
    >>> gone = np.array([True] * 4 + [False] * 8)
    >>> site = np.array([True] * 4 + [False] * 8)
    >>> round(stratified_p(gone, np.array(["a"] * 12), site), 6)  # 1 / C(12, 4)
    0.00202
    """
    pmf = np.ones(1)
    for arm in np.unique(arms):
        here = arms == arm
        size = int((here & mine).sum())
        pmf = np.convolve(pmf, hypergeom(int(here.sum()), int(gone[here].sum()), size).pmf(np.arange(size + 1)))
    observed = pmf[int(gone[mine].sum())]
    return float(min(1.0, pmf[pmf <= observed * (1 + 1e-9)].sum()))


def holm(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Adjust p-values by Holm's step-down procedure (1979).

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def between_variance(mean: Float[np.ndarray, " group"], variance: Float[np.ndarray, " group"]) -> float:
    """Estimate the variance between groups: Q(τ²) = k − 1 (Paule and Mandel), 0 where Q(0) is smaller.

    Raises
    ------
    ConvergenceError
        If Newton's iteration does not settle.
    """
    tau2 = 0.0
    for _ in range(100):
        weight = 1 / (variance + tau2)
        square = (mean - weight @ mean / weight.sum()) ** 2
        excess = float(weight @ square) - (len(mean) - 1)
        if tau2 == 0 and excess <= 0:
            return 0.0
        # Q is convex and falls in τ², so that Newton's steps from 0 rise to the root and never pass it.
        step = excess / float(weight**2 @ square)
        tau2 += step
        if abs(step) <= 1e-10 * (1 + tau2):
            return tau2
    raise ConvergenceError("the variance between sites did not settle in 100 steps", where=f"at {tau2:g}")


def _over_outcomes(trial: Trial, *, spread: bool) -> Examination:
    """Compare sites on each outcome."""
    least = LEAST_FOR_SPREAD if spread else LEAST_FOR_MEAN
    parts: list[Examination] = []
    rows: list[tuple[Cell, ...]] = []
    small: list[str] = []
    for outcome in trial.outcomes:
        frame = trial.findings[outcome.dataset]
        reason = lacks(outcome.dataset, frame, trial.subject, "PARAMCD", "AVISIT", "AVAL") or _siteless(trial)
        if reason:
            parts.append(skip(reason))
            continue
        residual, where = adjusted_changes(trial, outcome)
        names = [name for name in sorted(set(where)) if int((where == name).sum()) >= least]
        small += sorted(set(where) - set(names))
        keep = np.isin(where, names)
        if len(names) < LEAST_SITES:
            parts.append(skip(f"{outcome.paramcd}: {len(names)} sites with {least} patients, fewer than {LEAST_SITES}"))
            continue
        codes = np.searchsorted(np.array(names), where[keep])
        values = residual[keep]
        if spread:
            n = np.bincount(codes)
            own = np.bincount(codes, weights=values) / n
            # Under normality the expectation is then σ√(2/π) whatever the size of the site.
            values = np.abs(values - own[codes]) * np.sqrt(n / (n - 1))[codes]
        found = compare_groups(values, codes)
        half = student.ppf(1 - ALPHA / 2, len(names) - 2) * found.se
        for i, name in enumerate(names):
            off = float(found.mean[i] - found.expected[i])
            cells = (outcome.paramcd, name, int(found.n[i]), float(found.mean[i]), off, off - half[i], off + half[i])
            rows.append((*cells, float(found.p[i]), float(found.holm[i]), bool(found.holm[i] < ALPHA)))
        parts.append(_judge_sites(outcome, rows, "spread" if spread else "mean", "from the other sites"))
    what = "mean absolute deviation" if spread else "mean"
    note = (
        f"Difference of the site's {what} from the other sites', in a random-effects model without the site; t on "
        f"(sites − 2) degrees of freedom. "
        f"Change to the last visit among measured patients, adjusted for arm and baseline."
    )
    if small:
        note += f" Not judged, with fewer than {least} measured patients: {', '.join(dict.fromkeys(small))}."
    columns = (
        Column(name="outcome", label="Outcome"),
        Column(name="site", label="Site"),
        Column(name="patients", label="Patients"),
        Column(name="value", label=f"Site {what}", decimals=2),
        Column(name="difference", label="Difference from the others", decimals=2),
        Column(name="low", label="95 % limit, lower", decimals=2),
        Column(name="high", label="95 % limit, upper", decimals=2),
        *_P_COLUMNS,
    )
    return _with_summary(parts, rows, columns, note, ("difference", f"Difference in {what} from the other sites"))


def adjusted_changes(trial: Trial, outcome: Outcome) -> tuple[Float[np.ndarray, " patient"], np.ndarray]:
    """Residuals of the measured change to the last visit on arm and baseline, and the site of each patient."""
    visits = trial.layout.visits
    rows = measured(trial.analysed(trial.findings[outcome.dataset])).filter(pl.col("PARAMCD") == outcome.paramcd)

    def at(visit: str, name: str) -> pl.DataFrame:
        mine = rows.filter(pl.col("AVISIT") == visit).unique(trial.subject, maintain_order=True)
        return mine.select(pl.col(trial.subject).alias("subject"), pl.col("AVAL").alias(name))

    people = trial.arms.sort("subject").join(at(visits[0].name, "base"), on="subject", maintain_order="left")
    people = people.join(at(visits[-1].name, "last"), on="subject", maintain_order="left")
    site = _sites(trial)
    base, last = people["base"].to_numpy(), people["last"].to_numpy()
    where = np.array([site.get(name, "") for name in people["subject"]], dtype=str)
    columns = [np.array(people["arm"] == arm, dtype=float) for arm in trial.layout.arms]
    design = np.column_stack([*(c for c in columns if c.any()), base])
    if len(people) == 0:
        return np.zeros(0), where
    beta = np.linalg.lstsq(design, last - base, rcond=None)[0]
    return last - base - design @ beta, where


def _judge_sites(outcome: Outcome, rows: list[tuple[Cell, ...]], what: str, words: str) -> Examination:
    """Turn the table's last column into violations of the data set as a whole."""
    mine = [row for row in rows if row[0] == outcome.paramcd]
    frame = pl.DataFrame(
        {
            "site": [str(row[1]) for row in mine],
            "value": [float(row[4]) for row in mine],  # type: ignore[arg-type]
            "p": [float(row[-2]) for row in mine],  # type: ignore[arg-type]
            "bad": [bool(row[-1]) for row in mine],
        }
    )
    detail = pl.format(
        "site {}: {} {}, Holm p {}", "site", pl.col("value").round(2), pl.lit(words), pl.col("p").round(4)
    )
    return judge(
        frame,
        pl.col("bad"),
        dataset=outcome.dataset,
        subject=None,
        variable=f"{outcome.paramcd} {what}",
        value=pl.col("value"),
        detail=detail,
    )


def _with_summary(
    parts: list[Examination],
    rows: list[tuple[Cell, ...]],
    columns: tuple[Column, ...],
    note: str,
    y: tuple[str, str],
) -> Examination:
    """Add the table of sites and its figure."""
    if not rows:
        return merge(*parts) if parts else skip("no outcome is measured over time")
    named = [f"{row[1]} ({row[0]}, Holm p = {row[-2]:.4f})" for row in rows if row[-1]]
    nearest = min(rows, key=lambda row: float(str(row[-2])))
    words = (
        f"Outlying: {', '.join(named)}."
        if named
        else f"No site is outlying; nearest to it is {nearest[1]} ({nearest[0]}, Holm p = {nearest[-2]:.4f})."
    )
    figure = Figure(
        kind="interval",
        encoding={"x": "site", "y": y[0], "low": "low", "high": "high", "panel": "outcome"},
        x_label="Site",
        y_label=y[1],
        reference=0.0 if y[0] == "difference" else None,
        alt=f"{y[1]} by site with 95 % limits. {words}",
    )
    return merge(*parts, summary=Summary(words, Table(columns=columns, rows=tuple(rows), note=note), figure))


def _sites(trial: Trial) -> dict[str, str]:
    """Site of each subject."""
    frame = trial.subjects.select(trial.subject, pl.col(trial.layout.site).fill_null(""))
    return dict(frame.iter_rows())


def _siteless(trial: Trial) -> str:
    """Say that ADSL has no site, if so."""
    return lacks("ADSL", trial.subjects, trial.subject, trial.layout.site)
