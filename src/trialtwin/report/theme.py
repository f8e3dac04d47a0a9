"""Colours and markers of figures: Okabe and Ito's palette, drawn with markers and dashes that survive a grey print.

Figures are drawn in fixed colours that are then exchanged for CSS variables, so that one drawing serves a light and
a dark page. Palette: Okabe M, Ito K. Color Universal Design, 2008; order chosen for contrast on white.
"""

from dataclasses import dataclass

INK = "#23272e"
MUTED = "#5c6470"
RULE = "#d9dde3"
PAPER = "#fdfdfe"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BLUE = PALETTE[0]
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
DASHED = (0.0, (4.0, 2.0))
HATCHES = ("", "////", "\\\\\\\\", "----", "xxxx", "||||")

VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"} | {
    colour: f"--c{place}" for place, colour in enumerate(PALETTE, start=1)
}


@dataclass(frozen=True)
class Style:
    """How one group is drawn, the same in every panel."""

    colour: str
    marker: str
    hatch: str


ONLY = Style(BLUE, "o", "")


def style(place: int) -> Style:
    """Return the look of the group at a place; 24 places pass before colour and marker repeat together.

    Examples
    --------
    >>> style(0).marker, style(1).marker
    ('o', 's')
    """
    return Style(
        colour=PALETTE[place % len(PALETTE)],
        marker=MARKERS[place % len(MARKERS)],
        hatch=HATCHES[place % len(HATCHES)],
    )
