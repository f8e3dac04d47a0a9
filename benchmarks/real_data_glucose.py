"""Glucose 30, 60 and 120 minutes ahead: boosting on the last three hours, by patients left out, beside its peers."""

import re
import warnings
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from lightgbm import LGBMRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.tsa.arima.model import ARIMA

from trialtwin.twins.boosting_errors import learn_errors

STEP = 15.0
HORIZONS = (2, 4, 8)
LAGS = 12
START = 3 * 96  # readings of a recording before the first forecast: what ARIMA is fitted to
ORDERS = ((1, 1, 0), (2, 1, 1), (3, 1, 0))


def read_monitor(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return times (days) and glucose (mg/dL): the first two columns of a workbook."""
    with zipfile.ZipFile(path) as book:
        sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314  # the study's own files
    space = re.match(r"\{.*\}", sheet.tag)
    rows: dict[int, dict[str, float]] = {}
    for cell in sheet.iter(f"{space[0] if space else ''}c"):
        number, place = cell.find(f"{space[0] if space else ''}v"), cell.get("r", "")
        if (
            number is not None
            and cell.get("t") != "s"
            and place[0] in "AB"
            and place[1:].isdigit()
            and place[1:] != "1"
        ):
            rows.setdefault(int(place[1:]), {})[place[0]] = float(number.text or "nan")
    whole = np.array([(row["A"], row["B"]) for row in rows.values() if len(row) == 2])
    whole = whole[np.unique(whole[:, 0], return_index=True)[1]]
    return whole[:, 0], whole[:, 1]


def on_grid(times: np.ndarray, glucose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a reading every 15 minutes, NaN where none is within 7.5 minutes."""
    place = np.round((times - times[0]) * 1440 / STEP).astype(int)
    grid = np.full(place[-1] + 1, np.nan)
    grid[place] = glucose
    return times[0] + np.arange(len(grid)) * STEP / 1440, grid


def _rows(times: np.ndarray, grid: np.ndarray, ahead: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return columns, the reading asked for, and its origin, where the last reading and the answer are there."""
    origins = np.arange(LAGS, len(grid) - ahead)
    origins = origins[np.isfinite(grid[origins]) & np.isfinite(grid[origins + ahead])]
    last = grid[origins]
    back = np.stack([grid[origins - k] for k in range(1, LAGS + 1)], axis=1) - last[:, None]
    hour = 2 * np.pi * (times[origins] % 1.0)
    day = np.stack([np.nanmean(grid[max(0, o - 96) : o + 1]) - grid[o] for o in origins])
    columns = np.column_stack([last, back, day, np.sin(hour), np.cos(hour), np.sin(2 * hour), np.cos(2 * hour)])
    return columns, grid[origins + ahead], origins


def arima_forecasts(grid: np.ndarray, start: int) -> dict[int, np.ndarray]:
    """Return forecasts of each horizon from every reading: order by AIC on the first readings, parameters kept.

    A forecast h ahead is the observation equation of the state predicted one ahead, moved on h − 1 times.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of starting values, and of searches that end on a flat top
        fits = [ARIMA(grid[:start], order=order).fit() for order in ORDERS]
        best = min(fits, key=lambda one: one.aic)
        whole = best.apply(grid)
    space, state = whole.model.ssm, whole.filter_results.predicted_state
    transition, design = space["transition"], space["design"]
    found = {}
    for h in HORIZONS:
        moved = design @ np.linalg.matrix_power(transition, h - 1)
        found[h] = (moved @ state)[0, 1:]  # column t + 1 is predicted from readings up to t
    return found


class LinearThenTrees:
    """A ridge regression of the change on what is known, and trees on what it leaves: trees are poor at lines."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "LinearThenTrees":
        """Fit both; a reading that is not there enters the line as no change."""
        z = np.nan_to_num(x)
        self.line = make_pipeline(StandardScaler(), Ridge(10.0)).fit(z, y - x[:, 0])
        self.trees = LGBMRegressor(
            n_estimators=100,
            learning_rate=0.05,
            num_leaves=8,
            min_child_samples=200,
            reg_lambda=10.0,
            colsample_bytree=0.7,
            verbose=-1,
            n_jobs=1,
            random_state=0,
            deterministic=True,
        ).fit(x, y - x[:, 0] - self.line.predict(z))
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the reading forecast."""
        return x[:, 0] + self.line.predict(np.nan_to_num(x)) + self.trees.predict(x)


def _terms(x: np.ndarray) -> np.ndarray:
    """Return what the size of an error depends on: the level, and how fast it moves."""
    return np.stack([np.ones(len(x)), x[:, 0] / 100, np.abs(np.nan_to_num(x[:, 2])) / 10], axis=1)


def run_glucose(shared: Path, seed: int, quick: bool) -> dict[str, object]:
    """Return errors by horizon, the same origins for all; five folds of patients; recordings of a patient together."""
    files = sorted((shared / "data" / "shanghai_t2dm").glob("20*.xlsx"))[: 6 if quick else None]
    grids = [on_grid(*read_monitor(path)) for path in files]
    people = np.unique([path.name[:4] for path in files], return_inverse=True)[1]
    fold = (np.random.default_rng(seed).permutation(people.max() + 1) % (2 if quick else 5))[people]
    arima = [arima_forecasts(grid, START) for _, grid in grids]
    return {f"{h * STEP:g} min": _horizon(grids, people, fold, arima, h) for h in HORIZONS}


def _horizon(grids: list, people: np.ndarray, fold: np.ndarray, arima: list, h: int) -> dict[str, object]:
    rows = [_rows(times, grid, h) for times, grid in grids]
    squares: dict[str, list[float]] = {"last value": [], "ARIMA": [], "boosting": []}
    absolute: dict[str, list[float]] = {name: [] for name in squares}
    covered, owner, count = [], [], 0
    for f in np.unique(fold):
        inside = np.flatnonzero(fold != f)
        x = np.concatenate([rows[i][0] for i in inside])
        y = np.concatenate([rows[i][1] for i in inside])
        whose = np.concatenate([np.full(len(rows[i][1]), people[i]) for i in inside])
        _, index = np.unique(whose, return_inverse=True)
        half = np.random.default_rng(2).permutation(index.max() + 1)[index] % 2
        held = np.zeros(len(y))
        for part in (0, 1):
            own = half == part
            held[own] = LinearThenTrees().fit(x[~own], y[~own]).predict(x[own])
        # too few patients for a patient to be the unit of 90 % intervals: readings are, which promises nothing
        errors = learn_errors(y - held, _terms(x), np.arange(len(y)))
        whole = LinearThenTrees().fit(x, y)
        for i in np.flatnonzero(fold == f):
            columns, answer, origin = rows[i]
            late = (origin >= START) & np.isfinite(arima[i][h][origin])
            columns, answer, origin = columns[late], answer[late], origin[late]
            mean = whole.predict(columns)
            spread = errors.spread(_terms(columns))
            low, high = (mean + spread * errors.law.quantile(np.array(q)) for q in (0.05, 0.95))
            covered.append(float(((answer >= low) & (answer <= high)).mean()))
            for name, one in (("last value", columns[:, 0]), ("ARIMA", arima[i][h][origin]), ("boosting", mean)):
                squares[name].append(float(np.sqrt(((one - answer) ** 2).mean())))
                absolute[name].append(float(np.abs(one - answer).mean()))
            owner.append(int(people[i]))
            count += len(answer)
    of = {name: _per_patient(values, owner) for name, values in squares.items()}
    result: dict[str, object] = {
        name: {"rmse": float(of[name].mean()), "mae": float(_per_patient(absolute[name], owner).mean())} for name in of
    }
    for peer in ("last value", "ARIMA"):
        gain = of["boosting"] - of[peer]
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        result[f"boosting minus {peer}"] = {"rmse": float(gain.mean()), "se": error}
    return result | {
        "coverage": float(_per_patient(covered, owner).mean()),
        "asked": count,
        "patients": len(set(owner)),
    }


def _per_patient(values: list[float], owner: list[int]) -> np.ndarray:
    """Return each patient's mean over recordings."""
    return np.array(
        [np.mean([v for v, o in zip(values, owner, strict=True) if o == one]) for one in sorted(set(owner))]
    )
