"""SBML files (Level 2 and 3 core) read into a description of what changes, by what, and from where it starts.

What is not supported is refused with the name of the element: events, algebraic rules, delays, fast reactions,
compartments or stoichiometries that change, packages that a model requires.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libsbml

from trialtwin.core.errors import ConfigError, DataError
from trialtwin.diseases.sbml_expression import Call, Formula, Name, Number, Reader, names_in

SECONDS = 86400.0  # in a day


@dataclass(frozen=True)
class Flow:
    """What a state changes by: Σ stoichiometry · rate of reaction · factor, or a rate rule (``terms`` empty)."""

    state: str
    terms: tuple[tuple[Formula, str], ...]
    factor: Formula
    rule: Formula | None = None


@dataclass(frozen=True)
class SbmlModel:
    """A model as formulas over identifiers; parameters of a reaction are called "reaction.parameter".

    Species are concentrations, or amounts where they say hasOnlySubstanceUnits. ``begin`` are formulas of values at the
    start, in an order in which each reads only earlier ones; ``assigned`` likewise of values at any time, reactions'
    rates among them.
    """

    id: str
    values: tuple[tuple[str, float], ...]
    parameters: tuple[str, ...]
    begin: tuple[tuple[str, Formula], ...]
    assigned: tuple[tuple[str, Formula], ...]
    flows: tuple[Flow, ...]
    words: tuple[tuple[str, str], ...]
    unit_days: float | None


def read_sbml(path: Path) -> SbmlModel:
    """Read a file.

    Raises
    ------
    DataError
        If the file is not there, is not SBML of Level 2 or 3, breaks its rules (with the line), or says what is not
        supported (with the element).
    """
    if not path.is_file():
        raise DataError(f"no file {path}", do="give the path of an SBML file")
    document = libsbml.readSBMLFromFile(str(path))
    _require_sound(document, path)
    return _Elements(document.getModel(), path).describe()


def _require_sound(document: Any, path: Path) -> None:
    """Refuse a document with errors, of Level 1, without a model, or with packages that it requires."""
    serious = [document.getError(i) for i in range(document.getNumErrors())]
    serious = [e for e in serious if e.getSeverity() >= libsbml.LIBSBML_SEV_ERROR]
    if serious:
        first = serious[0]
        raise DataError(
            f"not SBML that can be read: {first.getShortMessage()}", where=f"{path}, line {first.getLine()}"
        )
    if document.getLevel() < 2 or document.getModel() is None:
        raise DataError("not a model of SBML Level 2 or 3", where=str(path), do="convert it with libsbml or COPASI")
    # in Level 2 packages are annotations
    for i in range(document.getNumPlugins() if document.getLevel() > 2 else 0):
        package = document.getPlugin(i).getPackageName()
        # the mathematics that Level 3 Version 2 added is read with all other
        if document.getPackageRequired(package) and package != "l3v2extendedmath":
            raise DataError(f"a model that requires the package {package!r}, which is not supported", where=str(path))


class _Elements:
    """The elements of one model, by identifier."""

    def __init__(self, model: Any, path: Path) -> None:
        self.model, self.path = model, path
        self.reader = Reader({d.getId(): d for d in model.getListOfFunctionDefinitions()})
        self.compartments = {c.getId(): c for c in model.getListOfCompartments()}
        self.species = {s.getId(): s for s in model.getListOfSpecies()}
        self.parameters = {p.getId(): p for p in model.getListOfParameters()}
        self.reactions = {r.getId(): r for r in model.getListOfReactions()}
        self.rules = {r.getVariable(): r for r in model.getListOfRules() if not r.isAlgebraic()}
        self.begin = {a.getSymbol(): a for a in model.getListOfInitialAssignments()}

    def describe(self) -> SbmlModel:
        """Return the description."""
        self._require_supported()
        local = dict(self._local_parameters())
        rates = {name: self._law(name) for name in self.reactions}
        rules = {name: self._math(rule, f"rule of {name!r}") for name, rule in self.rules.items()}
        assigned = rates | {n: f for n, f in rules.items() if self.rules[n].isAssignment()}
        changed = {n: f for n, f in rules.items() if self.rules[n].isRate()}
        begin = {n: self._math(a, f"initial assignment of {n!r}") for n, a in self.begin.items()}
        flows = tuple(self._flows(changed))
        values = {**dict(self._values(begin.keys() | assigned.keys())), **local}
        known = values.keys() | begin.keys() | assigned.keys()
        for name, formula in (begin | assigned | changed).items():
            self._require_known(name, formula, known)
        states = {flow.state for flow in flows}
        free = [n for n in self.parameters if n not in self.rules]
        return SbmlModel(
            id=self.model.getId() or self.path.stem,
            values=tuple(values.items()),
            parameters=(*free, *local),
            begin=tuple(self._ordered(begin | assigned)),
            assigned=tuple(self._ordered(assigned)),
            flows=flows,
            words=tuple((n, self._words(n)) for n in (*free, *local, *states)),
            unit_days=self._unit_days(),
        )

    def _where(self, element: str) -> str:
        return f"{self.path}, {element}"

    def _math(self, element: Any, where: str) -> Formula:
        return self.reader.read(element.getMath(), where=self._where(where))

    def _require_supported(self) -> None:
        """Refuse, by name, what would change the model's behaviour and is not supported."""
        refused: list[tuple[str, str]] = []
        refused += [("events", f"event {e.getId() or e.getIdAttribute()!r}") for e in self.model.getListOfEvents()]
        for i, rule in enumerate(self.model.getListOfRules()):
            if rule.isAlgebraic():
                refused.append(("algebraic rules", f"rule {i + 1} ({libsbml.formulaToL3String(rule.getMath())})"))
        refused += [("fast reactions", f"reaction {n!r}") for n, r in self.reactions.items() if r.getFast()]
        refused += [("compartments that change", f"compartment {n!r}") for n in self.compartments if n in self.rules]
        references = {s.getId() for r in self.reactions.values() for s in _references(r) if s.getId()}
        moved = references & (self.rules.keys() | self.begin.keys())
        refused += [("stoichiometries that change", f"species reference {n!r}") for n in sorted(moved)]
        if refused:
            what, where = refused[0]
            raise DataError(f"{what} are not supported", where=self._where(where))

    def _local_parameters(self) -> Iterator[tuple[str, float]]:
        for name, reaction in self.reactions.items():
            for p in _locals(reaction):
                if not p.isSetValue():
                    raise DataError(f"parameter {p.getId()!r} has no value", where=self._where(f"reaction {name!r}"))
                yield f"{name}.{p.getId()}", float(p.getValue())

    def _law(self, name: str) -> Formula:
        law = self.reactions[name].getKineticLaw()
        if law is None:
            raise DataError("a reaction without a kinetic law", where=self._where(f"reaction {name!r}"))
        own: dict[str, Formula] = {p.getId(): Name(f"{name}.{p.getId()}") for p in _locals(self.reactions[name])}
        return self.reader.read(law.getMath(), where=self._where(f"kinetic law of reaction {name!r}"), names=own)

    def _values(self, computed: set[str]) -> Iterator[tuple[str, float]]:
        """Yield values at the start that are numbers; those that formulas give are left out."""
        sizes = {n: float(c.getSize()) if c.isSetSize() else math.nan for n, c in self.compartments.items()}
        for name, size in sizes.items():
            if name in computed:
                continue
            if math.isnan(size) and self.compartments[name].getSpatialDimensions() != 0:
                raise DataError("a compartment without a size", where=self._where(f"compartment {name!r}"))
            yield name, 1.0 if math.isnan(size) else size
        for name, p in self.parameters.items():
            if name in computed:
                continue
            if not p.isSetValue():
                raise DataError("a parameter without a value", where=self._where(f"parameter {name!r}"))
            yield name, float(p.getValue())
        for name, s in self.species.items():
            if name in computed:
                continue
            if not (s.isSetInitialAmount() or s.isSetInitialConcentration()):
                raise DataError("a species without an initial value", where=self._where(f"species {name!r}"))
            size = sizes[s.getCompartment()]
            if self._in_amounts(s):
                given = s.getInitialAmount() if s.isSetInitialAmount() else s.getInitialConcentration() * size
            else:
                given = s.getInitialConcentration() if s.isSetInitialConcentration() else s.getInitialAmount() / size
            if math.isnan(given):
                where = self._where(f"species {name!r}")
                raise DataError(f"its compartment {s.getCompartment()!r} has no size as a number", where=where)
            yield name, float(given)

    def _in_amounts(self, species: Any) -> bool:
        none = self.compartments[species.getCompartment()].getSpatialDimensions() == 0
        return bool(species.getHasOnlySubstanceUnits() or none)

    def _flows(self, changed: Mapping[str, Formula]) -> Iterator[Flow]:
        """Yield what changes: by rate rules, and species that reactions make or use up."""
        one = Number(1.0)
        for name, formula in changed.items():
            yield Flow(name, (), one, formula)
        for name, s in self.species.items():
            if name in self.rules or s.getBoundaryCondition() or s.getConstant():
                continue
            terms = tuple(self._terms(name))
            if terms:
                yield Flow(name, terms, self._factor(s))

    def _factor(self, species: Any) -> Formula:
        factor = species.getConversionFactor() or self.model.getConversionFactor()
        scale: Formula = Name(factor) if factor else Number(1.0)
        return scale if self._in_amounts(species) else Call("DIVIDE", (scale, Name(species.getCompartment())))

    def _terms(self, name: str) -> Iterator[tuple[Formula, str]]:
        for id_, reaction in self.reactions.items():
            sides = ((reaction.getListOfReactants(), -1.0), (reaction.getListOfProducts(), 1.0))
            for references, sign in sides:
                for reference in references:
                    if reference.getSpecies() == name:
                        size = self._stoichiometry(reference, id_)
                        yield Call("TIMES", (Number(sign), size)), id_

    def _stoichiometry(self, reference: Any, reaction: str) -> Formula:
        where = f"stoichiometry of {reference.getSpecies()!r} in reaction {reaction!r}"
        if reference.isSetStoichiometryMath():
            return self.reader.read(reference.getStoichiometryMath().getMath(), where=self._where(where))
        value = float(reference.getStoichiometry())
        if math.isnan(value):
            raise DataError("a stoichiometry without a value", where=self._where(where))
        return Number(value)

    def _require_known(self, element: str, formula: Formula, known: Any) -> None:
        unknown = sorted(n for n in names_in(formula) if n not in known and " " not in n)
        if unknown:
            raise DataError(f"a formula reads {unknown[0]!r}, which has no value", where=self._where(f"{element!r}"))

    def _ordered(self, formulas: Mapping[str, Formula]) -> Iterator[tuple[str, Formula]]:
        """Yield formulas so that each reads only what came before."""
        left = dict(formulas)
        while left:
            ready = [n for n, f in left.items() if not names_in(f) & left.keys()]
            if not ready:
                raise DataError("formulas that need each other", where=self._where(f"{', '.join(map(repr, left))}"))
            for name in ready:
                yield name, left.pop(name)

    def _words(self, name: str) -> str:
        element = self.parameters.get(name) or self.species.get(name)
        if element is None:
            reaction, _, own = name.partition(".")
            return f"{own} of reaction {self.reactions[reaction].getName() or reaction}"
        return str(element.getName() or name)

    def _unit_days(self) -> float | None:
        """Return the days in a unit of the model's time, where it says so; Level 2 is in seconds unless it does."""
        unit = self.model.getTimeUnits() if self.model.getLevel() > 2 else "time"
        definition = self.model.getUnitDefinition(unit) if unit else None
        if definition is None:
            return 1 / SECONDS if unit in ("second", "time") else None
        if definition.getNumUnits() != 1 or not definition.getUnit(0).isSecond():
            return None
        own = definition.getUnit(0)
        if own.getExponentAsDouble() != 1:
            raise ConfigError("a unit of time that is not seconds to the power 1", where=self._where(f"unit {unit!r}"))
        return float(own.getMultiplier() * 10.0 ** own.getScale() / SECONDS)


def _references(reaction: Any) -> Iterator[Any]:
    yield from reaction.getListOfReactants()
    yield from reaction.getListOfProducts()


def _locals(reaction: Any) -> list[Any]:
    law = reaction.getKineticLaw()
    if law is None:
        return []
    return [*law.getListOfLocalParameters()] or [*law.getListOfParameters()]
