"""Findings on what a twin does not know: parameters that the data did not inform, and patients unlike its own."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import f as f_distribution

from trialtwin.core.errors import FitError
from trialtwin.core.finding import Cell, Column, Evidence, Finding, Learned, Table, Verdict

ALPHA = 0.001


def show_learned(name: str, learned: Sequence[Learned], *, section: str, evidence: Evidence) -> Finding:
    """Show what a twin learned, and name the parameters that its cohort did not inform."""
    silent = [piece.name for piece in learned if not piece.informed]
    words = (
        f"The data say little about {len(silent)} of {len(learned)}, which rest on their priors: {'; '.join(silent)}."
        if silent
        else f"The data inform all {len(learned)}."
    )
    return Finding(
        id=f"{section}.learned.{name}",
        section=section,
        title=f"What the {name} twin learned, and what the data did not tell it",
        verdict=Verdict.INFO,
        text=f"Parameters of the twin fitted to all its patients. {words}",
        table=Table(
            columns=(
                Column(name="parameter", label="Parameter"),
                Column(name="value", label="Estimate", decimals=3),
                Column(name="sd", label="SD", decimals=3),
                Column(name="prior_mean", label="Prior mean", decimals=3),
                Column(name="prior_sd", label="Prior SD", decimals=3),
                Column(name="share", label="Prior variance taken away", unit="%", decimals=0),
            ),
            rows=tuple((p.name, p.value, p.sd, p.prior_mean, p.prior_sd, 100 * p.shrinkage) for p in learned),
            note="A parameter counts as informed where the data took away at least 25 % of its prior variance.",
        ),
        evidence=evidence,
    )


def judge_novelty(
    ids: Sequence[str],
    names: Sequence[str],
    training: Float[np.ndarray, "teacher column"],
    patients: Float[np.ndarray, "patient column"],
    *,
    section: str,
    evidence: Evidence,
) -> Finding:
    """Name the patients whose baseline covariates are unlike those of the patients that the twins learned from.

    For normal covariates the squared Mahalanobis distance D² of a new patient from n teachers with p columns has
    D² n / (n + 1) · (n − p) / (p (n − 1)) ~ F(p, n − p) (Hotelling 1931, doi:10.1214/aoms/1177732979); a patient is
    named where the tail beyond is less than 0.001. Teachers among the patients lie a little nearer than that law says.

    Raises
    ------
    FitError
        If there are not more teachers than columns.
    """
    n, p = training.shape
    if n <= p:
        raise FitError(
            f"{n} patients to learn from cannot say who is unlike them by {p} covariates",
            do="give the twins fewer covariates (twin = false) or more patients to learn from",
        )
    centre = training.mean(axis=0)
    spread = np.atleast_2d(np.cov(training, rowvar=False)) + 1e-9 * np.eye(p)
    gap = patients - centre
    distance = np.einsum("ij,ij->i", gap, np.linalg.solve(spread, gap.T).T)
    chance = f_distribution.sf(distance * n / (n + 1) * (n - p) / (p * (n - 1)), p, n - p)
    far = np.flatnonzero(chance < ALPHA)
    extreme = np.abs(gap / np.sqrt(np.diag(spread)))
    rows: list[tuple[Cell, ...]] = []
    for i in far[np.argsort(-distance[far])]:
        worst = int(np.argmax(extreme[i]))
        rows.append((ids[i], float(np.sqrt(distance[i])), float(chance[i]), names[worst], float(extreme[i, worst])))
    return Finding(
        id=f"{section}.novelty",
        section=section,
        title="Patients unlike those that the twins learned from",
        verdict=Verdict.INFO,
        text=(
            f"{len(far)} of {len(ids)} patients have baseline covariates unlike those of the {n} patients that taught"
            f" the twins (Mahalanobis distance, p < {ALPHA:g} for each); forecasts for them are extrapolations."
        ),
        table=Table(
            columns=(
                Column(name="subject", label="Subject"),
                Column(name="distance", label="Distance", unit="SD", decimals=1),
                Column(name="chance", label="p", decimals=5),
                Column(name="covariate", label="Most unusual"),
                Column(name="extreme", label="away from the mean", unit="SD", decimals=1),
            ),
            rows=tuple(rows),
            note="p as if covariates were normal.",
        ),
        evidence=evidence,
    )
