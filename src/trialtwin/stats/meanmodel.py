"""The mean of a linear model in terms of factors and covariates, and rows of it at which means are compared.

A term is a variable ("RACE"), an interaction ("ARM:AVISIT"), or both with their margins ("ARM*AVISIT"). Factors are
treatment-coded with the first level as reference; interactions need their margins, so that columns are those of R.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from jaxtyping import Bool, Float, Int

from trialtwin.core.arrays import frozen, require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError, MismatchError
from trialtwin.stats.modelmatrix import INTERCEPT, ModelMatrix

MARGINS = ("equal", "observed")


@dataclass(frozen=True, eq=False)
class Factor:
    """A categorical variable.

    Parameters
    ----------
    levels
        Names of the levels; the first is the reference.
    codes : shape (row,)
        Level of each row, from 0.

    Raises
    ------
    DataError
        If a code has no level, or a level occurs in no row.
    """

    levels: tuple[str, ...]
    codes: Int[np.ndarray, " row"]

    def __post_init__(self) -> None:
        if len(self.codes) and not (self.codes.min() >= 0 and self.codes.max() < len(self.levels)):
            raise DataError("a factor has codes outside its levels", exists=self.levels, do="code levels from 0")
        counts = np.bincount(self.codes, minlength=len(self.levels))
        if not counts.all():
            absent = ", ".join(repr(self.levels[k]) for k in np.flatnonzero(counts == 0))
            raise DataError(
                f"level(s) {absent} of a factor occur in no row",
                exists=self.levels,
                do="drop the levels that do not occur",
            )
        object.__setattr__(self, "codes", frozen(self.codes))

    @classmethod
    def of(cls, values: Sequence[str], levels: Sequence[str] | None = None) -> "Factor":
        """Code a column of names; without levels, they are the names in alphabetical order.

        Examples
        --------
        >>> Factor.of(["b", "a", "b"]).codes.tolist()
        [1, 0, 1]
        """
        known = tuple(sorted(set(values)) if levels is None else levels)
        place = {level: k for k, level in enumerate(known)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise MismatchError(f"no level {unknown[0]!r} in a factor", exists=known)
        return cls(known, np.array([place[value] for value in values], dtype=int))


@dataclass(frozen=True, eq=False)
class MeanModel:
    """Terms of a mean over factors and covariates.

    Parameters
    ----------
    factors
        Categorical variables by name.
    covariates
        Continuous variables by name.
    terms
        Interactions, each a tuple of variables; main effects before interactions.
    """

    factors: Mapping[str, Factor]
    covariates: Mapping[str, Float[np.ndarray, " row"]]
    terms: tuple[tuple[str, ...], ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        variables = [factor.codes for factor in self.factors.values()] + list(self.covariates.values())
        return len(variables[0])

    def matrix(self) -> ModelMatrix:
        """Return the columns, with an intercept; interactions join names by a colon."""
        columns, names = [np.ones(self.rows)], [INTERCEPT]
        for parts in self._columns():
            column = np.ones(self.rows)
            for name, level in parts:
                column = column * (self.covariates[name] if level is None else self.factors[name].codes == level)
            columns.append(column)
            names.append(":".join(self._label(name, level) for name, level in parts))
        return ModelMatrix(tuple(names), np.column_stack(columns))

    def mean_row(
        self, at: Mapping[str, str], *, margins: str = "equal", used: Bool[np.ndarray, " row"] | None = None
    ) -> Float[np.ndarray, " column"]:
        """Return the row of the model whose product with the coefficients is a least-squares mean.

        Parameters
        ----------
        at
            Levels of factors that are fixed, such as arm and visit.
        margins
            "equal" gives every combination of the other factors the same weight; "observed" weights them as often
            as they occur together in the rows. Covariates are at their means over the rows either way.
        used : shape (row,)
            Rows that means and margins are taken over; all by default.

        Raises
        ------
        MismatchError
            If a factor or a level does not exist.
        ConfigError
            If the margins are neither "equal" nor "observed".
        """
        if margins not in MARGINS:
            raise ConfigError(f"no margins {margins!r}", exists=MARGINS)
        fixed = {name: self._level(name, level) for name, level in at.items()}
        rows = np.ones(self.rows, dtype=bool) if used is None else used
        means = {name: float(column[rows].mean()) for name, column in self.covariates.items()}
        row = [1.0]
        for parts in self._columns():
            value, together = 1.0, np.ones(int(rows.sum()))
            for name, level in parts:
                if level is None:
                    value *= means[name]
                elif name in fixed:
                    value *= float(fixed[name] == level)
                elif margins == "equal":
                    value /= len(self.factors[name].levels)
                else:
                    together = together * (self.factors[name].codes[rows] == level)
            row.append(value * float(together.mean()))
        return np.array(row)

    def _columns(self) -> list[tuple[tuple[str, int | None], ...]]:
        """Return the parts of each column but the intercept: a variable, and its level where it is a factor."""
        found: list[tuple[tuple[str, int | None], ...]] = []
        for term in self.terms:
            found += [tuple(parts) for parts in product(*map(self._coded, term))]
        return found

    def _coded(self, name: str) -> list[tuple[str, int | None]]:
        """Return a factor with each level but its reference, a covariate on its own."""
        if name not in self.factors:
            return [(name, None)]
        return [(name, k) for k in range(1, len(self.factors[name].levels))]

    def _label(self, name: str, level: int | None) -> str:
        return name if level is None else f"{name}[{self.factors[name].levels[level]}]"

    def _level(self, name: str, level: str) -> int:
        """Return the code of a level of a factor."""
        if name not in self.factors:
            raise MismatchError(f"no factor {name!r} in the model", exists=self.factors)
        levels = self.factors[name].levels
        if level not in levels:
            raise MismatchError(f"no level {level!r} of factor {name!r}", exists=levels)
        return levels.index(level)


def mean_model(
    terms: Sequence[str],
    *,
    factors: Mapping[str, Factor],
    covariates: Mapping[str, Float[np.ndarray, " row"]] | None = None,
) -> MeanModel:
    """Read terms such as "RACE", "ARM:AVISIT" and "ARM*AVISIT" over factors and covariates.

    Raises
    ------
    MismatchError
        If a term names a variable that was not given.
    ConfigError
        If an interaction comes without its margins.
    DataError
        If lengths differ, or a covariate is not finite.

    Examples
    --------
    >>> arm, week = Factor.of(["A", "A", "B", "B"]), Factor.of(["1", "2", "1", "2"])
    >>> model = mean_model(["arm*week"], factors={"arm": arm, "week": week})
    >>> model.matrix().names
    ('(Intercept)', 'arm[B]', 'week[2]', 'arm[B]:week[2]')
    >>> model.mean_row({"arm": "B"}).tolist()
    [1.0, 1.0, 0.5, 0.5]
    """
    measured = dict(covariates or {})
    found: dict[tuple[str, ...], None] = {}
    known = [*factors, *measured]
    order: dict[str, int] = {}
    for term in terms:
        names = [name.strip() for name in term.replace("*", ":").split(":")]
        for name in names:
            if name not in known:
                raise MismatchError(f"term {term!r} names {name!r}, which was not given", exists=known)
            order.setdefault(name, len(order))
        sizes = range(1, len(names) + 1) if "*" in term else [len(names)]
        for size in sizes:
            found |= {tuple(sorted(part, key=order.__getitem__)): None for part in combinations(names, size)}
    for name, values in measured.items():
        require_finite(f"covariate {name!r}", values)
    lengths = {name: factor.codes for name, factor in factors.items()} | measured
    for name, values in lengths.items():
        require_length(f"variable {name!r}", values, len(next(iter(lengths.values()))))
    for parts in found:
        for margin in combinations(parts, len(parts) - 1):
            if margin and margin not in found:
                raise ConfigError(
                    f"the model has {':'.join(parts)} without {':'.join(margin)}",
                    do=f"write '{'*'.join(parts)}', which holds both",
                )
    return MeanModel(dict(factors), measured, tuple(sorted(found, key=len)))
