"""`start_run`: a run in any training loop, with nothing declared or with an experiment.

    with lab.start_run("logs/mine", hparams={"units": 32, "lr": 0.01}) as run:
        run.log({"loss": 0.3}, step=1)

With nothing declared, the directory's experiment is the union of what its runs had and logged, kept right by whoever
writes next, under a lock.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from hparams_lab.core.declared import Declared
from hparams_lab.core.described import as_text, tell_alike
from hparams_lab.core.diff import experiment_changes, in_a_line
from hparams_lab.core.errors import HParamValueError, LogDirError, UsageError
from hparams_lab.core.scalar import checked_step
from hparams_lab.core.trial import HParams, stored_values
from hparams_lab.core.united import conflict, united
from hparams_lab.core.values import Value, canonical, checked, name_of, short
from hparams_lab.core.warned import warn_caller
from hparams_lab.events.write.event_log import WhenFull
from hparams_lab.logdir.declaration import (
    declare,
    experiment_message,
    is_declared,
    joined_by,
    observed_message,
    stored_in,
)
from hparams_lab.logdir.run_reader import read_run
from hparams_lab.logdir.sweep_json import declared_in, is_of_search, load_sweep, save_sweep
from hparams_lab.run.provenance import PROVENANCE_TAG, provenance_markdown
from hparams_lab.run.reopen import reopened
from hparams_lab.run.run import Run, Stored
from hparams_lab.run.run_dir import IfExists, check_not_of_sweep, checked_run_name, make_run_dir
from hparams_lab.run.system import SystemSampler, found_psutil
from hparams_lab.storage import disk
from hparams_lab.storage.locks import held, is_held
from hparams_lab.storage.ownership import LOCK
from hparams_lab.storage.paths import LogDirPaths, paths_of

if TYPE_CHECKING:
    from hparams_lab.core.experiment import Experiment


def start_run(
    logdir: str | os.PathLike[str],
    *,
    hparams: Mapping[Any, Any],
    name: str | None = None,
    experiment: Experiment | None = None,
    trial_id: str | None = None,
    if_exists: IfExists = "error",
    resume: bool = False,
    from_step: int | None = None,
    hparams_as_text: bool = False,
    provenance: bool = True,
    system: bool = False,
    when_full: WhenFull = "block",
    fsync: bool = True,
) -> Run:
    """Start a run in a log directory, in any training loop.

    Args:
      logdir: the log directory; made when it is not there.
      hparams: values by name or `HParam`. With an experiment they are checked against their domains.
      name: the run's directory below `logdir`; when left out the next free `run-0000`, or `manual-0000` where a sweep
        names the runs.
      experiment: what is tuned and measured. Without one, the directory's experiment is the union of what its runs
        had and logged.
      trial_id: runs of the same trial share it; the hash of the values when left out.
      if_exists: what to do about a `name` that is taken: "error", or "number" for `name-2`.
      resume: go on with the run `name` after its last whole record, if it is there.
      from_step: with `resume`, the step of the checkpoint that the training goes on from, 0 to 2**31-1: what was logged
        at larger steps is dropped from the run's file, and the next step is `from_step + 1`.
      hparams_as_text: log lists, dicts and other objects among the values as text: JSON, or the class and how it is
        configured, whole and the same at each start. Infinities and integers beyond 2**53 are text, too.
      provenance: log the command, versions, git commit, host and devices, in the background.
      system: sample CPU, memory and GPU into `sys/...` (the `system` extra).
      when_full: what logging does while the file cannot keep up: "block", or "drop" calls and count them in
        `run.dropped`.
      fsync: whether `finish` waits until the run is on the disk.

    Raises HParamValueError for values that do not fit, LogDirError for a directory or name that cannot be used,
    UsageError for an option that is not there.
    """
    for option, word, words in (("if_exists", if_exists, IfExists), ("when_full", when_full, WhenFull)):
        if word not in get_args(words):
            raise UsageError(f"{option} is {word!r}; wanted one of {', '.join(map(repr, get_args(words)))}")
    values = experiment.check(hparams) if experiment else checked_values(hparams, hparams_as_text)
    paths = paths_of(logdir)
    if system:
        found_psutil()  # before anything is made
    options: dict[str, Any] = {"trial": trial_id, "when_full": when_full, "fsync": fsync}
    if resume:
        if name is None:
            raise LogDirError("resume=True goes on with a run by its name; give name=...")
        name = checked_run_name(paths, name)
    after = _checked_from_step(from_step, resume)
    if resume and name and paths.run(name).is_dir():
        run = _reopened(paths, name, values, experiment, options, after)
    else:
        if name is not None:
            check_not_of_sweep(paths, name)
        run = _new(paths, make_run_dir(paths, name, if_exists), values, experiment, options)
        run._step = -1 if after is None else after
    if provenance:
        run.text_later(PROVENANCE_TAG, provenance_markdown)
    if system:
        run.at_finish(SystemSampler(run).stop)
    return run


class DeclaringRun(Run):
    """A run outside of a sweep, which sees to it that its directory's experiment names what it logged."""

    def __init__(
        self, paths: LogDirPaths, name: str, hparams: HParams, experiment: Experiment | None, **more: Any
    ) -> None:
        self._paths = paths
        self._declared = False
        super().__init__(paths.run(name), name, hparams, experiment=experiment, **more)

    def finish(self, *args: Any, **kwargs: Any) -> None:
        """As `Run.finish`; then the tags that nobody declared become columns."""
        super().finish(*args, **kwargs)
        is_there = self.dir.is_dir()  # and not moved aside with its log directory, or deleted
        if self.is_over and not self._declared and self._experiment is None and is_there:
            tags = self._events.last
            if not is_declared(self._paths, {}, tags):
                declare(self._paths, observed_message({}, tags))
        self._declared = self.is_over  # else a finish that failed is tried again

    def leave(self) -> None:
        """As `Run.leave`; whoever gives it an end declares what it logged."""
        self._declared = True
        super().leave()


def checked_values(hparams: Mapping[Any, Any], hparams_as_text: bool = False) -> dict[str, Value]:
    """The values by name as plain Python. Raises HParamValueError for types that TensorBoard cannot hold."""
    if not isinstance(hparams, Mapping):
        raise HParamValueError(f"hparams are {short(hparams)} ({type(hparams).__name__}); wanted values by name")
    found: dict[str, Value] = {}
    for key, value in hparams.items():
        if not isinstance(key, str) and not hasattr(key, "name"):
            raise HParamValueError(
                f"an hparam has the name {key!r} ({type(key).__name__}); wanted a string or an HParam"
            )
        name = name_of(key)
        if not name.strip():
            raise HParamValueError("an hparam has an empty name; give each a name")
        found[name] = checked(name, as_text(value, partial(tell_alike, name)) if hparams_as_text else value)
    return found


def _new(
    paths: LogDirPaths, name: str, values: Mapping[str, Value], experiment: Experiment | None, options: dict[str, Any]
) -> Run:
    try:
        stored = _declare(paths, values, experiment)
        return DeclaringRun(paths, name, HParams(values), experiment, stored=stored, **options)
    except BaseException:
        disk.remove_tree(paths.run(name))
        raise


def _checked_from_step(from_step: Any, resume: bool) -> int | None:
    """The step as an int. Raises UsageError for one that is none, or without `resume`."""
    if from_step is None:
        return None
    if not resume:
        raise UsageError(f"from_step={short(from_step)} goes on with a run; give resume=True and its name")
    try:
        return checked_step(from_step)
    except UsageError as error:
        raise UsageError(f"from_{error}") from None


def _reopened(
    paths: LogDirPaths,
    name: str,
    values: Mapping[str, Value],
    experiment: Experiment | None,
    options: dict[str, Any],
    after: int | None,
) -> Run:
    """The run of that name, to be gone on with: the same hparams, after its last whole record."""
    directory = paths.run(name)
    before = read_run(directory, name, Declared.of(experiment) if experiment else declared_in(paths))
    if before is None:
        raise LogDirError(f"{directory} holds no run to go on with; give another name, or resume=False")
    if not _same(before.hparams, values):
        raise LogDirError(f"run {name!r} has the hparams {dict(before.hparams)}, not {dict(values)}; start another run")
    opened = reopened(directory, before, after)
    try:
        _declare(paths, values, experiment)
    except BaseException:
        opened.writer.abandon()
        raise
    options = {**options, "trial": options["trial"] or before.trial_id}
    return DeclaringRun(paths, name, HParams(values), experiment, reopened=opened, **options)


def _same(before: Mapping[str, Value], values: Mapping[str, Value]) -> bool:
    """Whether the values are those of the run before, which may have been stored as text or as another number type."""

    def texts(value: Value) -> set[str]:
        return {str(value), str(canonical(value))}

    return before.keys() == values.keys() and all(texts(before[name]) & texts(values[name]) for name in values)


def _declare(paths: LogDirPaths, values: Mapping[str, Value], experiment: Experiment | None) -> Stored:
    """See to it that the directory's experiment has columns for the values; the values as those hold them."""
    if experiment is None:
        known = is_declared(paths, values, ())
        message = known or declare(paths, observed_message(values, ()), combine=joined_by(values))
        return stored_in(message, values)
    _declare_united(paths, experiment.to_json())
    declare(paths, experiment_message(experiment), combine=joined_by(values))
    return stored_values(values, experiment)


def _declare_united(paths: LogDirPaths, asked: Mapping[str, Any]) -> None:
    """Have `sweep.json` declare the experiment too: what it declares already and this one are united, with a warning.

    The `sweep.json` of a sweep or a search says what that was asked for, and stays. Raises LogDirError where the two
    contradict each other.
    """
    with held(paths.experiment_lock):
        stored = load_sweep(paths)
        before = declared_in(paths)
        if before is None:
            if stored is None and not is_held(paths.root / LOCK):  # a sweep that gets ready writes its own
                save_sweep(paths, {"experiment": asked})
            return
        if before.json == asked:
            return
        if why := conflict(before.json, asked):
            raise LogDirError(f"{paths.root} declares another experiment: {why}; give another name, or directory")
        both = united([before.json, asked], {})
        if is_of_search(paths) or both == united([before.json], {}):
            return
        save_sweep(paths, {**(stored or {}), "experiment": both})
    changes = [change for change in experiment_changes(before.json, asked) if change.how != "removed"]
    if changes:
        said = f"{paths.root} declares another experiment: {in_a_line(changes)}; from now on it declares both"
        warn_caller(said)
