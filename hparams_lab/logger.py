"""`Run` and `start_run`: one training's hparams, metrics and outcome, in an event file of its own.

    with lab.start_run("logs/mine", hparams={"units": 32, "lr": 0.01}) as run:
        run.log({"loss": 0.3}, step=1)

Leaving the block normally is SUCCESS, by an exception FAILURE (the error kept as text), by interruption UNKNOWN.
TensorBoard keeps the first session end that it sees, so it is written once, at the end.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hparams_lab.errors import HParamValueError, LogDirError, Pruned, UsageError
from hparams_lab.events import summaries
from hparams_lab.events.declaration import declare, experiment_message, joined_by, observed_message, stored_in
from hparams_lab.events.logdir import save_sweep
from hparams_lab.events.reader import OUTCOME_TAG, event_files
from hparams_lab.events.writer import EventFileWriter
from hparams_lab.experiment import Experiment
from hparams_lab.hparam import name_of
from hparams_lab.paths import EXPERIMENT, LogDirPaths
from hparams_lab.results import Outcome
from hparams_lab.trial import HParams
from hparams_lab.values import Value, checked, trial_id, unwrap

Report = Callable[[int, Mapping[str, float]], None]

_STATUS = {
    Outcome.COMPLETED: summaries.SUCCESS,
    Outcome.PRUNED: summaries.SUCCESS,
    Outcome.INTERRUPTED: summaries.UNKNOWN,
}


class Run:
    """One run, being logged. Made by `start_run`, or by the runner for a train function.

    Attributes:
      dir: the run's directory.
      name: its name, relative to the log directory.
      hparams: its values, by name or by `HParam`.
      trial_id: the trial that it is a run of.
      seed: what its random numbers were seeded with; None outside of a sweep.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        hparams: HParams,
        *,
        trial: str | None = None,
        experiment: Experiment | None = None,
        seed: int | None = None,
        stored: Mapping[str, bool | float | str] | None = None,
        report: Report | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.dir = directory
        self.name = name
        self.hparams = hparams
        self.trial_id = trial or trial_id(hparams)
        self.seed = seed
        self._experiment = experiment
        self._report = report
        self._clock = clock
        self._step = 0
        self._last: dict[str, tuple[int, float]] = {}
        now = clock()
        self._writer: EventFileWriter | None = EventFileWriter.create(directory, now)
        self._writer.add(summaries.session_start(stored or _stored(hparams, experiment), self.trial_id, now), now=now)
        self._writer.flush()

    def log(self, metrics: Mapping[str, Any] | str, value: Any = None, step: int | None = None) -> None:
        """Log scalars: `log({"loss": 0.3}, step=1)` or `log("loss", 0.3, step=1)`.

        Args:
          metrics: values by tag, or one tag. A value is a number, a bool, a 0-d array or tensor; NaN and infinities
            are logged as they are.
          value: the value of a single tag. With a mapping, a step may stand here: `log({...}, 1)`.
          step: 0 to 2**31-1; one more than the last when left out.

        Raises UsageError for a value that is not a number, a step out of range, or a run that is over.
        """
        if isinstance(metrics, str):
            metrics = {metrics: value}
        elif step is None:
            step = value
        writer = self._open_writer()
        step = checked_step(self._step + 1 if step is None else step)
        values = {checked_tag(tag): as_float(tag, value) for tag, value in metrics.items()}
        writer.add(summaries.scalars(values), step, self._clock())
        self._step = step
        self._last.update((tag, (step, value)) for tag, value in values.items())
        if self._report is not None:
            self._report(step, values)

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Log a text, shown as Markdown in TensorBoard's Text tab."""
        self._open_writer().add(summaries.text(checked_tag(tag), markdown), checked_step(step), self._clock())

    def flush(self) -> None:
        """Hand what was logged to the operating system, where it survives the end of this process."""
        self._open_writer().flush()

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every tag."""
        return {tag: value for tag, (_, value) in self._last.items()}

    @property
    def is_over(self) -> bool:
        """Whether the run was finished."""
        return self._writer is None

    def finish(
        self,
        metrics: Mapping[str, Any] | None = None,
        outcome: Outcome | str = Outcome.COMPLETED,
        reason: str = "",
        details: str = "",
    ) -> None:
        """End the run: its final metrics last, then its outcome, then wait for the disk. A second call does nothing.

        Args:
          metrics: final values, written where they are not the last logged ones already.
          outcome: how it ended. A completed run whose objective is not finite is recorded as diverged.
          reason: why it did not complete, in one line; details: more of it, such as a traceback.
        """
        if self._writer is None:
            return
        self._log_final({checked_tag(tag): as_float(tag, value) for tag, value in (metrics or {}).items()})
        outcome = Outcome(outcome)
        if outcome is Outcome.COMPLETED and (broken := self._divergence()):
            outcome, reason = Outcome.DIVERGED, broken
        now = self._clock()
        end_session(self._writer, outcome, reason, details, now)
        self._writer = None

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome, reason, details = outcome_of(error)
        self.finish(None, outcome, reason, details)

    def __repr__(self) -> str:
        return f"<Run {self.name!r} in {str(self.dir)!r}>"

    def _log_final(self, metrics: Mapping[str, float]) -> None:
        """Write the values that are not the last ones yet, at the last step: the tab shows a metric's last point."""
        new = {tag: value for tag, value in metrics.items() if self._last.get(tag) != (self._step, value)}
        if new:
            self.log(new, step=self._step)

    def _divergence(self) -> str:
        """Why the run's objective does not count; empty when it does."""
        if self._experiment is None:
            return ""
        value = self.metrics.get(self._experiment.objective, math.nan)
        return "" if math.isfinite(value) else f"the objective {self._experiment.objective!r} is {value}"

    def _open_writer(self) -> EventFileWriter:
        if self._writer is None:
            raise UsageError(f"run {self.name!r} is finished; log before run.finish() or the end of its with block")
        return self._writer


class _DeclaringRun(Run):
    """A run outside of a sweep, which sees to it that its directory's experiment names what it logged."""

    def __init__(
        self, paths: LogDirPaths, name: str, hparams: HParams, experiment: Experiment | None, **more: Any
    ) -> None:
        super().__init__(paths.run(name), name, hparams, experiment=experiment, **more)
        self._paths = paths

    def finish(self, *args: Any, **kwargs: Any) -> None:
        """As `Run.finish`; then the tags that nobody declared become columns."""
        was_over = self.is_over
        super().finish(*args, **kwargs)
        if not was_over and self._experiment is None:
            declare(self._paths, observed_message({}, self.metrics))


def start_run(
    logdir: str | os.PathLike[str],
    *,
    hparams: Mapping[Any, Any],
    name: str | None = None,
    experiment: Experiment | None = None,
    trial_id: str | None = None,
) -> Run:
    """Start a run in a log directory, in any training loop.

    Args:
      logdir: the log directory; made when it is not there.
      hparams: values by name or `HParam`. With an experiment they are checked against their domains.
      name: the run's directory below `logdir`; the next free `run-0000` when left out.
      experiment: what is tuned and measured. Without one, the directory's experiment is the union of what its runs
        had and logged.
      trial_id: runs of the same trial share it; the hash of the values when left out.

    Raises HParamValueError for values that do not fit, LogDirError for a directory or name that cannot be used.
    """
    values = experiment.check(hparams) if experiment else _checked(hparams)
    paths = LogDirPaths(Path(logdir))
    name = _make_run_dir(paths, name)
    try:
        stored = _declare(paths, values, experiment)
        return _DeclaringRun(paths, name, HParams(values), experiment, trial=trial_id, stored=stored)
    except BaseException:
        shutil.rmtree(paths.run(name))
        raise


def _declare(
    paths: LogDirPaths, values: Mapping[str, Value], experiment: Experiment | None
) -> dict[str, bool | float | str]:
    """See to it that the directory's experiment has columns for the values; the values as those hold them."""
    if experiment is None:
        return stored_in(declare(paths, observed_message(values, ()), combine=joined_by(values)), values)
    declare(paths, experiment_message(experiment))
    if not paths.sweep_json.exists():
        save_sweep(paths, {"experiment": experiment.to_json()})
    return _stored(values, experiment)


def outcome_of(error: BaseException | None) -> tuple[Outcome, str, str]:
    """How a block that ended by `error` (None: normally) ended: the outcome, the reason, the traceback."""
    if error is None:
        return Outcome.COMPLETED, "", ""
    reason = " ".join(f"{type(error).__name__}: {error}".split()) if str(error) else type(error).__name__
    if isinstance(error, Pruned):
        return Outcome.PRUNED, reason, ""
    if not isinstance(error, Exception):
        return Outcome.INTERRUPTED, reason, ""
    return Outcome.FAILED, reason, "".join(traceback.format_exception(error))


def end_session(writer: EventFileWriter, outcome: Outcome, reason: str, details: str, now: float) -> None:
    """Write the outcome in words where the status says too little, then the session end, and close."""
    if outcome is not Outcome.COMPLETED:
        fenced = f"\n\n```\n{details}\n```\n" if details else ""
        writer.add(summaries.text(OUTCOME_TAG, f"{outcome}: {reason}{fenced}"), now=now)
    writer.add(summaries.session_end(_STATUS.get(outcome, summaries.FAILURE), now), now=now)
    writer.close()


def end_left_run(run: Path, outcome: Outcome, reason: str, details: str = "") -> None:
    """Give an end to a run whose process is gone."""
    writer = EventFileWriter.append(event_files(run)[-1])
    end_session(writer, outcome, reason, details, time.time())


def checked_tag(tag: Any) -> str:
    """`tag`, if TensorBoard can show it."""
    if not isinstance(tag, str) or not tag:
        raise UsageError(f"a metric has the name {tag!r} ({type(tag).__name__}); wanted a string that is not empty")
    return tag


def checked_step(step: Any) -> int:
    """`step` as an integer that TensorBoard can show."""
    plain = unwrap(step)
    if isinstance(plain, bool) or not isinstance(plain, int) or not 0 <= plain <= summaries.LARGEST_STEP:
        raise UsageError(
            f"step is {step!r}; wanted a whole number from 0 to 2**31-1, which is what TensorBoard can show"
        )
    return plain


def as_float(tag: str, value: Any) -> float:
    """`value` as a float: numbers, bools, 0-d arrays and tensors of any framework."""
    if not isinstance(value, (str, bytes)) and getattr(value, "ndim", 0) == 0:
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    raise UsageError(f"metric {tag!r} is {_short(value)} ({type(value).__name__}{shape}); wanted a single number")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _checked(hparams: Mapping[Any, Any]) -> dict[str, Value]:
    found = {name_of(key): checked(name_of(key), value) for key, value in hparams.items()}
    if "" in found:
        raise HParamValueError("an hparam has an empty name; give each a name")
    return found


def _stored(hparams: Mapping[str, Value], experiment: Experiment | None) -> dict[str, bool | float | str]:
    """The values as TensorBoard holds them; None, which it cannot sort, is the string "None"."""
    domains = {hparam.name: hparam.domain for hparam in experiment.hparams} if experiment else {}
    plain = {name: "None" if value is None else value for name, value in hparams.items()}
    return {name: domains[name].stored(hparams[name]) if name in domains else plain[name] for name in hparams}


def _make_run_dir(paths: LogDirPaths, name: str | None) -> str:
    """Make a directory that no other run has; its name."""
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        return _named_dir(paths, name) if name is not None else _next_dir(paths)
    except OSError as error:
        raise LogDirError(f"{paths.root} cannot be written: {error.strerror}; choose another log directory") from None


def _named_dir(paths: LogDirPaths, name: str) -> str:
    plain = Path(os.path.normpath(name))
    if not name or plain.is_absolute() or plain.drive or plain.parts[:1] in [(), ("..",)] or "\0" in name:
        raise LogDirError(f"the run's name {name!r} leaves the log directory {paths.root}; give a plain name")
    if plain.parts[0] in (EXPERIMENT, "sweep.json"):
        raise LogDirError(f"the run's name {name!r} is kept for the log directory's own; give another name")
    try:
        paths.run(str(plain)).mkdir(parents=True)
    except FileExistsError:
        raise LogDirError(
            f"run {name!r} is in {paths.root} already; give another name, or none for the next free"
        ) from None
    return plain.as_posix()


def _next_dir(paths: LogDirPaths) -> str:
    taken = [entry.name[4:] for entry in os.scandir(paths.root) if entry.name.startswith("run-")]
    number = max((int(rest[:4]) for rest in taken if rest[:4].isdecimal()), default=-1) + 1
    while True:
        try:
            paths.run(f"run-{number:04d}").mkdir()
        except FileExistsError:
            number += 1
        else:
            return f"run-{number:04d}"
