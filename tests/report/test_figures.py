"""Every kind of figure draws what its table holds, where it stands, and says clearly what it cannot draw."""

import itertools
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from trialtwin.core.errors import DataError, MismatchError
from trialtwin.core.finding import Cell, Figure, Finding, Table
from trialtwin.report.figures import MOST_PANELS, compose, draw
from trialtwin.report.roles import ROLES, drawable
from trialtwin.report.theme import VARIABLES

from .sample_dossier import ARMS, HOSTILE, columns

DRAWN = ("fan", "pit", "coverage", "missing", "scatter", "bars", "forest")
FORBIDDEN_IN_SVG = ("http", "xmlns", "<style", "<script", "<metadata", "DejaVu", "#000")


def svg_of(finding: Finding, prefix: str = "fig-") -> str:
    assert finding.figure is not None
    assert finding.table is not None
    return draw(finding.figure, finding.table, prefix=prefix)


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314


def marks(svg: str, name: str, shape: str = "use") -> list[ET.Element]:
    """Return the drawn elements of the groups of one class."""
    groups = [g for g in parse(svg).iter("g") if g.get("class") == f"mark-{name}"]
    return [element for group in groups for element in group.iter(shape) if element.get("id") is None]


def make(
    kind: str, encoding: dict[str, str], rows: list[list[Cell]], *, names: str = "", **words: object
) -> tuple[Figure, Table]:
    table = Table(columns=columns(*(names.split() or encoding.values())), rows=rows)
    given = {"x_label": "x", "y_label": "y", "alt": "a figure"} | words
    return Figure(kind=kind, encoding=encoding, **given), table


def test_a_fan_has_a_dot_for_each_observed_value_and_a_band_for_each_patient(findings: dict[str, Finding]) -> None:
    table = findings["fan"].table
    assert table is not None
    svg = svg_of(findings["fan"])
    assert len(marks(svg, "observed")) == sum(cell is not None for cell in table.column("seen"))
    patients = len(set(table.column("panel")))
    assert len(marks(svg, "outer")) == len(marks(svg, "inner")) == patients
    assert len(marks(svg, "median", "path")) == patients


def test_a_band_of_a_single_time_is_drawn_and_a_gap_splits_a_band() -> None:
    encoding = {"x": "x", "low": "l", "high": "h", "median": "m"}
    rows: list[list[Cell]] = [[0, 1, 2, 1.5], [1, 1, 2, 1.5], [2, None, None, None], [3, 1, 2, 1.5]]
    svg = draw(*make("fan", encoding, rows))
    assert len(marks(svg, "outer")) == 1
    assert len(marks(svg, "outer", "path")) == 1
    assert len(marks(svg, "median", "path")) == 1
    assert len(marks(svg, "median")) == 1


def test_a_histogram_has_a_bar_and_an_expected_range_for_each_row(findings: dict[str, Finding]) -> None:
    svg = svg_of(findings["pit"])
    assert len(marks(svg, "bar", "path")) == len(marks(svg, "expected", "path")) == 20
    assert len(marks(svg, "reference", "path")) == 2


def test_an_interval_figure_has_a_dot_an_interval_and_a_nominal_value_for_each_row(
    findings: dict[str, Finding],
) -> None:
    svg = svg_of(findings["coverage"])
    assert len(marks(svg, "point")) == len(marks(svg, "interval", "path")) == len(marks(svg, "nominal", "path")) == 12


def test_a_missing_cell_is_a_gap(findings: dict[str, Finding]) -> None:
    svg = svg_of(findings["missing"])
    assert len(marks(svg, "point")) == len(marks(svg, "interval", "path")) == 8


def test_a_scatter_has_a_point_for_each_row_and_a_line_of_identity_in_each_panel(findings: dict[str, Finding]) -> None:
    svg = svg_of(findings["scatter"])
    assert len(marks(svg, "point")) == 195
    assert len(marks(svg, "identity", "path")) == 3


def test_bars_are_as_many_as_rows(findings: dict[str, Finding]) -> None:
    assert len(marks(svg_of(findings["bars"]), "bar", "path")) == 24


def test_a_forest_has_a_point_and_an_interval_for_each_row_and_prints_its_numbers(findings: dict[str, Finding]) -> None:
    svg = svg_of(findings["forest"])
    assert len(marks(svg, "point")) == len(marks(svg, "interval", "path")) == 6
    assert len(marks(svg, "reference", "path")) == 1
    words = [text.text for text in parse(svg).iter("text")]
    assert "−1.01 (−2.66, 0.65)" in words
    assert "Estimate (95% CI)" in words
    assert "Xanomeline High Dose − Placebo" in words


def test_a_forest_without_stated_levels_claims_none() -> None:
    figure, table = make("forest", {"label": "m", "y": "y", "low": "l", "high": "h"}, [["ANCOVA", 1.0, 0.5, 1.5]])
    words = [text.text for text in parse(draw(figure, table)).iter("text")]
    assert "Estimate (interval)" in words


def test_a_forest_keeps_the_rows_of_a_contrast_together_and_says_what_was_not_estimated() -> None:
    encoding = {"group": "g", "label": "m", "y": "y", "low": "l", "high": "h"}
    rows: list[list[Cell]] = [["A", "one", 1.0, 0.0, 2.0], ["B", "one", 2.0, 1.0, 3.0], ["A", "two", None, None, None]]
    words = [text.text for text in parse(draw(*make("forest", encoding, rows))).iter("text")]
    assert [w for w in words if w in ("A", "B", "one", "two")] == ["A", "one", "two", "B", "one"]
    assert "—" in words


SPREAD = np.random.default_rng(3).normal(size=(30, 4))
STANDING: dict[str, tuple[dict[str, str], dict[str, tuple[str, str]]]] = {
    "scatter": ({"x": "a", "y": "b"}, {"point": ("a", "b")}),
    "interval": ({"x": "a", "y": "b", "low": "c", "high": "d"}, {"point": ("a", "b"), "interval": ("a", "c")}),
    "fan": ({"x": "a", "low": "c", "high": "d", "observed": "b"}, {"observed": ("a", "b")}),
    "forest": ({"label": "n", "y": "b", "low": "c", "high": "d"}, {"point": ("b", ""), "interval": ("c", "")}),
}


@pytest.mark.parametrize("kind", sorted(STANDING))
def test_independent_marks_stand_where_the_table_says(kind: str) -> None:
    encoding, expected = STANDING[kind]
    a, b, c, d = np.sort(SPREAD[:, 0]), SPREAD[:, 1], SPREAD[:, 1] - 1 - SPREAD[:, 2] ** 2, SPREAD[:, 1] + 1
    held = {"a": a, "b": b, "c": c, "d": d}
    rows: list[list[Cell]] = [[f"row {k}", *(float(held[n][k]) for n in "abcd")] for k in range(len(a))]
    svg = draw(*make(kind, encoding, rows, names="n a b c d"))
    for name, (across, down) in expected.items():
        places = np.array([place(mark) for mark in marks(svg, name) or marks(svg, name, "path")])
        for data, drawn, sign in ((across, places[:, 0], 1), (down, places[:, 1], -1)):
            if not data:
                continue
            slope, offset = np.polyfit(held[data], drawn, 1)
            assert np.abs(drawn - slope * held[data] - offset).max() < 0.02
            assert np.sign(slope) == sign


def place(mark: ET.Element) -> tuple[float, float]:
    """Return where a marker is, or where a line begins."""
    if mark.tag == "use":
        return float(mark.get("x", "nan")), float(mark.get("y", "nan"))
    x, y = mark.get("d", "").split()[1:3]
    return float(x), float(y)


def test_groups_stand_beside_each_other_only_where_they_meet() -> None:
    encoding = {"x": "x", "y": "y", "group": "g"}
    apart = marks(draw(*make("interval", encoding, [["a", 1, "g"], ["a", 2, "h"]])), "point")
    alone = marks(draw(*make("interval", encoding, [["a", 1, "g"], ["b", 2, "h"], ["c", 3, "g"]])), "point")
    assert float(apart[1].get("x", "nan")) - float(apart[0].get("x", "nan")) > 10
    steps = np.diff(sorted(float(mark.get("x", "nan")) for mark in alone))
    assert steps[0] == pytest.approx(steps[1], abs=0.02)


def test_a_panel_named_by_a_number_says_what_the_number_is() -> None:
    figure, table = make("bars", {"x": "x", "y": "y", "panel": "p"}, [["a", 1, 0.5], ["a", 2, 0.9]], names="x y p")
    words = [text.text for text in parse(draw(figure, table)).iter("text")]
    assert "p 0.5" in words
    assert "p 0.9" in words


@pytest.mark.parametrize("kind", ["bars", "histogram"])
def test_independent_bars_are_as_high_as_their_numbers(kind: str) -> None:
    svg = draw(*make(kind, {"x": "x", "y": "y"}, [[1, 10], [2, 25], [3, 40]]))
    heights = []
    for path in marks(svg, "bar", "path"):
        ys = [float(v) for v in re.findall(r"[ML] [-\d.]+ ([-\d.]+)", path.get("d", ""))]
        heights.append(max(ys) - min(ys))
    assert np.array(heights) / heights[0] == pytest.approx([1.0, 2.5, 4.0], rel=1e-3)


def test_numbers_on_the_axis_of_bars_stand_in_ascending_order() -> None:
    words = [t.text for t in parse(draw(*make("bars", {"x": "x", "y": "y"}, [[10, 1], [2, 3]]))).iter("text")]
    assert words.index("2") < words.index("10")


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_table_gives_the_same_bytes(findings: dict[str, Finding], name: str) -> None:
    assert svg_of(findings[name]) == svg_of(findings[name])


@pytest.mark.parametrize("name", DRAWN)
def test_settings_of_the_user_change_nothing_and_are_left_alone(findings: dict[str, Finding], name: str) -> None:
    plain = svg_of(findings[name])
    ours = {"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "lines.linewidth": 9, "text.color": "red"}
    with mpl.rc_context(ours):
        assert svg_of(findings[name]) == plain
        assert {key: mpl.rcParams[key] for key in ours} == ours


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_names_nothing_outside_itself(findings: dict[str, Finding], name: str) -> None:
    svg = svg_of(findings[name])
    assert not [word for word in FORBIDDEN_IN_SVG if word in svg.replace(HOSTILE[:8], "")]
    root = parse(svg)
    ids = {element.get("id") for element in root.iter()} - {None}
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert wanted == ids
    assert all(i is not None and i.startswith("fig-") for i in ids)


def test_identifiers_of_two_figures_do_not_meet(findings: dict[str, Finding]) -> None:
    first, second = (set(re.findall(r'id="([^"]+)"', svg_of(findings["fan"], p))) for p in ("fig1-", "fig2-"))
    assert first
    assert not first & second


@pytest.mark.parametrize("name", DRAWN)
def test_colours_are_variables_that_follow_the_theme(findings: dict[str, Finding], name: str) -> None:
    svg = svg_of(findings[name])
    painted = re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)
    assert painted
    allowed = {f"var({variable})" for variable in VARIABLES.values()} | {"none"}
    assert {p for p in painted if not p.startswith("url(")} <= allowed
    # Black is what SVG paints where nothing is said, and a dark page would swallow it.
    texts = list(parse(svg).iter("text"))
    assert all("fill: var(" in text.get("style", "") for text in texts)


@pytest.mark.parametrize("name", DRAWN)
def test_labels_with_units_and_the_words_for_the_blind_are_there(findings: dict[str, Finding], name: str) -> None:
    figure = findings[name].figure
    assert figure is not None
    root = parse(svg_of(findings[name]))
    words = [text.text for text in root.iter("text")]
    assert figure.x_label in words
    assert figure.y_label in words
    assert (root.get("role"), root.get("aria-label")) == ("img", figure.alt)


def hard_figures() -> dict[str, tuple[Figure, Table]]:
    """Figures that ask for more room than there is."""
    visits = ("Baseline", "Week 2", "Week 4", "Week 8", "Week 12", "Week 16", "Week 20", "Week 24")
    long_arm = "Xanomeline transdermal therapeutic system, high dose, 81 mg a day, applied to the upper arm"
    grouped = {"x": "x", "y": "y", "group": "g", "panel": "p"}
    panelled = {"x": "x", "y": "y", "panel": "p"}
    arms: list[list[Cell]] = [
        [visit, 3.0 + k, f"{arm} {long_arm}", f"Site group {k}, {long_arm}"]
        for visit in visits
        for k, arm in enumerate(ARMS)
    ]
    label = "Mean change from baseline in the Alzheimer’s Disease Assessment Scale, cognitive part (points)"
    return {
        "long arms": make("bars", grouped, arms, y_label=label, x_label=label * 2),
        "arms on x": make("interval", {"x": "x", "y": "y"}, [[f"{long_arm} {k}", 1.0 * k] for k in range(9)]),
        "many on x": make("bars", {"x": "x", "y": "y"}, [[f"Term number {k}", k] for k in range(60)]),
        "short words on x": make("interval", panelled, [[v, 1.0, p] for v in visits for p in "abcde"]),
        "ends of x": make("histogram", panelled, [[5000.0 + 10000 * k, k, p] for k in range(10) for p in "abc"]),
        "many arms": make("scatter", {"x": "x", "y": "y", "group": "g"}, [[1, k, f"Dose {k} mg"] for k in range(24)]),
        "many patients": make(
            "fan", {"x": "x", "low": "l", "high": "h", "panel": "p"},
            [[x, 1e5, 1e6 + k, f"CDISCPILOT01-01-701-{1000 + k}"] for k in range(11) for x in (0.0, 56.5, 168.25)],
        ),
        "forest": make(
            "forest", {"group": "g", "label": "m", "y": "y", "low": "l", "high": "h"},
            [[f"{long_arm} - Placebo", f"{m} {long_arm}", -123.456, -234.5, 12.25] for m in "abc"], x_label=label,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", [*DRAWN, *hard_figures()])
def test_no_words_overlap_or_leave_the_figure(findings: dict[str, Finding], name: str) -> None:
    if name in DRAWN:
        figure, table = findings[name].figure, findings[name].table
    else:
        figure, table = hard_figures()[name]
    assert figure is not None
    assert table is not None
    canvas = compose(figure, table).figure
    renderer = FigureCanvasAgg(canvas).get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in canvas.texts if t.get_text().strip()]
    page = canvas.bbox
    slack = 0.02 * canvas.dpi
    for words, box in boxes:
        inside = box.x0 > -slack and box.x1 < page.x1 + slack and box.y0 > -slack and box.y1 < page.y1 + slack
        assert inside, f"{words!r} leaves the figure"
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        deep = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(deep) < slack, f"{first!r} lies on {second!r}"


def test_words_that_mean_harm_are_words() -> None:
    encoding = {"x": "x", "y": "y", "group": "g", "panel": "p"}
    nasty = "$\\frac{a}{b}$ </text><script>x</script> \x00\ufffe"
    svg = draw(*make("bars", encoding, [[nasty, 1, nasty, nasty]], x_label=nasty, y_label=nasty, alt=nasty))
    root = parse(svg)
    assert not list(root.iter("script"))
    assert "$\\frac{a}{b}$" in "".join(text.text or "" for text in root.iter("text"))


def test_scripts_that_our_font_lacks_are_left_to_the_browser() -> None:
    svg = draw(*make("bars", {"x": "x", "y": "y"}, [["患者", 1], ["مريض", 2], ["ε4 🧠", 3]]))
    assert "患者" in svg


@pytest.mark.parametrize("kind", sorted(ROLES))
def test_an_unknown_role_is_refused_with_the_roles_that_exist(kind: str) -> None:
    encoding = {role: role for role in ROLES[kind].required} | {"colour": "colour"}
    with pytest.raises(MismatchError, match="has no role 'colour'") as caught:
        draw(*make(kind, encoding, []))
    assert set(caught.value.exists) == {*ROLES[kind].required, *ROLES[kind].optional}


@pytest.mark.parametrize(("kind", "role"), [(kind, role) for kind, roles in ROLES.items() for role in roles.required])
def test_a_role_that_is_needed_and_not_given_is_named(kind: str, role: str) -> None:
    encoding = {needed: needed for needed in ROLES[kind].required if needed != role}
    with pytest.raises(MismatchError, match=f"needs the role '{role}'"):
        draw(*make(kind, encoding, []))


def test_half_of_an_interval_is_refused() -> None:
    with pytest.raises(MismatchError, match="needs both of 'low' and 'high'"):
        draw(*make("interval", {"x": "x", "y": "y", "low": "l"}, [["a", 1, 0]]))


def test_a_column_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(MismatchError, match="no column 'z'") as caught:
        draw(*make("bars", {"x": "x", "y": "z"}, [["a", 1]], names="x y"))
    assert caught.value.exists == ("x", "y")


def test_a_word_where_a_number_must_be_is_named_with_its_row() -> None:
    with pytest.raises(DataError, match="'high' is not a number") as caught:
        draw(*make("scatter", {"x": "x", "y": "y"}, [[1, 2], [1, "high"]]))
    assert "row 2, column 'y'" in str(caught.value)


@pytest.mark.parametrize("kind", ["histogram", "scatter"])
def test_words_on_x_are_refused_where_x_must_be_numbers(kind: str) -> None:
    with pytest.raises(DataError, match="'Week 8' is not a number"):
        draw(*make(kind, {"x": "x", "y": "y"}, [["Week 8", 1]]))


@pytest.mark.parametrize("kind", sorted(ROLES))
def test_a_table_with_nothing_to_draw_is_refused(kind: str) -> None:
    encoding = {role: role for role in ROLES[kind].required}
    empty, gaps = make(kind, encoding, []), make(kind, encoding, [[None] * len(encoding)] * 2)
    assert not drawable(*empty)
    assert not drawable(*gaps)
    with pytest.raises(DataError, match="nothing to draw"):
        draw(*gaps)


def test_more_panels_than_one_can_read_are_refused() -> None:
    rows: list[list[Cell]] = [[1, 1, f"patient {k}"] for k in range(MOST_PANELS + 1)]
    with pytest.raises(DataError, match=f"at most {MOST_PANELS}"):
        draw(*make("scatter", {"x": "x", "y": "y", "panel": "p"}, rows))
