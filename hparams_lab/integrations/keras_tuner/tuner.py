"""`log_to` and `HParamsMixin`: the hooks in a tuner. What they are told is logged by `record.py`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hparams_lab.core.errors import UsageError
from hparams_lab.core.values import short
from hparams_lab.integrations.keras_tuner.callback import EpochCallback
from hparams_lab.integrations.keras_tuner.domains import hparams_of
from hparams_lab.integrations.keras_tuner.folds import told_apart
from hparams_lab.integrations.keras_tuner.found import keras_tuner
from hparams_lab.integrations.keras_tuner.left import LeftRuns
from hparams_lab.integrations.keras_tuner.objective import Objective, trains_as_usual
from hparams_lab.integrations.keras_tuner.record import TunerLog
from hparams_lab.integrations.search_log import SearchLog
from hparams_lab.logdir.sweep_json import BY, load_sweep
from hparams_lab.storage.paths import LogDirPaths, paths_of

BaseTuner = keras_tuner.engine.base_tuner.BaseTuner
_Base: Any = BaseTuner if TYPE_CHECKING else object
Tuner = TypeVar("Tuner")


def log_to(tuner: Tuner, logdir: str | os.PathLike[str], fresh: bool = False) -> Tuner:
    """Have the trials of a tuner logged, from its next `search` on.

    The directory is checked now, and owned while the tuner searches; nothing is written before. From now on the
    tuner's class is a subclass of the one it had, with the same name.

    Args:
      tuner: `RandomSearch`, `GridSearch`, `BayesianOptimization`, `Hyperband`, `SklearnTuner`, or one of your own.
      logdir: the log directory, made when it is not there. A tuner that was reloaded goes on in its own.
      fresh: move what the directory holds aside, to a name beside it.

    Returns the same tuner.

    Raises, and so does `search` before it trains anything, UsageError for what is no tuner, is logged already, has run
    trials that were not logged, tunes in several processes, or has several objectives where one is needed;
    DeclarationError for a search space that TensorBoard cannot hold; LogDirError for a directory that holds something
    else or cannot be written, OwnedError while another works in it. What fails once trials run is a warning: the
    search goes on as it would have gone, and the rest of it is not in the log.
    """
    if not isinstance(tuner, BaseTuner):
        kind = "a class; make the tuner first" if isinstance(tuner, type) else f"{type(tuner).__name__}, no tuner"
        raise UsageError(f"log_to() got {short(tuner)} ({kind}); wanted a keras_tuner tuner, such as RandomSearch(...)")
    logged: Any = tuner
    log = _checked(logged, logdir, fresh)
    kind = logged.__class__
    if not issubclass(kind, HParamsMixin):
        logged.__class__ = type(kind.__name__, (HParamsMixin, kind), {"__module__": kind.__module__})
    logged._hparams_log = log
    return tuner


class HParamsMixin(_Base):
    """For tuners of your own: `class MyTuner(HParamsMixin, keras_tuner.RandomSearch)`, first among the bases.

    Args:
      logdir, fresh: as for `log_to`; nothing is logged when `logdir` is left out.
      args, kwargs: the tuner's own.

    Raises as `log_to` does.
    """

    _hparams_log: TunerLog | None = None

    def __init__(
        self, *args: Any, logdir: str | os.PathLike[str] | None = None, fresh: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if logdir is not None:
            log_to(self, logdir, fresh)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = [base for base in cls.__bases__ if issubclass(base, (HParamsMixin, BaseTuner))]
        if own and not issubclass(own[0], HParamsMixin):
            raise UsageError(
                f"class {cls.__name__}: HParamsMixin comes behind {own[0].__name__}, where it is not asked; "
                f"write class {cls.__name__}(HParamsMixin, {own[0].__name__})"
            )

    def search(self, *args: Any, **kwargs: Any) -> Any:
        """As the tuner's own."""
        log = self._hparams_log
        with log.searching(_owned(self, log)) if log else contextlib.nullcontext():
            return super().search(*args, **kwargs)

    def on_trial_end(self, trial: Any) -> None:
        """As the tuner's own; then the trial's runs get their ends."""
        try:
            super().on_trial_end(trial)
        finally:
            if self._hparams_log:
                self._hparams_log.trial_over()

    def _run_and_update_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        log = self._hparams_log
        if log is None:
            super()._run_and_update_trial(trial, *args, **kwargs)
            return
        with log.trial(trial), contextlib.ExitStack() as stack:
            if isinstance(self, keras_tuner.SklearnTuner):
                stack.enter_context(told_apart(self, log))
            elif not trains_as_usual(self) and isinstance(kwargs.get("callbacks"), list):
                kwargs["callbacks"] = [*kwargs["callbacks"], EpochCallback(log)]
            super()._run_and_update_trial(trial, *args, **kwargs)

    def _build_and_fit_model(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        log = self._hparams_log
        if log is None:
            return super()._build_and_fit_model(trial, *args, **kwargs)
        callbacks = kwargs.get("callbacks") or []
        if not any(isinstance(callback, EpochCallback) for callback in callbacks):
            kwargs["callbacks"] = [*callbacks, EpochCallback(log)]
        log.training_begins()
        results = super()._build_and_fit_model(trial, *args, **kwargs)
        log.training_ends(results)
        return results


def _checked(tuner: Any, logdir: str | os.PathLike[str], fresh: bool) -> TunerLog:
    """The log of a tuner, which can be logged as far as can be seen. Raises as `log_to` does."""
    if getattr(tuner, "_hparams_log", None) is not None:
        raise UsageError("this tuner is logged already; call log_to() once")
    if "KERASTUNER_ORACLE_IP" in os.environ:
        raise UsageError(
            "KERASTUNER_ORACLE_IP is set: the trials are run by several processes, which cannot be logged into one "
            "directory; unset it to tune in this process, or tune without log_to()"
        )
    objective = Objective.of(tuner)
    hparams_of(tuner.oracle.get_space().space)
    log = TunerLog(tuner, paths_of(logdir), f"keras-tuner {type(tuner).__name__}", fresh, objective)
    SearchLog.check(log.paths.root, log.by, fresh=fresh, goes_on=_goes_on(tuner, log, objective))
    return log


def _owned(tuner: Any, log: TunerLog) -> SearchLog:
    """The log directory, owned for a search; since `log_to` another may have filled it. Raises as `log_to` does."""
    goes_on = log.has_begun or _goes_on(tuner, log, Objective.of(tuner))
    return SearchLog.open(log.paths.root, log.by, fresh=log.fresh and not log.has_begun, goes_on=goes_on)


def _goes_on(tuner: Any, log: TunerLog, objective: Objective) -> bool:
    """Whether a tuner may go on with what its kind left in the directory. Raises UsageError where it cannot."""
    left = LeftRuns(log.paths, tuner.oracle, objective)
    _check_places(tuner, log.paths, log.fresh)
    _check_trials(tuner, log.paths, left, log.fresh)
    return bool(tuner.oracle.trials) or _is_only_begun(log.paths, log.by, left)


def _check_places(tuner: Any, paths: LogDirPaths, fresh: bool) -> None:
    """Refuse a log directory that the tuner would delete, or that `fresh` moves aside with the tuner in it."""
    project = Path(os.path.abspath(os.path.join(str(tuner.directory), tuner.project_name)))  # keras-tuner has no "~"
    if paths.root.is_relative_to(project):
        raise UsageError(
            f"the log directory {paths.root} is inside the tuner's project {project}, which overwrite=True deletes; "
            "choose another"
        )
    if fresh and project.is_relative_to(paths.root):
        raise UsageError(
            f"fresh=True would move the tuner's project {project} aside together with {paths.root}; "
            "choose another log directory"
        )


def _check_trials(tuner: Any, paths: LogDirPaths, left: LeftRuns, fresh: bool) -> None:
    """Refuse a tuner that has run trials of which the directory has nothing."""
    trials = len(tuner.oracle.trials)
    if not trials:
        return
    several = f"{trials} trial{'s' * (trials > 1)}"
    if fresh:
        raise UsageError(
            f"fresh=True would move the log of the {several} aside that this tuner has run already; "
            "leave it out, or make the tuner with overwrite=True"
        )
    if not left.names():
        raise UsageError(
            f"this tuner has run {several} already that are not in {paths.root}; name the directory that has them, "
            "or make the tuner with overwrite=True and call log_to() before search()"
        )


def _is_only_begun(paths: LogDirPaths, by: str, left: LeftRuns) -> bool:
    """Whether a directory holds what a tuner of the kind left that was killed before its first trial was over."""
    sweep = load_sweep(paths) if paths.root.is_dir() else None
    return sweep is not None and sweep.get(BY) == by and not left.any_ended()
