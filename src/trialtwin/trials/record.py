"""The analysis set of a finished trial: who was in which arm, what came of it, and what was known before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import DataError
from trialtwin.core.estimate import Estimand

_SHOWN = 10


class Factor(NamedTuple):
    """A categorical covariate: its levels, the first of them the reference, and each patient's position in them."""

    levels: tuple[str, ...]
    codes: Int[np.ndarray, " patient"]


@dataclass(frozen=True, eq=False)
class Record:
    """Patients as analysed, one endpoint at one visit; immutable.

    Parameters
    ----------
    ids
        Subject identifiers, unique.
    arms
        Names of the arms; the first is the control.
    arm : shape (patient,)
        Position in ``arms``.
    value : shape (patient,)
        The endpoint, in ``unit``.
    endpoint, visit, population
        What, when and of whom, in words.
    unit
        Unit of the endpoint.
    estimand
        The question; every estimate carries it.
    covariates : each of shape (patient,)
        Continuous baseline covariates by name.
    factors
        Categorical baseline covariates by name.
    dose : shape (patient,)
        Dose in ``dose_unit``, where doses were compared.
    dose_unit
        Unit of the dose.

    Raises
    ------
    DataError
        If lengths differ, an identifier repeats, an arm has fewer than two patients, a number is missing or infinite
        (the message names the covariate and the subjects), or a covariate is the same for all patients.

    Examples
    --------
    >>> question = Estimand(
    ...     treatment="B against A", population="all randomised", variable="change at week 24",
    ...     intercurrent_events=(), summary="difference in means",
    ... )
    >>> trial = Record(
    ...     ids=("1", "2", "3", "4"), arms=("A", "B"), arm=np.array([0, 0, 1, 1]),
    ...     value=np.array([1.0, 2.0, 2.0, 4.0]), endpoint="change", visit="week 24", population="all randomised",
    ...     unit="points", estimand=question,
    ... )
    >>> trial.counts()
    (2, 2)
    """

    ids: tuple[str, ...]
    arms: tuple[str, ...]
    arm: Int[np.ndarray, " patient"]
    value: Float[np.ndarray, " patient"]
    endpoint: str
    visit: str
    population: str
    unit: str
    estimand: Estimand
    covariates: Mapping[str, Float[np.ndarray, " patient"]] = field(default_factory=dict)
    factors: Mapping[str, Factor] = field(default_factory=dict)
    dose: Float[np.ndarray, " patient"] | None = None
    dose_unit: str = ""

    def __post_init__(self) -> None:
        _check_patients(self)
        _check_arms(self)
        _check_numbers(self)
        _check_constant(self)
        object.__setattr__(self, "arm", frozen(self.arm))
        object.__setattr__(self, "value", frozen(self.value))
        if self.dose is not None:
            object.__setattr__(self, "dose", frozen(self.dose))
        covariates = {name: frozen(values) for name, values in self.covariates.items()}
        factors = {name: Factor(levels, frozen(codes)) for name, (levels, codes) in self.factors.items()}
        object.__setattr__(self, "covariates", MappingProxyType(covariates))
        object.__setattr__(self, "factors", MappingProxyType(factors))

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> tuple[int, ...]:
        """Return the number of patients in each arm."""
        return tuple(int(n) for n in np.bincount(self.arm, minlength=len(self.arms)))

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Return the pairs of arms (control, treated) to compare: each arm with every one before it."""
        return tuple((i, j) for i in range(len(self.arms)) for j in range(i + 1, len(self.arms)))

    def label(self, control: int, treated: int) -> str:
        """Return the name of a contrast, such as "High − Placebo"."""
        return f"{self.arms[treated]} − {self.arms[control]}"


def _check_patients(record: Record) -> None:
    n = len(record.ids)
    if len(set(record.ids)) != n:
        twice = sorted({name for name in record.ids if record.ids.count(name) > 1})
        raise DataError("subjects repeat in an analysis set", where=first_few(twice), do="give one row a subject")
    arrays = {"arm": record.arm, "value": record.value, **record.covariates}
    arrays |= {name: codes for name, (_, codes) in record.factors.items()}
    if record.dose is not None:
        arrays["dose"] = record.dose
    for name, array in arrays.items():
        if array.shape != (n,):
            raise DataError(f"{name!r} has shape {array.shape} for {n} subjects")
    both = sorted(set(record.covariates) & set(record.factors))
    if both:
        raise DataError(f"{', '.join(both)} is given as a covariate and as a factor", do="keep one of the two")


def _check_arms(record: Record) -> None:
    if len(record.arms) < 2 or len(set(record.arms)) != len(record.arms):
        raise DataError(f"arms are {list(record.arms)}", do="name two or more different arms, the control first")
    require_codes("the arm", record.arms, record.arm, record.ids)
    few = [f"{name} ({n})" for name, n in zip(record.arms, record.counts(), strict=True) if n < 2]
    if few:
        raise DataError(
            f"arm(s) with fewer than two patients in the analysis set: {', '.join(few)}",
            where=f"{record.endpoint}, {record.visit}, {record.population}",
            do="leave the arm out, or check the population flag and the visit",
        )
    for name, (levels, codes) in record.factors.items():
        require_codes(f"factor {name!r}", levels, codes, record.ids)


def require_codes(what: str, levels: Sequence[str], codes: Int[np.ndarray, " patient"], ids: tuple[str, ...]) -> None:
    """Refuse codes that point outside their levels.

    Raises
    ------
    DataError
        With the subjects and the levels.
    """
    outside = (codes < 0) | (codes >= len(levels))
    if outside.any():
        raise DataError(
            f"{what} has codes that point outside its levels",
            where=name_subjects(ids, outside),
            exists=levels,
            do="a missing category needs a level of its own, or the patient a value",
        )


def _check_numbers(record: Record) -> None:
    named = {f"the endpoint {record.endpoint!r}": record.value}
    named |= {f"covariate {name!r}": values for name, values in record.covariates.items()}
    if record.dose is not None:
        named["the dose"] = record.dose
    for what, values in named.items():
        bad = ~np.isfinite(values)
        if bad.any():
            raise DataError(
                f"{what} is missing or infinite for {int(bad.sum())} of {len(values)} subjects",
                where=name_subjects(record.ids, bad),
                do="impute it, leave the covariate out, or leave these subjects out, and say so in the study file",
            )


def _check_constant(record: Record) -> None:
    constant = [name for name, values in record.covariates.items() if values.min() == values.max()]
    constant += [name for name, (_, codes) in record.factors.items() if codes.min() == codes.max()]
    if constant:
        raise DataError(
            f"covariate(s) that are the same for all patients: {', '.join(constant)}",
            do="leave them out: they cannot explain a difference",
        )


def name_subjects(ids: tuple[str, ...], chosen: Bool[np.ndarray, " patient"]) -> str:
    """Name the chosen subjects, the first few of them."""
    return "subjects " + first_few([ids[i] for i in np.flatnonzero(chosen)])


def first_few(names: Sequence[str]) -> str:
    """Join the first few names and count the others."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
