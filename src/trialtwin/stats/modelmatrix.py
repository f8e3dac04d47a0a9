"""Named columns of a linear model: treatment-coded factors, continuous covariates, centring and interactions.

A model matrix is put together from parts::

    join(intercept(n), factor_columns("arm", arms, codes), continuous_columns({"BASE": base}))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.arrays import frozen, require_finite, require_length
from trialtwin.core.errors import ConfigError, DataError, MismatchError

INTERCEPT = "(Intercept)"


@dataclass(frozen=True, eq=False)
class ModelMatrix:
    """Columns with names; immutable.

    Parameters
    ----------
    names
        One a column, unique.
    values : shape (row, column)
        Finite numbers.

    Raises
    ------
    DataError
        If names repeat, do not fit the columns, or a column holds NaN or infinity.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, "row column"]

    def __post_init__(self) -> None:
        if self.values.shape[1] != len(self.names):
            raise DataError(f"a model matrix of {self.values.shape[1]} columns has {len(self.names)} names")
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise DataError(f"column name(s) repeat in a model: {', '.join(twice)}", do="name each term once")
        if not np.isfinite(self.values).all():
            for name, column in zip(self.names, self.values.T, strict=True):
                require_finite(f"covariate {name!r}", column)
        object.__setattr__(self, "values", frozen(self.values))

    def weights(self, named: Mapping[str, float]) -> Float[np.ndarray, " column"]:
        """Return a contrast over all columns, zero for those that are not named."""
        return contrast_weights(self.names, named)


def contrast_weights(names: Sequence[str], named: Mapping[str, float]) -> Float[np.ndarray, " column"]:
    """Return a contrast over all coefficients, zero for those that are not named.

    Raises
    ------
    MismatchError
        If a name is not among the coefficients; the message lists those that are.

    Examples
    --------
    >>> contrast_weights(("(Intercept)", "arm[Low]", "arm[High]"), {"arm[High]": 1.0, "arm[Low]": -1.0}).tolist()
    [0.0, -1.0, 1.0]
    """
    weights = np.zeros(len(names))
    for name, weight in named.items():
        if name not in names:
            raise MismatchError(f"no coefficient {name!r}", exists=names)
        weights[names.index(name)] = weight
    return weights


def intercept(rows: int) -> ModelMatrix:
    """Return the column of ones."""
    return ModelMatrix((INTERCEPT,), np.ones((rows, 1)))


def factor_columns(name: str, levels: Sequence[str], codes: Int[np.ndarray, " row"]) -> ModelMatrix:
    """Code a factor by treatment contrasts: one 0/1 column for each level but the reference.

    The reference is the first level. Levels that occur in no row get no column, as in R after ``droplevels``; where
    the first level does not occur, the first one that does is the reference. Columns are named ``name[level]``.

    Raises
    ------
    DataError
        If a code points outside the levels.

    Examples
    --------
    >>> sex = factor_columns("SEX", ["F", "M"], np.array([0, 1, 1]))
    >>> sex.names, sex.values[:, 0].tolist()
    (('SEX[M]',), [0.0, 1.0, 1.0])
    """
    if len(codes) and not (codes.min() >= 0 and codes.max() < len(levels)):
        raise DataError(f"factor {name!r} has codes outside its levels", exists=levels)
    present = np.flatnonzero(np.bincount(codes, minlength=len(levels)))
    coded = present[1:]
    return ModelMatrix(tuple(f"{name}[{levels[k]}]" for k in coded), (codes[:, None] == coded).astype(float))


def continuous_columns(covariates: Mapping[str, Float[np.ndarray, " row"]]) -> ModelMatrix:
    """Take continuous covariates as they are, in the order given.

    Raises
    ------
    DataError
        If their lengths differ, or one holds NaN or infinity.
    """
    columns = list(covariates.values())
    if not columns:
        raise ConfigError("no continuous covariates were given")
    for name, column in covariates.items():
        require_length(f"covariate {name!r}", column, len(columns[0]))
    return ModelMatrix(tuple(covariates), np.column_stack(columns))


def centred(part: ModelMatrix, *, suffix: str = "") -> ModelMatrix:
    """Subtract from each column its mean over the whole sample, all arms together.

    Interactions of centred covariates with arm leave the arm coefficient as the effect at the mean of the sample
    (ANHECOVA). ``suffix`` is added to the names.
    """
    return ModelMatrix(tuple(name + suffix for name in part.names), part.values - part.values.mean(axis=0))


def crossed(first: ModelMatrix, second: ModelMatrix) -> ModelMatrix:
    """Multiply every column of the first part by every column of the second; names are joined by a colon.

    Examples
    --------
    >>> arm = factor_columns("arm", ["A", "B"], np.array([0, 1]))
    >>> crossed(arm, continuous_columns({"x": np.array([2.0, 3.0])})).names
    ('arm[B]:x',)
    """
    names = tuple(f"{a}:{b}" for a in first.names for b in second.names)
    products = first.values[:, :, None] * second.values[:, None, :]
    return ModelMatrix(names, products.reshape(len(products), -1))


def join(*parts: ModelMatrix) -> ModelMatrix:
    """Put parts side by side.

    Raises
    ------
    DataError
        If the numbers of rows differ or a name repeats.
    """
    for part in parts:
        require_length(f"model term(s) {', '.join(part.names)}", part.values, len(parts[0].values))
    names = tuple(name for part in parts for name in part.names)
    return ModelMatrix(names, np.concatenate([part.values for part in parts], axis=1))
