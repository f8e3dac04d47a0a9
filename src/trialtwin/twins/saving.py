"""Twins on disk: numbers as safetensors, structure and card as JSON, hashed, versioned, and nothing that can run.

A folder holds ``twin.json`` (what the twin is made of, format and hashes), ``weights.safetensors`` (every array),
``card.json`` and ``card.md`` (what it was learned from, what it is for, how good it is and where it ends). A reader
builds only classes of this package that are already imported, from their fields; it never unpickles or imports.
"""

import dataclasses
import enum
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orjson
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from trialtwin import __version__
from trialtwin.core.arrays import digest, frozen
from trialtwin.core.errors import ConfigError, DataError, MachineError, MismatchError
from trialtwin.core.twin import AbstractTwin
from trialtwin.twins.card import Card

FORMAT = 1
TWIN, WEIGHTS, CARD, READABLE = "twin.json", "weights.safetensors", "card.json", "card.md"
PACKAGE = "trialtwin."


def save_twin(twin: AbstractTwin, folder: Path | str, card: Card) -> str:
    """Write a twin and its card as a folder, whole or not at all; return the twin's SHA-256.

    The hash is of structure and numbers, not of the card: two twins with the same hash forecast the same bits.

    Raises
    ------
    MachineError
        If the folder is there already, or cannot be written.
    ConfigError
        If the twin holds something that is neither a number, text, nor a class of this package.
    """
    target = Path(folder)
    if target.exists():
        raise MachineError(f"{target.name} is there already", where=str(target.parent), do="give another folder")
    tensors: dict[str, np.ndarray] = {}
    structure = _pack(twin, "twin", tensors, {})
    sha = _hash(structure, tensors)
    head = {"format": FORMAT, "software": f"trialtwin {__version__}", "sha256": sha, "twin": structure}
    files = {
        WEIGHTS: save_tensors(tensors),
        TWIN: orjson.dumps(head),
        CARD: (card.model_dump_json(indent=1) + "\n").encode(),
        READABLE: card.markdown(sha).encode(),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        try:
            for name, content in files.items():
                (draft / name).write_bytes(content)
            draft.chmod(0o755)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise MachineError(
            f"cannot write the twin: {error.strerror or error}",
            where=str(target),
            do="make room, or give another folder",
        ) from error
    return sha


def load_twin(folder: Path | str) -> tuple[AbstractTwin, Card]:
    """Read a twin and its card back, and refuse one whose hash is not that of its content.

    Classes of diseases must be imported before (``import trialtwin.diseases.registry``): what a file names is never
    imported at its word.

    Raises
    ------
    DataError
        If files are missing, damaged, or of another format.
    MismatchError
        If the twin is made of a class that is not of this package, or not imported.
    """
    path = Path(folder)
    try:
        head = orjson.loads((path / TWIN).read_bytes())
        tensors = load_tensors((path / WEIGHTS).read_bytes())
        card = Card.model_validate_json((path / CARD).read_bytes())
    except OSError as error:
        raise DataError(f"no twin here: {error.strerror or error}", where=str(path), exists=_found(path)) from error
    except (ValueError, SafetensorError) as error:
        raise DataError(
            f"a file of the twin is damaged: {error}", where=str(path), do="copy the folder again"
        ) from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        found = head.get("format") if isinstance(head, dict) else "none"
        raise DataError(f"a twin of format {found}; this version reads {FORMAT}", where=str(path))
    if _hash(head["twin"], tensors) != head["sha256"]:
        raise DataError(
            "the twin is not what its hash says: it was changed or damaged", where=str(path), do="copy the folder again"
        )
    twin = _unpack(head["twin"], tensors, {})
    if not isinstance(twin, AbstractTwin):
        raise DataError(f"the folder holds a {type(twin).__name__}, not a twin", where=str(path))
    return twin, card


def _found(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir()) if path.is_dir() else []


def _hash(structure: Any, tensors: Mapping[str, np.ndarray]) -> str:
    parts: list[bytes | str | np.ndarray] = [orjson.dumps(structure)]
    for name in sorted(tensors):
        parts += [name, tensors[name]]
    return digest(parts)


def _pack(value: Any, where: str, tensors: dict[str, np.ndarray], known: dict[int, tuple[str, Any]]) -> Any:
    """Return a value as JSON, its arrays moved to ``tensors``; an array met twice is stored once.

    ``known`` holds the arrays themselves beside their names, so that none is freed and its identity given to another.
    """
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        stored: Any = _pack_array(value, where, tensors, known)
    elif isinstance(value, enum.Enum):
        stored = {"$enum": _name(type(value), where), "value": value.value}
    elif value is None or isinstance(value, bool | str | int | float):
        stored = _pack_plain(value)
    elif isinstance(value, BaseModel):
        stored = {"$model": _name(type(value), where), "fields": value.model_dump(mode="json")}
    else:
        stored = _pack_parts(value, where, tensors, known)
    return stored


def _pack_plain(value: bool | str | float | None) -> Any:
    """Return a plain value, in words where JSON cannot hold it."""
    if isinstance(value, float) and not np.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, int) and abs(value) >= 2**53:
        return {"$int": str(value)}
    return value


def _pack_parts(value: Any, where: str, tensors: dict[str, np.ndarray], known: dict[int, tuple[str, Any]]) -> Any:
    """Return a tuple, list, mapping, named tuple or dataclass, each of its parts packed."""

    def part(item: Any, name: str) -> Any:
        return _pack(item, where + name, tensors, known)

    if isinstance(value, tuple) and hasattr(value, "_fields"):
        items = [part(item, f".{name}") for name, item in zip(value._fields, value, strict=True)]
        return {"$named": _name(type(value), where), "items": items}
    if isinstance(value, tuple | list):
        kind = "$tuple" if isinstance(value, tuple) else "$list"
        return {kind: [part(item, f"[{i}]") for i, item in enumerate(value)]}
    if isinstance(value, Mapping):
        kind = "$dict" if isinstance(value, dict) else "$frozendict"
        return {kind: [[part(k, ""), part(v, f"[{k}]")] for k, v in value.items()]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: part(getattr(value, f.name), f".{f.name}") for f in dataclasses.fields(value)}
        return {"$class": _name(type(value), where), "fields": fields}
    raise ConfigError(
        f"a twin cannot be saved that holds a {type(value).__name__}",
        where=where,
        do="keep numbers, text, and classes of this package in its fields",
    )


def _pack_array(value: Any, where: str, tensors: dict[str, np.ndarray], known: dict[int, tuple[str, Any]]) -> Any:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise ConfigError("a twin cannot be saved that holds a random key", where=where, do="pass keys to predict")
    kind = "jax" if isinstance(value, jax.Array) else "numpy" if isinstance(value, np.ndarray) else "scalar"
    if id(value) not in known:
        array = np.asarray(value)
        if array.dtype.kind not in "bfiu":
            raise ConfigError(f"a twin cannot be saved that holds an array of {array.dtype}", where=where)
        name = f"{len(tensors):05d} {where}"
        tensors[name] = np.ascontiguousarray(array).reshape(array.shape)
        known[id(value)] = (name, value)
    return {"$array": known[id(value)][0], "kind": kind}


def _unpack(stored: Any, tensors: Mapping[str, np.ndarray], made: dict[tuple[str, str], Any]) -> Any:
    """Return the value that ``_pack`` was given."""
    if not isinstance(stored, dict):
        return stored

    def part(item: Any) -> Any:
        return _unpack(item, tensors, made)

    readers: dict[str, Callable[[Any], Any]] = {
        "$array": lambda name: _unpack_array(name, stored["kind"], tensors, made),
        "$float": float,
        "$int": int,
        "$tuple": lambda items: tuple(map(part, items)),
        "$list": lambda items: list(map(part, items)),
        "$dict": lambda pairs: {part(k): part(v) for k, v in pairs},
        "$frozendict": lambda pairs: MappingProxyType({part(k): part(v) for k, v in pairs}),
        "$enum": lambda name: _class(name, enum.Enum)(stored["value"]),
        "$named": lambda name: _class(name, tuple)(*map(part, stored["items"])),
        "$model": lambda name: _class(name, BaseModel).model_validate(stored["fields"]),
        "$class": lambda name: _build(_class(name, object), {k: part(v) for k, v in stored["fields"].items()}),
    }
    kind = next((name for name in readers if name in stored), None)
    if kind is None:
        raise DataError(f"the structure of the twin holds {sorted(stored)}, which means nothing")
    return readers[kind](stored[kind])


def _unpack_array(name: str, kind: str, tensors: Mapping[str, np.ndarray], made: dict[tuple[str, str], Any]) -> Any:
    if name not in tensors:
        raise DataError(f"the weights lack {name!r}", do="copy the folder again")
    if (name, kind) not in made:
        array = tensors[name]
        made[name, kind] = (
            jnp.asarray(array) if kind == "jax" else array[()] if kind == "scalar" else frozen(np.array(array))
        )
    return made[name, kind]


def _build(cls: Any, fields: dict[str, Any]) -> Any:
    """Make an instance of a dataclass from its fields, without running its constructor."""
    wanted = [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    if set(wanted) != set(fields):
        raise DataError(
            f"{cls.__name__} has other fields in this version of trialtwin",
            where=f"stored: {', '.join(fields)}",
            exists=wanted,
            do="read it with the version that wrote it, or fit the twin again",
        )
    made = object.__new__(cls)
    for name in wanted:
        object.__setattr__(made, name, fields[name])
    return made


def _name(cls: type, where: str) -> str:
    if not cls.__module__.startswith(PACKAGE) or "." in cls.__qualname__:
        raise ConfigError(
            f"a twin cannot be saved that holds a {cls.__module__}.{cls.__qualname__}",
            where=where,
            do="keep numbers, text, and classes of this package in its fields",
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _class(name: str, kind: type) -> Any:
    """Return a class of this package that is already imported."""
    module, _, own = name.partition(":")
    loaded = sys.modules.get(module) if module.startswith(PACKAGE) else None
    cls = getattr(loaded, own, None)
    if not isinstance(cls, type) or not issubclass(cls, kind) or cls.__module__ != module:
        raise MismatchError(
            f"the twin is made of {name!r}, which is not a class of this package that is imported",
            do="import what the twin is made of first, such as trialtwin.diseases.registry",
        )
    return cls
