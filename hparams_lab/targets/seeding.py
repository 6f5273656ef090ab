"""`seed_everything`: the random numbers of a run, those of every framework that it uses, from the run's seed.

`loading_alike` does so while a module or data are loaded, from a seed that is always the same: what is drawn there is
then the same in every process, in every runner, and after a resume.

A framework that is imported is seeded now; one that the train function imports later, as soon as it has been. None is
imported for this. Keras that is imported later draws its seed from Python's generator, and needs none of ours. JAX has
no global generator: its keys are made from `run.seed`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LOADING_SEED = 0


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


@contextlib.contextmanager
def loading_alike() -> Iterator[None]:
    """Seed the global generators for the block; those of Python, NumPy and PyTorch are then what they were before."""
    states = [(restore, state()) for state, restore in _states()]
    outer = [finder for finder in sys.meta_path if isinstance(finder, _SeedsOnImport)]
    seed_everything(LOADING_SEED)
    try:
        yield
    finally:
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _SeedsOnImport)]
        for restore, state in states:
            restore(state)
        for finder in outer:
            sys.meta_path.insert(0, finder)
            finder.seed_what_is_there()


def _states() -> Iterator[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """How the state of a generator that is imported is asked for, and set."""
    yield random.getstate, random.setstate
    numpy: Any = sys.modules.get("numpy")
    torch: Any = sys.modules.get("torch")
    if hasattr(numpy, "random"):
        yield numpy.random.get_state, numpy.random.set_state
    if hasattr(torch, "get_rng_state"):
        yield torch.get_rng_state, torch.set_rng_state


class _SeedsOnImport(MetaPathFinder):
    """Has these modules seeded when they have been imported, each once; finds nothing itself."""

    def __init__(self, names: set[str], seed: int) -> None:
        self._names, self._seed = names, seed

    def seed_what_is_there(self) -> None:
        """Seed the modules that were imported while this was not asked."""
        for name in [*self._names & sys.modules.keys()]:
            self._names.discard(name)
            _SEEDERS[name](sys.modules[name], self._seed)

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
