"""Who was in which arm, how they were randomised, and what was known of each before: what every endpoint shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.arrays import frozen
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.stats.modelmatrix import ModelMatrix, continuous_columns, factor_columns, join
from trialtwin.stats.randomisation import SCHEMES, Randomisation
from trialtwin.trials.record import Factor, first_few, name_subjects, require_codes

LONE = ("refuse", "leave out")


class Strata(NamedTuple):
    """Joint strata of some factors: names of those that occur, and each patient's position in them."""

    names: tuple[str, ...]
    codes: Int[np.ndarray, " patient"]


@dataclass(frozen=True, eq=False)
class Patients:
    """Patients of a trial, their arms and what was known at baseline; immutable.

    Parameters
    ----------
    ids
        Subject identifiers, unique.
    arms
        Names of the arms; the first is the control.
    arm : shape (patient,)
        Position in ``arms``.
    population
        Of whom, in words.
    covariates : each of shape (patient,)
        Continuous baseline covariates by name; NaN is refused when an analysis uses it.
    factors
        Categorical baseline covariates by name.
    scheme, strata
        How patients were randomised (``stats.randomisation.SCHEMES``), and names of the factors that were balanced.
    every_pair
        Whether treated arms are compared with each other too.
    dose : shape (patient,)
        Dose in ``dose_unit``, where doses are compared.
    dose_unit
        Unit of the dose.

    Raises
    ------
    DataError
        If a subject repeats, lengths differ, or an arm holds nobody.
    ConfigError
        If there is no such scheme, or scheme and strata do not go together.
    MismatchError
        If a stratum is not among the factors.

    Examples
    --------
    >>> people = Patients(("1", "2", "3", "4"), ("A", "B"), np.array([0, 0, 1, 1]), "all randomised")
    >>> people.counts(), people.label(*people.pairs()[0])
    ((2, 2), 'B − A')
    """

    ids: tuple[str, ...]
    arms: tuple[str, ...]
    arm: Int[np.ndarray, " patient"]
    population: str
    covariates: Mapping[str, Float[np.ndarray, " patient"]] = field(default_factory=dict)
    factors: Mapping[str, Factor] = field(default_factory=dict)
    scheme: str = "simple"
    strata: tuple[str, ...] = ()
    every_pair: bool = False
    dose: Float[np.ndarray, " patient"] | None = None
    dose_unit: str = ""

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(set(self.ids)) != n:
            twice = sorted({name for name in self.ids if self.ids.count(name) > 1})
            raise DataError("subjects repeat in an analysis set", where=first_few(twice), do="give one row a subject")
        arrays = {"arm": self.arm, **self.covariates, **{name: codes for name, (_, codes) in self.factors.items()}}
        for name, array in arrays.items():
            if array.shape != (n,):
                raise DataError(f"{name!r} has shape {array.shape} for {n} subjects")
        require_codes("the arm", self.arms, self.arm, self.ids)
        for name, (levels, codes) in self.factors.items():
            require_codes(f"factor {name!r}", levels, codes, self.ids)
        _require_scheme(self)
        object.__setattr__(self, "arm", frozen(self.arm))
        object.__setattr__(self, "covariates", MappingProxyType({k: frozen(v) for k, v in self.covariates.items()}))
        factors = {name: Factor(levels, frozen(codes)) for name, (levels, codes) in self.factors.items()}
        object.__setattr__(self, "factors", MappingProxyType(factors))

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> tuple[int, ...]:
        """Return the number of patients in each arm."""
        return tuple(int(n) for n in np.bincount(self.arm, minlength=len(self.arms)))

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Return the pairs of arms (reference, treated) to compare: each with the control, or every pair."""
        last = len(self.arms) if self.every_pair else 1
        return tuple((i, j) for i in range(last) for j in range(i + 1, len(self.arms)))

    def label(self, reference: int, treated: int, sign: str = "−") -> str:
        """Return the name of a contrast, such as "High − Placebo" or "High / Placebo"."""
        return f"{self.arms[treated]} {sign} {self.arms[reference]}"

    def chosen(self, rows: Bool[np.ndarray, " patient"]) -> "Patients":
        """Return some of the patients; levels of factors that are left without patients are dropped.

        Raises
        ------
        DataError
            If an arm is left without patients.
        """
        index = np.flatnonzero(rows)
        left = np.bincount(self.arm[index], minlength=len(self.arms))
        if (left == 0).any():
            raise DataError(
                f"nobody is left in arm(s) {', '.join(repr(self.arms[k]) for k in np.flatnonzero(left == 0))}",
                where=self.population,
                do="check the population, the parameter and the visit, or leave the arm out",
            )
        factors = {}
        for name, (levels, codes) in self.factors.items():
            present, new = np.unique(codes[index], return_inverse=True)
            factors[name] = Factor(tuple(levels[k] for k in present), new)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            arm=self.arm[index],
            covariates={name: values[index] for name, values in self.covariates.items()},
            factors=factors,
            dose=None if self.dose is None else self.dose[index],
        )

    def pair(self, reference: int, treated: int) -> tuple["Patients", Bool[np.ndarray, " patient"]]:
        """Return the patients of two arms, the reference first, and which patients they are."""
        rows = np.isin(self.arm, (reference, treated))
        codes = np.where(self.arm == treated, 1, 0)
        two = (self.arms[reference], self.arms[treated])
        return replace(self, arms=two, arm=codes).chosen(rows), rows

    def columns(self, names: Sequence[str]) -> ModelMatrix | None:
        """Return the columns of covariates, factors by treatment contrasts; ``None`` where no name is given.

        Raises
        ------
        MismatchError
            If there is no such covariate.
        DataError
            If a covariate is missing for a patient, or the same for all.
        """
        parts = []
        for name in names:
            if name in self.factors:
                parts.append(factor_columns(name, *self.factors[name]))
            else:
                parts.append(continuous_columns({name: self.covariate(name)}))
            if parts[-1].values.shape[1] == 0 or (parts[-1].values == parts[-1].values[0]).all():
                raise DataError(
                    f"covariate {name!r} is the same for all patients", do="leave it out: it cannot explain anything"
                )
        return join(*parts) if parts else None

    def covariate(self, name: str) -> Float[np.ndarray, " patient"]:
        """Return a continuous covariate that every patient has.

        Raises
        ------
        MismatchError
            If there is no such covariate.
        DataError
            If it is missing for a patient.
        """
        if name not in self.covariates:
            raise MismatchError(f"no covariate {name!r}", exists=(*self.covariates, *self.factors))
        values = self.covariates[name]
        bad = ~np.isfinite(values)
        if bad.any():
            raise DataError(
                f"covariate {name!r} is missing for {int(bad.sum())} of {len(values)} subjects",
                where=name_subjects(self.ids, bad),
                do="leave it out, or say in the page that the mean of the others takes its place (missing = 'mean')",
            )
        return values

    def joint(self, names: Sequence[str]) -> Strata:
        """Return the joint strata of some factors; one for all patients where no name is given.

        Raises
        ------
        MismatchError
            If there is no such factor.
        """
        parts = []
        for name in names:
            if name not in self.factors:
                raise MismatchError(f"no factor {name!r} to stratify by", exists=self.factors)
            levels, codes = self.factors[name]
            parts.append([f"{name} {levels[code]}" for code in codes])
        labels = [", ".join(words) for words in zip(*parts, strict=True)] if parts else [""] * len(self)
        found, codes = np.unique(np.array(labels), return_inverse=True)
        return Strata(tuple(str(name) for name in found), codes)

    def compared(self, names: Sequence[str], *, all_arms: bool = False, lone: str = "refuse") -> Strata:
        """Return joint strata after a look that arms can be compared within each.

        With ``lone`` "leave out" a stratum of one arm is let pass: tests within strata learn nothing from it.

        Raises
        ------
        MismatchError
            If there is no such factor.
        ConfigError
            If ``lone`` is neither "refuse" nor "leave out".
        DataError
            If a stratum holds one arm only, or with ``all_arms`` lacks an arm.
        """
        if lone not in LONE:
            raise ConfigError(f"no way {lone!r} to treat strata of one arm", exists=LONE)
        strata = self.joint(names)
        counts = np.zeros((len(strata.names), len(self.arms)), dtype=int)
        np.add.at(counts, (strata.codes, self.arm), 1)
        needed = len(self.arms) if all_arms else 2
        short = np.flatnonzero((counts > 0).sum(axis=1) < needed)
        if len(short) and lone == "refuse":
            k = int(short[0])
            held = ", ".join(f"{arm} {n}" for arm, n in zip(self.arms, counts[k], strict=True))
            what = "lack an arm" if all_arms else "hold one arm only"
            raise DataError(
                f"{len(short)} of {len(strata.names)} strata {what}: nothing can be compared there",
                where=f"stratum {strata.names[k]} ({held})",
                do="pool strata (a column with coarser levels), or leave a factor out of the strata; where a test can"
                " do without them: one_arm_strata = 'leave out'",
            )
        return strata

    def randomisation(self) -> Randomisation:
        """Return how patients were randomised, for variances that know of it.

        Raises
        ------
        DataError
            If a stratum lacks an arm.
        """
        if not self.strata:
            return Randomisation(self.scheme)
        return Randomisation(self.scheme, self.compared(self.strata, all_arms=True).codes)

    @property
    def scheme_words(self) -> str:
        """The randomisation in words, for every row of results."""
        return self.scheme + (f" within {', '.join(self.strata)}" if self.strata else "")


def _require_scheme(patients: Patients) -> None:
    if patients.scheme not in SCHEMES:
        raise ConfigError(f"no randomisation scheme {patients.scheme!r}", exists=SCHEMES)
    for name in patients.strata:
        if name not in patients.factors:
            raise MismatchError(f"no factor {name!r} that was balanced", exists=patients.factors)
    if patients.scheme == "simple" and patients.strata:
        raise ConfigError(
            "simple randomisation balances no strata", do="name the scheme: permuted block or minimisation"
        )
    if patients.scheme == "minimisation" and not patients.strata:
        raise ConfigError("minimisation balances factors, and none is named", do="name them as strata")
