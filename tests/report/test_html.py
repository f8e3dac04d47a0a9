"""The page: structure, escaping, nothing from outside, the same bytes, and readable in light and dark."""

import itertools
import re
import time
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialtwin.core.dossier import Dossier, Section
from trialtwin.core.errors import MismatchError
from trialtwin.core.finding import Column, Finding, Table
from trialtwin.report.html import render

from .sample_dossier import HOSTILE, bars, fan, finding, forest, histogram, scatter

VOID = {"meta", "link", "br", "hr", "img", "input", "col"}


class Element:
    """A node of a parsed page."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: "Element | None") -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element] = []
        self.words: list[str] = []

    def all(self, tag: str = "", **wanted: str) -> list["Element"]:
        """Return descendants by tag and attributes (class by one of its names)."""
        found = []
        for child in self.children:
            fits = all(v in child.attributes.get(k.rstrip("_"), "").split() for k, v in wanted.items())
            found += ([child] if fits and (not tag or child.tag == tag) else []) + child.all(tag, **wanted)
        return found

    @property
    def text(self) -> str:
        """Return the words in it, at any depth."""
        return "".join(self.words)


class Tree(HTMLParser):
    """A strict reader: every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {}, None)
        self.at = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice in <{tag}>"
        element = Element(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element and close it."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last."""
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        """Add words to the element and to all around it."""
        node: Element | None = self.at
        while node is not None:
            node.words.append(data)
            node = node.parent


def read(page: str) -> Element:
    tree = Tree()
    tree.feed(page)
    tree.close()
    assert tree.at is tree.root, f"<{tree.at.tag}> is never closed"
    return tree.root


@pytest.fixture(scope="module")
def page(dossier: Dossier) -> str:
    return render(dossier)


@pytest.fixture(scope="module")
def tree(page: str) -> Element:
    return read(page)


def lonely(*findings: Finding) -> Dossier:
    return Dossier(title="T", sections=[Section(id="s", title="S")], findings=findings)


def test_the_same_dossier_gives_the_same_bytes(dossier: Dossier, page: str) -> None:
    assert render(dossier) == page
    assert render(Dossier.model_validate_json(dossier.model_dump_json())) == page


def test_identifiers_are_unique_and_every_link_inside_has_its_target(tree: Element, page: str) -> None:
    ids = Counter(e.attributes["id"] for e in tree.all() if "id" in e.attributes)
    assert [i for i, times in ids.items() if times > 1] == []
    wanted = {e.attributes["href"][1:] for e in tree.all() if e.attributes.get("href", "").startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", page))
    wanted |= {e.attributes["aria-labelledby"] for e in tree.all() if "aria-labelledby" in e.attributes}
    assert wanted
    assert wanted <= set(ids)


def test_nothing_is_fetched_from_anywhere(tree: Element, page: str) -> None:
    for element in tree.all():
        assert element.tag not in {
            "script",
            "img",
            "iframe",
            "object",
            "embed",
            "video",
            "audio",
            "source",
            "base",
            "form",
        }
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"{name} on <{element.tag}>"
            assert name not in {"src", "srcset", "action", "formaction", "poster", "background", "ping", "xlink:href"}
            if name == "href":
                assert value == "data:," or value.startswith("#")
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    for word in ("@import", "@font-face", "http://", "https://", "src="):
        assert word not in page


def test_the_policy_forbids_all_network_access(tree: Element) -> None:
    (policy,) = tree.all("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.split(" ", 1) for rule in policy.attributes["content"].split("; "))
    assert rules["default-src"] == "'none'"
    assert set(" ".join(rules.values()).split()) <= {"'none'", "'unsafe-inline'", "data:"}
    assert "script-src" not in rules
    head = tree.all("head")[0].children
    assert [e.attributes.get("http-equiv") for e in head].index("Content-Security-Policy") < [
        e.tag for e in head
    ].index("style")


def test_strings_that_mean_harm_are_shown_as_they_are(tree: Element, page: str) -> None:
    assert "<script" not in page.lower()
    shown = HOSTILE.replace("\x07", "\ufffd")
    assert shown in tree.all("article", id="finding-hostile")[0].all("td")[0].text
    assert sum(shown in h.text for h in tree.all("h3")) == 1
    assert "\x07" not in page


def test_landmarks_headings_and_skip_link(tree: Element) -> None:
    assert [len(tree.all(tag)) for tag in ("header", "nav", "main", "footer", "h1", "title")] == [1] * 6
    levels = [int(e.tag[1]) for e in tree.all() if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels[0] == 1
    assert max(b - a for a, b in itertools.pairwise(levels)) == 1
    first = tree.all("body")[0].all("a")[0]
    assert first.attributes == {"class": "skip", "href": "#main"}
    assert tree.all("html")[0].attributes == {"lang": "en"}


def test_every_table_has_a_caption_and_every_heading_its_scope(tree: Element) -> None:
    for table in tree.all("table"):
        assert len(table.all("caption")) == 1
        assert table.all("caption")[0].text.strip()
        assert {th.attributes.get("scope") for th in table.all("th")} <= {"col", "row"}
        wide = {len(row.children) for row in table.all("tr")}
        assert len(wide) == 1 or table.all("td", class_="empty")


def test_figures_carry_their_words_and_say_which_table_they_are_drawn_from(tree: Element, dossier: Dossier) -> None:
    drawn = [f for f in dossier.findings if f.figure is not None and f.table is not None and f.table.rows]
    plots = tree.all("figure")
    assert [p.all("svg")[0].attributes["aria-label"] for p in plots] == [f.figure.alt for f in drawn if f.figure]
    captions = {c.text.split(".")[0] for c in tree.all("caption")}
    for number, plot in enumerate(plots, start=1):
        (caption,) = plot.all("figcaption")
        assert caption.text.startswith(f"Figure {number}.")
        match = re.search(r"Drawn from (Table \d+)\.$", caption.text)
        assert match
        assert match[1] in captions


def test_verdicts_are_words(tree: Element, dossier: Dossier) -> None:
    badges = [article.all("span", class_="badge")[0].text for article in tree.all("article")]
    order = [f.verdict.upper() for section in dossier.sections for f in dossier.in_section(section)]
    assert badges == order
    summary = tree.all("section", id="summary")[0]
    counts = [" ".join(li.text.split()) for li in summary.all("ul", class_="counts")[0].all("li")]
    assert counts == ["PASS 5", "FAIL 2", "INFO 4"]
    failed = {a.attributes["href"] for a in summary.all("a")}
    assert {"#finding-hostile", "#finding-coverage"} <= failed


def test_long_tables_are_folded_with_their_number_of_rows(tree: Element) -> None:
    folded = {" ".join(d.all("summary")[0].text.split()): d for d in tree.all("details", class_="long")}
    match = [s for s in folded if s.startswith("Table 2. Reliability of each patient")]
    assert match == ["Table 2. Reliability of each patient (40 rows)"]
    assert len(folded[match[0]].all("tbody")[0].all("tr")) == 40
    for article in tree.all("article"):
        for body in article.all("tbody"):
            inside = any(body in d.all("tbody") for d in article.all("details", class_="long"))
            assert inside == (len(body.all("tr")) > 15)


def test_results_and_assumptions_are_never_folded(dossier: Dossier) -> None:
    many = dossier.assumptions[0].model_copy(update={"assumptions": dossier.assumptions[0].assumptions * 10})
    tree = read(render(dossier.model_copy(update={"results": dossier.results * 6, "assumptions": (many,)})))
    folded = [body for details in tree.all("details") for body in details.all("tbody")]
    long = [body for section in tree.all("section") for body in section.all("tbody") if len(body.all("tr")) in (20, 24)]
    assert [len(body.all("tr")) for body in long if body not in folded] == [24, 20]


def test_findings_of_words_only_are_set_as_lines(tree: Element) -> None:
    assert [article.attributes["id"] for article in tree.all("article", class_="plain")] == ["finding-words"]


def test_missing_cells_small_p_values_and_minus_signs(tree: Element) -> None:
    rows = tree.all("article", id="finding-hostile")[0].all("tbody")[0].all("tr")
    cells = [[cell.text for cell in row.children] for row in rows]
    assert cells[0][2:] == ["−71.25", "<0.001", "yes"]
    assert cells[1][1:] == ["01-703-1042", "—", "0.245", "no"]
    assert cells[2][1:] == ["—", "0.50", "0.0496", "—"]


def test_numbers_in_sentences_get_a_true_minus_and_identifiers_keep_their_hyphens() -> None:
    dossier = lonely(finding("f", "s", "F", text="-1.01 (-2.66 to 0.65) in 01-701-1015."))
    assert "−1.01 (−2.66 to 0.65) in 01-701-1015." in read(render(dossier)).all("article")[0].text


def test_an_empty_table_is_said_to_be_empty(tree: Element) -> None:
    article = tree.all("article", id="finding-empty")[0]
    assert not article.all("svg")
    assert "No figure: Table 3 has no values to draw." in article.text
    assert article.all("td")[0].text == "no rows"


def test_results_are_printed_with_unit_level_and_estimand(tree: Element) -> None:
    (table,) = [t for t in tree.all("table") if "ADAS-Cog (11) change, Week 24, Efficacy" in t.all("caption")[0].text]
    assert [th.text for th in table.all("thead")[0].all("th")] == [
        "Analysis", "Contrast", "Method", "Variance", "n", "Estimate (points)", "SE", "df", "95% CI", "p",
    ]  # fmt: skip
    rows = [[cell.text for cell in row.children] for row in table.all("tbody")[0].all("tr")]
    assert rows[0] == [
        "Table 14-3.01", "Xanomeline High Dose − Placebo", "ANCOVA", "model", "153", "−1.01", "0.841", "227",
        "(−2.66, 0.65)", "0.233",
    ]  # fmt: skip
    assert [row[-1] for row in rows] == ["0.233", "0.241", "<0.001", "0.317"]
    assert [row[7] for row in rows] == ["227", "226", "163.5", "∞"]


def test_results_without_a_section_of_their_own_get_one(dossier: Dossier) -> None:
    sections = tuple(section.model_copy(update={"results": False}) for section in dossier.sections)
    tree = read(render(dossier.model_copy(update={"sections": sections})))
    assert "Table 14-3.01" in tree.all("section", id="section-results")[0].text


def test_results_of_two_estimands_say_which(dossier: Dossier) -> None:
    first = dossier.results[0]
    assert first.estimate.estimand is not None
    other = first.estimate.estimand.model_copy(update={"population": "completers"})
    second = first.model_copy(update={"estimate": first.estimate.model_copy(update={"estimand": other})})
    none = first.model_copy(update={"estimate": first.estimate.model_copy(update={"estimand": None})})
    tree = read(render(dossier.model_copy(update={"results": (first, second, none)})))
    (table,) = [t for t in tree.all("table") if "Efficacy" in t.all("caption")[0].text]
    assert [row.children[-1].text for row in table.all("tbody")[0].all("tr")] == ["1", "2", "—"]
    assert [t.all("caption")[0].text.split(" addressed")[0] for t in tree.all("table", class_="estimand")] == [
        "Estimand 1", "Estimand 2",
    ]  # fmt: skip


def test_the_estimand_stands_in_the_title_block_with_its_five_attributes(tree: Element) -> None:
    (table,) = tree.all("header")[0].all("table", class_="estimand")
    assert [th.text for th in table.all("th")] == [
        "Treatment", "Population", "Variable", "Intercurrent events", "Population-level summary",
    ]  # fmt: skip
    assert "treatment discontinuation: treatment policy" in table.text


def test_provisional_assumptions_are_tagged(tree: Element) -> None:
    section = tree.all("section", id="assumptions")[0]
    tagged = [row.text for row in section.all("tr") if row.all("span", class_="tag")]
    assert len(tagged) == 1
    assert tagged[0].startswith("tau spread rate")
    assert "1 of 3" in section.text


def test_provenance_shows_hashes_seed_versions_and_the_command(tree: Element, dossier: Dossier) -> None:
    section = tree.all("section", id="provenance")[0]
    words = section.text
    for wanted in (*dossier.provenance.data.values(), dossier.provenance.configuration, dossier.provenance.lock):
        assert wanted in words
    assert dossier.provenance.command in section.all("pre")[0].text
    assert "trialtwin 0.1.0" in tree.all("footer")[0].text


def test_a_bare_dossier_makes_a_page() -> None:
    tree = read(render(Dossier(title="T", sections=[])))
    assert [h.text for h in tree.all("h2")] == ["Contents", "Summary", "Provenance"]


def test_two_names_that_look_alike_in_a_link_stay_apart() -> None:
    tree = read(render(lonely(finding("a b", "s", "A"), finding("a/b", "s", "B"), finding("äöü", "s", "C"))))
    assert [a.attributes["id"] for a in tree.all("article")] == ["finding-a-b", "finding-a-b-2", "finding-x"]


def test_an_error_in_a_figure_names_its_finding(findings: dict[str, Finding]) -> None:
    figure = findings["bars"].figure
    assert figure is not None
    wrong = figure.model_copy(update={"encoding": {"x": "site", "y": "patients", "colour": "arm"}})
    with pytest.raises(MismatchError, match="has no role 'colour'") as caught:
        render(lonely(findings["bars"].model_copy(update={"figure": wrong, "section": "s"})))
    assert "finding 'bars'" in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_any_text_comes_back_from_the_page_as_it_was(text: str) -> None:
    table = Table(columns=[Column(name="a", label=text)], rows=[[text]], note=text)
    dossier = Dossier(
        title=text, sections=[Section(id=text, title=text)], findings=[finding(text, text, text, table=table)]
    )
    tree = read(render(dossier))
    cell = "".join(
        c if c in "\n\t" or not (c < " " or "\x7f" <= c <= "\x9f") else " " if c == "\r" else "\ufffd" for c in text
    )
    cell = cell.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    assert tree.all("h1")[0].text == cell
    assert tree.all("article")[0].all("tbody")[0].all("th")[0].text == cell


def luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_sufficient(page: str, theme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", page, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for ink in ("ink", "muted", "link", "fail"):
        for paper in ("paper", "panel"):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    for tag in ("pass", "fail", "info", "tag"):
        assert contrast(colours[tag], colours[f"{tag}-bg"]) >= 4.5, tag
    for colour in ("c1", "c2", "c3"):
        assert contrast(colours[colour], colours["paper"]) >= 3.0, colour


def test_a_page_of_forty_findings_and_fifteen_figures_is_quick_and_small() -> None:
    drawn = [make() for _ in range(3) for make in (fan, histogram, scatter, bars, forest)]
    plain = [finding("p", "s", "Plain", table=drawn[-1].table) for _ in range(25)]
    findings = [f.model_copy(update={"id": f"f{k}", "section": "s"}) for k, f in enumerate((*drawn, *plain))]
    assert (len(findings), sum(f.figure is not None for f in findings)) == (40, 15)
    started = time.process_time()
    page = render(lonely(*findings))
    assert time.process_time() - started < 6.0
    assert len(page.encode()) < 3_000_000
