"""How wide words are, and where to break them, so that space is reserved before anything is drawn.

Widths are those of DejaVu Sans, which is wider than the sans-serif faces of common systems: what fits here fits there.
"""

from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

FAMILY = "DejaVu Sans"
LEADING = 1.25


@lru_cache(maxsize=8192)
def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of one line of text in points.

    Examples
    --------
    >>> width("Xanomeline", 8.0) > width("Placebo", 8.0) > 0
    True
    """
    if not text:
        return 0.0
    font = FontProperties(family=FAMILY, size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def printable(text: str, *, keep: str = "") -> str:
    r"""Replace what no text on a page may hold: white space by a space, other control characters by a mark.

    Examples
    --------
    >>> printable("two\nlines\x07"), printable("two\nlines", keep="\n")
    ('two lines�', 'two\nlines')
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep else " " if c in "\n\r\t" else "\ufffd" if _forbidden(c) else c for c in text)


def wrap(text: str, available: float, size: float, *, bold: bool = False) -> tuple[str, ...]:
    """Break a text at spaces into lines that fit; a word that is too long by itself is broken inside.

    Examples
    --------
    >>> wrap("Xanomeline High Dose", 60.0, 8.0)
    ('Xanomeline', 'High Dose')
    """
    lines: list[str] = []
    current = ""
    for word in text.split():
        joined = f"{current} {word}" if current else word
        if width(joined, size, bold=bold) <= available:
            current = joined
            continue
        if current:
            lines.append(current)
        *whole, current = _pieces(word, available, size, bold=bold)
        lines.extend(whole)
    return (*lines, current) if current or not lines else tuple(lines)


def balanced(text: str, available: float, size: float) -> tuple[str, ...]:
    """Break a text into as few lines as fit, and those as even as the words allow.

    Examples
    --------
    >>> balanced("Share of patients covered (95% interval)", 150.0, 8.5)
    ('Share of patients', 'covered (95% interval)')
    """
    lines = wrap(text, available, size)
    while len(lines) > 1:
        longest = max(width(line, size) for line in lines)
        closer = wrap(text, longest - 0.5, size)
        if len(closer) > len(lines) or max(width(line, size) for line in closer) >= longest:
            break
        lines = closer
    return lines


def shorten(text: str, available: float, size: float) -> str:
    """Cut a text that does not fit, with an ellipsis; the whole text stands in the table.

    Examples
    --------
    >>> shorten("Xanomeline High Dose", 60.0, 8.0)
    'Xanomeline…'
    """
    if width(text, size) <= available:
        return text
    kept = text
    while kept and width(kept.rstrip() + "…", size) > available:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def _forbidden(character: str) -> bool:
    """Tell whether XML or HTML forbids a character."""
    return character < " " or "\x7f" <= character <= "\x9f" or character in "\ufffe\uffff"


def _pieces(word: str, available: float, size: float, *, bold: bool) -> list[str]:
    """Break one word into pieces that fit, at least one character each."""
    pieces = [""]
    for character in word:
        if pieces[-1] and width(pieces[-1] + character, size, bold=bold) > available:
            pieces.append("")
        pieces[-1] += character
    return pieces
