"""Formulas of SBML: read from MathML into trees of our own, and worked out with JAX.

A tree is made of numbers, names and calls, nothing else; function definitions are put in where they are called. No text
is ever handed to an interpreter of code: each call is looked up in the table below, and what is not there is refused by
the name of the element in which it stands.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import libsbml
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from trialtwin.core.errors import DataError

TIME = "time of the model"  # not an identifier of SBML, so that no element can have it
AVOGADRO = 6.02214179e23  # as SBML defines it, L3V1 section 3.4.6
DEEPEST, MOST = 200, 50_000  # of a formula: nested calls, and nodes once definitions are put in


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Name:
    """The value of an element, or of time."""

    id: str


@dataclass(frozen=True)
class Call:
    """An operation on other formulas."""

    operation: str
    arguments: tuple["Formula", ...]


type Formula = Number | Name | Call


def _divided(x: Any, y: Any) -> Any:
    return x / y


def _minus(x: Any, *y: Any) -> Any:
    return x - y[0] if y else -x


def _power(x: Any, y: Any) -> Any:
    # whole powers are products: exact, and with a slope at 0
    if isinstance(y, float) and y.is_integer() and abs(y) <= 64:
        return x ** int(y)
    return jnp.power(jnp.asarray(x), y)


def _root(*arguments: Any) -> Any:
    degree, x = arguments if len(arguments) == 2 else (2.0, arguments[0])
    return jnp.sqrt(x) if degree == 2.0 else jnp.power(jnp.asarray(x), 1.0 / degree)


def _log(*arguments: Any) -> Any:
    base, x = arguments if len(arguments) == 2 else (10.0, arguments[0])
    return jnp.log(x) / jnp.log(base)


def _piecewise(*parts: Any) -> Any:
    value = parts[-1]
    for then, condition in reversed(list(zip(parts[:-1:2], parts[1:-1:2], strict=True))):
        value = jnp.where(_true(condition), then, value)
    return value


def _true(value: Any) -> Any:
    return jnp.asarray(value) != 0


def _chain(compare: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def hold(*values: Any) -> Any:
        pairs = itertools.pairwise(values)
        return functools.reduce(jnp.logical_and, (compare(jnp.asarray(a), b) for a, b in pairs), jnp.asarray(1) == 1)

    return hold


def _logical(join: Callable[[Any, Any], Any], start: bool) -> Callable[..., Any]:
    return lambda *values: functools.reduce(join, map(_true, values), jnp.asarray(start))


def _reciprocal(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: 1 / function(x)


def _of_reciprocal(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: function(1 / x)


_HYPERBOLIC = {"SIN": jnp.sin, "COS": jnp.cos, "TAN": jnp.tan, "SINH": jnp.sinh, "COSH": jnp.cosh, "TANH": jnp.tanh}
_INVERSE = {
    "ARCSIN": jnp.arcsin, "ARCCOS": jnp.arccos, "ARCTAN": jnp.arctan,
    "ARCSINH": jnp.arcsinh, "ARCCOSH": jnp.arccosh, "ARCTANH": jnp.arctanh,
}  # fmt: skip
_PARTNER = {"SIN": "CSC", "COS": "SEC", "TAN": "COT"}  # of a function, its reciprocal


def _partners(functions: Mapping[str, Any], wrap: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    found = {}
    for name, function in functions.items():
        for stem, partner in _PARTNER.items():
            if name.replace("ARC", "").removesuffix("H") == stem:
                found[f"FUNCTION_{name.replace(stem, partner)}"] = wrap(function)
    return found


# libsbml's name of each kind of node, and what it does
OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "PLUS": lambda *x: sum(x[1:], x[0]) if x else 0.0,
    "TIMES": lambda *x: functools.reduce(operator.mul, x, 1.0),
    "MINUS": _minus,
    "DIVIDE": _divided,
    "POWER": _power,
    "FUNCTION_POWER": _power,
    "FUNCTION_ROOT": _root,
    "FUNCTION_ABS": jnp.abs,
    "FUNCTION_EXP": jnp.exp,
    "FUNCTION_LN": jnp.log,
    "FUNCTION_LOG": _log,
    "FUNCTION_FLOOR": jnp.floor,
    "FUNCTION_CEILING": jnp.ceil,
    "FUNCTION_FACTORIAL": lambda x: jnp.exp(gammaln(x + 1.0)),
    "FUNCTION_PIECEWISE": _piecewise,
    "FUNCTION_MIN": lambda *x: functools.reduce(jnp.minimum, x),
    "FUNCTION_MAX": lambda *x: functools.reduce(jnp.maximum, x),
    "FUNCTION_QUOTIENT": lambda x, y: jnp.trunc(x / y),
    "FUNCTION_REM": lambda x, y: x - y * jnp.trunc(x / y),
    "RELATIONAL_EQ": _chain(operator.eq),
    "RELATIONAL_NEQ": _chain(operator.ne),
    "RELATIONAL_GT": _chain(operator.gt),
    "RELATIONAL_LT": _chain(operator.lt),
    "RELATIONAL_GEQ": _chain(operator.ge),
    "RELATIONAL_LEQ": _chain(operator.le),
    "LOGICAL_AND": _logical(jnp.logical_and, start=True),
    "LOGICAL_OR": _logical(jnp.logical_or, start=False),
    "LOGICAL_XOR": _logical(jnp.logical_xor, start=False),
    "LOGICAL_NOT": lambda x: ~_true(x),
    "LOGICAL_IMPLIES": lambda x, y: ~_true(x) | _true(y),
    **{f"FUNCTION_{name}": function for name, function in (_HYPERBOLIC | _INVERSE).items()},
    **_partners(_HYPERBOLIC, _reciprocal),
    **_partners(_INVERSE, _of_reciprocal),
}
_CONSTANTS = {"CONSTANT_PI": math.pi, "CONSTANT_E": math.e, "CONSTANT_TRUE": 1.0, "CONSTANT_FALSE": 0.0}
_KINDS = {
    getattr(libsbml, f"AST_{name}"): name for name in (*OPERATIONS, *_CONSTANTS) if hasattr(libsbml, f"AST_{name}")
}
_UNKNOWN = {libsbml.AST_FUNCTION_DELAY: "delay", getattr(libsbml, "AST_FUNCTION_RATE_OF", -1): "rateOf"}


class Reader:
    """Reads formulas of one model, whose function definitions it knows.

    Parameters
    ----------
    definitions
        By identifier, from libsbml.
    """

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._read = 0

    def read(self, node: Any, *, where: str, names: Mapping[str, Formula] | None = None) -> Formula:
        """Return a formula, with the definitions that it calls put in.

        Parameters
        ----------
        node
            From libsbml.
        where
            The element in which the formula stands, for messages.
        names
            What some names stand for here: parameters of a reaction, arguments of a definition.

        Raises
        ------
        DataError
            If there is no formula, or it says what is not supported; names the element.
        """
        if node is None:
            raise DataError("an element without its formula", where=where, do="give its <math>")
        self._read = 0
        return self._node(node, names or {}, where, 0)

    def _node(self, node: Any, names: Mapping[str, Formula], where: str, depth: int) -> Formula:
        self._read += 1
        if depth > DEEPEST or self._read > MOST:
            raise DataError("a formula that is too deep or too long", where=where, do="write it in parts, by rules")
        leaf = _leaf(node, names)
        if leaf is not None:
            return leaf
        kind = node.getType()
        name = _KINDS.get(kind, "")
        arguments = tuple(self._node(node.getChild(i), names, where, depth + 1) for i in range(node.getNumChildren()))
        if kind == libsbml.AST_FUNCTION:
            return self._defined(node.getName(), arguments, where, depth)
        if not name:
            said = _UNKNOWN.get(kind) or node.getName() or f"libsbml node {kind}"
            raise DataError(f"a formula with {said!r}, which is not supported", where=where)
        if name == "FUNCTION_PIECEWISE" and len(arguments) % 2 == 0:
            raise DataError("a piecewise formula that says nothing otherwise", where=where, do="give <otherwise>")
        return Call(name, arguments)

    def _defined(self, name: str, arguments: tuple[Formula, ...], where: str, depth: int) -> Formula:
        """Return the body of a definition with its arguments put in."""
        if name not in self._definitions:
            raise DataError(f"a call of {name!r}, which is not defined", where=where, exists=self._definitions)
        definition = self._definitions[name]
        wanted = [definition.getArgument(i).getName() for i in range(definition.getNumArguments())]
        if len(wanted) != len(arguments):
            raise DataError(f"{name!r} takes {len(wanted)} arguments and is given {len(arguments)}", where=where)
        return self._node(definition.getBody(), dict(zip(wanted, arguments, strict=True)), where, depth + 1)


def _leaf(node: Any, names: Mapping[str, Formula]) -> Formula | None:
    """Return the number or name that a node is, or None where it is a call."""
    kind = node.getType()
    if node.isNumber():
        return Number(float(node.getValue()))
    if kind == libsbml.AST_NAME_TIME:
        return Name(TIME)
    if kind == libsbml.AST_NAME:
        return names.get(node.getName(), Name(node.getName()))
    constant = AVOGADRO if kind == libsbml.AST_NAME_AVOGADRO else _CONSTANTS.get(_KINDS.get(kind, ""))
    return None if constant is None else Number(constant)


def names_in(formula: Formula) -> frozenset[str]:
    """Return the names that a formula reads."""
    if isinstance(formula, Name):
        return frozenset({formula.id})
    if isinstance(formula, Call):
        return frozenset().union(*(names_in(argument) for argument in formula.arguments))
    return frozenset()


def work_out(formula: Formula, values: Mapping[str, Float[Array, ""]]) -> Any:
    """Return the value of a formula: a number, or an array where names lead to arrays.

    Examples
    --------
    >>> half = Call("DIVIDE", (Name("x"), Number(2.0)))
    >>> float(work_out(half, {"x": jnp.asarray(3.0)}))
    1.5
    """
    if isinstance(formula, Number):
        return formula.value
    if isinstance(formula, Name):
        return values[formula.id]
    return OPERATIONS[formula.operation](*(work_out(argument, values) for argument in formula.arguments))
