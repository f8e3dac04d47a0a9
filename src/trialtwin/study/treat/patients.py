"""Patients to treat: a table of what is known of each at entry, or virtual ones drawn as a trial enrols them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.variables import Declared, Kind, Variable
from trialtwin.diseases.base import AbstractDisease

ID = ("id", "usubjid", "subject", "patient")
# how a column may be called, beside its concept
ALIASES: Mapping[str, tuple[str, ...]] = {
    "age": ("years",),
    "sex": ("gender",),
    "APOE4": ("apoe", "apoe4alleles", "e4"),
    "weight": ("weightkg", "wt"),
    "amyloid-PET": ("amyloid", "amyloidcl", "centiloid", "cl"),
    "tau-PET": ("tau", "tausuvr"),
    "CDR-SB": ("cdrsb",),
    "ADAS-Cog11": ("adas11",),
    "ADAS-Cog13": ("adas13",),
    "ADAS-Cog14": ("adas14",),
    "MMSE": ("mmsetot",),
}
PLAUSIBLE: Mapping[str, tuple[float, float]] = {
    "age": (18.0, 110.0),
    "weight": (25.0, 250.0),
    "APOE4": (0.0, 2.0),
    "genetic risk score": (-6.0, 6.0),
    "albumin": (10.0, 70.0),
}
# what early Alzheimer's trials enrol: mean, SD, lowest, highest (CLARITY-AD, van Dyck 2023), independent of one another
EARLY: Mapping[str, tuple[float, float, float, float]] = {
    "age": (71.0, 7.8, 50.0, 90.0),
    "weight": (71.0, 15.0, 40.0, 130.0),
    "CDR-SB": (3.2, 1.34, 0.5, 10.0),
    "amyloid-PET": (76.0, 42.0, 30.0, 200.0),
}
FEMALE, GENOTYPES = 0.52, (0.31, 0.53, 0.16)


def read_patients(path: Path, disease: AbstractDisease, also: Sequence[Declared]) -> Cohort:
    """Read patients from a CSV or Parquet file: a column ``id``, and one a covariate or score that is known.

    Cells may be empty. ``also`` are covariates that the candidates use beside those of the disease.

    Raises
    ------
    DataError
        If the file cannot be read, has no patients, or a cell is not what its column is.
    MismatchError
        If a column is not known, with those that are; or if two columns say the same.
    """
    if not path.is_file():
        raise DataError(f"no file {path}", do="give a CSV or Parquet file of patients")
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from error
    return cohort_of({name: table[name].to_list() for name in table.columns}, disease, also, where=path.name)


def cohort_of(
    columns: Mapping[str, Sequence[object]], disease: AbstractDisease, also: Sequence[Declared], *, where: str
) -> Cohort:
    """Return patients from columns by name; see ``read_patients``."""
    declared = {d.concept: d for d in (*also, *disease.declared)}
    concepts = {_plain(c): c for c in (*declared, *disease.scales)}
    for concept, names in ALIASES.items():
        if concept in declared or concept in disease.scales:
            concepts |= dict.fromkeys(names, concept)
    named: dict[str, Sequence[object]] = {}
    ids: Sequence[object] | None = None
    meant: dict[str, str] = {}
    for name, cells in columns.items():
        concept = "id" if _plain(name) in ID else concepts.get(_plain(name), "")
        if concept and concept in meant:
            raise MismatchError(
                f"columns {meant[concept]!r} and {name!r} both say {concept}", where=where, do="leave one of them out"
            )
        meant[concept] = name
        if concept == "id":
            ids = cells
        elif concept:
            named[concept] = cells
        else:
            raise MismatchError(
                f"column {name!r} is not known",
                where=where,
                exists=("id", *declared, *disease.scales),
                do="rename the column, or leave it out",
            )
    n = len(next(iter(columns.values()), ()))
    if n == 0:
        raise DataError("there are no patients", where=where, do="give at least one row")
    names = tuple(str(i) for i in ids) if ids is not None else tuple(f"patient {i + 1}" for i in range(n))
    variables = tuple(_variable(d) for c, d in declared.items() if c in named)
    covariates = [_covariate(named[v.concept], v, names, where) for v in variables]
    _require_alleles(variables, covariates, names, where)
    scores = [concept for concept in named if concept in disease.scales and concept not in declared]
    values = np.full((n, 1, len(scores)), np.nan)
    outcomes = []
    for k, concept in enumerate(scores):
        scale = disease.scales[concept]
        values[:, 0, k] = _numbers(named[concept], concept, names, where, (scale.lower, scale.upper))
        outcomes.append(Variable(concept, lower=scale.lower, upper=scale.upper, concept=concept))
    return Cohort(
        ids=names,
        variables=variables,
        covariates=np.stack(covariates, axis=1) if covariates else np.zeros((n, 0)),
        outcomes=tuple(outcomes),
        visits=("Entry",),
        nominal=np.zeros(1),
        times=np.zeros((n, 1)),
        values=values,
        observed=np.isfinite(values),
        treatments=("none yet",),
        received=np.zeros(n, dtype=np.int64),
    )


def virtual_patients(count: int, disease: AbstractDisease, also: Sequence[Declared], *, seed: int) -> Cohort:
    """Draw virtual patients as a trial enrols them; for diseases other than Alzheimer's, nothing is known of them.

    Raises
    ------
    DataError
        If fewer than one is asked for.
    """
    if count < 1:
        raise DataError(f"{count} virtual patients were asked for", do="ask for at least one")
    ids = [f"virtual {i + 1:0{len(str(count))}d}" for i in range(count)]
    if not disease.name.startswith("alzheimer"):
        return cohort_of({"id": ids}, disease, also, where="virtual patients")
    rng = np.random.default_rng([seed, 7])
    columns: dict[str, Sequence[object]] = {"id": ids}
    declared = {d.concept for d in (*also, *disease.declared)}
    for name, (mean, sd, low, high) in EARLY.items():
        if name in declared or name in disease.scales:
            drawn = _truncated(rng, mean, sd, low, high, count)
            columns[name] = (np.round(2 * drawn) / 2 if name == "CDR-SB" else np.round(drawn, 1)).tolist()
    if "sex" in declared:
        columns["sex"] = np.where(rng.random(count) < FEMALE, "F", "M").tolist()
    columns["APOE4"] = rng.choice(3, count, p=GENOTYPES).tolist()
    return cohort_of(columns, disease, also, where="virtual patients")


def _truncated(rng: np.random.Generator, mean: float, sd: float, low: float, high: float, n: int) -> np.ndarray:
    """Draw from a normal distribution cut off at both ends, by drawing again."""
    drawn = rng.normal(mean, sd, n)
    while (out := (drawn < low) | (drawn > high)).any():
        drawn[out] = rng.normal(mean, sd, int(out.sum()))
    return drawn


def _plain(name: str) -> str:
    """Return a name without case and punctuation."""
    return "".join(c for c in name.casefold() if c.isalnum())


def _variable(declared: Declared) -> Variable:
    if declared.level:
        other = "M" if declared.level == "F" else f"not {declared.level}"
        levels = ("M", "F") if declared.concept == "sex" else (other, declared.level)
        return Variable(declared.concept, kind=Kind.CATEGORICAL, levels=levels, concept=declared.concept)
    low, high = PLAUSIBLE.get(declared.concept, (None, None))
    return Variable(declared.concept, lower=low, upper=high, concept=declared.concept)


def _require_alleles(
    variables: Sequence[Variable], columns: Sequence[np.ndarray], ids: Sequence[str], where: str
) -> None:
    """Refuse a number of APOE4 alleles that is not 0, 1 or 2; unknown is an empty cell."""
    for variable, column in zip(variables, columns, strict=True):
        if variable.concept != "APOE4":
            continue
        for i in map(int, np.flatnonzero(np.isfinite(column) & (column != np.round(column)))):
            raise DataError(
                f"APOE4 = {column[i]:g} is no number of alleles",
                where=f"{where}, {ids[i]}",
                do="give 0, 1 or 2, or leave the cell empty",
            )


def _covariate(cells: Sequence[object], variable: Variable, ids: Sequence[str], where: str) -> np.ndarray:
    if variable.kind is not Kind.CATEGORICAL:
        limits = (variable.lower, variable.upper)
        return _numbers(cells, variable.name, ids, where, limits)
    coded = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell is None or str(cell).strip() == "":
            continue
        word = str(cell).strip()
        if variable.concept == "sex":
            word = {"female": "F", "male": "M", "f": "F", "m": "M"}.get(word.casefold(), word)
        if word not in variable.levels:
            raise DataError(
                f"{variable.name} is {word!r}", where=f"{where}, {ids[i]}", do=f"give {' or '.join(variable.levels)}"
            )
        coded[i] = variable.levels.index(word)
    return coded


def _numbers(
    cells: Sequence[object], name: str, ids: Sequence[str], where: str, limits: tuple[float | None, float | None]
) -> np.ndarray:
    found = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell is None or str(cell).strip() == "":
            continue
        try:
            found[i] = float(str(cell))
        except ValueError as error:
            raise DataError(f"{name} is {cell!r}, which is not a number", where=f"{where}, {ids[i]}") from error
        low, high = limits
        if (low is not None and found[i] < low) or (high is not None and found[i] > high) or not np.isfinite(found[i]):
            raise DataError(
                f"{name} = {found[i]:g} is out of range", where=f"{where}, {ids[i]}", do=f"give from {low} to {high}"
            )
    return found
