"""Rules on how values were written: preferred last digits, and sites where everyone has the same value."""

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.stats import chisquare

from trialtwin.core.variables import Kind
from trialtwin.data.reliability.rule import Examination, Severity, Trial, judge, merge, rule, skip
from trialtwin.data.reliability.sites import holm

LEAST_VALUES = 100
LEAST_AT_SITE = 5
MOST_DECIMALS = 3
ALPHA = 0.05


@rule(
    "REL-R06",
    Severity.NOTE,
    title="Last digits of covariates",
    examines="covariates",
    states="Last digits of continuous covariates are evenly spread (χ² on 9 df, Holm over the variables).",
)
def digits_preferred(trial: Trial) -> Examination:
    """Check that last digits of continuous covariates are evenly spread (χ² on 9 df, Holm over the variables).

    Judged where a variable has at least 100 values whose standard deviation is at least 5 units of the last digit:
    then digits are even to within a hundredth if nobody rounds. Rounding and conversion of units are the usual causes.
    """
    frame, tested = trial.subjects, []
    for variable in trial.layout.covariates:
        if variable.kind is not Kind.CONTINUOUS or variable.name not in frame.columns:
            continue
        if not frame.schema[variable.name].is_numeric():
            continue
        counts = last_digits(frame[variable.name].drop_nulls().to_numpy().astype(float))
        if counts is not None:
            tested.append((variable.name, counts, float(chisquare(counts).pvalue)))
    if not tested:
        return skip(f"no continuous covariate has {LEAST_VALUES} values spread over five units of its last digit")
    adjusted = holm(np.array([p for *_, p in tested]))
    rows = [
        (name, f"{counts.max() / counts.sum():.0%}", int(counts.argmax()), float(p), bool(p < ALPHA))
        for (name, counts, _), p in zip(tested, adjusted, strict=True)
    ]
    table = pl.DataFrame(rows, schema=["variable", "share", "digit", "p", "bad"], orient="row")
    return judge(
        table,
        pl.col("bad"),
        dataset=trial.tables.subjects.name,
        subject=None,
        variable=pl.col("variable"),
        value=pl.col("share"),
        detail=pl.format(
            "{} of the values end in {} (10 % expected), Holm p {}", "share", "digit", pl.col("p").round(4)
        ),
    )


@rule(
    "REL-R07",
    Severity.WARNING,
    title="Covariates vary at every site",
    examines="covariates by site",
    states="No continuous covariate has one value in all patients of a site with at least five of them.",
)
def values_constant(trial: Trial) -> Examination:
    """Check that no continuous covariate has one value in all patients of a site with at least five of them."""
    frame = trial.subjects
    if trial.layout.site not in frame.columns:
        return skip(f"ADSL has no {trial.layout.site}")
    parts = []
    for variable in trial.layout.covariates:
        if variable.kind is not Kind.CONTINUOUS or variable.name not in frame.columns:
            continue
        sites = frame.drop_nulls([variable.name]).group_by(trial.layout.site, maintain_order=True)
        counts = sites.agg(
            pl.len().alias("n"), pl.col(variable.name).n_unique().alias("distinct"), pl.col(variable.name).first()
        )
        parts.append(
            judge(
                counts.filter(pl.col("n") >= LEAST_AT_SITE),
                pl.col("distinct") == 1,
                dataset=trial.tables.subjects.name,
                subject=None,
                variable=variable.name,
                value=pl.col(variable.name),
                detail=pl.format("the same in all {} patients of site {}", "n", trial.layout.site),
            )
        )
    return merge(*parts) if parts else skip("the layout has no continuous covariate")


def last_digits(values: Float[np.ndarray, " value"]) -> np.ndarray | None:
    """Count last digits at the precision that the values are written with; ``None`` where that says nothing.

    Examples
    --------
    >>> last_digits(np.arange(100.0)).tolist()
    [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    """
    if len(values) < LEAST_VALUES:
        return None
    for decimals in range(MOST_DECIMALS + 1):
        scaled = values * 10**decimals
        if np.allclose(scaled, np.round(scaled), atol=1e-6, rtol=0):
            if float(scaled.std()) < 5:
                return None
            return np.bincount(np.round(scaled).astype(np.int64) % 10, minlength=10)
    return None
