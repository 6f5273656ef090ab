"""hparams_lab: the experiment-logging toolkit for TensorBoard's HParams dashboard.

Declare hyperparameters and metrics once, sweep them with any strategy, and read every result in TensorBoard's HParams
tab, from the command line, or as a table. The names below are the public surface; each is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hparams_lab.errors import DataError as DataError
    from hparams_lab.errors import DeclarationError as DeclarationError
    from hparams_lab.errors import DomainLoadError as DomainLoadError
    from hparams_lab.errors import EventFileError as EventFileError
    from hparams_lab.errors import ExecutorError as ExecutorError
    from hparams_lab.errors import HParamsLabError as HParamsLabError
    from hparams_lab.errors import HParamValueError as HParamValueError
    from hparams_lab.errors import LogDirError as LogDirError
    from hparams_lab.errors import MissingExtraError as MissingExtraError
    from hparams_lab.errors import MissingMetricError as MissingMetricError
    from hparams_lab.errors import OwnedError as OwnedError
    from hparams_lab.errors import Pruned as Pruned
    from hparams_lab.errors import UnsavedError as UnsavedError
    from hparams_lab.errors import UsageError as UsageError
    from hparams_lab.events.logdir import LogDirReader as LogDirReader
    from hparams_lab.events.logdir import read as read
    from hparams_lab.experiment import Experiment as Experiment
    from hparams_lab.experiment import Metric as Metric
    from hparams_lab.hparam import HParam as HParam
    from hparams_lab.intervals import IntInterval as IntInterval
    from hparams_lab.intervals import RealInterval as RealInterval
    from hparams_lab.logger import Run as Run
    from hparams_lab.outcome import Outcome as Outcome
    from hparams_lab.results import Results as Results
    from hparams_lab.results import RunResult as RunResult
    from hparams_lab.results import Scalars as Scalars
    from hparams_lab.results import TrialResult as TrialResult
    from hparams_lab.runner import run_sweep as run_sweep
    from hparams_lab.space import Discrete as Discrete
    from hparams_lab.start import start_run as start_run

__version__ = "0.1.0"

_HOMES = {
    "DataError": "errors",
    "DeclarationError": "errors",
    "Discrete": "space",
    "DomainLoadError": "errors",
    "EventFileError": "errors",
    "ExecutorError": "errors",
    "Experiment": "experiment",
    "HParam": "hparam",
    "HParamValueError": "errors",
    "HParamsLabError": "errors",
    "IntInterval": "intervals",
    "LogDirError": "errors",
    "LogDirReader": "events.logdir",
    "Metric": "experiment",
    "MissingExtraError": "errors",
    "MissingMetricError": "errors",
    "Outcome": "outcome",
    "OwnedError": "errors",
    "Pruned": "errors",
    "RealInterval": "intervals",
    "Results": "results",
    "Run": "logger",
    "RunResult": "results",
    "Scalars": "results",
    "TrialResult": "results",
    "UnsavedError": "errors",
    "UsageError": "errors",
    "read": "events.logdir",
    "run_sweep": "runner",
    "start_run": "start",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
