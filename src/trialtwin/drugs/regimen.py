"""Prescriptions as a clinician writes them, read into regimens.

A prescription is one or more phases joined by ``then``::

    amount  [route]  [over duration]  [frequency]  [x count | for duration | until week N]  [at week N]

- amount: ``10 mg/kg``, ``700 mg``, ``120 µg``, ``2 g``, ``50 U``; ``9.5 mg/24h`` is a steady input;
- route: ``IV``, ``SC``, ``PO``, ``TD``; where it is missing, the drug's own;
- frequency: ``q2w``, ``q12h``, ``qd``, ``bid``, ``tid``, ``qw``, ``every 2 weeks``; without one, a single dose;
- ``for 76 weeks`` and ``until week 76`` give doses at all times before that end, and none at it.

A phase starts one interval after the last dose of the phase before it, unless ``at`` says when; after a single dose,
which has no interval, it must.
"""

import math
import re
from dataclasses import replace

from trialtwin.core.errors import ConfigError
from trialtwin.drugs.schedule import EPSILON, Phase, Regimen
from trialtwin.drugs.words import DURATIONS, HOUR, Reader, Token

MASSES: dict[str, tuple[str, float]] = {
    "kg": ("mg", 1e6),
    "g": ("mg", 1e3),
    "mg": ("mg", 1.0),
    "µg": ("mg", 1e-3),
    "ug": ("mg", 1e-3),
    "mcg": ("mg", 1e-3),
    "ng": ("mg", 1e-6),
    "u": ("U", 1.0),
    "iu": ("U", 1.0),
}
_LETTER_CASE = {"mU": ("U", 1e-3), "MU": ("U", 1e6)}  # a thousandth or a million: the case of a letter tells
ROUTES = ("IV", "SC", "PO", "TD", "IM")
FREQUENCIES = {"qd": 1.0, "od": 1.0, "daily": 1.0, "bid": 0.5, "tid": 1 / 3, "qid": 0.25, "qod": 2.0}
FREQUENCIES |= {"qw": 7.0, "weekly": 7.0, "biweekly": 14.0, "monthly": DURATIONS["month"]}
_EVERY = re.compile(r"q(\d+)(h|d|w|wk|mo|m)")
_EVERY_UNITS = {"h": HOUR, "d": 1.0, "w": 7.0, "wk": 7.0, "mo": DURATIONS["month"], "m": DURATIONS["month"]}
_EXPECTED_FREQUENCY = ("q2w", "q4w", "qw", "qd", "bid", "tid", "q12h", "every 2 weeks")


def parse_regimen(text: str) -> Regimen:
    """Read a prescription.

    Parameters
    ----------
    text
        As described at the head of this module.

    Raises
    ------
    ConfigError
        With the text, a caret under the word that cannot be read, and what was expected there.

    Examples
    --------
    >>> parse_regimen("10 mg/kg over 1h q2w x 39").doses().time[-1] / 7
    np.float64(76.0)
    >>> parse_regimen("10 mg evry day")
    Traceback (most recent call last):
        ...
    trialtwin.core.errors.ConfigError: cannot read this regimen: expected a frequency, a number of doses or an end
      where: 10 mg evry day
                   ^^^^
      exists: q2w, q4w, qw, qd, bid, tid, q12h, every 2 weeks
      do: write it like '10 mg/kg over 1h q2w x 39' or '700 mg over 30min q4w x 3 then 1400 mg over 30min q4w'
    """
    reader = Reader(text)
    phases: list[Phase] = []
    start = 0.0
    while True:
        first = reader.peek
        phase, end = _phase(reader)
        if phase.start is not None:
            start = phase.start
        phase = _bounded(reader, first, phase, start, end)
        phases.append(phase)
        if reader.done:
            break
        joint = reader.accept("then", ";", ",")
        if joint is None:
            reader.refuse(reader.peek, "expected a frequency, a number of doses or an end", _EXPECTED_FREQUENCY)
        reader.accept("then")
        if phase.open and not _says_when(reader):
            reader.refuse(joint, "the phase before this word has no end", ("x 3", "for 12 weeks", "until week 12"))
        if not (phase.steady or phase.interval) and not _says_when(reader):
            reader.refuse(joint, "a single dose does not say when the next phase starts", ("at day 1", "at week 4"))
        start += phase.length
    return _checked(reader, phases)


def _checked(reader: Reader, phases: list[Phase]) -> Regimen:
    try:
        return Regimen(tuple(phases))
    except ConfigError as error:
        raise ConfigError(error.what, where=reader.text, exists=error.exists, do=error.do) from error


def _says_when(reader: Reader) -> bool:
    """Tell whether the phase that comes says when it starts."""
    rest = [token.low for token in reader.tokens[reader.at :]]
    stop = next((i for i, word in enumerate(rest) if word in ("then", ";", ",")), len(rest))
    return bool({"at", "from"} & set(rest[:stop]))


def _phase(reader: Reader) -> tuple[Phase, tuple[str, float, Token] | None]:
    """Read one phase as far as it can be read, and the end that it names: a kind, days, and the word."""
    value = reader.positive("a dose", "10 mg/kg")
    unit, factor, per_kg, per_day = _unit(reader)
    found: dict[str, float | int | str | None] = {}
    end: tuple[str, float, Token] | None = None
    while not reader.done and reader.peek.low not in ("then", ";", ","):
        token = reader.peek
        key, what = _clause(reader, steady=per_day > 0)
        if not key:
            break
        if key in found or (end and key == "end"):
            reader.refuse(token, "this has been said already", ())
        if key == "end":
            end = (token.low, float(what or 0.0), token)
        else:
            found[key] = what
    steady = per_day > 0
    interval = float(found.get("interval") or 0.0)
    count = found.get("count")
    if not steady and interval == 0 and (count is not None or end is not None):
        reader.refuse(reader.peek, "expected a frequency", _EXPECTED_FREQUENCY)
    return Phase(
        amount=value * factor * (per_day or 1.0),
        per_kg=per_kg,
        unit=unit,
        duration=math.inf if steady else float(found.get("duration") or 0.0),
        interval=interval,
        count=1 if steady or not interval else None if count is None else int(count),
        start=None if found.get("start") is None else float(found["start"] or 0.0),
        route=str(found.get("route") or ""),
        steady=steady,
    ), end


def _unit(reader: Reader) -> tuple[str, float, bool, float]:
    """Read ``mg``, ``mg/kg`` or ``mg/24h``: the base unit, factor, whether per kg, and doses a day (0: not steady)."""
    token = reader.peek
    mass, *per = token.low.split("/")
    known = MASSES | {word.lower(): value for word, value in _LETTER_CASE.items() if word == token.text.split("/")[0]}
    if mass == "mu" and mass not in known:
        reader.refuse(token, "a thousandth of a unit or a million of them?", tuple(_LETTER_CASE))
    if mass not in known or mass == "kg":
        reader.refuse(token, "expected the unit of the dose", ("mg", "g", "µg", "mg/kg", "µg/kg", "mg/day", "U"))
    unit, factor = known[mass]
    per_kg = bool(per) and per[0] == "kg"
    rest = per[1:] if per_kg else per
    rate = {"day": 1.0, "d": 1.0, "24h": 1.0, "h": 24.0, "12h": 2.0, "week": 1 / 7}
    if len(rest) > 1 or (rest and rest[0] not in rate):
        reader.refuse(token, "expected the unit of the dose", ("mg", "g", "µg", "mg/kg", "µg/kg", "mg/day", "U"))
    reader.take()
    return unit, factor, per_kg, rate[rest[0]] if rest else 0.0


def _clause(reader: Reader, *, steady: bool) -> tuple[str, float | int | str | None]:
    """Read one clause after the amount: its key and value; an empty key where none starts here."""
    token = reader.peek
    found: tuple[str, float | int | str | None] = ("", None)
    if token.text.upper() in ROUTES:
        found = "route", reader.take().text.upper()
    elif reader.accept("over"):
        if steady:
            reader.refuse(token, "a steady input has no infusions; say how long with 'for'", ("for 12 weeks",))
        found = "duration", reader.duration("the duration of the infusion")
    elif not steady and (interval := _frequency(reader)):
        found = "interval", interval
    elif not steady and (token.low in ("x", "×", "*") or re.fullmatch(r"x\d+", token.low)):
        found = "count", _count(reader)
    elif reader.accept("for"):
        found = "end", reader.duration("for how long")
    elif reader.accept("until"):
        found = "end", reader.timepoint()
    elif reader.accept("at", "from"):
        found = "start", reader.timepoint()
    elif reader.accept("once"):
        found = "once", None
    return found


def _frequency(reader: Reader) -> float:
    """Read how often, in days; 0 where the next word does not say so."""
    token = reader.peek
    if token.low in FREQUENCIES:
        return FREQUENCIES[reader.take().low]
    if match := _EVERY.fullmatch(token.low):
        if int(match[1]) == 0:
            reader.refuse(token, "doses need an interval above zero", _EXPECTED_FREQUENCY)
        reader.take()
        return int(match[1]) * _EVERY_UNITS[match[2]]
    if reader.accept("every"):
        value = reader.positive("an interval", "2 weeks") if reader.peek.kind == "number" else 1.0
        return value * reader.time_unit()
    return 0.0


def _count(reader: Reader) -> int:
    """Read ``x 39`` or ``x39``."""
    token = reader.take()
    if len(token.text) > 1:
        value = float(token.text[1:])
    else:
        token = reader.peek
        value = reader.positive("a number of doses", "39")
    if value != int(value) or value < 1:
        reader.refuse(token, "expected a whole number of doses", ("x 39",))
    return int(value)


def _bounded(reader: Reader, first: Token, phase: Phase, start: float, end: tuple[str, float, Token] | None) -> Phase:
    """Turn ``for`` and ``until`` into a number of doses, or the length of a steady input."""
    if end is None:
        return phase
    kind, days, token = end
    length = days if kind == "for" else days - start
    if length <= EPSILON:
        reader.refuse(token, f"this ends before the phase starts (day {start:g})", ("until week 76",))
    if phase.steady:
        return replace(phase, duration=length)
    fits = math.ceil(length / phase.interval - EPSILON)
    if phase.count is not None and phase.count > fits:
        reader.refuse(first, f"{phase.count} doses do not fit before the end that is given", (f"x {fits}",))
    return replace(phase, count=fits if phase.count is None else phase.count)
