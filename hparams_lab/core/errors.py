"""The exception tree of hparams_lab.

    HParamsLabError               the root; the command line prints its message and exits with 2
    |-- DeclarationError          an hparam, domain, metric or experiment that cannot be (also a ValueError);
    |                             raised when it is declared: correct the declaration
    |-- HParamValueError          a value outside its hparam's domain, or of a type that TensorBoard
    |                             cannot hold (also a ValueError); correct the value
    |-- UsageError                an option or argument that does not fit; correct the call
    |-- DomainLoadError           a domain module that cannot be imported or lacks a part; mend the module
    |-- DataError                 a data set that is missing or has the wrong shape; give another
    |-- LogDirError               a log directory that cannot be used as asked: another sweep's, not a
    |   |                         directory, not writable; choose another, or move it aside
    |   |-- OwnedError            another runner works in it; wait for that one, or stop it
    |   `-- UnsavedError          what was logged could not be written, as on a full disk; make room
    |-- EventFileError            bytes that are not what an event file holds; says the file and the offset
    |-- MissingMetricError        a train function that ended without a declared metric; return or log it
    |-- ExecutorError             the machinery around a run broke (not the run itself); read the log it names
    `-- MissingExtraError         an optional package is not installed (also an ImportError); install it

    Pruned                        not an error: raised inside a train function when its run is to stop early.
                                  Let it pass.

Messages say what came, what was wanted and the way out, in one line.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "DataError",
    "DeclarationError",
    "DomainLoadError",
    "EventFileError",
    "ExecutorError",
    "HParamValueError",
    "HParamsLabError",
    "LogDirError",
    "MissingExtraError",
    "MissingMetricError",
    "OwnedError",
    "Pruned",
    "UnsavedError",
    "UsageError",
]


class HParamsLabError(Exception):
    """Root of every error that hparams_lab raises on purpose."""

    ag_pass_through = True  # TensorFlow's AutoGraph leaves the message as it is, and does not wrap it in a trace


class DeclarationError(HParamsLabError, ValueError):
    """An hparam, a domain, a metric or an experiment that cannot be."""


class HParamValueError(HParamsLabError, ValueError):
    """A hyperparameter's value that its domain, or TensorBoard, does not hold."""


class UsageError(HParamsLabError):
    """An option or argument that does not fit."""


class DomainLoadError(HParamsLabError):
    """A domain module that cannot be found, imported, or lacks a part."""


class DataError(HParamsLabError):
    """A data set that is missing or has the wrong arrays."""


class LogDirError(HParamsLabError):
    """A log directory that cannot be used as asked."""


class OwnedError(LogDirError):
    """A log directory that another runner works in."""


class UnsavedError(LogDirError):
    """What was logged could not be written to the disk."""


class EventFileError(HParamsLabError):
    """Bytes that are not what an event file holds."""


class MissingMetricError(HParamsLabError):
    """A train function that ended without a metric that its experiment declares."""


class ExecutorError(HParamsLabError):
    """The machinery around a run broke, not the run itself."""


class MissingExtraError(HParamsLabError, ImportError):
    """An optional package is needed and not installed."""

    @classmethod
    def of(cls, what: str, extra: str) -> MissingExtraError:
        """The error of a package that the extra of that name brings."""
        return cls(f"{what} is not installed; bring it with: pip install 'hparams-lab[{extra}]'")


class Pruned(Exception):
    """Raised inside a train function when its run is to stop early."""


def nearest(name: str, known: Sequence[str]) -> str:
    """The way out of a misspelt name: the names most like it, or all there are."""
    import difflib  # slow to import, and seldom needed

    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"there are {shown}" if known else "there are none"
