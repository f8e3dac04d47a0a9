r"""What a design does before it is run: type I error, power, bias and coverage, each with its Monte-Carlo error.

A cell is a design under a truth with a population; a row is a cell analysed by a method. With R trials analysed, d̂ the
estimate, δ what the estimand asks for and c its 1 − α interval,

    rejected: mean of 1[p < α], SE √(p(1 − p)/R)          bias: mean of d̂ − δ, SE √(SD(d̂)²/R + SE(δ)²)
    coverage: mean of 1[δ ∈ c], SE likewise               empirical SE: SD(d̂), SE SD(d̂)/√(2(R − 1))

and patients, months and the looks at which trials end likewise (Morris TP, White IR, Crowther MJ (2019),
doi:10.1002/sim.8086). Trials that could not be analysed are counted and left out. Chunks of trials are simulated and
analysed anywhere, in any order: a trial's random numbers are its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from trialtwin import __version__
from trialtwin.core.errors import ConfigError
from trialtwin.engine.executor import run_pieces
from trialtwin.trials.design import Design
from trialtwin.trials.enrol import DAYS_PER_MONTH, Truth
from trialtwin.trials.interims import Stopped, analyse_trials, boundaries
from trialtwin.trials.methods import find_method
from trialtwin.trials.simulate import simulate
from trialtwin.trials.truth import TrueValue, true_value
from trialtwin.trials.virtual_population import AbstractPopulation

CHUNK = 250  # trials


@dataclass(frozen=True, eq=False)
class Cell:
    """One combination to simulate, by name."""

    name: str
    design: Design
    population: AbstractPopulation
    truth: Truth


@dataclass(frozen=True)
class LookShare:
    """How many trials end at a look: rejecting, or (before the last) for futility; with Monte-Carlo errors.

    ``upper`` and ``lower`` are the boundaries of the normal deviate, ``lower`` ``None`` where there is none.
    """

    look: int
    fraction: float
    upper: float
    lower: float | None
    rejected: float
    rejected_se: float
    futile: float
    futile_se: float


@dataclass(frozen=True)
class Characteristic:
    """A row of operating characteristics; every rate and mean with its Monte-Carlo standard error.

    ``null`` tells whether there is no effect. ``truth`` is what the estimand asks for on the scale of ``summary``,
    ``truth_se`` its own Monte-Carlo error, 0 where it is exact; these, bias and coverage are ``None`` where the method
    has no number that is agreed on: a test, or a hazard ratio given a score. ``completers`` is the mean share of
    patients whose endpoint is known when the trial ends; ``size``, ``months`` and ``events`` are the patients, the
    months since the first could enter (``None`` where accrual is not given) and the events of a time-to-event endpoint
    until then, on average. ``looks`` are there where the design has interim analyses.
    """

    cell: str
    method: str
    summary: str
    null: bool
    truth: float | None
    truth_se: float | None
    trials: int
    failed: int
    rejected: float
    rejected_se: float
    bias: float | None
    bias_se: float | None
    coverage: float | None
    coverage_se: float | None
    empirical_se: float
    empirical_se_se: float
    model_se: float
    completers: float
    size: float
    size_se: float
    months: float | None
    months_se: float | None
    events: float | None
    looks: tuple[LookShare, ...] = ()


def operating_characteristics(
    cells: Sequence[Cell],
    methods: Sequence[str],
    *,
    trials: int,
    seed: int,
    folder: Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> list[Characteristic]:
    """Simulate every cell and analyse it by every method, for the first treated arm.

    Parameters
    ----------
    folder
        Where chunks are kept as they finish, so that a simulation that was stopped goes on; nowhere if not given.
    workers, scheduler
        Processes, or the address of a dask scheduler; the result is the same, whatever they are.
    on_chunk
        Told how many chunks are done, and of how many.

    Raises
    ------
    ConfigError
        If there is nothing to do, or two cells have one name.
    MismatchError
        If there is no such method.
    MachineError
        If workers died again and again.

    Examples
    --------
    >>> from trialtwin.trials.virtual_population import Normal
    >>> plan = Design(title="B against A", patients=40, visits=(0, 168), arms=({"name": "A"}, {"name": "B"}),
    ...     endpoint={"name": "change"})
    >>> people = Normal(np.array([20.0, 22.0]), np.array([[9.0, 6.0], [6.0, 12.0]]))
    >>> cells = [Cell("nothing", plan, people, Truth("no effect", (0.0,)))]
    >>> [row.method for row in operating_characteristics(cells, ["ancova", "procova"], trials=50, seed=1)]
    ['ancova', 'procova']
    """
    _require(cells, methods, trials)
    jobs = [(c, range(k, min(k + CHUNK, trials))) for c in range(len(cells)) for k in range(0, trials, CHUNK)]
    calls = [(cells[c], c, tuple(methods), chunk, seed) for c, chunk in jobs]
    with TemporaryDirectory() as own:
        results = run_pieces(
            analyse_chunk,
            calls,
            folder=Path(own) if folder is None else folder,
            purpose=_purpose(cells, methods, trials, seed),
            workers=workers,
            scheduler=scheduler,
            on_piece=on_chunk,
        )
    return _rows(cells, methods, [(c, _unpack(result)) for (c, _), result in zip(jobs, results, strict=True)], seed)


def _rows(
    cells: Sequence[Cell], methods: Sequence[str], parts: Sequence[tuple[int, Stopped]], seed: int
) -> list[Characteristic]:
    """Return a row a cell and method, from the chunks of each cell in order."""
    rows = []
    for c, cell in enumerate(cells):
        own = [found for place, found in parts if place == c]
        whole = Stopped(*(np.concatenate(column, axis=-1) for column in zip(*own, strict=True)))
        truth = true_value(cell.design, cell.population, cell.truth, 1, seed=seed)
        rows += [_summarise(cell, name, whole, m, truth) for m, name in enumerate(methods)]
    return rows


def _require(cells: Sequence[Cell], methods: Sequence[str], trials: int) -> None:
    """Refuse what cannot be simulated, before anything is."""
    if not cells or not methods or trials < 2:
        raise ConfigError(f"{len(cells)} cells, {len(methods)} methods, {trials} trials: there is nothing to simulate")
    if len({cell.name for cell in cells}) != len(cells):
        raise ConfigError("two cells have one name", exists=[cell.name for cell in cells], do="name each once")
    for name, cell in product(methods, cells):
        find_method(name, cell.design.endpoint.kind)
        boundaries(cell.design)


def analyse_chunk(cell: Cell, place: int, methods: tuple[str, ...], chunk: range, seed: int) -> bytes:
    """Simulate some trials of a cell and analyse them by every method; returns an array as NumPy writes it."""
    trials = simulate(cell.design, cell.population, cell.truth, trials=chunk, seed=seed, cell=place)
    file = BytesIO()
    np.save(file, np.stack(analyse_trials(cell.design, trials, methods)), allow_pickle=False)
    return file.getvalue()


def _unpack(content: bytes) -> Stopped:
    return Stopped(*np.load(BytesIO(content), allow_pickle=False))


def _purpose(cells: Sequence[Cell], methods: Sequence[str], trials: int, seed: int) -> str:
    """Return a hash of all that the simulation rests on."""
    found = sha256(f"{__version__} {list(methods)} {trials} {seed}".encode())
    for cell in cells:
        found.update(f"{cell.name} {cell.design.model_dump_json()} {cell.truth}".encode())
        for part in jax.tree.leaves(cell.population):
            found.update(np.asarray(part).tobytes())
    return found.hexdigest()


def _summarise(cell: Cell, method: str, found: Stopped, m: int, true: TrueValue) -> Characteristic:
    """Return a row of operating characteristics."""
    good = np.isfinite(found.value[m]) & np.isfinite(found.se[m])
    n = int(good.sum())
    if n < 2:
        raise ConfigError(
            f"{method!r} could analyse {n} of {len(good)} trials of {cell.name!r}",
            do="look at dropout, the size of the trial, or the method",
        )
    own = Stopped(*(column[m][good] for column in found))
    design, spread = cell.design, float(own.value.std(ddof=1))
    number = find_method(method, design.endpoint.kind).number
    agreed = number == "marginal" or (number == "conditional" and true.common)
    half = stdtrit(own.df, 1 - design.alpha / 2) * own.se
    covered = float((np.abs(own.value - true.value) <= half).mean())
    rejected = float(own.rejected.mean())
    months, months_se = (None, None) if design.accrual is None else _mean(own.day / DAYS_PER_MONTH)
    size, size_se = _mean(own.size)
    return Characteristic(
        cell=cell.name,
        method=method,
        summary=design.endpoint.summary,
        null=true.null,
        truth=true.value if agreed else None,
        truth_se=true.se if agreed else None,
        trials=n,
        failed=int((~good).sum()),
        rejected=rejected,
        rejected_se=_rate_error(rejected, n),
        bias=float(own.value.mean() - true.value) if agreed else None,
        bias_se=float(np.hypot(spread / np.sqrt(n), true.se)) if agreed else None,
        coverage=covered if agreed else None,
        coverage_se=_rate_error(covered, n) if agreed else None,
        empirical_se=spread,
        empirical_se_se=float(spread / np.sqrt(2 * (n - 1))),
        model_se=float(np.sqrt((own.se**2).mean())),
        completers=float(own.known.mean()),
        size=size,
        size_se=size_se,
        months=months,
        months_se=months_se,
        events=float(own.events.mean()) if design.endpoint.kind == "time to event" else None,
        looks=_looks(design, own),
    )


def _looks(design: Design, own: Stopped) -> tuple[LookShare, ...]:
    """Return the share of trials that end at each look, and why."""
    plan, n = boundaries(design), len(own.value)
    if plan is None:
        return ()
    rows = []
    for k, fraction in enumerate(design.fractions):
        here, last = own.look == k + 1, k + 1 == len(design.fractions)
        rejected = float((here & (own.rejected == 1)).mean())
        futile = 0.0 if last else float((here & (own.rejected == 0)).mean())
        lower = None if plan.sides == 2 or not np.isfinite(plan.lower[k]) else float(plan.lower[k])
        shares = (rejected, _rate_error(rejected, n), futile, _rate_error(futile, n))
        rows.append(LookShare(k + 1, fraction, float(plan.upper[k]), lower, *shares))
    return tuple(rows)


def _mean(values: Float[np.ndarray, " trial"]) -> tuple[float, float]:
    """Return a mean over trials and its Monte-Carlo standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _rate_error(rate: float, trials: int) -> float:
    """Return the Monte-Carlo standard error of a share of trials."""
    return float(np.sqrt(rate * (1 - rate) / trials))
