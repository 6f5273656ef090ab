"""Domain modules: what is tuned and how it is trained, in a module or a `.py` file.

A domain module has `EXPERIMENT` and one of
  - `train(run)`: trains with `run.hparams`, logs with `run.log`, returns the final metrics;
  - `build_model(hparams)` and `load_data()`: a Keras domain, which the toolkit fits (`hparams_lab.keras.domain`).
It may have a `VERSION`, a string or a whole number: a directory holds the results of one.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from hparams_lab.core.errors import DomainLoadError, HParamsLabError, UsageError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.functions import globals_of
from hparams_lab.core.values import short
from hparams_lab.storage.paths import local
from hparams_lab.targets.domain_files import module_of_file
from hparams_lab.targets.fingerprint import fingerprint
from hparams_lab.targets.overrides import with_overrides
from hparams_lab.targets.protocol import Target, Train
from hparams_lab.targets.seeding import loading_alike
from hparams_lab.targets.sources import hash_of_sources

BUILT_IN = {"digits": "hparams_lab.targets.builtin.digits", "mnist": "hparams_lab.targets.builtin.mnist"}
KERAS = "hparams_lab.keras"
PICTURE = "hparams_lab.analysis.predictions.best:picture_best"
"""What a sweep that keeps its models does with its results. A name: it is imported when it is needed."""
FRAMEWORKS = ("tensorflow", "keras", "torch", "jax", "sklearn", "xgboost", "lightgbm")
"""Imported once by the fork server where the caller has imported them, so that a run need not."""

Version: TypeAlias = str | int | None


@dataclass(frozen=True, slots=True)
class Domain:
    """What is tuned and how: the parts of a domain module that the runner works with.

    `version` is the module's `VERSION`, `source` a short hash of its file and of its author's other modules that it
    imports, or of what a function does; None where it has none. `after` is the "module:function" that a sweep calls
    with its results.
    """

    name: str
    experiment: Experiment
    target: Target
    identity: Mapping[str, Any]
    version: Version = None
    source: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a domain module declares: all that is asked of it before it trains. Travels between processes."""

    experiment: Experiment
    is_keras: bool
    takes_data: bool
    version: Version = None
    source: str | None = None


Describe = Callable[[str], Description]


@dataclass(frozen=True, slots=True)
class ModuleTarget:
    """The training of a domain module, loaded anew from its source in every process."""

    source: str
    data: str | None = None
    save_model: bool = False

    def load(self) -> Train:
        """The module's train function, or the fit of a Keras domain."""
        module = load_module(self.source)
        if _is_keras(module):
            adapter = importlib.import_module(f"{KERAS}.domain")
            return adapter.KerasTraining(module, data=self.data, save_model=self.save_model)  # type: ignore[no-any-return]
        train: Train = module.train
        return train

    @property
    def preload(self) -> tuple[str, ...]:
        """Keras, where the domain is one of it."""
        return (f"{KERAS}.callback",) if _is_keras(load_module(self.source)) else ()


@dataclass(frozen=True, slots=True)
class FunctionTarget:
    """A train function handed over as an object. `script` is the file of the program that defines it, if it does."""

    train: Train
    script: str | None = None

    def load(self) -> Train:
        """The function. In a process without a program, what it uses of its script can be found in `__main__`.

        So it can be pickled there, and a process that is spawned imports the script as `__mp_main__`, as everywhere.
        https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods
        """
        main = sys.modules["__main__"]
        if self.script is not None and getattr(main, "__file__", None) is None:
            main.__file__ = self.script
            for name, value in globals_of(self.train).items():
                if getattr(value, "__module__", None) == "__main__":
                    setattr(main, name, value)
        return self.train

    @property
    def preload(self) -> tuple[str, ...]:
        """The frameworks that this process has imported."""
        return tuple(name for name in FRAMEWORKS if name in sys.modules)


def describe(source: str) -> Description:
    """What the domain module declares, by importing it here. Raises DomainLoadError when it lacks a part."""
    module = load_module(source)
    experiment = _experiment(module, source)
    if not _is_keras(module) and not callable(getattr(module, "train", None)):
        raise DomainLoadError(
            f"domain {source!r} has no train(run); define it, or build_model(hparams) and load_data() for Keras"
        )
    load_data = getattr(module, "load_data", None)
    takes_data = load_data is not None and bool(inspect.signature(load_data).parameters)
    return Description(experiment, _is_keras(module), takes_data, _version(module, source), _hash_of_file(module))


def load_domain(
    source: str,
    *,
    settings: Sequence[str] = (),
    data: str | None = None,
    save_model: bool = False,
    describe: Describe = describe,
) -> Domain:
    """The domain of a built-in name, a module's name, or the path of a `.py` file.

    Args:
      source: "digits", "mypackage.tuning" or "tuning.py".
      settings: "NAME=VALUES" each, as for `--set`.
      data: a file for the module's `load_data`.
      save_model: whether each run of a Keras domain keeps its model.
      describe: where the module is imported; an executor's `describe` does so where the runs will be.

    Raises DomainLoadError when there is no such domain or it lacks a part, UsageError for settings or data that do
    not fit.
    """
    source = local_source(source)
    found = describe(source)
    if save_model and not found.is_keras:
        raise UsageError(f"--save-model is for Keras domains; {source!r} has a train(run), which can save by itself")
    if data is not None and not found.takes_data:
        raise UsageError(f"--data is for domains whose load_data(data) takes a file; {source!r} does not")
    data = data and os.path.abspath(local(data, UsageError))
    experiment = with_overrides(found.experiment, settings)
    identity = {"domain": source if not is_file(source) else Path(source).name, "data": data and Path(data).name}
    target = ModuleTarget(_absolute(source), data, save_model)
    after = PICTURE if save_model else None
    return Domain(name_of_domain(source), experiment, target, identity, found.version, found.source, after)


def name_of_domain(source: str) -> str:
    """What a domain is called: "tuning" for `tuning.py` and for `mypackage.tuning`. Raises DomainLoadError."""
    source = local_source(source)
    return Path(source).stem if is_file(source) else source.rpartition(".")[2]


def function_domain(experiment: Experiment, train: Train) -> Domain:
    """The domain of an experiment and a train function."""
    name = getattr(train, "__name__", type(train).__name__)
    target, identity = FunctionTarget(train, _script()), {"domain": name, "data": None}
    return Domain(name, experiment, target, identity, source=fingerprint(train))


def _script() -> str | None:
    """The file of this program; None in a notebook, a console, or for `python -c`."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return os.path.abspath(file) if file and os.path.isfile(file) else None


def load_module(source: str) -> ModuleType:
    """Import a domain module; DomainLoadError says in one line why it cannot be."""
    source = local_source(source)
    try:
        if is_file(source):
            return _load_file(Path(source))
        if not all(source.split(".")):
            raise _no_domain(source)
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        with loading_alike():
            return importlib.import_module(BUILT_IN.get(source, source))
    except HParamsLabError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (source == error.name or source.startswith(f"{error.name}.")):
            raise _no_domain(source) from None
        raise DomainLoadError(f"domain {source!r} imports {error.name!r}, which is not installed") from error
    except SyntaxError as error:
        raise DomainLoadError(f"domain {source!r} has a syntax error: {error.msg} (line {error.lineno})") from error
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}, line {frame.lineno}"
        raise DomainLoadError(
            f"domain {source!r} failed to import: {type(error).__name__}: {error} ({where})"
        ) from error


def _no_domain(source: str) -> DomainLoadError:
    known = ", ".join(BUILT_IN)
    return DomainLoadError(f"there is no domain {source!r}; give {known}, a module's name, or the path of a .py file")


def _load_file(path: Path) -> ModuleType:
    """The module of a file, once per process; its directory is on the path, as it is for a script."""
    path = path.absolute()
    if not path.is_file():
        raise DomainLoadError(
            f"there is no file {path.name!r} in {path.parent}; give a built-in name, a module or a file"
        )
    if path.suffix != ".py":
        raise DomainLoadError(f"{path.name!r} is not a Python file; a domain is a module or a .py file")
    with loading_alike():
        return module_of_file(path)


def _experiment(module: ModuleType, source: str) -> Experiment:
    experiment = getattr(module, "EXPERIMENT", None)
    if isinstance(experiment, Experiment):
        return experiment
    said = "has no EXPERIMENT" if experiment is None else f"has an EXPERIMENT that is a {type(experiment).__name__}"
    raise DomainLoadError(f"domain {source!r} {said}; define EXPERIMENT = lab.Experiment(hparams=[...], metrics=[...])")


def _version(module: ModuleType, source: str) -> Version:
    version = getattr(module, "VERSION", None)
    if version is None or type(version) in (str, int):
        return version
    raise DomainLoadError(
        f"domain {source!r} has a VERSION that is {short(version)} ({type(version).__name__}); "
        "wanted a string or a whole number"
    )


def _hash_of_file(module: ModuleType) -> str | None:
    """12 hexadecimal digits that tell a module's source, with what it imports of its author's; None without a file."""
    try:
        return hash_of_sources(module.__file__ or "")
    except (AttributeError, OSError):
        return None


def _is_keras(module: ModuleType) -> bool:
    return not hasattr(module, "train") and hasattr(module, "build_model") and hasattr(module, "load_data")


def local_source(source: str) -> str:
    """A domain as a person gives it, its file on this machine. Raises DomainLoadError as `local` does."""
    found = local(source, DomainLoadError) if is_file(source) else Path(source)
    return source if found == Path(source) else str(found)


def is_file(source: str) -> bool:
    """Whether a domain is given as the path of a file."""
    return source.endswith(".py") or os.sep in source


def _absolute(source: str) -> str:
    return os.path.abspath(source) if is_file(source) else source
