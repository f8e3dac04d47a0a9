"""From a drawing to an inline SVG element: no outside names, ids of its own, colours as CSS variables, few bytes."""

import io
import re
import warnings
import xml.etree.ElementTree as ET

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from trialtwin.report.theme import VARIABLES

_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_LONG = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"#([\w.-]+)")
_COLOUR = re.compile("|".join(VARIABLES))
_GEOMETRY = frozenset({"d", "x", "y", "width", "height", "transform", "points"})
_DROPPED = frozenset({"id", "type", "transform"})
_FONT = re.compile(r"\s*font-family:[^;]*;?")


def inline_svg(figure: Figure, *, prefix: str, alt: str) -> str:
    """Return a figure as an SVG element for an HTML page.

    Identifiers begin with ``prefix``, so that clip paths of two figures on a page do not meet; artists whose gid
    begins with ``mark-`` become groups of that class. The text stays text, in the page's own font.
    """
    root = _tree(figure)
    body = [child for child in root if _name(child) != "metadata"]
    used = _references(root)
    clean = ET.Element("svg", {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": alt})
    for child in body:
        _copy(child, clean, prefix, used)
    return ET.tostring(clean, encoding="unicode")


def _tree(figure: Figure) -> ET.Element:
    """Let matplotlib write the figure and read it back."""
    stream = io.StringIO()
    FigureCanvasSVG(figure)
    with warnings.catch_warnings():
        # The reader's browser draws the text, with whatever font has the character; DejaVu only measures it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(stream, format="svg", metadata=_NO_METADATA, transparent=True)
    return ET.fromstring(stream.getvalue())  # noqa: S314


def _name(element: ET.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _references(root: ET.Element) -> frozenset[str]:
    """Collect the ids that something refers to; all others are dropped."""
    found = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.endswith("href") or "url(" in value:
                found.update(_REFERENCE.findall(value))
    return frozenset(found)


def _copy(source: ET.Element, parent: ET.Element, prefix: str, used: frozenset[str]) -> None:
    """Copy an element and what is in it without namespaces, style sheets and names that nothing refers to."""
    name = _name(source)
    if name == "style":
        return
    attributes = _attributes(source, prefix, used)
    if name in ("g", "defs") and not attributes:
        target = parent if name == "g" else ET.SubElement(parent, name)
    else:
        target = ET.SubElement(parent, name, attributes)
    if name == "text":
        target.text = source.text
    for child in source:
        _copy(child, target, prefix, used)
    if name == "defs" and len(target) == 0:
        parent.remove(target)
    elif name == "g" and target is not parent:
        _share_style(target)


def _attributes(source: ET.Element, prefix: str, used: frozenset[str]) -> dict[str, str]:
    """Return an element's attributes: short names, fewer decimals, own ids, colours as variables."""
    kept: dict[str, str] = {}
    styles: list[str] = []
    for name, value in source.attrib.items():
        short = name.rsplit("}", 1)[-1]
        if short == "id" and value.startswith("mark-"):
            kept["class"] = value
        elif short == "id" and value in used:
            kept["id"] = prefix + value
        elif short == "href":
            kept["href"] = f"#{prefix}{value[1:]}"
        elif short == "clip-path":
            kept["clip-path"] = _own(value, prefix)
        elif short in ("fill", "stroke"):
            styles.append(f"{short}: {_paint(value)}")
        elif short == "style":
            styles.append(_own(_paint(_FONT.sub("", value)), prefix).strip().rstrip(";"))
        elif short in _GEOMETRY and not value.startswith("rotate(-0 "):
            kept[short] = _LONG.sub(lambda match: f"{float(match[0]):.2f}", value).replace("\n", "").strip()
        elif short not in _DROPPED:
            kept[short] = value
    style = "; ".join(part for part in styles if part)
    return kept | {"style": style} if style else kept


def _own(value: str, prefix: str) -> str:
    """Let a reference point to this figure's own identifier."""
    return value.replace("url(#", f"url(#{prefix}")


def _paint(style: str) -> str:
    """Exchange the fixed colours for the page's variables."""
    return _COLOUR.sub(lambda match: f"var({VARIABLES[match[0]]})", style)


def _share_style(group: ET.Element) -> None:
    """Say once, on the group, the style that all its repeated markers have; opacity does not inherit."""
    uses = [child for child in group if child.tag == "use"]
    styles = {child.get("style", "") for child in uses}
    if len(uses) < 2 or len(uses) != len(group) or len(styles) != 1 or "style" in group.attrib:
        return
    shared = styles.pop()
    if not shared or re.search(r"(?<![-\w])opacity:", shared):
        return
    group.set("style", shared)
    for child in uses:
        del child.attrib["style"]
