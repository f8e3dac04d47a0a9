"""Tumour growth under chemo- and radiotherapy, and the published test rollouts, in numpy.

    V[t] = V[t−1] · (1 + ρ log(K/V[t−1]) − β_c C[t−1] − (α d[t−1] + β d[t−1]²) + e[t]),   e ~ N(0, 0.01²)
    C[t] = C[t−1]/2 + 5 · chemo[t];   d = 2 Gy · radio;   K = vol(30 cm);   β = α/10

Geng et al. (2017), doi:10.1038/s41598-017-13646-z; policy, tests and metric of Melnychuk et al. (2022),
doi:10.48550/arXiv.2204.07258. Test rollouts keep what the published ones do: the policy that treats patient i reads
row i of the array of outputs, which another patient wrote; volumes are clipped in the factual course and not in the
counterfactual ones; a sliding or random plan starts from V[t+1], which no model sees.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

STEPS = 60
HORIZON = 5
CAPACITY = 4 / 3 * np.pi * 15.0**3
DEATH = 4 / 3 * np.pi * 6.5**3
CELLS = 5.8e8
NOISE = 0.01
WINDOW = 15
RHO, ALPHA, BETA_C, CORRELATION = (7e-5, 7.23e-3), (0.0398, 0.168), (0.028, 0.0007), 0.87
STAGES = (  # mean, sd of log diameter, its bounds, patients of that stage
    (1.72, 4.70, 0.3, 5.0, 1432),
    (1.96, 1.63, 0.3, 13.0, 128),
    (1.91, 9.40, 0.3, 13.0, 1306),
    (2.76, 6.87, 0.3, 13.0, 7248),
    (3.86, 8.82, 0.3, 13.0, 12840),
)


@dataclass(frozen=True, eq=False)
class Patients:
    """Parameters of each patient; ``kind`` (1, 2, 3) is the only one that models see."""

    kind: np.ndarray
    start: np.ndarray
    alpha: np.ndarray
    rho: np.ndarray
    beta_c: np.ndarray


@dataclass(frozen=True, eq=False)
class Courses:
    """Courses as models see them: V[0..last], and chemo and radio as 0 or 1 on each day; zeros after ``last``.

    ``died`` and ``recovered`` say that V[last] reached an edge and was cut to it.
    """

    kind: np.ndarray
    volume: np.ndarray
    chemo: np.ndarray
    radio: np.ndarray
    last: np.ndarray
    died: np.ndarray
    recovered: np.ndarray


@dataclass(frozen=True, eq=False)
class Plans:
    """Test questions: of course ``course``, known to day ``day``, under a plan; ``truth`` is what came.

    One-step questions: ``chemo`` and ``radio`` of shape (question, 1) act on ``day`` and truth is V[day+1]. Others:
    shape (question, 5) act on day+1 .. day+5, the factual action acts on ``day``, and truth is V[day+2] .. V[day+6].
    """

    course: np.ndarray
    day: np.ndarray
    chemo: np.ndarray
    radio: np.ndarray
    truth: np.ndarray


def volume_of(diameter: np.ndarray) -> np.ndarray:
    """Return the volume of a sphere."""
    return 4 / 3 * np.pi * (diameter / 2) ** 3


def diameter_of(volume: np.ndarray) -> np.ndarray:
    """Return the diameter of a sphere."""
    return 2 * np.cbrt(volume / (4 / 3 * np.pi))


def draw_patients(n: int, rng: np.random.Generator) -> Patients:
    """Return patients: truncated normal parameters, ρ and α correlated; stage decides the first diameter."""
    counts = np.array([row[4] for row in STAGES], dtype=float)
    stage = rng.choice(len(STAGES), n, p=counts / counts.sum())
    mean, sd, low, high = (np.array([row[j] for row in STAGES])[stage] for j in range(4))
    deviate = stats.truncnorm.rvs((np.log(low) - mean) / sd, (np.log(high) - mean) / sd, size=n, random_state=rng)
    shared = CORRELATION * ALPHA[1] * RHO[1]
    covariance = [[ALPHA[1] ** 2, shared], [shared, RHO[1] ** 2]]
    kept = np.empty((0, 2))
    while len(kept) < n:
        drawn = rng.multivariate_normal([ALPHA[0], RHO[0]], covariance, size=n)
        kept = np.concatenate([kept, drawn[(drawn > 0).all(1)]])
    kind = rng.integers(1, 4, n)
    beta_c = stats.truncnorm.rvs(-BETA_C[0] / BETA_C[1], np.inf, size=n, random_state=rng)
    return Patients(
        kind=kind,
        start=volume_of(np.exp(mean + sd * deviate)),
        alpha=kept[:n, 0] + 0.1 * ALPHA[0] * (kind == 1),
        rho=kept[:n, 1],
        beta_c=BETA_C[0] + BETA_C[1] * beta_c + 0.1 * BETA_C[0] * (kind == 3),
    )


def treatment_probability(diameters: np.ndarray, gamma: float) -> np.ndarray:
    """Return the probability of either treatment, σ(γ/13 · (mean diameter − 13/2)), for diameters of shape (…, day)."""
    return 1 / (1 + np.exp(-gamma / 13.0 * (diameters.mean(-1) - 6.5)))


def grow(
    p: Patients,
    volume: np.ndarray,
    concentration: np.ndarray,
    dose: np.ndarray,
    noise: np.ndarray,
    guard: float = 0.0,
) -> np.ndarray:
    """Return the volume a day later; NaN once a volume is not above zero. Published plans add ``guard`` in the log."""
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = p.rho * np.log(CAPACITY / (volume + guard) + guard)
        return volume * (1 + growth - p.beta_c * concentration - p.alpha * (dose + dose**2 / 10) + noise)


def take(p: Patients, index: np.ndarray) -> Patients:
    """Return some of the patients."""
    return Patients(p.kind[index], p.start[index], p.alpha[index], p.rho[index], p.beta_c[index])


def simulate_training(n: int, gamma: float, rng: np.random.Generator) -> Courses:
    """Return factual courses: no treatment on day 0, then by policy on the mean diameter of the 15 days before."""
    p = draw_patients(n, rng)
    volume, chemo, radio = (np.zeros((n, STEPS)) for _ in range(3))
    volume[:, 0] = p.start
    concentration = np.zeros(n)
    last = np.full(n, STEPS - 1)
    died, recovered, alive = np.zeros(n, bool), np.zeros(n, bool), np.ones(n, bool)
    for t in range(1, STEPS):
        i = np.flatnonzero(alive)
        if not len(i):
            break
        noise = NOISE * rng.standard_normal(len(i))
        volume[i, t] = grow(take(p, i), volume[i, t - 1], concentration[i], 2 * radio[i, t - 1], noise)
        probability = treatment_probability(diameter_of(volume[i, max(t - WINDOW, 0) : t]), gamma)
        chemo[i, t] = rng.random(len(i)) < probability
        radio[i, t] = rng.random(len(i)) < probability
        concentration[i] = concentration[i] / 2 + 5 * chemo[i, t]
        died[i] = volume[i, t] > DEATH
        cured = np.exp(np.minimum(-volume[i, t] * CELLS, 0.0))
        recovered[i] = ~died[i] & (rng.random(len(i)) < cured)
        ended = died | recovered
        last[alive & ended] = t
        volume[died & alive, t] = DEATH
        volume[recovered & alive, t] = 0.0
        alive &= ~ended
    return Courses(p.kind, volume, chemo, radio, last, died, recovered)


def _options(mode: str, rng: np.random.Generator, pairs: int) -> np.ndarray:
    """Return plans, shape (pair, option, day, 2), chemo first."""
    if mode == "one_step":
        return np.broadcast_to(np.array([(0, 0), (0, 1), (1, 0), (1, 1)])[None, :, None, :], (pairs, 4, 1, 2))
    if mode == "sliding":
        eye, none = np.eye(HORIZON, dtype=int), np.zeros((HORIZON, HORIZON), dtype=int)
        both = np.concatenate([np.stack([eye, none], -1), np.stack([none, eye], -1)])
        return np.broadcast_to(both, (pairs, *both.shape))
    return rng.integers(0, 2, (pairs, 2 * HORIZON, HORIZON, 2))


@dataclass(frozen=True, eq=False)
class _Chains:
    """Factual test courses with what the branches need; treated on days 0 .. last − 1."""

    patients: Patients
    volume: np.ndarray
    chemo: np.ndarray
    radio: np.ndarray
    concentration: np.ndarray
    noise: np.ndarray
    last: np.ndarray


def _roll(p: Patients, gamma: float, rng: np.random.Generator, seen: np.ndarray | None, mode: str) -> _Chains:
    """Return factual courses whose policy reads the volumes ``seen`` (patient, day); None for the very first patient.

    The first patient's row is empty on day 0, and from then on it is the first test course that he himself gave.
    """
    n = len(p.kind)
    volume, chemo, radio, strength = (np.zeros((n, STEPS)) for _ in range(4))
    noise = NOISE * rng.standard_normal((n, STEPS + HORIZON))
    volume[:, 0] = p.start
    last = np.full(n, STEPS - 1)
    alive = np.ones(n, bool)
    read = np.zeros((n, STEPS + HORIZON)) if seen is None else seen
    before = np.zeros(n)
    for t in range(STEPS - 1):
        probability = treatment_probability(diameter_of(np.maximum(read[:, max(t - WINDOW, 0) : t + 1], 0)), gamma)
        chemo[:, t] = (rng.random(n) < probability) & alive
        radio[:, t] = (rng.random(n) < probability) & alive
        strength[:, t] = before / 2 + 5 * chemo[:, t]
        nexts = grow(p, volume[:, t], strength[:, t], 2 * radio[:, t], noise[:, t + 1])
        volume[:, t + 1] = np.where(alive, np.clip(nexts, 0, DEATH), 0.0)
        before = strength[:, t]
        ended = (volume[:, t + 1] >= DEATH) | (rng.random(n) <= np.exp(-volume[:, t + 1] * CELLS))
        last[alive & ended] = t + 1
        alive &= ~ended
        if seen is None and t == 0:
            chains = _Chains(p, volume, chemo, radio, strength, noise, np.ones(n, int))
            read = _rows(chains, _branch(chains, np.zeros(1, int), np.zeros(1, int), mode, rng))[:1]
    return _Chains(p, volume, chemo, radio, strength, noise, last)


def _branch(chains: _Chains, course: np.ndarray, day: np.ndarray, mode: str, rng: np.random.Generator) -> Plans:
    """Return every option of a test mode from each (course, day)."""
    options = _options(mode, rng, len(course))
    count, length = options.shape[1], options.shape[2]
    p = take(chains.patients, np.repeat(course, count))
    c, d = np.repeat(course, count), np.repeat(day, count)
    plan = options.reshape(-1, length, 2)
    first = d if mode == "one_step" else d + 1
    volume = chains.volume[c, first]
    strength = np.where(first > 0, chains.concentration[c, first - 1], 0.0)
    truth = np.empty((len(c), length))
    guard = 0.0 if mode == "one_step" else 1e-7
    for j in range(length):
        strength = strength / 2 + 5 * plan[:, j, 0]
        volume = grow(p, volume, strength, 2.0 * plan[:, j, 1], chains.noise[c, first + j + 1], guard)
        truth[:, j] = volume
    if mode == "one_step":  # the factual option is the factual course, clipped
        same = (plan[:, 0, 0] == chains.chemo[c, d]) & (plan[:, 0, 1] == chains.radio[c, d])
        truth[same, 0] = chains.volume[c, d + 1][same]
        order = np.lexsort((~same, np.repeat(np.arange(len(course)), count)))  # the factual one is written first
        c, d, plan, truth = c[order], d[order], plan[order], truth[order]
    whole = ~np.isnan(truth).any(1)
    return Plans(c[whole], d[whole], plan[whole, :, 0], plan[whole, :, 1], truth[whole])


def _rows(chains: _Chains, plans: Plans) -> np.ndarray:
    """Return what the published array of volumes holds for these questions, shape (question, day)."""
    rows = np.zeros((len(plans.day), STEPS + HORIZON))
    first = plans.day + (1 if plans.truth.shape[1] == 1 else 2)
    days = np.arange(STEPS)
    rows[:, :STEPS] = np.where(days < first[:, None], chains.volume[plans.course], 0.0)
    for j in range(plans.truth.shape[1]):
        rows[np.arange(len(rows)), first + j] = plans.truth[:, j]
    return rows


def _pairs(chains: _Chains) -> tuple[np.ndarray, np.ndarray]:
    """Return every (course, day) from which a question is asked, a course's days together."""
    asked = np.arange(STEPS)[None, :] < chains.last[:, None]
    return np.nonzero(asked)


def _join(chains: list[_Chains]) -> _Chains:
    """Return courses one after the other."""
    patients = Patients(*(np.concatenate([getattr(c.patients, f) for c in chains]) for f in Patients.__annotations__))
    fields = ("volume", "chemo", "radio", "concentration", "noise", "last")
    return _Chains(patients, *(np.concatenate([getattr(c, f) for c in chains]) for f in fields))


def simulate_test(n: int, gamma: float, mode: str, rng: np.random.Generator) -> tuple[Courses, Plans]:
    """Return test courses and the questions asked of them; ``mode`` is one_step, sliding or random."""
    p = draw_patients(n, rng)
    rows = np.zeros((0, STEPS + HORIZON))
    done: list[_Chains] = []
    while len(rows) < n and len(done) < n:  # these patients write the rows that the policy reads for all the others
        i = len(done)
        one = take(p, np.array([i]))
        seen = rows[i : i + 1] if i < len(rows) else np.zeros((1, STEPS + HORIZON))
        chain = _roll(one, gamma, rng, None if i == 0 else seen, mode)
        done.append(chain)
        rows = np.concatenate([rows, _rows(chain, _branch(chain, *_pairs(chain), mode, rng))])
    if len(done) < n:
        rest = np.arange(len(done), n)
        done.append(_roll(take(p, rest), gamma, rng, rows[rest], mode))
    chains = _join(done)
    plans = _branch(chains, *_pairs(chains), mode, rng)
    none = np.zeros(n, bool)
    return Courses(p.kind, chains.volume, chains.chemo, chains.radio, chains.last, none, none), plans
