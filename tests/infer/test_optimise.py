"""Minimisation ends in a minimum, with its curvature, or in an error that names what is wrong."""

import numpy as np
import pytest

from trialtwin.core.errors import ConvergenceError
from trialtwin.infer.optimise import minimise


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    a, b = 1 - x[0], x[1] - x[0] ** 2
    return float(a**2 + 100 * b**2), np.array([-2 * a - 400 * x[0] * b, 200 * b])


@pytest.mark.parametrize("start", [(-1.2, 1.0), (3.0, -2.0), (0.0, 5.0)])
def test_rosenbrock(start: tuple[float, float]) -> None:
    """The minimum at (1, 1) is reached to within the tolerance, in units of the objective."""
    found = minimise(rosenbrock, np.array(start), names=("a", "b"))
    assert found.value <= 1e-4
    fine = minimise(rosenbrock, np.array(start), names=("a", "b"), tolerance=1e-20)
    np.testing.assert_allclose(fine.position, 1.0, atol=1e-8)
    np.testing.assert_allclose(fine.hessian, [[802.0, -400.0], [-400.0, 200.0]], rtol=1e-3)
    assert fine.decrement <= 1e-20


def test_independent_quadratic() -> None:
    """Position, value and curvature of a quadratic of six parameters, against the linear algebra."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(6, 6))
    H, g = root @ root.T + 0.1 * np.eye(6), rng.normal(size=6)
    found = minimise(lambda x: (float(0.5 * x @ H @ x - g @ x), H @ x - g), np.zeros(6), names=tuple("abcdef"))
    np.testing.assert_allclose(found.hessian, H, rtol=1e-7, atol=1e-8)
    best = -0.5 * g @ np.linalg.solve(H, g)
    assert best - 1e-12 <= found.value <= best + 1e-4
    assert found.decrement == pytest.approx(found.value - best, abs=1e-9)


def test_a_region_without_values_is_stepped_back_from() -> None:
    """The first step from 1.5 overshoots into x ≤ 0.9, where this objective has no value."""
    asked: list[float] = []

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        asked.append(float(x[0]))
        if x[0] <= 0.9:
            return float("nan"), np.full(1, np.nan)
        return float(200 * (x[0] - np.log(x[0]))), 200 * (1 - 1 / x)

    found = minimise(objective, np.array([1.5]), names=("x",))
    assert min(asked) <= 0.9
    assert found.value <= 200 + 1e-4
    assert found.evaluations <= len(asked)


def test_infinite_gradients_are_stepped_back_from() -> None:
    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(x[0] ** 2), np.array([2 * x[0] if x[0] > -0.5 else -np.inf])

    assert minimise(objective, np.array([0.8]), names=("x",)).value <= 1e-4


def test_a_start_without_a_value_is_refused_with_the_values_of_the_parameters() -> None:
    with pytest.raises(ConvergenceError, match=r"not finite where the search begins\n  where: a = 1, b = 2\.5"):
        minimise(lambda x: (float("inf"), x), np.array([1.0, 2.5]), names=("a", "b"))


@pytest.mark.parametrize(
    ("objective", "start"),
    [
        (lambda x: (float((x[0] - 1) ** 2), np.array([2 * (x[0] - 1), 0.0])), [0.0, 3.0]),
        (lambda x: (float((x[0] + x[1]) ** 2), np.full(2, 2 * (x[0] + x[1]))), [0.0, 3.0]),
        (lambda x: (float((x[0] ** 2 - 1) ** 2 + x[1] ** 2), np.array([4 * x[0] * (x[0] ** 2 - 1), 2 * x[1]])), [0, 1]),
    ],
    ids=["a parameter without effect", "a sum alone", "a saddle"],
)
def test_no_minimum_is_an_error_and_not_a_number(objective: object, start: list[float]) -> None:
    with pytest.raises(ConvergenceError, match="did not converge"):
        minimise(objective, np.array(start, dtype=float), names=("a", "b"))  # type: ignore[arg-type]


def test_a_direction_that_is_flat_but_for_rounding_is_no_minimum() -> None:
    """Of a + 0.3 b and c alone, the Hessian's smallest eigenvalue is some 1e-17, positive by luck: no minimum."""

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        r = x[0] + 0.3 * x[1] - 1
        return float(r**2 + x[2] ** 2), np.array([2 * r, 0.6 * r, 2 * x[2]])

    with pytest.raises(ConvergenceError, match=r"along b\n"):
        minimise(objective, np.array([-1.2, 1.0, 0.3]), names=("a", "b", "c"))


def test_what_the_data_do_not_inform_is_named_and_nothing_else() -> None:
    with pytest.raises(ConvergenceError, match="idle") as caught:
        minimise(
            lambda x: (float((x[0] - 1) ** 2), np.array([2 * (x[0] - 1), 0.0])),
            np.array([0.0, 3.0]),
            names=("known", "idle"),
        )
    assert "known" not in str(caught.value)


@pytest.mark.parametrize("wall", [2e-5, 9e-5])
def test_the_curvature_beside_a_wall_is_measured_on_the_side_that_has_values(wall: float) -> None:
    """A point without a value is no point with gradient 0: curvature 1e4 would come out as 5e-9, an SE as 13,000."""

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        return (float(0.5e4 * x[0] ** 2), 1e4 * x) if x[0] < wall else (float("nan"), x)

    found = minimise(objective, -np.ones(1), names=("x",))
    assert found.hessian[0, 0] == pytest.approx(1e4, rel=1e-2)


def test_a_point_between_two_walls_has_no_curvature_and_is_refused() -> None:
    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        return (float(x[0] ** 2), 2 * x) if abs(x[0]) < 5e-5 else (float("nan"), x)

    with pytest.raises(ConvergenceError, match="no value on either side of x = 0"):
        minimise(objective, np.zeros(1), names=("x",))


def test_an_objective_without_bound_is_an_error_of_convergence() -> None:
    """And not the overflow that the search runs into."""
    with pytest.raises(ConvergenceError, match="falls without end, along x"):
        minimise(lambda x: (float(x[0]), np.ones(1)), np.zeros(1), names=("x",))


def test_a_wrong_gradient_is_not_taken_for_convergence() -> None:
    """A gradient that belongs to another function leaves the search stuck, which is said, with the parameter."""
    with pytest.raises(ConvergenceError, match=r"along b"):
        minimise(lambda x: (float(x @ x), np.array([2 * x[0], -2 * x[1] + 3])), np.ones(2), names=("a", "b"))


def test_the_same_call_gives_the_same_bits() -> None:
    runs = [minimise(rosenbrock, np.array([-1.2, 1.0]), names=("a", "b")).position.tobytes() for _ in range(2)]
    assert runs[0] == runs[1]
