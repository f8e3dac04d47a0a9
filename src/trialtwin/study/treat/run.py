"""A treatment question from patients to its report, cards and tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from trialtwin.core.arrays import digest
from trialtwin.core.backend import enable_compilation_cache
from trialtwin.core.cohort import Cohort
from trialtwin.core.dossier import Dossier
from trialtwin.core.errors import DataError, MachineError
from trialtwin.core.files import replacing, write_bytes
from trialtwin.core.finding import Evidence
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.variables import Declared
from trialtwin.diseases.base import AbstractDisease
from trialtwin.study.treat.compose import write_card, write_dossier
from trialtwin.study.treat.decide import Decided, decide, interval, require_carried
from trialtwin.study.treat.simulate import Advance, Simulated, events_of, simulate
from trialtwin.study.treat.spec import TreatSpec, disease_of, drugs_of, treatments

CARDS = 20  # patients who get a card of their own, unless others are named

type Render = Callable[[Dossier], str]


@dataclass(frozen=True, eq=False)
class Question:
    """A checked question: the disease, the candidates as treatments of it, and the covariates that they use."""

    spec: TreatSpec
    disease: AbstractDisease
    candidates: dict[str, AbstractTreatment]
    folder: Path | None

    @property
    def also(self) -> tuple[Declared, ...]:
        """Covariates that the candidates use."""
        return tuple(d for treatment in self.candidates.values() for d in treatment.declared)


@dataclass(frozen=True, eq=False)
class Treated:
    """Patients treated: draws, decisions, and the dossier that tells of them."""

    cohort: Cohort
    simulated: Simulated
    decided: Decided
    dossier: Dossier

    def table(self) -> pl.DataFrame:
        """Return one row a patient, candidate and statistic.

        Statistics are benefit, benefit_low, benefit_high (95 %), p_meaningful, p_best, balance, and risk and excess of
        each event.
        """
        rows: list[tuple[str, str, str, float]] = []
        low, _, high = interval(self.decided.benefit)
        for i, patient in enumerate(self.cohort.ids):
            for k, name in enumerate(self.decided.names):
                values = {
                    "benefit": self.decided.benefit[:, i, k].mean(),
                    "benefit_low": low[i, k],
                    "benefit_high": high[i, k],
                    "p_meaningful": self.decided.meaningful[i, k],
                    "p_best": self.decided.best[i, k],
                    "balance": self.decided.utility[:, i, k].mean(),
                }
                for event, draws in self.simulated.risk.get(name, {}).items():
                    values[f"risk of {event}"] = draws[:, i].mean()
                    values[f"excess of {event}"] = self.simulated.excess[name][event][:, i].mean()
                rows += [(patient, name, stat, float(value)) for stat, value in values.items()]
        return pl.DataFrame(rows, schema=["patient", "candidate", "stat", "value"], orient="row")


def ask(spec: TreatSpec, folder: Path | None = None) -> Question:
    """Check a question, and return it ready to be answered; drug files are looked for in ``folder``.

    Raises
    ------
    ConfigError, MismatchError
        If the disease, the endpoint, a drug or a regimen is not what it must be, or an event is weighed that no
        candidate carries.
    """
    disease = disease_of(spec)
    spec.endpoint_of(disease)
    candidates = treatments(spec, disease, folder)
    require_carried(spec.weights, {event for one in candidates.values() for event in events_of(one)})
    return Question(spec, disease, candidates, folder)


def treat(question: Question, cohort: Cohort, *, advance: Advance | None = None, command: str = "") -> Treated:
    """Treat every patient with every candidate, and say what comes of it.

    Examples
    --------
    >>> from trialtwin.study.treat.patients import virtual_patients
    >>> from trialtwin.study.treat.spec import make_spec, parse_candidate
    >>> spec = make_spec(candidates=[parse_candidate("donepezil")], draws=16, weeks=26, pathways=False)
    >>> question = ask(spec)
    >>> patients = virtual_patients(2, question.disease, question.also, seed=1)
    >>> treated = treat(question, patients)
    >>> bool((treated.decided.benefit[..., 0].mean(axis=0) > 0).all())
    True
    """
    enable_compilation_cache()
    spec, disease = question.spec, question.disease
    if len(cohort) == 0:
        raise DataError("there are no patients to treat", do="give at least one")
    simulated = simulate(cohort, disease, question.candidates, spec, advance)
    better = spec.higher_is_better(disease)
    decided = decide(simulated, spec.weights, spec.threshold, higher_is_better=better)
    evidence = Evidence(data={"patients": _digest(cohort)}, seed=spec.seed)
    drugs = tuple(drugs_of(spec, question.folder).values())
    dossier = write_dossier(cohort, disease, drugs, spec, simulated, decided, evidence=evidence, command=command)
    return Treated(cohort, simulated, decided, dossier)


def write(
    question: Question, treated: Treated, folder: Path, *, render: Render, cards: Sequence[str] | None = None
) -> tuple[Path, list[Path]]:
    """Write ``report.html``, ``dossier.json``, ``results.json``, ``results.parquet`` and a card a patient.

    Raises
    ------
    DataError
        If a card is asked for a patient who is not there.
    MachineError
        If the folder cannot be made.
    """
    ids = treated.cohort.ids
    require_patients(cards or (), treated.cohort)
    try:
        (folder / "cards").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"cannot make the folder {folder}: {error.strerror or error}", do="give another one with --out"
        ) from error
    table = treated.table()
    content = orjson.dumps(table.to_dicts(), option=orjson.OPT_INDENT_2)
    write_bytes(folder / "results.json", content)
    with replacing(folder / "results.parquet") as path:
        table.write_parquet(path)
    written: list[Path] = []
    for name in dict.fromkeys(cards or ids[:CARDS]):
        i = ids.index(name)
        card = write_card(treated.cohort, i, question.disease, question.spec, treated.simulated, treated.decided)
        path = folder / "cards" / f"{_file_name(name, [one.stem for one in written])}.html"
        write_bytes(path, render(card).encode())
        written.append(path)
    write_bytes(folder / "dossier.json", treated.dossier.model_dump_json(indent=1).encode())
    write_bytes(folder / "report.html", render(treated.dossier).encode())
    return folder / "report.html", written


def require_patients(cards: Sequence[str], cohort: Cohort) -> None:
    """Refuse to write a card for a patient who is not there.

    Raises
    ------
    DataError
        With the first ten patients.
    """
    unknown = [name for name in cards if name not in cohort.ids]
    if unknown:
        raise DataError(
            f"no patient {unknown[0]!r} to write a card for",
            do=f"there are {', '.join(cohort.ids[:10])}{' …' * (len(cohort) > 10)}",
        )


def _digest(cohort: Cohort) -> str:
    return digest([*cohort.ids, np.nan_to_num(cohort.covariates, nan=-9e9), np.nan_to_num(cohort.values, nan=-9e9)])


def _file_name(name: str, taken: Sequence[str]) -> str:
    """Return a patient's name as that of a file, numbered where another's reads the same (a/b and a-b)."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    used = {one.casefold() for one in taken}
    numbered = (f"{plain}-{i}" for i in range(2, len(used) + 3))
    return next(one for one in (plain, *numbered) if one.casefold() not in used)
