"""`seed_everything`: the random numbers of a run, those of every framework that it uses, from the run's seed.

A framework that is imported is seeded now; one that the train function imports later, as soon as it has been. None is
imported for this. Keras that is imported later draws its seed from Python's generator, and needs none of ours. JAX has
no global generator: its keys are made from `run.seed`.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _numpy(module: Any, seed: int) -> None:
    module.random.seed(seed)


def _tensorflow(module: Any, seed: int) -> None:
    module.random.set_seed(seed)  # starts nothing: https://www.tensorflow.org/api_docs/python/tf/random/set_seed


def _keras(module: Any, seed: int) -> None:
    module.utils.set_random_seed(seed)


def _torch(module: Any, seed: int) -> None:
    module.manual_seed(seed)  # of all devices: https://docs.pytorch.org/docs/stable/notes/randomness.html


_SEEDERS: dict[str, Callable[[Any, int], None]] = {
    "numpy": _numpy,
    "tensorflow": _tensorflow,
    "keras": _keras,
    "torch": _torch,
}


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy, TensorFlow, Keras and PyTorch with a number from 0 to 2**32-1."""
    random.seed(seed)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _SeedsOnImport)]
    for name, seeder in _SEEDERS.items():
        if name in sys.modules:
            seeder(sys.modules[name], seed)
    sys.meta_path.insert(0, _SeedsOnImport(_SEEDERS.keys() - sys.modules.keys() - {"keras"}, seed))


class _SeedsOnImport(MetaPathFinder):
    """Has these modules seeded when they have been imported, each once; finds nothing itself."""

    def __init__(self, names: set[str], seed: int) -> None:
        self._names, self._seed = names, seed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, with the seeding after the module's own code."""
        if fullname not in self._names:
            return None
        self._names.discard(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            _and_then(spec.loader, lambda module: _SEEDERS[fullname](module, self._seed))
        return spec


def _and_then(loader: Any, act: Callable[[ModuleType], None]) -> None:
    run = loader.exec_module

    def run_and_act(module: ModuleType) -> None:
        run(module)
        act(module)

    loader.exec_module = run_and_act
