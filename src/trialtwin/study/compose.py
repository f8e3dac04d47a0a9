"""The dossier of a study: its facts, findings, results and assumptions, in the order of the report."""

from collections.abc import Mapping, Sequence

from trialtwin.core.dossier import Dossier, Provenance, Result, Section, TwinAssumptions
from trialtwin.core.finding import Assumption, Column, Evidence, Finding, Table, Verdict
from trialtwin.engine.manifest import installed_packages, lock_digest, platform_facts
from trialtwin.study.prepare import Prepared
from trialtwin.study.spec import StudySpec

SHOWN_PACKAGES = ("jax", "jaxlib", "numpy", "polars", "pydantic", "pyreadstat", "scikit-learn", "scipy", "trialtwin")


def _sections(spec: StudySpec) -> tuple[Section, ...]:
    taught = (
        f"fitted to the control patients of an earlier trial ({spec.scoring.history})"
        if spec.scoring.history
        else "fitted to control patients only, and no patient is forecast by a twin that has seen that patient"
    )
    return (
        Section(
            id="data",
            title="Is the data fit to use?",
            intro="Rules put to the tables as they came, before any analysis; they change nothing.",
        ),
        Section(
            id="twins",
            title="How well twins forecast patients they had not seen",
            intro=(
                "A twin forecasts each patient's course without active treatment from what was known at baseline."
                f" Twins were {taught}."
            ),
        ),
        Section(
            id="analysis",
            title="The trial analysed",
            intro="The pre-specified analysis, and the same question with covariates and a twin's score (PROCOVA).",
            results=True,
        ),
    )


def compose(
    prepared: Prepared,
    findings: Sequence[Finding],
    results: Sequence[Result],
    assumptions: Mapping[str, Sequence[Assumption]],
    *,
    configuration: str,
    command: str,
) -> Dossier:
    """Put a dossier together; the same inputs give the same bytes, with no time of day among them."""
    spec = prepared.spec
    return Dossier(
        title=spec.study.title,
        subtitle=spec.study.description,
        study=_facts(prepared),
        estimand=spec.estimand,
        summary=_summary(spec, findings, results),
        sections=_sections(spec),
        findings=tuple(_arrange(findings)),
        results=tuple(results),
        assumptions=tuple(TwinAssumptions(twin=name, assumptions=tuple(a)) for name, a in assumptions.items()),
        provenance=Provenance(
            data=prepared.tables.sources(),
            configuration=configuration,
            lock=lock_digest(),
            versions={name: v for name, v in installed_packages().items() if name in SHOWN_PACKAGES} | platform_facts(),
            seed=spec.study.seed,
            command=command,
        ),
    )


def _facts(prepared: Prepared) -> dict[str, str]:
    """Return the short facts under the title."""
    spec, record = prepared.spec, prepared.record
    cohort, rows = prepared.cohort, prepared.rows
    counts = {name: int(cohort.arm(name).sum()) for name in cohort.treatments}
    carried = [kind for kind in rows.dtype if kind]
    return {
        "Study": spec.study.id,
        "Randomised": f"{len(cohort)} (" + ", ".join(f"{name} {n}" for name, n in counts.items()) + ")",
        "Analysis population": f"{spec.population.name}, {len(record)} ("
        + ", ".join(f"{name} {n}" for name, n in zip(record.arms, record.counts(), strict=True))
        + f"); {len(rows.absent)} without an analysed value",
        "Endpoint": f"{record.endpoint} at {record.visit} ({record.unit})",
        "Values not measured": f"{len(carried)} of {len(rows)}, by {', '.join(sorted(set(carried))) or 'none'}",
        "Covariates missing": "; ".join(f"{name}: mean put for {n}" for name, n in prepared.imputed.items()) or "none",
        "Twins": ", ".join(f"{t.name} ({t.disease or 'data-driven'})" for t in spec.twins),
        "Fitted to": spec.scoring.history or f"the control arm, {spec.scoring.folds}-fold cross-fitting",
    }


def _arrange(findings: Sequence[Finding]) -> list[Finding]:
    """Order the data section by what a reader needs first, and fold rules that found nothing into one table.

    The whole of every rule's answer stays in ``reliability.json``.
    """
    data = [f for f in findings if f.section == "data"]
    quiet = [f for f in data if f.verdict is Verdict.PASS and f.table is None]
    overall, rest = data[:3], [f for f in data[3:] if f not in quiet]
    rest.sort(key=lambda f: (f.verdict is not Verdict.FAIL, f.figure is None))
    folded = Finding(
        id="REL-PASSED",
        section="data",
        title="Rules that found nothing",
        verdict=Verdict.PASS,
        text=f"{len(quiet)} rules were put to these data and found no violation.",
        table=Table(
            columns=(
                Column(name="rule", label="Rule"),
                Column(name="title", label="Title"),
                Column(name="text", label="What was examined"),
            ),
            rows=tuple((f.id, f.title, f.text) for f in quiet),
        ),
        evidence=data[0].evidence if data else Evidence(),
    )
    others = [f for f in findings if f.section != "data"]
    return [*overall, *rest, *([folded] if quiet else []), *others]


def _summary(spec: StudySpec, findings: Sequence[Finding], results: Sequence[Result]) -> tuple[str, ...]:
    """Return the lines of the summary box: the data, the forecasts, the effect, and what the score bought."""
    text = {finding.id: finding.text for finding in findings}
    titles = {entry.id: entry.title or entry.id for entry in spec.analyses}
    lines = [f"Data: {text['REL']}", f"Forecasts: {text['twins.accuracy'].split('. ', 1)[1]}"]
    lines += [f"Published numbers: {text[name]}" for name in ("analysis.reproduction",) if name in text]
    primary = {r.estimate.contrast: r.estimate for r in results if r.analysis == spec.endpoint.primary}
    for e in primary.values():
        bounds = f"{e.level:.0%} interval {e.lower:.2f} to {e.upper:.2f}"
        effect = f"{e.contrast} {e.value:.2f} {e.unit} ({bounds}, SE {e.se:.4f}, p {e.p:.3f})"
        lines.append(f"{titles[spec.endpoint.primary]}: {effect}.")
    for entry in spec.analyses:
        if entry.method == "procova":
            found = [r.estimate for r in results if r.analysis == entry.id]
            ratios = [f"{e.contrast} {e.se:.4f} ({(e.se / primary[e.contrast].se) ** 2:.3f})" for e in found]
            lines.append(f"{titles[entry.id]}, SE (variance ratio to the pre-specified): {'; '.join(ratios)}.")
    return tuple(line.replace(" -", " −") for line in lines)
