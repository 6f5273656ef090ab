"""hparams_lab: the experiment-logging toolkit for TensorBoard's HParams dashboard.

Declare hyperparameters and metrics once, sweep them with any strategy, and read every result in TensorBoard's HParams
tab, from the command line, or as a table. The names below are the public surface; each is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hparams_lab.core.domains import Discrete as Discrete
    from hparams_lab.core.errors import DataError as DataError
    from hparams_lab.core.errors import DeclarationError as DeclarationError
    from hparams_lab.core.errors import DomainLoadError as DomainLoadError
    from hparams_lab.core.errors import EventFileError as EventFileError
    from hparams_lab.core.errors import ExecutorError as ExecutorError
    from hparams_lab.core.errors import HParamsLabError as HParamsLabError
    from hparams_lab.core.errors import HParamValueError as HParamValueError
    from hparams_lab.core.errors import LogDirError as LogDirError
    from hparams_lab.core.errors import MissingExtraError as MissingExtraError
    from hparams_lab.core.errors import MissingMetricError as MissingMetricError
    from hparams_lab.core.errors import OwnedError as OwnedError
    from hparams_lab.core.errors import Pruned as Pruned
    from hparams_lab.core.errors import UnsavedError as UnsavedError
    from hparams_lab.core.errors import UsageError as UsageError
    from hparams_lab.core.experiment import Experiment as Experiment
    from hparams_lab.core.experiment import Metric as Metric
    from hparams_lab.core.hparam import HParam as HParam
    from hparams_lab.core.intervals import IntInterval as IntInterval
    from hparams_lab.core.intervals import RealInterval as RealInterval
    from hparams_lab.core.outcome import Outcome as Outcome
    from hparams_lab.core.results import Results as Results
    from hparams_lab.core.results import RunResult as RunResult
    from hparams_lab.core.results import Scalars as Scalars
    from hparams_lab.core.results import TrialResult as TrialResult
    from hparams_lab.logdir.reader import LogDirReader as LogDirReader
    from hparams_lab.logdir.reader import read as read
    from hparams_lab.run.run import Run as Run
    from hparams_lab.run.start import start_run as start_run
    from hparams_lab.sweep.runner import run_sweep as run_sweep

__version__ = "0.1.0"

_HOMES = {
    "DataError": "core.errors",
    "DeclarationError": "core.errors",
    "Discrete": "core.domains",
    "DomainLoadError": "core.errors",
    "EventFileError": "core.errors",
    "ExecutorError": "core.errors",
    "Experiment": "core.experiment",
    "HParam": "core.hparam",
    "HParamValueError": "core.errors",
    "HParamsLabError": "core.errors",
    "IntInterval": "core.intervals",
    "LogDirError": "core.errors",
    "LogDirReader": "logdir.reader",
    "Metric": "core.experiment",
    "MissingExtraError": "core.errors",
    "MissingMetricError": "core.errors",
    "Outcome": "core.outcome",
    "OwnedError": "core.errors",
    "Pruned": "core.errors",
    "RealInterval": "core.intervals",
    "Results": "core.results",
    "Run": "run.run",
    "RunResult": "core.results",
    "Scalars": "core.results",
    "TrialResult": "core.results",
    "UnsavedError": "core.errors",
    "UsageError": "core.errors",
    "read": "logdir.reader",
    "run_sweep": "sweep.runner",
    "start_run": "run.start",
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
