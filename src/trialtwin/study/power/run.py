"""A design simulated: rows to Parquet, findings, and a report."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import polars as pl

from trialtwin.core.dossier import Dossier, Provenance, Section
from trialtwin.core.files import replacing, write_bytes
from trialtwin.core.finding import Evidence
from trialtwin.engine.manifest import installed_packages, lock_digest, platform_facts
from trialtwin.study.power import savings
from trialtwin.study.power.findings import findings_of
from trialtwin.study.power.population import Fitted
from trialtwin.study.power.spec import PowerSpec, TruthSpec, Twin
from trialtwin.study.power.stops import SECTION
from trialtwin.study.workspace import open_workspace
from trialtwin.trials.design import Design
from trialtwin.trials.operating import Cell, Characteristic, operating_characteristics

type Cells = Sequence[tuple[TruthSpec, Twin, Cell]]
type Render = Callable[[Dossier], str]

OPTIONAL = ("truth", "truth_se", "bias", "bias_se", "coverage", "coverage_se", "months", "months_se", "events")
SHOWN_PACKAGES = ("numpy", "polars", "pydantic", "scipy", "trialtwin")


@dataclass(frozen=True, eq=False)
class Simulated:
    """Where a finished simulation is, and what it found."""

    folder: Path
    rows: pl.DataFrame
    dossier: Dossier

    @property
    def report(self) -> Path:
        """The report to open."""
        return self.folder / "report.html"


def run_power(
    spec: PowerSpec,
    folder: Path,
    *,
    render: Render,
    workers: int = 1,
    scheduler: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
    command: str = "",
    base: Path | None = None,
) -> Simulated:
    """Simulate a design under every truth with every twin, in a folder of its own.

    Writes ``operating.parquet`` (one row a truth, twin and method), ``looks.parquet`` (one a look besides, where there
    are interim analyses), ``dossier.json`` and ``report.html``, and keeps finished chunks, so that a simulation that
    was stopped goes on. Workers change no byte of the result.

    Parameters
    ----------
    base
        Folder that the paths of the page start from; the current one if not given.

    Raises
    ------
    ConfigError
        If a method could analyse too few trials.
    DataError, MismatchError
        If the page's fitted twin cannot be loaded, or does not know what the design asks for.
    MachineError
        If the folder cannot be written.
    """
    fitted = fitted_of(spec, base or Path())
    cells = spec.cells(fitted)
    purpose = [spec.model_dump_json(), *(fitted.data.values() if fitted else ())]
    with open_workspace(folder) as space:
        found = operating_characteristics(
            [cell for _, _, cell in cells],
            spec.methods,
            trials=spec.trials,
            seed=spec.seed,
            folder=folder / "chunks" / sha256(" ".join(purpose).encode()).hexdigest()[:16],
            workers=workers,
            scheduler=scheduler,
            on_chunk=on_chunk,
        )
        rows, looks = table_of(cells, found), looks_of(cells, found)
        dossier = _dossier(spec, fitted, rows, looks, command)
        _write_rows(folder, rows, looks)
        write_bytes(folder / "dossier.json", dossier.model_dump_json(indent=1).encode())
        write_bytes(folder / "report.html", render(dossier).encode())
        space.record("command", command)
        space.record("seed", spec.seed)
        space.record("packages", installed_packages())
        space.record("platform", platform_facts())
    return Simulated(folder, rows, dossier)


def _write_rows(folder: Path, rows: pl.DataFrame, looks: pl.DataFrame) -> None:
    """Write the rows, and those of looks where there are any."""
    with replacing(folder / "operating.parquet") as path:
        rows.write_parquet(path)
    if len(looks):
        with replacing(folder / "looks.parquet") as path:
            looks.write_parquet(path)
    else:
        (folder / "looks.parquet").unlink(missing_ok=True)  # of a page that had looks before


def fitted_of(spec: PowerSpec, base: Path) -> Fitted | None:
    """Return the page's fitted twin with its patients, where it has one.

    Raises
    ------
    DataError, MismatchError, ConfigError
        As loading it raises them.
    """
    if spec.fitted is None:
        return None
    from trialtwin.study.power.fitted import load_fitted  # twins take seconds to import

    return load_fitted(spec.fitted, spec.design, base, seed=spec.seed)


def table_of(cells: Cells, found: Sequence[Characteristic]) -> pl.DataFrame:
    """Return one row a truth, twin and method, with what the twin was."""
    named = {cell.name: {"scenario": truth.name} | twin._asdict() for truth, twin, cell in cells}
    rows = [named[one.cell] | {k: v for k, v in asdict(one).items() if k not in ("cell", "looks")} for one in found]
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(OPTIONAL, pl.Float64), infer_schema_length=None)


def looks_of(cells: Cells, found: Sequence[Characteristic]) -> pl.DataFrame:
    """Return one row a truth, twin, method and look; none where there is one analysis only."""
    named = {cell.name: {"scenario": truth.name} | twin._asdict() for truth, twin, cell in cells}
    rows = [named[one.cell] | {"method": one.method} | asdict(look) for one in found for look in one.looks]
    return pl.DataFrame(rows, schema_overrides={"lower": pl.Float64} if rows else {}, infer_schema_length=None)


def _dossier(spec: PowerSpec, fitted: Fitted | None, rows: pl.DataFrame, looks: pl.DataFrame, command: str) -> Dossier:
    design, evidence = spec.design, Evidence(seed=spec.seed, data=dict(fitted.data) if fitted else {})
    certificate = savings.savings_finding(spec, fitted, rows, evidence)
    findings = [*findings_of(spec, rows, looks, evidence), certificate]
    told = [one for one in findings if not one.id.endswith("estimation") and (one.table or one is not certificate)]
    return Dossier(
        title=f"What this design will do: {design.title}",
        subtitle="Simulated before it is run, "
        + ("with the patients of a fitted twin." if fitted else "with twins good, weak and wrong."),
        study=_facts(spec, fitted),
        estimand=design.estimand(),
        summary=tuple(finding.text for finding in told),
        sections=(
            Section(
                id=SECTION,
                title="Operating characteristics",
                intro=(
                    "Every number comes with its Monte-Carlo standard error. The twin's correlation ρ is that of score"
                    " and untreated change; its drift is what all its forecasts are off by."
                ),
            ),
            Section(id=savings.SECTION, title="What the twin saves", intro=savings.intro(spec)),
        ),
        findings=tuple(findings),
        provenance=Provenance(
            configuration=sha256(spec.model_dump_json().encode()).hexdigest(),
            lock=lock_digest(),
            versions={n: v for n, v in installed_packages().items() if n in SHOWN_PACKAGES} | platform_facts(),
            seed=spec.seed,
            command=command,
        ),
    )


def _facts(spec: PowerSpec, fitted: Fitted | None) -> dict[str, str]:
    """Return what the report says of the design."""
    design = spec.design
    sizes = ", ".join(f"{name} {n}" for name, n in zip(design.names, design.sizes(), strict=True))
    months = design.months()
    return {
        "Design": spec.id,
        "Patients": f"{design.patients} ({sizes})",
        "Randomisation": design.randomisation.scheme
        + ("" if design.randomisation.scheme == "simple" else f", blocks of {design.block}"),
        "Visits": ", ".join(f"day {day:g}" for day in design.visits),
        "Duration": "accrual not given" if months is None else f"{months:.1f} months to the last visit",
        "Dropout": _by_arm(design.leaving.dropout, "nobody leaves"),
        **{f"{e.event.capitalize()} ({e.strategy})": _by_arm(e.chance, "nobody") for e in design.intercurrent},
        **({"Patients drawn from": _drawn(fitted)} if fitted else {}),
        "Looks": _looks(design),
        "Trials": f"{spec.trials} a scenario",
        "Level": f"{design.level:g}, {'two' if design.boundary.futility is None else 'one'}-sided",
    }


def _drawn(fitted: Fitted) -> str:
    """Say whose courses are drawn."""
    left_out = f", {fitted.left_out} without a baseline value left out" * bool(fitted.left_out)
    return (
        f"{fitted.patients} patients as {fitted.name} foresees them{left_out}; ρ = {fitted.rho:.2f} by the twin itself"
    )


def _looks(design: Design) -> str:
    """Say at which information looks are taken, and by which boundaries."""
    if not design.interims:
        return "one analysis, at the end"
    asked = design.boundary
    below = "" if asked.futility is None else f"; futility {asked.futility}{', binding' if asked.binding else ''}"
    return f"at {', '.join(f'{100 * f:.3g} %' for f in design.fractions)} of the information; {asked.efficacy}{below}"


def _by_arm(chances: dict[str, float], nobody: str) -> str:
    """Say chances by arm in words."""
    return ", ".join(f"{name} {chance:.0%}" for name, chance in chances.items() if chance) or nobody
