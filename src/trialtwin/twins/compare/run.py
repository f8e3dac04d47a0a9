"""Twins compared: every model fitted to the same patients, told the same, and judged on patients it had not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trialtwin.core.arrays import digest
from trialtwin.core.cohort import Cohort
from trialtwin.core.errors import ConfigError, DataError, FitError
from trialtwin.core.files import write_bytes
from trialtwin.core.twin import AbstractModel
from trialtwin.engine.manifest import program_digest
from trialtwin.twins.compare.cases import Cell, judge, scales_of
from trialtwin.twins.compare.cost import measured
from trialtwin.twins.compare.plan import (
    Plan,
    Split,
    Variation,
    known_days,
    make_splits,
    make_variations,
    pupils,
    teachers,
)
from trialtwin.twins.compare.summary import Difference, Score, differences, rank, scores_of

type Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """All cells of a comparison, and what is needed to read them."""

    cohort: Cohort
    plan: Plan
    models: tuple[str, ...]
    splits: tuple[Split, ...]
    variations: tuple[Variation, ...]
    scales: Float[np.ndarray, " outcome"]
    cells: tuple[Cell, ...]

    @property
    def known(self) -> tuple[float, ...]:
        """Days up to which forecast patients were known."""
        return known_days(self.plan, self.cohort)

    def of(self, variation: Variation) -> list[Cell]:
        """Return the cells of one variation."""
        return [cell for cell in self.cells if cell.variation == variation.name]

    def splits_of(self, variation: Variation) -> int:
        """Return how many splits a variation was run on: all for the whole, those of one repeat for a curve."""
        return len(self.splits) if variation.axis == "whole" else self.plan.folds

    def ranking(self) -> list[tuple[str, float]]:
        """Return models from best to worst by mean scaled CRPS; those that failed anywhere are left out."""
        whole = self.of(Variation())
        return [(name, one.value) for name, one in rank(whole, self.models, self.scales, len(self.splits))]

    @property
    def winner(self) -> str:
        """The model of lowest mean scaled CRPS."""
        return self.ranking()[0][0]

    def scores(self, variation: Variation | None = None) -> list[Score]:
        """Return the scores of all models, by outcome and day known."""
        cells = self.of(variation or Variation())
        return [score for model in self.models for score in scores_of(cells, model, self.scales)]

    def differences(self) -> list[Difference]:
        """Compare every model with the winner."""
        return differences(self.of(Variation()), self.winner, self.models, self.scales)

    def failures(self) -> list[Cell]:
        """Return the cells in which a model could not be fitted or asked."""
        return [cell for cell in self.cells if cell.failure]


def compare(
    cohort: Cohort,
    models: Mapping[str, AbstractModel],
    plan: Plan | None = None,
    *,
    key: Array,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    folder: Path | None = None,
    on_cell: Progress | None = None,
) -> Comparison:
    """Compare models on a cohort of untreated patients by cross-validation.

    Every model learns from the same patients in each fold and forecasts the same others, who are known to it up to the
    same days. Models that choose settings, or weights of members, do so within the patients they learn from, so that
    what is reported is nested. The same key gives the same comparison, whatever was computed before.

    Parameters
    ----------
    models
        By name.
    bounds
        By outcome: values outside are impossible by the disease, beyond the plausible range of the variable.
    folder
        Where finished cells are kept: a comparison that was stopped goes on from them.
    on_cell
        Called with the number of cells done, that of all, and the name of the next.

    Raises
    ------
    ConfigError
        If there are no models.
    DataError
        If the cohort cannot be split as planned.

    Examples
    --------
    >>> from trialtwin.core.variables import Variable
    >>> from trialtwin.twins.baseline import Baseline
    >>> from trialtwin.twins.compare.plan import Plan
    >>> line = np.random.default_rng(0).normal(size=(40, 2)).cumsum(axis=1)
    >>> days = np.array([0.0, 100.0])
    >>> cohort = Cohort(
    ...     tuple(f"P{i}" for i in range(40)), (), np.zeros((40, 0)), (Variable("Y", unit="points"),), ("A", "B"),
    ...     days, np.tile(days, (40, 1)), line[..., None], np.ones((40, 2, 1), dtype=bool), ("Placebo",),
    ...     np.zeros(40, dtype=np.int64))
    >>> found = compare(cohort, {"baseline": Baseline()}, Plan(folds=2, draws=64), key=jax.random.key(0))
    >>> found.winner, len(found.cells)
    ('baseline', 2)
    """
    plan = plan or Plan()
    if not models:
        raise ConfigError("there are no models to compare", do="name at least one")
    split_key, fit_key, curve_key = jax.random.split(key, 3)
    splits, variations = make_splits(plan, cohort, key=split_key), make_variations(plan, cohort)
    _require_sizes(plan, splits)
    bench = _Bench(cohort, plan, dict(bounds or {}), scales_of(cohort), fit_key, curve_key)
    cells = _cells(bench, models, variations, splits, key, folder, on_cell)
    return Comparison(cohort, plan, tuple(models), tuple(splits), tuple(variations), bench.scales, tuple(cells))


def _cells(
    bench: "_Bench",
    models: Mapping[str, AbstractModel],
    variations: Sequence[Variation],
    splits: Sequence[Split],
    key: Array,
    folder: Path | None,
    on_cell: Progress | None,
) -> list[Cell]:
    """Run every job that an earlier run has not kept."""
    jobs = [
        (name, number, variation)
        for variation in variations
        for number in range(len(splits) if variation.axis == "whole" else bench.plan.folds)
        for name in models
    ]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    base = digest(
        [program_digest(), bench.cohort.digest(), repr(bench.plan), repr(bench.bounds), np.asarray(_raw(key))]
    )
    cells = []
    for done, (name, number, variation) in enumerate(jobs):
        split = splits[number]
        if on_cell is not None:
            on_cell(done, len(jobs), f"{name}, {split.name}" + f", {variation.name}" * (variation.axis != "whole"))
        sha = digest([base, name, repr(models[name]), split.name, variation.name])
        path = None if folder is None else folder / f"{sha[:32]}.npz"
        cell = _kept(path)
        if cell is None:
            cell = bench.run(name, models[name], split, number, variation)
            if path is not None:
                write_bytes(path, cell.pack())
        cells.append(cell)
    if on_cell is not None:
        on_cell(len(jobs), len(jobs), "")
    return cells


@dataclass(frozen=True, eq=False)
class _Bench:
    """What all cells of a comparison share."""

    cohort: Cohort
    plan: Plan
    bounds: Mapping[str, tuple[float, float]]
    scales: Float[np.ndarray, " outcome"]
    fit_key: Array
    curve_key: Array

    def run(self, name: str, model: AbstractModel, split: Split, number: int, variation: Variation) -> Cell:
        """Fit a model once and judge it; what goes wrong with the fit is kept as the cell's finding."""
        fit_key, ask_key = jax.random.split(jax.random.fold_in(self.fit_key, number))
        learned_from = teachers(self.cohort, split, variation, key=jax.random.fold_in(self.curve_key, number))
        asked = pupils(self.cohort, split, variation)
        cell = Cell(name, split.name, variation.name, len(learned_from), len(asked))
        try:
            with measured() as fitting:
                twin = model.fit(learned_from, key=fit_key)
            with measured() as asking:
                cases = judge(
                    twin,
                    asked,
                    split.test,
                    known_days(self.plan, self.cohort),
                    bounds=self.bounds,
                    scales=self.scales,
                    draws=self.plan.draws,
                    key=ask_key,
                )
        except FitError as error:
            return replace(cell, failure=str(error))
        return replace(
            cell,
            fit_seconds=fitting.seconds,
            predict_seconds=asking.seconds,
            mebibytes=max(fitting.mebibytes, asking.mebibytes),
            cases=cases,
        )


def _kept(path: Path | None) -> Cell | None:
    """Return the cell that an earlier run left, where there is a whole one."""
    if path is None or not path.is_file():
        return None
    try:
        return Cell.unpack(path.read_bytes())
    except (ValueError, KeyError, OSError, BadZipFile):
        return None


def _raw(key: Array) -> Array:
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def _require_sizes(plan: Plan, splits: Sequence[Split]) -> None:
    """Refuse points of a learning curve that no split can give, before anything is fitted."""
    least = min(len(split.train) for split in splits)
    over = [n for n in plan.patients if n > least]
    if over:
        raise DataError(
            f"a learning curve at {over[0]} patients; folds leave {least} to learn from",
            do="ask for fewer patients, or for more folds",
        )
