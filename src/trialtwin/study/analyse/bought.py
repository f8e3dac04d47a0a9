"""What a prognostic score bought: the same analysis without it, on the same patients."""

from trialtwin.core.finding import Cell, Column, Evidence, Finding, Table, Verdict
from trialtwin.study.analyse.effects import decimals_of
from trialtwin.study.analyse.methods import METHODS, TITLES
from trialtwin.study.analyse.rows import Analysed
from trialtwin.trials.answer import Answer

_WITHOUT = {"procova": "ancova", "procova_mmrm": "mmrm"}


def bought_finding(one: Analysed, level: float, evidence: Evidence) -> Finding:
    """Return standard errors of an analysis with its score and of the same one without it."""
    name, plain = _without(one, level)
    pairs = list(zip(one.answer.contrasts, plain.contrasts, strict=True))
    rows: list[tuple[Cell, ...]] = []
    for (with_score, visit), (without, _) in pairs:
        ratio = (with_score.se / without.se) ** 2
        place = (with_score.contrast, visit) if visit else (with_score.contrast,)
        rows.append((*place, without.value, without.se, with_score.value, with_score.se, ratio, with_score.n / ratio))
    decimals = decimals_of(e.se for found in pairs for e, _ in found)
    columns = [Column(name="contrast", label="Contrast")]
    columns += [Column(name="visit", label="Visit")] if pairs[0][0].visit else []
    columns += [
        Column(name="value_without", label="Without the score", decimals=decimals),
        Column(name="se_without", label="SE without", decimals=decimals + 1),
        Column(name="value_with", label="With the score", decimals=decimals),
        Column(name="se_with", label="SE with", decimals=decimals + 1),
        Column(name="ratio", label="Variance ratio", decimals=3),
        Column(name="effective", label="Effective n", decimals=0),
    ]
    last, at = rows[-1], f" at {rows[-1][1]}" if pairs[0][0].visit else ""
    return Finding(
        id=f"effects.bought.{one.spec.id}",
        section="effects",
        title=f"What the score bought: {one.title}",
        verdict=Verdict.INFO,
        text=(
            f"{one.title} against {name} with the same covariates and patients. {last[0]}{at}: variance ratio"
            f" {last[-2]:.3f}; below 1 the score made the analysis more precise. Standard errors are estimates: a ratio"
            " near 1 is no evidence of a gain or of a loss."
        ),
        table=Table(
            columns=tuple(columns),
            rows=tuple(rows),
            note="Effective n: patients that the analysis without the score would need for the same standard error.",
        ),
        evidence=evidence,
    )


def has_score(one: Analysed) -> bool:
    """Tell whether an analysis has a counterpart without the score."""
    return one.spec.method in _WITHOUT


def _without(one: Analysed, level: float) -> tuple[str, Answer]:
    """Do the same analysis without the score."""
    options = {k: v for k, v in one.spec.options().items() if k not in ("interaction", "interact_covariates")}
    method = _WITHOUT[one.spec.method]
    if method == "ancova" and not options.get("covariates"):
        method = "unadjusted"
        options.pop("covariates", None)
    return TITLES[method], METHODS[one.endpoint.spec.kind][method](one.endpoint.outcome, **({"level": level} | options))
