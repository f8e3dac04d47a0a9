"""The words of a prescription: a line of text as tokens that know where they stand, and errors that point at them."""

import re
from dataclasses import dataclass
from typing import NoReturn

from trialtwin.core.errors import ConfigError

HOUR = 1 / 24
WEEK = 7.0
MONTH = 365.25 / 12
DURATIONS: dict[str, float] = {
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 1440),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), 1.0),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), WEEK),
    **dict.fromkeys(("mo", "month", "months"), MONTH),
}
_TOKEN = re.compile(
    r"(?P<number>[-+−]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<word>[A-Za-zµμ][A-Za-zµμ0-9/]*)|(?P<sign>[;,×*])|(?P<bad>\S+?)"
)


@dataclass(frozen=True)
class Token:
    """A word or number of a prescription and where it stands in the text."""

    text: str
    start: int
    kind: str

    @property
    def low(self) -> str:
        """The word in lower case, with one spelling of micro."""
        return self.text.lower().replace("μ", "µ")


class Reader:
    """Reads a prescription word by word.

    Parameters
    ----------
    text
        The prescription.

    Examples
    --------
    >>> reader = Reader("10 mg q2w")
    >>> reader.number("a dose"), reader.peek.low
    (10.0, 'mg')
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [Token(m.group(), m.start(), str(m.lastgroup)) for m in _TOKEN.finditer(text)]
        self.tokens.append(Token("", len(text.rstrip()), "end"))
        self.at = 0

    @property
    def peek(self) -> Token:
        """The next word, not yet read; empty at the end."""
        return self.tokens[self.at]

    @property
    def done(self) -> bool:
        """Whether everything has been read."""
        return self.peek.kind == "end"

    def take(self) -> Token:
        """Read the next word."""
        token = self.peek
        if not self.done:
            self.at += 1
        return token

    def accept(self, *words: str) -> Token | None:
        """Read the next word if it is one of these."""
        return self.take() if self.peek.low in words and not self.done else None

    def number(self, what: str, example: str = "10") -> float:
        """Read a number.

        Raises
        ------
        ConfigError
            If the next word is no number.
        """
        token = self.peek
        if token.kind != "number":
            self.refuse(token, f"expected {what}", (example,))
        self.take()
        return float(token.text.replace("−", "-"))

    def positive(self, what: str, example: str = "10") -> float:
        """Read a number above zero."""
        token = self.peek
        value = self.number(what, example)
        if not 0 < value < float("inf"):
            self.refuse(token, f"{what} must be a finite number above zero", (example,))
        return value

    def duration(self, what: str) -> float:
        """Read a number with a unit of time, in days."""
        value = self.positive(what, "2 weeks")
        return value * self.time_unit()

    def time_unit(self) -> float:
        """Read a unit of time, in days."""
        token = self.peek
        if token.low not in DURATIONS:
            self.refuse(token, "expected a unit of time", ("min", "h", "d", "week", "month"))
        self.take()
        return DURATIONS[token.low]

    def timepoint(self) -> float:
        """Read ``week 4`` or ``4 weeks``, in days since the first day."""
        if self.peek.low in DURATIONS:
            unit = self.time_unit()
            token = self.peek
            value = self.number("a time", "week 4")
        else:
            token = self.peek
            value = self.number("a time", "week 4")
            unit = self.time_unit()
        if not 0 <= value < float("inf"):
            self.refuse(token, "a time must be finite and not before day 0", ("week 4",))
        return value * unit

    def refuse(self, token: Token, what: str, expected: tuple[str, ...]) -> NoReturn:
        """Raise an error that shows the text with a caret line under the word.

        Raises
        ------
        ConfigError
            Always.
        """
        caret = " " * (len("  where: ") + token.start) + "^" * max(1, len(token.text))
        raise ConfigError(
            f"cannot read this regimen: {what}",
            where=f"{self.text}\n{caret}",
            exists=expected,
            do="write it like '10 mg/kg over 1h q2w x 39' or '700 mg over 30min q4w x 3 then 1400 mg over 30min q4w'",
        )
