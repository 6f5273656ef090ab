"""`fingerprint`: a hash of what a train function does, the same at each start of the interpreter.

It follows the bytecode, and what that refers to: defaults, closures, globals, and functions and classes of a person's
own, wherever they are defined. Places (line numbers, files, addresses) do not count, and neither does what is
installed, nor what the function itself changes.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hparams_lab.core.values import unwrap
from hparams_lab.targets.sources import files_of, imported, is_a_persons

_CHANGING = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popleft", "put", "remove",
    "setdefault", "subtract", "update",
}  # fmt: skip
"""Methods by which code changes a list, a dict or a set; so do assignments to its items."""

_LONGEST = 1_000
"""A list, a dict or a set with more is known by its length."""


def fingerprint(train: Callable[..., Any]) -> str | None:
    """12 hexadecimal digits; None where it cannot be told."""
    try:
        digest = hashlib.sha256()
        for token in _Walk().of(train):
            digest.update(f"{len(token)}:{token}".encode("utf-8", "backslashreplace"))
        return digest.hexdigest()[:12]
    except Exception:  # of a person's own objects: what only tells a change may not end a sweep
        return None


class _Walk:
    """One walk through all that a function refers to, each once."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # or another object could get its address

    def of(self, value: Any, containers: bool = True) -> Iterator[str]:
        """What tells one value from another; lists, dicts and sets only where they are `containers` to look into."""
        value = unwrap(value)
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            yield f"{type(value).__name__} {value!r}"
        elif isinstance(value, enum.Enum):
            yield f"enum {type(value).__qualname__}.{value.name}"
        elif isinstance(value, os.PathLike):
            yield f"path {os.fspath(value)!r}"
        elif id(value) in self._numbers:
            yield f"again {self._numbers[id(value)]}"
        else:
            self._numbers[id(value)] = len(self._numbers)
            self._kept.append(value)
            yield from self._of_new(value, containers)

    def _of_new(self, value: Any, containers: bool) -> Iterator[str]:
        if isinstance(value, (tuple, frozenset)) or (containers and isinstance(value, (list, dict, set))):
            yield from self._of_several(value, containers)
        elif isinstance(value, types.CodeType):
            yield from self._of_code(value)
        elif isinstance(value, types.ModuleType):
            yield from _of_files(value)
        elif isinstance(value, functools.partial):
            yield "partial"
            for part in (value.func, value.args, value.keywords):
                yield from self.of(part)
        elif isinstance(value, types.MethodType):
            yield from self.of(value.__func__)
            yield from self.of(value.__self__)
        elif isinstance(value, (staticmethod, classmethod)):
            yield from self.of(value.__func__)
        elif isinstance(value, property):
            yield from self.of(value.fget)
            yield from self.of(value.fset)
        elif isinstance(value, types.FunctionType):
            yield from self._of_function(value)
        elif isinstance(value, type):
            yield from self._of_class(value)
        elif hasattr(value, "__wrapped__") and not isinstance(value, (list, dict, set)):
            yield from self.of(value.__wrapped__)
        else:
            yield from self._of_instance(value)

    def _of_several(self, value: Any, containers: bool) -> Iterator[str]:
        yield f"{type(value).__name__} of {len(value)}"
        if len(value) > _LONGEST:
            return
        if isinstance(value, (set, frozenset)):
            yield from sorted("".join(_Walk().of(one)) for one in value)  # in whatever order
            return
        for one in value:
            yield from self.of(one, containers)
            if isinstance(value, dict):
                yield from self.of(value[one], containers)

    def _of_function(self, function: types.FunctionType) -> Iterator[str]:
        if not _is_a_persons(function):
            yield f"function {function.__module__}.{function.__qualname__}"
            return
        yield from self.of(function.__code__)
        yield from self.of(function.__defaults__)
        yield from self.of(function.__kwdefaults__)
        uses = _Uses(function.__code__)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        outside = {name: cell for name, cell in cells if name not in uses.stored}
        for name, cell in outside.items():
            yield f"closure {name}"
            try:
                yield from self.of(cell.cell_contents, not uses.changes)
            except ValueError:  # it is empty
                yield "empty"
        for name in uses.globals:
            if name in function.__globals__:
                yield f"global {name}"
                yield from self.of(function.__globals__[name], not uses.changes)
        for name in uses.imports:
            for file in imported(name):
                yield _hash_of(files_of(file))

    def _of_code(self, code: types.CodeType) -> Iterator[str]:
        yield f"code {code.co_code.hex()} {getattr(code, 'co_exceptiontable', b'').hex()} {code.co_flags}"
        yield f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount}"
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            yield " ".join(names)
        for constant in code.co_consts:
            self._numbers.pop(id(constant), None)  # equal ones may be one object or several
            yield from self.of(constant)

    def _of_class(self, kind: type) -> Iterator[str]:
        yield f"class {kind.__qualname__}"
        if not _is_a_persons(kind):
            return
        for base in kind.__bases__:
            yield from self.of(base)
        for name, value in sorted(vars(kind).items()):
            is_plain = not (name.startswith("__") and name.endswith("__"))
            if is_plain or isinstance(value, types.FunctionType):
                yield f"attribute {name}"
                yield from self.of(value)

    def _of_instance(self, value: Any) -> Iterator[str]:
        kind = type(value)
        yield from self.of(kind)
        if not _is_a_persons(kind):
            return
        methods = [one for base in kind.__mro__ for one in vars(base).values() if isinstance(one, types.FunctionType)]
        uses = [_Uses(one.__code__) for one in methods if one.__name__ != "__init__"]
        stored = {name for use in uses for name in use.attributes}
        attributes: Mapping[str, Any] = getattr(value, "__dict__", {})
        for name, attribute in sorted(attributes.items()):
            if name not in stored:
                yield f"attribute {name}"
                yield from self.of(attribute, not any(use.changes for use in uses))


class _Uses:
    """What code, with the code inside of it, refers to, in order: names of globals and of modules, what it stores."""

    def __init__(self, code: types.CodeType) -> None:
        self.globals: dict[str, None] = {}
        self.imports: dict[str, None] = {}
        self.stored: set[str] = set()
        self.attributes: set[str] = set()
        self.changes = False
        self._look(code)
        for name in self.stored:
            self.globals.pop(name, None)

    def _look(self, code: types.CodeType) -> None:
        for step in dis.get_instructions(code):
            name = step.opname
            if name in ("LOAD_GLOBAL", "LOAD_NAME"):
                self.globals[step.argval] = None
            elif name == "IMPORT_NAME":
                self.imports[step.argval] = None
            elif name in ("STORE_GLOBAL", "STORE_DEREF"):
                self.stored.add(step.argval)
            elif name == "STORE_ATTR":
                self.attributes.add(step.argval)
            self.changes |= name in ("STORE_SUBSCR", "DELETE_SUBSCR")
        self.changes |= not _CHANGING.isdisjoint(code.co_names)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._look(constant)


def _is_a_persons(defined: types.FunctionType | type) -> bool:
    """Whether a function or class is a person's own, as those of a script or a notebook are."""
    if isinstance(defined, types.FunctionType):
        return is_a_persons(defined.__code__.co_filename)
    name = defined.__module__
    if name in sys.builtin_module_names:
        return False
    return name == "__main__" or is_a_persons(getattr(sys.modules.get(name), "__file__", None))


def _of_files(module: types.ModuleType) -> Iterator[str]:
    file = getattr(module, "__file__", None)
    yield f"module {module.__name__}"
    if file is not None and file.endswith(".py") and is_a_persons(file):
        yield _hash_of(files_of(Path(file)))


def _hash_of(files: list[Path]) -> str:
    hashes = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return " ".join(hashes)
