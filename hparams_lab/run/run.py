"""`Run`: one training's hparams, metrics and outcome, in an event file of its own. Made by `start_run`.

TensorBoard keeps the first session end that it sees, so it is written once, at the end. What is logged is buffered,
encoded and written in the background (`events/event_log.py`); `flush` hands it to the system, `finish` to the disk.
"""

from __future__ import annotations

import atexit
import math
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hparams_lab.core.errors import UnsavedError, UsageError
from hparams_lab.core.measured import Intake, Summary, is_quick, unranked, warn_of_steps_back
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.scalar import LARGEST_SCALAR, checked_step, checked_tag, is_of_system
from hparams_lab.core.trial import HParams, stored_values
from hparams_lab.core.values import short, trial_id
from hparams_lab.events.format import media, summaries
from hparams_lab.events.format.event_file import summary_event
from hparams_lab.events.format.final import final_values
from hparams_lab.events.write import ticker
from hparams_lab.events.write.event_log import INTEGERS, EventLog, WhenFull
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.run.outcome_records import call_at_end, ending, outcome_named, outcome_of
from hparams_lab.run.reopen import Reopened
from hparams_lab.storage import disk

if TYPE_CHECKING:
    from hparams_lab.core.experiment import Experiment

Stored = Mapping[str, "bool | float | str"]


class Run:
    """One run, being logged. A context manager; without one, call `finish`.

    Leaving the block normally is SUCCESS, by an exception FAILURE (the error kept as text), by interruption UNKNOWN.
    Threads may log at once. After a fork the run is the parent's.

    Attributes:
      dir: the run's directory.
      name: its name, relative to the log directory.
      hparams: its values, by name or by `HParam`.
      trial_id: the trial that it is a run of.
      seed: what its random numbers were seeded with; None outside of a sweep.
      summary: values by tag that the tab shows in the end, such as the best of a curve; yours to fill.
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
        stored: Stored | None = None,
        reopened: Reopened | None = None,
        when_full: WhenFull = "block",
        fsync: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.dir = directory
        self.name = name
        self.hparams = hparams
        self.trial_id = trial or trial_id(hparams)
        self.seed = seed
        self.numbers_of = Intake(name, experiment.objective if experiment else None)
        self.summary = Summary(self.numbers_of)
        self._experiment = experiment
        self._fsync = fsync
        self._status: tuple[Outcome, str] | None = None
        opened = reopened or Reopened(EventFileWriter.create(directory, clock()))
        self._step = opened.step
        self._events = EventLog(opened.writer, when_full, wall=clock)
        self._events.last.update(opened.last)
        self._over = False
        self._end = b""  # its records, once they are made
        self._signatures = self._events.signatures
        self._events.on_steps_back(partial(warn_of_steps_back, name))
        self._began = perf_counter() - opened.seconds_before(self._events.wall_time())
        self._at_finish: list[Callable[[], Any]] = []
        if reopened is None:
            now = self._events.wall_time()
            start = summaries.session_start(stored or stored_values(hparams, experiment), self.trial_id, now)
            self._events.add(summary_event(start, 0, now))
            self._events.drain()
        _unfinished.add(self)

    def log(self, metrics: Mapping[str, Any] | str, value: Any = None, step: int | None = None) -> None:
        """Log scalars: `log({"loss": 0.3}, step=1)` or `log("loss", 0.3, step=1)`.

        Args:
          metrics: values by tag, or one tag. A value is a number, a bool, or an array or tensor of one element. An
            array or list of 2 to 32 is logged as `tag/0`, `tag/1`, ..., a mapping as `tag/key`; a longer or empty one
            is left out with one warning. NaN and infinities are logged as they are.
          value: the value of a single tag. With a mapping, a step may stand here: `log({...}, 1)`.
          step: a whole number of any type, 0 to 2**31-1; one more than the last when left out, from 0.

        Raises UsageError for a value that is not a number, a step out of range, or a run that is over; UnsavedError
        when what was logged before could not be written.
        """
        # Each line here is paid for with every scalar; benchmarks/logging.py says how much.
        try:
            if type(metrics) is str:
                tag = metrics
            else:
                step = value if step is None else step
                if len(metrics) == 1:
                    (tag,) = metrics  # type: ignore[str-unpack]
                    value = metrics[tag]  # type: ignore[index]
                else:
                    tag = ""
            if step is None:
                step = int(self._step) + 1
            elif (type(step) is not int and type(step) not in INTEGERS) or step < 0:
                raise KeyError
            if tag:
                pack, append, rows, full = self._signatures[tag]
                append(pack(perf_counter(), step, value))
            else:
                pack, append, rows, full = self._signatures[tuple(metrics)]
                append(pack(perf_counter(), step, *metrics.values()))  # type: ignore[union-attr]
        except Exception:  # something to look at: new tags, other types, a run that is over, a full disk
            rows, full, step = self._log_with_care(metrics, value, step)
        self._step = step
        if len(rows) > full:
            self._events.overflow(rows, full)

    def log_columns(self, columns: Mapping[str, Any], steps: Any = None) -> None:
        """Log whole curves at once: `log_columns({"loss": losses}, steps=range(1000))`.

        Args:
          columns: an array of numbers by tag, each of shape (n,). One of shape (n, k) is k columns, `tag/0`, ...
          steps: n whole numbers from 0 to 2**31-1; those after the last step when left out.

        Raises UsageError for arrays that are not numbers, of other shapes or lengths, or steps out of range.
        """
        self._check_open()
        arrays = media.columns_of(columns, self.numbers_of.leave_out)
        self.numbers_of.note(columns.keys() - arrays.keys())
        count = len(next(iter(arrays.values()), ()))
        begin = self._step + 1
        checked = media.checked_steps(range(begin, begin + count) if steps is None else steps)
        for tag, values in arrays.items():
            if len(values) != len(checked):
                raise UsageError(f"metric {tag!r} has {len(values)} values for {len(checked)} steps; give one each")
        if count:
            for tag, values in arrays.items():
                self._events.add_columns(tag, checked, values)
            self._step = int(checked[-1])

    def text(self, tag: str, markdown: str, step: int | None = None) -> None:
        """Log a text, shown as Markdown in TensorBoard's Text tab. `step` is the last one when left out."""
        self._add(summaries.text(checked_tag(tag), str(markdown)), step)

    def image(self, tag: str, image: Any, step: int | None = None) -> None:
        """Log an image, shown in TensorBoard's Images tab.

        Args:
          tag: its name.
          image: an array of shape (height, width) or (height, width, 1, 3 or 4): uint8, or floats in [0, 1].
          step: the last one when left out.

        Raises UsageError for another shape or type, or floats outside of [0, 1].
        """
        self._add(media.image(checked_tag(tag), image), step)

    def figure(self, tag: str, figure: Any, step: int | None = None, close: bool = True) -> None:
        """Log a Matplotlib figure as an image, and by default close it."""
        self._add(media.figure(checked_tag(tag), figure, close), step)

    def histogram(self, tag: str, values: Any, step: int | None = None, bins: int = 30) -> None:
        """Log the distribution of an array of any shape, shown in TensorBoard's Histograms and Distributions tabs."""
        self._add(media.histogram(checked_tag(tag), values, bins), step)

    def text_later(self, tag: str, make: Callable[[], str]) -> None:
        """Log the text that `make` returns, called in the background: for what takes its time to find out."""
        wall_time = self._events.wall_time  # and not self: a run that is forgotten is to be found
        self._events.later(lambda: summary_event(summaries.text_made(tag, make), 0, wall_time()))

    def log_aside(self, metrics: Mapping[str, float]) -> None:
        """Log scalars by the clock: the step is the whole seconds since the run began. `log` counts as before."""
        signature = self._events.signature(tuple(metrics))
        now = perf_counter()
        signature.append(signature.pack(now, int(now - self._began), *metrics.values()))

    def at_finish(self, call: Callable[[], Any]) -> None:
        """Call it when the run is finished, before its end is written. An error that it raises is a warning."""
        self._at_finish.append(partial(call_at_end, self.name, call))

    def set_status(self, outcome: Outcome | str, reason: str = "") -> None:
        """Say how the run will have ended, whatever `finish` would find: "completed", "failed", "pruned", ..."""
        self._check_open()
        self._status = (outcome_named(outcome), " ".join(reason.split()))

    def flush(self) -> None:
        """Hand what was logged to the operating system, where it survives the end of this process.

        Raises UnsavedError when it cannot be written.
        """
        self._check_open()
        self._events.drain()
        self._raise_write_error()

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every tag."""
        self._events.drain()
        return {tag: value for tag, (_, value) in self._events.last.items()}

    @property
    def last_steps(self) -> dict[str, int]:
        """The last step of every tag, in a resumed run those of before too."""
        self._events.drain()
        return {tag: step for tag, (step, _) in self._events.last.items()}

    @property
    def last_step(self) -> int:
        """The step that was logged last, -1 before the first. A resumed run begins with its largest one."""
        return self._step

    @property
    def dropped(self) -> int:
        """How many calls of `log` were dropped because the file could not keep up (with `when_full="drop"`)."""
        return self._events.dropped

    @property
    def is_over(self) -> bool:
        """Whether the run was finished."""
        return self._over

    def finish(
        self,
        metrics: Mapping[str, Any] | None = None,
        outcome: Outcome | str = Outcome.COMPLETED,
        reason: str = "",
        details: str = "",
    ) -> None:
        """End the run: its final metrics last, then its outcome, then wait for the disk. A second call does nothing.

        Args:
          metrics: final values, written (with `summary`) where they are not the last logged ones already.
          outcome: how it ended. A completed run whose objective is not finite is recorded as diverged.
          reason: why it did not complete, in one line; details: more of it, such as a traceback.

        Raises UnsavedError when the file cannot be written, the run still open and without an end. What was logged is
        tried again by the next call, unless it was the wait for the disk that failed: then so does every other.
        """
        if self._over or self._events.abandoned:
            return
        outcome = outcome_named(outcome)
        if not self._end:
            self._end = self._ending({**self.summary, **(metrics or {})}, outcome, reason, details)
        try:
            self._events.close(self._fsync, self._end)
        except OSError as error:
            raise self._write_error(error) from None
        self._forget()

    def leave(self) -> None:
        """Hand what was logged to the operating system, and let go of the file without an end: another gives it one.

        The run is over for this process. Raises UnsavedError when not all of it could be written.
        """
        if self._over or self._events.abandoned:
            return
        while self._at_finish:
            self._at_finish.pop()()
        self._forget()
        try:
            self._events.leave()
        except OSError as error:
            raise self._write_error(error) from None

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome, reason, details = outcome_of(error)
        self.finish(None, outcome, reason, details)

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            # Garbage is collected in any thread, at any place: also where a lock is held that the finish waits for.
            ticker.call_later(partial(self.finish, None, *outcome_of(sys.exc_info()[1])))

    def __repr__(self) -> str:
        return f"<Run {self.name!r} in {str(self.dir)!r}>"

    def _log_with_care(self, metrics: Any, value: Any, step: Any) -> tuple[list[bytes], int, int]:
        """`log` with every check: the rows that were appended to, how many are full, and the step."""
        self._check_open()
        if not isinstance(metrics, (str, Mapping)):
            raise UsageError(f"log() got {short(metrics)}; wanted a mapping of values by name, or a name and a value")
        step = checked_step(self._step + 1 if step is None else step)
        mapping = {metrics: value} if isinstance(metrics, str) else metrics
        values = self.numbers_of(mapping)
        if not values:
            return [], 0, step
        signature = self._events.signature(tuple(values), again=all(map(is_quick, mapping.values())))
        signature.append(signature.pack(perf_counter(), step, *values.values()))
        return signature.rows, signature.full, step

    def _add(self, summary: Any, step: int | None) -> None:
        self._check_open()
        step = max(self._step, 0) if step is None else checked_step(step)
        self._events.add(summary_event(summary, step, self._events.wall_time()))

    def _forget(self) -> None:
        self._over = True
        _unfinished.discard(self)

    def _ending(self, metrics: Mapping[str, Any], outcome: Outcome, reason: str, details: str) -> bytes:
        """The records of the end, after logging the final metrics. Once: a finish that fails is only written again."""
        while self._at_finish:
            self._at_finish.pop()()
        final = self.numbers_of(metrics)
        self._events.settle()
        if final:
            self._log_final(final)
        if outcome is Outcome.COMPLETED and self._status:
            outcome, reason = self._status
        if outcome is Outcome.COMPLETED and (broken := self._divergence()):
            outcome, reason = Outcome.DIVERGED, broken
        now = self._events.wall_time()
        values = {tag: value for tag, (_, value) in self._events.last.items() if not is_of_system(tag)}
        exact = final_values(values, now)
        said = [*([exact] if exact else []), *ending(outcome, reason, details, now)]
        return b"".join(summary_event(summary, 0, now) for summary in said)

    def _log_final(self, metrics: Mapping[str, float]) -> None:
        """Log the values that are not the last ones yet, at the last step: the tab shows a metric's last point."""
        last = self._events.last
        step = max([self._step, 0, *(last[tag][0] for tag in metrics if tag in last)])
        new = {tag: value for tag, value in metrics.items() if last.get(tag) != (step, value)}
        if new:
            Run.log(self, new, step=step)
            self._events.settle()

    def _divergence(self) -> str:
        """Why the run's objective does not count; empty when it does."""
        if self._experiment is None:
            return ""
        tag = self._experiment.objective
        if tag in self.numbers_of.several and tag not in self._events.last:
            return unranked(tag)
        _, value = self._events.last.get(tag, (0, math.nan))
        return "" if math.isfinite(value) and abs(value) <= LARGEST_SCALAR else f"the objective {tag!r} is {value}"

    def __reduce__(self) -> Any:
        raise UsageError(
            f"run {self.name!r} cannot be sent to another process or copied, since it belongs to the one that started "
            "it; hand over run.dir and run.hparams, and log what comes back"
        )

    def _check_open(self) -> None:
        """Raise what keeps the run from being logged to."""
        if self._events.abandoned:
            raise UsageError(
                f"run {self.name!r} belongs to the process that started it; after a fork, start a run of its own"
            )
        if self._over or self._events.closed:
            raise UsageError(f"run {self.name!r} is finished; log before run.finish() or the end of its with block")
        self._raise_write_error()

    def _raise_write_error(self) -> None:
        error = self._events.error()
        if error is not None:
            raise self._write_error(error)

    def _write_error(self, error: OSError) -> UnsavedError:
        return disk.unsaved(self._events.path, error, self._events.is_lost)


for _method in (Run.log, Run.log_columns, Run.text, Run.image, Run.histogram):
    vars(_method)["autograph_info__"] = {}  # AutoGraph calls them as they are in a tf.function


_unfinished: weakref.WeakSet[Run] = weakref.WeakSet()


@atexit.register
def _finish_forgotten() -> None:
    """Give an end to the runs that nobody finished: failed when the program ends by an error, completed otherwise."""
    for run in list(_unfinished):
        ticker.call_later(partial(run.finish, None, *outcome_of(getattr(sys, "last_value", None))))
    ticker.make_calls()
