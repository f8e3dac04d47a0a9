"""The working model of an arm comparison: its columns under the arm that was given, and under every other one.

η = β₀ + Σₐ βₐ 1{A = a} + xᵀγ + Σₐ 1{A = a} zᵀδₐ,      z the covariates whose slope differs by arm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from trialtwin.core.arrays import frozen, require_length
from trialtwin.core.errors import DataError, MismatchError
from trialtwin.stats.modelmatrix import ModelMatrix, crossed, intercept, join


@dataclass(frozen=True, eq=False)
class ArmModel:
    """Arms, covariates, and which of these have a slope of their own in each arm; immutable.

    Parameters
    ----------
    arms
        Names; the first is the reference of the coding.
    arm : shape (row,)
        Position in ``arms`` of the arm that each patient was randomised to.
    covariates
        Columns known before randomisation, without an intercept; ``None`` for the unadjusted model.
    interacted
        Names of covariates that interact with arm.

    Raises
    ------
    DataError
        If fewer than two arms are named, a name repeats, a code points outside them, an arm has fewer than two
        patients, or lengths differ.
    MismatchError
        If an interacted name is not among the covariates.

    Examples
    --------
    >>> from trialtwin.stats.modelmatrix import continuous_columns
    >>> age = continuous_columns({"age": np.array([50.0, 60.0, 70.0, 80.0])})
    >>> model = ArmModel(("control", "active"), np.array([0, 1, 0, 1]), age, interacted=("age",))
    >>> model.design().names
    ('(Intercept)', 'arm[active]', 'age', 'arm[active]:age')
    >>> model.design_under("active").values[0].tolist()
    [1.0, 1.0, 50.0, 50.0]
    """

    arms: tuple[str, ...]
    arm: Int[np.ndarray, " row"]
    covariates: ModelMatrix | None = None
    interacted: tuple[str, ...] = ()
    counts: Int[np.ndarray, " arm"] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.arms) < 2 or len(set(self.arms)) < len(self.arms):
            raise DataError(f"{len(self.arms)} arm(s) are named where two different ones are needed", exists=self.arms)
        if len(self.arm) and not (self.arm.min() >= 0 and self.arm.max() < len(self.arms)):
            raise DataError("an arm code points outside the arms", exists=self.arms)
        counts = np.bincount(self.arm, minlength=len(self.arms))
        few = [f"{name} ({count})" for name, count in zip(self.arms, counts, strict=True) if count < 2]
        if few:
            raise DataError(
                f"arm(s) with fewer than two patients who have an outcome: {', '.join(few)}",
                do="leave the arm out, or analyse with a method for missing outcomes",
            )
        if self.covariates is not None:
            require_length("the covariates", self.covariates.values, len(self.arm))
        for name in self.interacted:
            if self.covariates is None or name not in self.covariates.names:
                raise MismatchError(
                    f"no covariate {name!r} to interact with arm",
                    exists=() if self.covariates is None else self.covariates.names,
                )
        object.__setattr__(self, "arm", frozen(self.arm))
        object.__setattr__(self, "counts", frozen(counts))

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.arm)

    @property
    def shares(self) -> Float[np.ndarray, " arm"]:
        """Share of patients in each arm."""
        return self.counts / self.n

    def design(self) -> ModelMatrix:
        """Return the columns under the arms that were given."""
        return self._design(self.arm)

    def design_under(self, arm: str) -> ModelMatrix:
        """Return the columns with every patient put in one arm.

        Raises
        ------
        MismatchError
            If there is no such arm.
        """
        return self._design(np.full(self.n, arm_position(self.arms, arm)))

    def _design(self, codes: Int[np.ndarray, " row"]) -> ModelMatrix:
        # Every arm but the first has its column, also where nobody is in it: counterfactual rows need them all.
        coded = (codes[:, None] == np.arange(1, len(self.arms))).astype(float)
        arm = ModelMatrix(tuple(f"arm[{name}]" for name in self.arms[1:]), coded)
        if self.covariates is None:
            return join(intercept(self.n), arm)
        if not self.interacted:
            return join(intercept(self.n), arm, self.covariates)
        chosen = [self.covariates.names.index(name) for name in self.interacted]
        part = ModelMatrix(self.interacted, self.covariates.values[:, chosen])
        return join(intercept(self.n), arm, self.covariates, crossed(arm, part))


def arm_position(arms: Sequence[str], arm: str) -> int:
    """Return the position of an arm by name.

    Raises
    ------
    MismatchError
        If there is no such arm; the message lists those that are.
    """
    if arm not in arms:
        raise MismatchError(f"no arm {arm!r}", exists=arms)
    return tuple(arms).index(arm)
