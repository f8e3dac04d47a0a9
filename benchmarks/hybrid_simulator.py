"""Dexamethasone in COVID-19: the simulator of Qian et al. 2021 (Hybrid-ODE, NeurIPS), as published.

States D (disease), I (immune response), M (immunity), X (drug in tissue) obey

    D' = D − D M² − D I;   I' = D − I + D I + I²/(1 + I²) − X I;   M' = I;   X' = dose(t) − X
    dose(t) = A e^(td − t) for t ≥ td,   td uniform on 0, …, 13,  A uniform on (0, 10)

and further states z' = tanh(y W) of all states y. Measured at t = 0, …, 14: C (y, 1) plus noise of SD .2, each output
standardised over all patients and times, half of the values missing at random. Matrices, initial states, doses and
noise are drawn in the order of the published generator, from the same legacy NumPy generator with seed 666, so that
all but the mask (drawn by PyTorch there) are the published numbers. The share of non-zero coefficients of C is that of
the published generator: .5 with 6 states, .375 with 8, .25 with 12. More noise is added after standardising.
"""

from dataclasses import dataclass

import numpy as np

TIMES, SEEN = 15, 5
TRAIN, VALIDATION, TEST = 1000, 100, 1000
SEED = 666
OUTPUTS = {6: 20, 8: 40, 12: 80}
SHARES = {6: 0.5, 8: 0.375, 12: 0.25}
SUBSTEPS = 60


@dataclass(frozen=True, eq=False)
class Simulated:
    """All patients: measurements standardised, what was observed, doses; and the truth, for checks and oracles.

    ``noise`` is the SD of an output's measurement error after standardising.
    """

    values: np.ndarray
    observed: np.ndarray
    day: np.ndarray
    amount: np.ndarray
    clean: np.ndarray
    states: np.ndarray
    weights: np.ndarray
    coefficients: np.ndarray
    noise: np.ndarray

    def part(self, name: str, size: int = TRAIN) -> slice:
        """Return where training (the first ``size``), validation and test patients are."""
        ends = {"train": (0, size), "validation": (TRAIN, TRAIN + VALIDATION)}
        return slice(*ends.get(name, (TRAIN + VALIDATION, TRAIN + VALIDATION + TEST)))


def simulate(states: int = 6, noise: float = 0.2, seed: int = SEED) -> Simulated:
    """Draw training, validation and test patients."""
    rng = np.random.RandomState(seed)  # the published generator's
    patients, outputs, share = TRAIN + VALIDATION + TEST, OUTPUTS[states], SHARES[states]
    c = rng.randn(outputs, states + 1) * rng.binomial(1, share, (outputs, states + 1))
    w = rng.randn(states, states - 4) * rng.binomial(1, 0.5, (states, states - 4)) / states
    start = rng.exponential(0.01, (patients, states))
    day = np.array([rng.choice(14, size=1, replace=False)[0] for _ in range(patients)]).astype(float)
    amount = rng.rand(patients) * 10
    course = follow(start, day, amount, w)
    clean = np.concatenate([course, np.ones((patients, TIMES, 1))], axis=2) @ c.T
    error = np.stack([rng.randn(outputs, TIMES).T for _ in range(patients)]) * 0.2
    values = clean + error
    centre, scale = values.mean(axis=(0, 1)), values.std(axis=(0, 1), ddof=1)
    values, clean, sd = (values - centre) / scale, (clean - centre) / scale, 0.2 / scale
    own = np.random.default_rng(seed)
    observed = own.random(values.shape) > 0.5
    if noise > 0.2:
        values = values + own.normal(0, noise - 0.2, values.shape)
        sd = np.sqrt(sd**2 + (noise - 0.2) ** 2)
    return Simulated(values, observed, day, amount, clean, course, w, np.column_stack([c, centre, scale]), sd)


def follow(
    start: np.ndarray, day: np.ndarray, amount: np.ndarray, weights: np.ndarray, substeps: int = SUBSTEPS
) -> np.ndarray:
    """Return all states at t = 0, …, 14 by Runge and Kutta's method of order 4."""
    h, y, found = 1 / substeps, start, [start]
    for whole in range(TIMES - 1):
        # doses begin at whole days: whoever is dosed on a day is so for all of it
        dosed = np.where(whole >= day, amount, 0.0)

        def slope(t: float, y: np.ndarray, dosed: np.ndarray = dosed) -> np.ndarray:
            d, i, m, x = y[:, :4].T
            known = (
                d - d * m**2 - d * i,
                d - i + d * i + i**2 / (1 + i**2) - x * i,
                i,
                dosed * np.exp(np.minimum(day - t, 0)) - x,
            )
            return np.column_stack([*known, np.tanh(y @ weights)])

        for k in range(substeps):
            t = whole + k * h
            first = slope(t, y)
            second = slope(t + h / 2, y + h / 2 * first)
            third = slope(t + h / 2, y + h / 2 * second)
            y = y + h / 6 * (first + 2 * second + 2 * third + slope(t + h, y + h * third))
        found.append(y)
    return np.stack(found, axis=1)


def errors(predicted: np.ndarray, simulated: Simulated, part: str = "test") -> np.ndarray:
    """Return each patient's mean square error over what was observed from t = 5 on: the published metric's part.

    The published RMSE is the square root of the mean of these. Where fewer patients are predicted they are the first;
    a single prediction is for all.
    """
    rows = simulated.part(part)
    if len(predicted) > 1:
        rows = slice(rows.start, rows.start + len(predicted))
    seen = simulated.observed[rows, SEEN:]
    square = (predicted - simulated.values[rows, SEEN:]) ** 2 * seen
    return square.sum(axis=(1, 2)) / seen.sum(axis=(1, 2))


def oracle(simulated: Simulated, points: int = 1024, patients: int = TEST) -> tuple[np.ndarray, np.ndarray]:
    """Return what is expected from t = 5 on by somebody who knows all but the start, and its effective points.

    A patient's posterior mean by importance sampling from the law of initial states; everything else is the truth.
    """
    rng = np.random.default_rng(0)
    start = rng.exponential(0.01, (points, len(simulated.weights)))
    c, centre, scale = simulated.coefficients[:, :-2], *simulated.coefficients[:, -2:].T
    first = simulated.part("test").start
    means, sizes = [], []
    for n in range(first, first + patients):
        day, amount = np.full(points, simulated.day[n]), np.full(points, simulated.amount[n])
        states = follow(start, day, amount, simulated.weights, 8)
        outputs = (states @ c[:, :-1].T + c[:, -1] - centre) / scale
        gap = (outputs[:, :SEEN] - simulated.values[n, :SEEN]) / simulated.noise * simulated.observed[n, :SEEN]
        log_weights = -0.5 * (gap**2).sum(axis=(1, 2))
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        means.append(np.tensordot(weights, outputs[:, SEEN:], 1))
        sizes.append(1 / (weights**2).sum())
    return np.stack(means), np.array(sizes)
