"""A cohort whose law is known, and models of it that are right, wrong or failing: what comparisons are tested on."""

from typing import final

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from trialtwin.core.cohort import Block, Cohort
from trialtwin.core.errors import FitError
from trialtwin.core.finding import Assumption, Learned
from trialtwin.core.trajectories import Trajectories
from trialtwin.core.treatment import AbstractTreatment
from trialtwin.core.twin import AbstractModel, AbstractTwin, Times, patient_times
from trialtwin.core.variables import Kind, Variable

OUTCOME = Variable("Y", unit="points", lower=-20.0, upper=20.0)
SD = 1.0
DAYS = np.array([0.0, 100.0, 200.0, 300.0])


def lines(seed: int, patients: int = 60, sites: int = 6) -> Cohort:
    """Return patients whose outcome is x · t / 100 and normal noise of SD 1, with x a known covariate."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=patients)
    values = x[:, None] * DAYS / 100 + rng.normal(0, SD, (patients, len(DAYS)))
    present = rng.random(patients) < 0.8
    features = np.where(present[:, None], x[:, None] + rng.normal(0, 0.3, (patients, 4)), np.nan)
    return Cohort(
        ids=tuple(f"S{seed}-{i:03d}" for i in range(patients)),
        variables=(Variable("X"), Variable("SITE", kind=Kind.CATEGORICAL, levels=tuple(f"s{i}" for i in range(sites)))),
        covariates=np.column_stack([x, rng.integers(0, sites, patients)]).astype(float),
        outcomes=(OUTCOME,),
        visits=("Baseline", "Week 14", "Week 28", "Week 42"),
        nominal=DAYS,
        times=np.tile(DAYS, (patients, 1)),
        values=values[..., None],
        observed=np.ones((patients, len(DAYS), 1), dtype=bool),
        treatments=("Placebo",),
        received=np.zeros(patients, dtype=np.int64),
        blocks={"proteome": Block(tuple("abcd"), features, present)},
    )


@final
class LawTwin(AbstractTwin):
    """Forecasts the law with a slope, a bias and an SD of its own."""

    factor: float
    bias: float
    sd: float
    mechanisms: tuple[str, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    learned: tuple[Learned, ...] = ()

    def predict(
        self, patients: Cohort, treatment: AbstractTreatment, times: Times, *, draws: int, key: Array
    ) -> Trajectories:
        """Return draws of the law, which the history does not change."""
        at = patient_times(patients, times, draws)
        expected = self.factor * patients.covariate("X")[:, None] * at / 100 + self.bias
        noise = np.asarray(jax.random.normal(key, (draws, *expected.shape)))
        values = (expected + self.sd * noise)[..., None]
        return Trajectories(patients.ids, (OUTCOME,), times, values, expected[..., None])


@final
class Law(AbstractModel):
    """The law itself, or one that is wrong in a known way; may refuse, and counts its fits."""

    factor: float = 1.0
    bias: float = 0.0
    sd: float = SD
    refuses: bool = False
    fits: list[int] = eqx.field(default_factory=list)

    def fit(self, cohort: Cohort, *, key: Array) -> LawTwin:
        """Count the fit and return the law."""
        self.fits.append(len(cohort))
        if self.refuses:
            raise FitError("it never can")
        return LawTwin(self.factor, self.bias, self.sd)
