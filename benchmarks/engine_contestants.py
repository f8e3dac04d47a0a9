"""Ours and the peers in one form: ``prepare(problem, setting)`` gives a function from patients to values.

``settings`` run from coarse to fine; the benchmark takes the first that is accurate enough.
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from engine_problems import Problem, by_scipy, segments

from trialtwin.engine.ensemble import solve_ensemble
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import Grid, align
from trialtwin.engine.stiff import Stiff
from trialtwin.engine.system import Equations

type Patients = Mapping[str, np.ndarray]
type Solver = Callable[[Patients], np.ndarray]  # to shape (patient, output, state)


class Contestant(NamedTuple):
    """A program: its name, its settings from coarse to fine, how it is made ready, and how many patients it gets."""

    name: str
    settings: Callable[[Problem], list[Any]]
    prepare: Callable[[Problem, Any], Solver]
    most: Callable[[Problem], int]
    needs: str | None = None

    @property
    def installed(self) -> bool:
        """Tell whether the package that it needs is there."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


def equations(problem: Problem) -> Equations:
    """Return a problem as one of the engine's systems."""
    return Equations(
        problem.states, problem.states[:1], start=problem.start, rhs=lambda t, y, r, p: problem.rhs(t, y, r[0], p)
    )


def fixed_grid(problem: Problem, setting: tuple[float, float, float, int]) -> Grid:
    """Return the grid of a setting: first step after a dose, growth, longest step, steps in an infusion."""
    first, growth, longest, infusion = setting
    return align(
        problem.doses, problem.outputs, inputs=1, longest=longest, first=first, growth=growth, infusion=infusion
    )


def _ours(problem: Problem, setting: Any, dtype: Any = jnp.float64) -> Solver:
    stiff = problem.key == "iii"
    system = equations(problem)
    method = Stiff(setting, setting * 1e-2) if stiff else Fixed(8)
    grid = align(problem.doses, problem.outputs, inputs=1, longest=np.inf) if stiff else fixed_grid(problem, setting)

    def solve(patients: Patients) -> np.ndarray:
        parameters = {k: jnp.asarray(v, dtype=dtype) for k, v in patients.items()}
        return _stacked(solve_ensemble(system, parameters, grid, method).values)

    return solve


def _stacked(values: Any) -> np.ndarray:
    return np.stack([np.asarray(v) for v in values], axis=-1)


def _ours_settings(problem: Problem) -> list[Any]:
    if problem.key == "iii":
        return [1e-4, 5e-5, 2e-5, 1e-5, 1e-6]
    return [(4.7, 1.0, 4.7, 1), (4.7, 1.0, 4.7, 2), (3.5, 1.0, 3.5, 1), (3.5, 1.0, 3.5, 2), (2.0, 1.0, 2.0, 3)]


def _diffrax(problem: Problem, rtol: float) -> Solver:
    import diffrax

    solver = diffrax.Kvaerno5() if problem.key == "iii" else diffrax.Tsit5()
    controller = diffrax.ClipStepSizeController(
        diffrax.PIDController(rtol=rtol, atol=rtol * 1e-2),
        jump_ts=jnp.array([end for _, end, _ in segments(problem)][:-1]),
    )
    last = problem.every * problem.count

    def field(t: Any, y: Any, p: Any) -> Any:
        on = (t % problem.every < problem.duration) & (t < last)
        rate = jnp.where(on, problem.amount / problem.duration, 0.0)
        return jnp.stack(problem.rhs(t, tuple(y), rate, p))

    @jax.jit
    @jax.vmap
    def solve(p: Any) -> Any:
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            0.0,
            float(problem.outputs[-1]),
            None,
            jnp.stack(problem.start(p)),
            args=p,
            saveat=diffrax.SaveAt(ts=jnp.asarray(problem.outputs)),
            stepsize_controller=controller,
            max_steps=100_000,
            throw=False,
        )
        return found.ys

    return lambda patients: np.asarray(solve({k: jnp.asarray(v) for k, v in patients.items()}))


def _lsoda(problem: Problem, rtol: float) -> Solver:
    def solve(patients: Patients) -> np.ndarray:
        n = len(next(iter(patients.values())))
        return np.stack(
            [by_scipy(problem, {k: v[i] for k, v in patients.items()}, "LSODA", rtol, rtol * 1e-2) for i in range(n)]
        )

    return solve


def _sbml(problem: Problem) -> str:
    """Return the problem as SBML: parameters, initial assignments, assignment rules and rate rules."""
    import libsbml

    document = libsbml.SBMLDocument(3, 1)
    model = document.createModel()

    def parameter(name: str, value: float, *, constant: bool) -> None:
        entry = model.createParameter()
        entry.setId(name)
        entry.setValue(value)
        entry.setConstant(constant)

    for name, value in problem.typical.items():
        parameter(name, value, constant=True)
    for statement in filter(None, (part.strip() for part in problem.formulas.split(";"))):
        left, right = (side.strip() for side in statement.split(":=" if ":=" in statement else "=", 1))
        if left.endswith("'"):
            rule = model.createRateRule()
            rule.setVariable(left[:-1])
        else:
            parameter(left, 0.0, constant=False)
            rule = model.createAssignmentRule() if ":=" in statement else model.createInitialAssignment()
            (rule.setVariable if ":=" in statement else rule.setSymbol)(left)
        rule.setMath(libsbml.parseL3Formula(right))
    return libsbml.writeSBMLToString(document)


def _roadrunner(problem: Problem, rtol: float) -> Solver:
    import roadrunner

    runner = roadrunner.RoadRunner(_sbml(problem))
    runner.integrator.relative_tolerance = rtol
    runner.integrator.absolute_tolerance = rtol * 1e-2
    runner.timeCourseSelections = ["time", *problem.states]
    stretches = [
        (
            begin,
            end,
            rate,
            np.unique(np.append(problem.outputs[(problem.outputs > begin) & (problem.outputs <= end)], end)),
        )
        for begin, end, rate in segments(problem)
    ]

    def one(p: Mapping[str, float]) -> np.ndarray:
        runner.resetAll()
        for name, value in p.items():
            runner.setValue(name, float(value))
        runner.reset()
        rows = []
        for begin, end, rate, read in stretches:
            runner.setValue("rate", rate)
            found = np.asarray(runner.simulate(times=[begin, *read]))
            rows.append(found[1:, 1:][np.isin(read, problem.outputs)])
            del end
        return np.concatenate(rows)

    def solve(patients: Patients) -> np.ndarray:
        n = len(next(iter(patients.values())))
        return np.stack([one({k: v[i] for k, v in patients.items()}) for i in range(n)])

    return solve


def _heyoka(problem: Problem, tol: float) -> Solver:
    import heyoka as hy

    lanes = hy.recommended_simd_size()
    names = list(problem.typical)
    y = hy.make_vars(*problem.states)
    p = {name: hy.par[i] for i, name in enumerate(names)}
    rhs = problem.rhs(hy.time, tuple(y), hy.par[len(names)], p)
    taylor = hy.taylor_adaptive_batch(
        list(zip(y, rhs, strict=True)),
        np.zeros((len(y), lanes)),
        tol=tol,
        pars=np.zeros((len(names) + 1, lanes)),
    )
    stops = []
    for begin, end, rate in segments(problem):
        inside = problem.outputs[(problem.outputs > begin) & (problem.outputs <= end)]
        stops += [(t, rate, t in problem.outputs) for t in np.unique(np.append(inside, end)).tolist()]

    def batch(rows: dict[str, np.ndarray]) -> np.ndarray:
        taylor.set_time(0.0)
        taylor.pars[: len(names)] = np.stack([rows[name] for name in names])
        taylor.state[:] = np.stack(np.broadcast_arrays(*problem.start(rows)))
        kept = []
        for t, rate, keep in stops:
            taylor.pars[len(names)] = rate
            taylor.propagate_until([t] * lanes)
            if keep:
                kept.append(taylor.state.T.copy())
        return np.stack(kept, axis=1)

    def solve(patients: Patients) -> np.ndarray:
        n = len(next(iter(patients.values())))
        index = np.minimum(np.arange(-(-n // lanes) * lanes), n - 1).reshape(-1, lanes)
        return np.concatenate([batch({k: v[i] for k, v in patients.items()}) for i in index])[:n]

    return solve


def _tolerances(*exponents: float) -> Callable[[Problem], list[Any]]:
    return lambda _: [10.0**-e for e in exponents]


def _number(usual: int, stiff: int) -> Callable[[Problem], int]:
    return lambda problem: stiff if problem.key == "iii" else usual


OURS = Contestant("trialtwin", _ours_settings, _ours, _number(10**9, 10**9))
SINGLE = Contestant(
    "trialtwin, float32",
    lambda problem: [] if problem.key == "iii" else _ours_settings(problem),
    lambda problem, setting: _ours(problem, setting, jnp.float32),
    _number(10**9, 0),
)
PEERS = (
    Contestant("diffrax", _tolerances(4, 4.5, 5, 5.5, 6, 6.5, 7, 8), _diffrax, _number(10_000, 64), "diffrax"),
    Contestant("heyoka", _tolerances(4, 5, 6, 7, 8, 9), _heyoka, _number(2_000, 64), "heyoka"),
    Contestant("libroadrunner", _tolerances(5, 6, 7, 8, 9, 10), _roadrunner, _number(50, 50), "roadrunner"),
    Contestant("scipy LSODA", _tolerances(5, 6, 7, 8, 9, 10), _lsoda, _number(8, 8), "scipy"),
)
