"""The files that a module is made of: its own, and those of a person's other modules that it imports, near or far.

They are found by reading `import` statements, in functions too. Nothing is imported for it, and what is installed
(the standard library, site-packages, this package) is left out: its versions are told elsewhere.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

import hparams_lab

_HERE = Path(hparams_lab.__file__).parent


def hash_of_sources(file: str | Path) -> str:
    """12 hexadecimal digits of the SHA-256 of a module's file, and of those that it imports. Raises OSError."""
    own, *others = files_of(Path(file))
    digest = hashlib.sha256(own.read_bytes())
    for other in sorted(others):
        digest.update(hashlib.sha256(other.read_bytes()).digest())
    return digest.hexdigest()[:12]


def files_of(file: Path) -> list[Path]:
    """The file of a module, first, and the files that it imports."""
    found: dict[Path, None] = {}
    waiting = [file.absolute()]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = None
            if not path.is_relative_to(_HERE):
                waiting += _imported_by(path)
    return [*found]


def is_a_persons(file: str | None) -> bool:
    """Whether a module's file is a person's own, and not of what is installed. One without a file is (a notebook)."""
    if file is None:
        return True
    path = os.path.abspath(file)
    return not any(path.startswith(root + os.sep) for root in _installed())


def imported(name: str, folder: Path | None = None) -> Iterator[Path]:
    """The files of a person's module of that name and of the packages above it; of a relative one, in `folder`."""
    parts = name.split(".")
    if folder is None:
        if parts[0] in sys.stdlib_module_names:
            return
        spec = PathFinder.find_spec(parts[0], [os.getcwd(), *sys.path])
        if spec is None or not is_a_persons(spec.origin):
            return
        if spec.origin is not None and spec.origin.endswith(".py"):
            yield Path(spec.origin).absolute()
        folders, parts = [Path(one) for one in spec.submodule_search_locations or ()], parts[1:]
    else:
        folders = [folder]
    yield from _below(folders, parts)


def _below(folders: Sequence[Path], parts: Sequence[str]) -> Iterator[Path]:
    for part in parts:
        for folder in folders:
            yield from (path for path in (folder / f"{part}.py", folder / part / "__init__.py") if path.is_file())
        folders = [folder / part for folder in folders]


def _imported_by(file: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from imported(alias.name)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names]
            folder = file.parents[node.level - 1] if 0 < node.level <= len(file.parents) else None
            for name in names:
                yield from imported(name, folder)


@functools.cache
def _installed() -> tuple[str, ...]:
    """Where what is installed lies."""
    named = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    listed = {path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")}
    return tuple(os.path.abspath(path) for path in {*named, *listed, str(_HERE)} if path)
