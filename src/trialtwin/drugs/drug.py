"""A drug as its file describes it, with errors that name the line."""

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trialtwin.core.errors import ConfigError
from trialtwin.core.finding import Assumption
from trialtwin.drugs.lines import Place, line_of
from trialtwin.drugs.mechanisms import MECHANISMS
from trialtwin.drugs.number import UNITS, Number
from trialtwin.drugs.page import Correlation, Covariate, DoseRate, Page
from trialtwin.drugs.regimen import parse_regimen
from trialtwin.drugs.schedule import Regimen

MOST_ERRORS = 10
DEPOT_ROUTES = ("SC", "PO", "TD", "IM")


@dataclass(frozen=True)
class Drug:
    """A drug: what its file says.

    Examples
    --------
    >>> from trialtwin.drugs.registry import find_drug
    >>> drug = find_drug("lecanemab")
    >>> drug.name, drug.diseases[0]
    ('lecanemab', 'alzheimer')
    """

    page: Page

    @property
    def name(self) -> str:
        """Its name."""
        return self.page.name

    @property
    def label(self) -> str:
        """Its name for a reader."""
        return self.page.label

    @property
    def regimen(self) -> Regimen:
        """The usual prescription."""
        return parse_regimen(self.page.regimen)

    @property
    def diseases(self) -> tuple[str, ...]:
        """Disease models that it has effects for, its own first."""
        named = [effect.disease or self.page.disease for effect in self.page.effect]
        return tuple(sorted(dict.fromkeys(named), key=lambda name: name != self.page.disease))

    def mechanisms(self, disease: str) -> tuple[str, ...]:
        """Return the mechanisms of a disease model that it acts on."""
        return tuple(e.mechanism for e in self.page.effect if (e.disease or self.page.disease) == disease)

    def assumptions(self, disease: str = "") -> tuple[Assumption, ...]:
        """Return every number as a line for a report, with source and confidence; provisional ones are marked.

        Parameters
        ----------
        disease
            Only what matters for this disease model; ``""`` for all.
        """
        lines = []
        for place, words, fact in self.page.facts():
            if disease and place[0] == "effect":
                effect = self.page.effect[int(place[1])]
                if (effect.disease or self.page.disease) != disease:
                    continue
            name = f"{self.name}: {words}"
            if isinstance(fact, Number):
                lines.append(fact.assumption(name, self.page.sources))
            elif isinstance(fact, Covariate | Correlation):
                lines.append(
                    Assumption(
                        name=name,
                        value=f"{fact.value:g}" + (f" ({fact.form})" if isinstance(fact, Covariate) else ""),
                        source=self.page.sources[fact.source],
                        confidence=fact.confidence,
                        provisional=fact.provisional,
                    )
                )
        return tuple(lines)


def read_drug(path: Path | str) -> Drug:
    """Read a drug file.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML, or does not describe a drug: each mistake with its line, up to ten.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the drug file {path}",
            where=getattr(error, "strerror", None) or str(error),
            do="name a drug of the library, or a file like those in trialtwin/drugs/library",
        ) from error
    return parse_drug(text, where=str(path))


def parse_drug(text: str, *, where: str = "a drug file") -> Drug:
    """Read a drug from the text of its file.

    Raises
    ------
    ConfigError
        As in ``read_drug``.

    Examples
    --------
    >>> parse_drug('name = "x"')  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    trialtwin.core.errors.ConfigError: this does not describe a drug:
      - line 1: effect: missing; it is needed
      ...
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is not valid TOML: {error}", where=where, do="correct that line") from error
    try:
        page = Page.model_validate(content)
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = [(place := _place(detail["loc"]), _explain(detail, place)) for detail in details]
        raise _refusal(text, found, where) from error
    mistakes = list(_mistakes(page))
    if mistakes:
        raise _refusal(text, mistakes, where)
    return Drug(page)


def _refusal(text: str, found: list[tuple[Place, str]], where: str) -> ConfigError:
    """Put mistakes in the order of their lines."""
    lines = sorted({(line_of(text, place), words) for place, words in found})
    shown = [f"  - line {number}: {words}" for number, words in lines[:MOST_ERRORS]]
    shown += [f"  - and {len(lines) - MOST_ERRORS} more"] if len(lines) > MOST_ERRORS else []
    return ConfigError(
        "this does not describe a drug:\n" + "\n".join(shown),
        where=where,
        do="correct these lines; the files in trialtwin/drugs/library show every key",
    )


def _place(found: Place) -> Place:
    """Return where an error is without the name of the variant by which a table was checked, which is no key."""
    variant = {"pk": 1, "target": 1, "effect": 2, "hazard": 2}.get(str(found[0]) if found else "", len(found))
    return found[:variant] + found[variant + 1 :]


def _explain(detail: ErrorDetails, place: Place) -> str:
    """Say one error of the schema in words: the key, what is wrong, and what exists."""
    key = ".".join(str(part) for part in place if isinstance(part, str)) or "file"
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return f"{key}: missing; it is needed"
    if kind == "extra_forbidden":
        return f"{key}: no such key here"
    if kind == "union_tag_not_found":
        return f"{key}: 'model' is missing; it says which kind this is"
    if kind == "union_tag_invalid":
        close = difflib.get_close_matches(str(context.get("tag")), str(context["expected_tags"]).split(", "), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        return f"{key}: no model {context.get('tag')!r}; there are: {context['expected_tags']}.{hint}"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{key}: {message}{shown}"


def _mistakes(page: Page) -> Iterator[tuple[Place, str]]:
    """Yield what the schema cannot see: names that do not exist, and parts that do not fit together."""
    for place, _, fact in page.facts():
        if fact.source not in page.sources:
            known = ", ".join(page.sources)
            yield place, f"{place[-1]}: no source {fact.source!r} in [sources]; there are: {known}"
    for i, effect in enumerate(page.effect):
        yield from _effect_mistakes(page, i)
        yield from _unit_mistakes(page, i)
        if effect.driver != "concentration" and page.target is None:
            yield ("effect", i, "driver"), f"driver {effect.driver!r} needs a [target]"
        if effect.driver == "site" and page.target is not None and page.target.site != "site":
            yield ("effect", i, "driver"), "driver 'site' needs a target with site = 'site'"
    if page.target is not None and isinstance(page.pk, DoseRate):
        yield ("target",), "a target needs concentrations, and model 'dose-rate' has none"
    if page.route in DEPOT_ROUTES and not isinstance(page.pk, DoseRate) and page.pk.ka is None:
        yield ("route",), f"route {page.route} needs the rate of absorption 'ka' in [pk]"
    try:
        regimen = parse_regimen(page.regimen)
    except ConfigError as error:
        yield ("regimen",), f"regimen: {error}"
        return
    if regimen.unit != page.unit:
        yield ("regimen",), f"regimen: in {regimen.unit}, where the drug's unit is {page.unit}"


def _effect_mistakes(page: Page, i: int) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with an effect's mechanism."""
    effect = page.effect[i]
    disease = effect.disease or page.disease
    place = ("effect", i, "mechanism")
    known = MECHANISMS.get(disease)
    if known is None:
        if effect.way is None:
            yield (
                place,
                f"disease {disease!r} is not one of {', '.join(MECHANISMS)}: say way = 'multiply' or way = 'add'",
            )
    elif effect.mechanism not in known:
        close = difflib.get_close_matches(effect.mechanism, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        yield (
            place,
            f"mechanism: {disease!r} has no mechanism {effect.mechanism!r}; it has: {', '.join(known)}{hint}",
        )
    elif effect.way not in (None, known[effect.mechanism]):
        yield (
            ("effect", i, "way"),
            f"way: {effect.mechanism!r} of {disease!r} is one that {_says(known[effect.mechanism])}",
        )
    earlier = [(e.disease or page.disease, e.mechanism) for e in page.effect[:i]]
    if (disease, effect.mechanism) in earlier:
        yield place, f"mechanism: {effect.mechanism!r} of {disease!r} has an effect already"


def _unit_mistakes(page: Page, i: int) -> Iterator[tuple[Place, str]]:
    """Yield what is compared with the driver in another unit than the driver's."""
    effect = page.effect[i]
    kind = "none" if effect.driver in ("occupancy", "suppression") else "concentration"
    kind = "dose rate" if kind == "concentration" and isinstance(page.pk, DoseRate) else kind
    for key, number in effect.numbers():
        if key in ("ec50", "reference") and number.unit not in UNITS[kind]:
            units = ", ".join(repr(unit) for unit in UNITS[kind])
            yield ("effect", i, key), f"{key}: unit {number.unit!r}, where the driver is a {kind}; there are: {units}"


def _says(way: str) -> str:
    return "multiplies" if way == "multiply" else "adds"
