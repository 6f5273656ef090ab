"""Modules of domain files: the file's module has a name by which any process can import it.

What a run hands to a process that it spawns, or saves with `torch.save`, is told by module and name, and imported
there. A file's module is called as `import` would call it, with its directory on `sys.path`, where that means this
file and nothing else: `tuning.py` is `tuning`. Any other (`queue.py`, `my.model.py`, the second of two files of one
name) is below this module, its name the file's path: `hparams_lab.targets.domain_files.%2Fhome%2Fme%2Fqueue%2Epy`.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, unquote

__path__: list[str] = []  # modules may be below this one; `_Finder` finds them
_BELOW = f"{__name__}."


def module_of_file(path: Path) -> ModuleType:
    """The module of a `.py` file, once per process; its directory is on the path, as it is for a script.

    Raises what the file raises as it is imported, ImportError where it is no Python file.
    """
    file = os.path.abspath(path)
    directory, stem = os.path.dirname(file), Path(file).stem
    is_there = stem in sys.modules
    if is_there and _is_of(sys.modules[stem], file):
        return sys.modules[stem]
    is_taken = is_there or _means_another(stem, file)
    if directory not in sys.path:  # the last, where it would hide what others mean by the name
        sys.path.insert(len(sys.path) if is_taken else 0, directory)
    if is_taken:
        return importlib.import_module(_BELOW + quote(file, safe="").replace(".", "%2E"))
    return _imported(stem, file)


def _is_of(module: ModuleType, file: str) -> bool:
    return os.path.abspath(getattr(module, "__file__", None) or os.devnull) == file


def _means_another(stem: str, file: str) -> bool:
    """Whether `import` may find something else by the name of a file than the file."""
    if "." in stem or stem in sys.stdlib_module_names or stem in ("__main__", "__mp_main__"):
        return True
    directory = os.path.dirname(file)
    here = PathFinder.find_spec(stem, [directory])
    if here is None or here.origin != file:  # a package of that name is beside it, or it is no Python file
        return True
    others = [entry for entry in sys.path if os.path.abspath(entry) != directory]
    for finder in sys.meta_path:
        spec = finder.find_spec(stem, others if finder is PathFinder else None)
        if spec is not None and spec.origin not in (None, file):  # without an origin: a folder that is no package
            return True
    return False


def _imported(name: str, file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules below this one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The file that the module's name tells."""
        if not fullname.startswith(_BELOW):
            return None
        return importlib.util.spec_from_file_location(fullname, unquote(fullname[len(_BELOW) :]))


sys.meta_path.append(_Finder())
