"""What the source says of itself: every public thing has a numpydoc docstring, and every example in one runs."""

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "trialtwin"
# numpydoc's sections in numpydoc's order
SECTIONS = (
    "Parameters",
    "Attributes",
    "Returns",
    "Yields",
    "Raises",
    "Warns",
    "See Also",
    "Notes",
    "References",
    "Examples",
)
type Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def module_names() -> list[str]:
    names = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def source_of(name: str) -> str:
    path = SOURCE.parent.joinpath(*name.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


MODULES = module_names()
WITH_EXAMPLES = [name for name in MODULES if ">>> " in source_of(name)]


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    """Yield public functions and classes, and the public methods and properties of public classes."""
    for node in body:
        if isinstance(node, Definition.__value__) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def faults(node: Definition) -> Iterator[str]:
    """Yield what is wrong with one docstring."""
    text = ast.get_docstring(node)
    if not text:
        yield "no docstring"
        return
    lines = text.splitlines()
    if not re.search(r"[.?:]$", lines[0]) or (len(lines) > 1 and lines[1]):
        yield "its first line is not a sentence on its own"
    found = []
    for line, rule in zip(lines, [*lines[1:], ""], strict=True):
        if line in SECTIONS:
            found.append(line)
            if rule != "-" * len(line):
                yield f"section {line} is not underlined by as many dashes"
        elif re.fullmatch(r"-{3,}", rule) and not line.startswith(" "):
            yield f"numpydoc has no section {line!r}"
    if found != sorted(found, key=SECTIONS.index):
        yield f"sections out of order: {found}"
    names, types = _documented(lines)
    unknown = set(names) - _arguments(node)
    if unknown:
        yield f"documents {sorted(unknown)}, which it does not take"
    if types:
        yield f"writes types beside {types}: they are in the annotations"


def _documented(lines: list[str]) -> tuple[list[str], list[str]]:
    """Return the names under Parameters, and those followed by anything but a shape."""
    if "Parameters" not in lines:
        return [], []
    names, typed = [], []
    for line in lines[lines.index("Parameters") + 2 :]:
        if line in SECTIONS:
            break
        if line and not line.startswith(" "):
            marked = re.findall(r"(?:^|\), )([\w*]+(?:, [\w*]+)*) : (\w*)", line)
            for group, rest in marked or [(line, "shape")]:
                names += group.replace("*", "").split(", ")
                if rest not in ("shape", "each"):
                    typed.append(group)
    return names, typed


def _arguments(node: Definition) -> set[str]:
    """Return what a function takes, or the fields and constructor arguments of a class."""
    if isinstance(node, ast.ClassDef):
        fields = {s.target.id for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}
        constructors = [s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"]
        return fields.union(*(_arguments(c) for c in constructors))
    a = node.args
    given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *([a.vararg] if a.vararg else []), *([a.kwarg] if a.kwarg else [])]
    return {arg.arg for arg in given}


@pytest.mark.parametrize("name", MODULES)
def test_public_things_have_numpydoc_docstrings(name: str) -> None:
    wrong = {
        f"{node.name} (line {node.lineno})": list(faults(node)) for node in public(ast.parse(source_of(name)).body)
    }
    assert {what: why for what, why in wrong.items() if why} == {}


GOOD = '''
def mean(values, weights):
    """Return a mean.

    Parameters
    ----------
    values, weights : shape (n,)
        Numbers.

    Raises
    ------
    DataError
        If there are none.
    """
'''
BAD = {
    "no docstring": "def f(): pass",
    "not a sentence": 'def f():\n    """Return it\n    and so on."""',
    "underlined": GOOD.replace("------\n    DataError", "---\n    DataError"),
    "no section": GOOD.replace("Raises\n    ------", "Throws\n    ------"),
    "out of order": GOOD.replace("Parameters\n    ----------", "Examples\n    --------").replace(
        "Raises\n    ------", "Parameters\n    ----------\n    values\n        V.\n\n    Returns\n    -------"
    ),
    "does not take": GOOD.replace("values, weights :", "values, heights :"),
    "writes types": GOOD.replace("shape (n,)", "np.ndarray"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_docstring_is_found(fault: str) -> None:
    node = ast.parse(BAD[fault]).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert any(fault in found for found in faults(node)), list(faults(node))


def test_a_good_docstring_has_no_faults() -> None:
    node = ast.parse(GOOD).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert list(faults(node)) == []


def test_there_are_examples_to_run() -> None:
    assert len(WITH_EXAMPLES) > 15


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str) -> None:
    """Every ``>>>`` of the file is run, none fails, and none warns."""
    written = len(re.findall(r"^\s*>>> ", source_of(name), flags=re.MULTILINE))
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.FAIL_FAST)
    assert result.failed == 0
    assert result.attempted == written
