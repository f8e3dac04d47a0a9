"""The house rules, read from the source with ``ast``: who imports whom, circles, sizes, names, and what is banned.

``violations`` reads a tree of modules and returns one line for each broken rule. The tests run it on planted
violations first, so that it cannot pass by not looking, and then on the package itself.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

PACKAGE = "trialtwin"
SOURCE = Path(__file__).resolve().parents[1] / "src" / PACKAGE
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
BANNED_FILE_NAMES = {"utils", "util", "helpers", "helper", "misc"}
BANNED_IMPORTS = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
BANNED_CALLS = {"eval", "exec"}

EVERYTHING = ("*",)
# What each room may import besides itself; a name stands for the module and all below it.
LAW: dict[str, tuple[str, ...]] = {
    "core": (),
    "stats": ("core.arrays", "core.errors", "core.estimate"),
    "infer": ("core",),
    "engine": ("core",),
    "data": ("core",),
    "drugs": ("core",),
    "synthesis": ("core",),
    "explain": ("core",),
    "equity": ("core",),
    "report": ("core",),
    "diseases": ("core", "engine", "infer", "stats"),
    "risk": ("core", "engine", "infer", "stats"),
    "twins": ("core", "engine", "infer", "stats", "diseases.base"),
    "trials": ("core", "stats", "engine.executor"),
    "validate": ("core", "stats"),
    "study": EVERYTHING,
    "cli": ("core", "study", "report"),
    "web": ("core", "study", "report"),
}
NEVER: dict[str, tuple[str, ...]] = {"study": ("report", "cli", "web")}


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name below the package ("" for the root), and what was parsed."""

    name: str
    path: Path
    lines: int
    tree: ast.Module

    @property
    def room(self) -> str:
        """First part of the name."""
        return self.name.split(".")[0]

    @property
    def is_package(self) -> bool:
        """Whether this is an ``__init__``."""
        return self.path.stem == "__init__"


def read_modules(source: Path) -> dict[str, Module]:
    """Parse every Python file below a folder."""
    modules = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, path, len(text.splitlines()), ast.parse(text))
    return modules


def imports(module: Module, modules: dict[str, Module]) -> Iterator[tuple[str, str, int]]:
    """Yield target module, imported name ("" for the module itself) and line of every import of our own."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield alias.name.removeprefix(PACKAGE).lstrip("."), "", node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            if base is None:
                continue
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield (inner, "", node.lineno) if inner in modules else (base, alias.name, node.lineno)
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"} and node.args:
            name = node.args[0]
            if not isinstance(name, ast.Constant):
                yield "?", "", node.lineno
            elif str(name.value).split(".")[0] == PACKAGE:
                yield str(name.value).removeprefix(PACKAGE).lstrip("."), "", node.lineno


def _base(module: Module, node: ast.ImportFrom) -> str | None:
    """Return the module that ``from … import`` names, or ``None`` where it is not ours."""
    if node.level == 0:
        name = node.module or ""
        return name.removeprefix(PACKAGE).lstrip(".") if name.split(".")[0] == PACKAGE else None
    parts = module.name.split(".") if module.name else []
    up = node.level - (1 if module.is_package else 0)
    return ".".join([*parts[: len(parts) - up], *(node.module or "").split(".")]).strip(".")


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith(one + ".") for one in allowed)


def forbidden_imports(modules: dict[str, Module]) -> Iterator[str]:
    """Find imports that the law does not allow, and rooms that the law does not know."""
    for room in sorted({m.room for m in modules.values() if m.name} - LAW.keys()):
        yield f"{room}: a room that is not in the table of the law"
    for module in modules.values():
        for target, name, line in imports(module, modules):
            if not _may_import(module, target, name):
                yield f"{module.name or PACKAGE}:{line} imports {target or PACKAGE}{name and ' (' + name + ')'}"


def _may_import(module: Module, target: str, name: str) -> bool:
    if target == "?" or module.name == "":
        return False
    if target == "":
        return name == "__version__"
    room, allowed = target.split(".", maxsplit=1)[0], LAW.get(module.room, ())
    if room == module.room:
        return True
    return (allowed == EVERYTHING or _within(target, allowed)) and not _within(target, NEVER.get(module.room, ()))


def circles(modules: dict[str, Module]) -> Iterator[str]:
    """Find groups of modules that import each other, however long the way round and wherever the import stands."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for module in modules.values():
        own = {module.name.rsplit(".", k)[0] for k in range(module.name.count(".") + 1)}
        for target, _, _ in imports(module, modules):
            # importing a.b.c runs a and a.b as well; a module's own packages are running already
            parts = target.split(".")
            above = {".".join(parts[:k]) for k in range(1, len(parts))} - own
            graph[module.name] |= ({target} | above) & modules.keys()
    reach = {name: _reachable(graph, name) for name in graph}
    seen: set[str] = set()
    for name in sorted(graph):
        if name in reach[name] and name not in seen:
            loop = sorted(other for other in reach[name] if name in reach[other])
            seen.update(loop)
            yield f"circle of imports: {', '.join(loop)}"


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph[name]
    return found


def sizes_and_names(modules: dict[str, Module]) -> Iterator[str]:
    """Find long files, long functions, missing docstrings, names that say nothing, and rooms with nothing in them."""
    for module in modules.values():
        where = module.name or PACKAGE
        if module.lines > MAX_FILE_LINES:
            yield f"{where}: {module.lines} lines"
        if not (ast.get_docstring(module.tree) or "").strip():
            yield f"{where}: no docstring"
        if BANNED_FILE_NAMES & set(module.name.split(".")):
            yield f"{where}: a name that says nothing"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    yield f"{where}.{node.name}: a function of {length} lines"
        below = [other for other in modules if other.startswith(module.name + ".")]
        if module.is_package and module.name and not below:
            yield f"{where}: an empty room"
        above = module.name.rpartition(".")[0]
        if above and above not in modules:
            yield f"{where}: lies in a folder without __init__.py"


def banned(modules: dict[str, Module]) -> Iterator[str]:
    """Find code that runs what it reads: unpickling, ``eval``, ``exec``."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            where = f"{module.name or PACKAGE}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = [alias.name for alias in node.names]
                roots = named if isinstance(node, ast.Import) else [node.module or ""] if node.level == 0 else []
                yield from (f"{where} imports {name}" for name in roots if name.split(".")[0] in BANNED_IMPORTS)
            elif isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
                    yield f"{where} calls {node.func.id}"
                for keyword in node.keywords:
                    off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    if keyword.arg == "allow_pickle" and not off:
                        yield f"{where} allows pickles"


def violations(source: Path) -> list[str]:
    """Return one line for each broken rule."""
    modules = read_modules(source)
    return [
        *forbidden_imports(modules),
        *circles(modules),
        *sizes_and_names(modules),
        *banned(modules),
    ]


def plant(folder: Path, files: dict[str, str]) -> Path:
    """Write a small package that keeps every rule, with some files added or replaced."""
    base = {
        "__init__.py": '"""Root."""\n__version__ = "1"\n',
        "core/__init__.py": '"""Core."""\n',
        "core/errors.py": '"""Errors."""\nfrom trialtwin import __version__\n',
        "stats/__init__.py": '"""Stats."""\n',
        "stats/mean.py": '"""Mean."""\nfrom trialtwin.core.errors import Error\n',
        "diseases/__init__.py": '"""Diseases."""\n',
        "diseases/base.py": '"""Base."""\nfrom trialtwin.core import errors\n',
        "diseases/gout.py": '"""Gout."""\nfrom trialtwin.diseases.base import Disease\n',
        "twins/__init__.py": '"""Twins."""\n',
        "twins/course.py": '"""Course."""\nfrom trialtwin.diseases.base import D\nfrom trialtwin.stats import mean\n',
        "study/__init__.py": '"""Study."""\n',
        "study/run.py": '"""Run."""\nfrom trialtwin.twins.course import x\nfrom trialtwin.diseases.gout import y\n',
        "cli/__init__.py": '"""Command line."""\n',
        "cli/app.py": '"""App."""\ndef main():\n    from trialtwin.study.run import run\n',
    }
    source = folder / PACKAGE
    for name, text in (base | files).items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return source


LONG_FUNCTION = '"""Long."""\ndef long():\n' + "    x = 1\n" * 60
JUST_RIGHT = '"""Sixty lines from def to end."""\n@property\ndef right():\n' + "    x = 1\n" * 59
PLANTED = {
    "core imports a room": ({"core/a.py": '"""A."""\nimport trialtwin.stats.mean\n'}, "core.a:2 imports stats.mean"),
    "inside a function": (
        {"stats/b.py": '"""B."""\ndef f():\n    if True:\n        from trialtwin.twins import course\n'},
        "stats.b:4 imports twins.course",
    ),
    "for type checking only": (
        {"stats/b.py": '"""B."""\nif TYPE_CHECKING:\n    from trialtwin.twins.course import C\n'},
        "stats.b:3 imports twins.course (C)",
    ),
    "relative": ({"stats/b.py": '"""B."""\nfrom ..twins import course\n'}, "stats.b:2 imports twins.course"),
    "relative in a package": (
        {"stats/__init__.py": '"""S."""\nfrom ..twins import course\n'},
        "stats:2 imports twins.course",
    ),
    "a part of core": (
        {"core/cohort.py": '"""C."""\n', "stats/b.py": '"""B."""\nfrom trialtwin.core import cohort\n'},
        "stats.b:2 imports core.cohort",
    ),
    "core as a whole": ({"stats/b.py": '"""B."""\nimport trialtwin.core\n'}, "stats.b:2 imports core"),
    "a disease by a twin": (
        {"twins/b.py": '"""B."""\nfrom trialtwin.diseases import base, gout\n'},
        "twins.b:2 imports diseases.gout",
    ),
    "the command line by a study": ({"study/b.py": '"""B."""\nfrom trialtwin.cli import app\n'}, "imports cli.app"),
    "a twin by the command line": ({"cli/b.py": '"""B."""\nimport trialtwin.twins.course\n'}, "imports twins.course"),
    "the root by anyone": ({"core/b.py": '"""B."""\nfrom trialtwin import x\n'}, "core.b:2 imports trialtwin (x)"),
    "anything by the root": ({"__init__.py": '"""R."""\nfrom trialtwin.core import errors\n'}, "trialtwin:2 imports"),
    "by a constant name": (
        {"stats/b.py": '"""B."""\nimport importlib\nx = importlib.import_module("trialtwin.twins.course")\n'},
        "stats.b:3 imports twins.course",
    ),
    "by a computed name": (
        {"study/b.py": '"""B."""\nfrom importlib import import_module\nx = import_module(name)\n'},
        "study.b:3 imports ?",
    ),
    "a room that the law does not know": (
        {"cellar/__init__.py": '"""C."""\n', "cellar/a.py": '"""A."""\n'},
        "cellar: a room that is not in the table",
    ),
    "a circle": (
        {
            "twins/a.py": '"""A."""\nfrom trialtwin.twins.b import x\n',
            "twins/b.py": '"""B."""\nfrom trialtwin.twins import c\n',
            "twins/c.py": '"""C."""\ndef f():\n    from .a import y\n',
        },
        "circle of imports: twins.a, twins.b, twins.c",
    ),
    "a circle through a package": (
        {
            "diseases/__init__.py": '"""D."""\nfrom trialtwin.core.a import x\n',
            "core/a.py": '"""A."""\nfrom trialtwin.diseases.base import y\n',
        },
        "circle of imports: core.a, diseases",
    ),
    "itself": ({"core/a.py": '"""A."""\nfrom trialtwin.core import a\n'}, "circle of imports: core.a"),
    "a long file": ({"core/a.py": '"""A."""\n' + "x = 1\n" * 400}, "core.a: 401 lines"),
    "a long function": ({"core/a.py": LONG_FUNCTION}, "core.a.long: a function of 61 lines"),
    "a long method": (
        {"core/a.py": '"""A."""\nclass C:\n    async def m(self):\n' + "        x = 1\n" * 60},
        "core.a.m: a function of 61 lines",
    ),
    "no docstring": ({"core/a.py": "x = 1\n"}, "core.a: no docstring"),
    "an empty docstring": ({"core/a.py": '""" """\nx = 1\n'}, "core.a: no docstring"),
    "utils": ({"core/utils.py": '"""U."""\n'}, "core.utils: a name that says nothing"),
    "helpers as a package": (
        {"core/helpers/__init__.py": '"""H."""\n', "core/helpers/a.py": '"""A."""\n'},
        "core.helpers: a name that says nothing",
    ),
    "an empty room": ({"risk/__init__.py": '"""Risk."""\n'}, "risk: an empty room"),
    "a folder without __init__": ({"risk/a.py": '"""A."""\n'}, "risk.a: lies in a folder without __init__.py"),
    "pickle": ({"core/a.py": '"""A."""\ndef f():\n    import pickle\n'}, "core.a:3 imports pickle"),
    "pickle's names": ({"core/a.py": '"""A."""\nfrom pickle import loads\n'}, "core.a:2 imports pickle"),
    "joblib": ({"core/a.py": '"""A."""\nimport joblib as j\n'}, "core.a:2 imports joblib"),
    "eval": ({"core/a.py": '"""A."""\nx = eval("1")\n'}, "core.a:2 calls eval"),
    "pickles in arrays": (
        {"core/a.py": '"""A."""\nx = np.load("f", allow_pickle=True)\n'},
        "core.a:2 allows pickles",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_violation_is_found(case: str, tmp_path: Path) -> None:
    files, expected = PLANTED[case]
    found = violations(plant(tmp_path, files))
    assert any(expected in line for line in found), found


def test_a_package_that_keeps_the_rules_has_no_violations(tmp_path: Path) -> None:
    allowed = {
        "core/a.py": JUST_RIGHT,
        "core/b.py": '"""B."""\n' + "x = 1\n" * 399,
        "stats/__init__.py": '"""Re-exports its own module."""\nfrom trialtwin.stats.mean import mean\n',
        "stats/b.py": '"""B."""\nimport numpy as np\nx = np.load("f", allow_pickle=False)\n',
        "study/b.py": '"""B."""\nframe.eval("x")\nimport importlib\nimportlib.import_module("json")\n',
    }
    assert violations(plant(tmp_path, allowed)) == []


def test_the_reader_sees_the_package() -> None:
    """The modules, the rooms and a few imports that are known to be there are seen."""
    modules = read_modules(SOURCE)
    edges = {(m.name, target) for m in modules.values() for target, _, _ in imports(m, modules)}
    assert {"core", "stats", "infer", "engine", "data", "diseases", "twins"} <= {m.room for m in modules.values()}
    assert {("twins.course", "diseases.base"), ("core.estimate", ""), ("infer.optimise", "core.errors")} <= edges
    assert len(modules) > 40
    assert len(edges) > 100


@pytest.fixture(scope="module")
def broken() -> dict[str, list[str]]:
    """Return the violations of the package, by the room in which they are."""
    found = sorted(violations(SOURCE), key=_room_of)
    return {room: list(lines) for room, lines in groupby(found, key=_room_of)}


def _room_of(line: str) -> str:
    return line.removeprefix("circle of imports: ").split(":")[0].split(".")[0].split(",")[0]


@pytest.mark.parametrize("room", [PACKAGE, *LAW])
def test_the_package_keeps_the_rules(room: str, broken: dict[str, list[str]]) -> None:
    assert broken.get(room, []) == []


def test_no_violation_lies_outside_the_rooms(broken: dict[str, list[str]]) -> None:
    assert set(broken) <= {PACKAGE, *LAW}
