"""`Job`: one run to do, and `perform`, which does it in whatever process it is called.

The run logs into its own event file and ends it, whatever the train function does; only a death of the process, or a
disk that takes nothing more, leaves it without an end.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hparams_lab.core.errors import HParamsLabError, LogDirError, MissingMetricError, UnsavedError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.measured import has_elements, numbers_among, unranked
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import RunResult
from hparams_lab.core.values import short
from hparams_lab.executors.forking import jax_has_run
from hparams_lab.executors.memory import MemoryLimit
from hparams_lab.executors.protocol import Job, Report, Setup
from hparams_lab.logdir.run_reader import OUTCOME_TAG
from hparams_lab.run.amend import add_text
from hparams_lab.run.attempts import ATTEMPTS_TAG, attempts_markdown
from hparams_lab.run.outcome_records import outcome_of, was_raised
from hparams_lab.run.provenance import PROVENANCE_TAG
from hparams_lab.run.run import Run
from hparams_lab.storage import disk
from hparams_lab.targets.protocol import Train
from hparams_lab.targets.seeding import seed_everything

REPORT_SECONDS = 0.1
NOTES = "run/note/"
"""How the tags of texts begin that say, in a line, what is missing of a run that completed."""
LONGEST_NOTE = 300


class _ReportingRun(Run):
    """A run that tells the runner what it logs, some times a second."""

    def __init__(self, *args: Any, report: Report | None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._report = report
        self._next_report = 0.0

    def log(self, metrics: Mapping[str, Any] | str, value: Any = None, step: int | None = None) -> None:
        """As `Run.log`, and report."""
        super().log(metrics, value, step)
        if self._report is not None and time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + REPORT_SECONDS
            mapping = {metrics: value} if isinstance(metrics, str) else metrics
            self._report(self._step, self.numbers_of(mapping))


vars(_ReportingRun.log)["autograph_info__"] = vars(Run.log)["autograph_info__"]


def check(train: Train) -> None:
    """Raise what would keep every run from training, such as missing data, where the train function can tell."""
    can_train = getattr(train, "check", None)
    if can_train is not None:
        can_train()


def perform(
    train: Train, setup: Setup, job: Job, report: Report | None = None, limit: MemoryLimit | None = None
) -> None:
    """Train one run and end it: completed, or failed with the traceback as text.

    Under a `limit` of memory, an error after something that the run started was killed by it counts as out of memory.
    KeyboardInterrupt is passed on after the run was ended as interrupted; SystemExit counts as a crash. Raises
    UnsavedError, the run left without an end, when the disk is full or takes nothing more.
    """
    seed_everything(job.spec.seed)
    with _full_disk_is_unsaved(job.directory):
        run = _made(setup, job, report)
        try:
            _introduce(run, setup, job)
            returned = train(run)
            _leave_if_told()
            returned = _final({} if returned is None else returned, run, setup.experiment)
            _check_metrics(run, returned, setup.experiment)
            run.finish(returned)
            _keep(train, run)
        except BaseException as error:
            _leave_if_told()
            if is_full_disk(error):
                raise
            outcome, reason, details = _outcome_of(error, limit)
            with contextlib.suppress(OSError, LogDirError):
                print(details or reason, file=sys.stderr)
            run.finish({}, outcome, reason, details)
            if outcome is Outcome.INTERRUPTED:
                raise
            _keep(train, run)
        finally:
            _under_way.clear()
            if not run.is_over:  # nobody else may take it for one that completed
                with contextlib.suppress(LogDirError):
                    run.leave()


def _keep(train: Train, run: Run) -> None:
    """Have the train function keep what it made, where it can. The run has its end: what goes wrong here is a note."""
    keep = getattr(train, "keep", None)
    if keep is None:
        return
    try:
        keep(run)
    except Exception as error:
        if is_full_disk(error):
            raise
        said = note_of("its model was not kept", error)
        with contextlib.suppress(OSError, LogDirError):
            print(said, file=sys.stderr)
        with contextlib.suppress(LogDirError):
            add_text(run.dir, f"{NOTES}model", said)


def note_of(what: str, error: Exception) -> str:
    """What is missing of a run and why, in a line."""
    _, reason, _ = outcome_of(error)
    return f"{what}: {reason if len(reason) <= LONGEST_NOTE else f'{reason[:LONGEST_NOTE]}…'}"


def notes_of(result: RunResult) -> list[str]:
    """The notes of a run, each in a line."""
    return [" ".join(text.split()) for tag, text in result.texts.items() if tag.startswith(NOTES)]


def _outcome_of(error: BaseException, limit: MemoryLimit | None) -> tuple[Outcome, str, str]:
    """`outcome_of`, and what only a run's process can tell."""
    outcome, reason, details = outcome_of(error)
    if isinstance(error, SystemExit):
        return Outcome.CRASHED, f"train() left by sys.exit({error.code!r})", details
    if outcome is Outcome.FAILED and limit is not None and limit.was_exceeded():
        return Outcome.OUT_OF_MEMORY, f"{reason} (a process of the run ran out of memory and was killed)", details
    return outcome, reason, details


def _made(setup: Setup, job: Job, report: Report | None) -> Run:
    run = _ReportingRun(
        job.directory,
        job.name,
        job.spec.trial.hparams,
        trial=job.spec.trial.id,
        experiment=setup.experiment,
        seed=job.spec.seed,
        report=report,
    )
    _under_way.append(run)
    return run


def _introduce(run: Run, setup: Setup, job: Job) -> None:
    """Log where the run comes from, and what was tried before: there also when its process dies at once."""
    if setup.provenance:
        run.text(PROVENANCE_TAG, setup.provenance, step=0)
    if job.attempts:
        run.text(ATTEMPTS_TAG, attempts_markdown(job.attempts), step=0)
    run.flush()


_under_way: list[Run] = []
_told_to_leave: list[int] = []
"""The signal by which the process is to end: what is raised after it came is no error of the run."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


def is_full_disk(error: BaseException) -> bool:
    """Whether a disk or a quota is full, which is told of the sweep and not of the run."""
    return isinstance(error, UnsavedError) or (isinstance(error, OSError) and error.errno in _FULL)


@contextlib.contextmanager
def _full_disk_is_unsaved(directory: Path) -> Iterator[None]:
    """A full disk is nothing that a run did: it is told as UnsavedError, wherever it was met."""
    try:
        yield
    except UnsavedError:
        raise
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise disk.refusal(error.filename or directory, error) from error


def leave_on(number: int) -> None:
    """On that signal, hand what the run has logged to the system, and die by the signal: its runner writes its end.

    The training goes on meanwhile, so that no lock is left held, and nothing half-done. Where it raises before that, as
    PyTorch does when its workers die of the same signal, `perform` leaves in its place.
    """

    def begin_to_leave(*_: Any) -> None:
        if _told_to_leave:
            return
        _told_to_leave.append(number)  # first: another signal's handler may raise at any point of this one
        faulthandler.dump_traceback(2)  # where it hung, into output.log
        threading.Thread(target=_leave_if_told, daemon=True).start()

    signal.signal(number, begin_to_leave)


def _leave_if_told() -> None:
    """End the process when it was told to, each run left as it is."""
    if not _told_to_leave:
        return
    for run in _under_way:
        with contextlib.suppress(HParamsLabError):
            run.leave()
    os._exit(128 + _told_to_leave[0])


def redirect_output(path: Path) -> None:
    """Have this process, and what it starts, print into a file. A disk that does not take it is UnsavedError."""
    try:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, disk.NEW_FILE)
    except OSError as error:
        raise disk.refusal(path, error) from None
    for fd in (1, 2):
        os.dup2(log, fd)
    os.close(log)
    sys.stdout, sys.stderr = (_stream(path, fd) for fd in (1, 2))


def _stream(path: Path, fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(path, fd)), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


class _Output(io.FileIO):
    """A descriptor of a run's output.log, whose trouble is the disk's and not the run's."""

    def __init__(self, path: Path, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self._path = path

    def write(self, data: Any, /) -> int:
        """As `FileIO.write`. Raises LogDirError."""
        try:
            return super().write(data)
        except OSError as error:
            raise disk.refusal(self._path, error) from None


def probe() -> None:
    """Use what a framework cannot use any more in a fork of a process that ran it: it hangs here, not in a training.

    The pools of threads of TensorFlow, PyTorch and JAX are not there in a fork, and who waits for them waits for ever.
    JAX is asked only where it has run already: it takes its time to begin.
    """
    tensorflow: Any = sys.modules.get("tensorflow")
    torch: Any = sys.modules.get("torch")
    if hasattr(tensorflow, "function"):
        tensorflow.function(lambda x: x + 1)(tensorflow.ones(1)).numpy()
    if hasattr(torch, "ones"):
        torch.ones(1 << 16).sum().item()
    if jax_has_run():
        jax: Any = sys.modules["jax"]
        jax.jit(lambda x: x + 1)(1.0).block_until_ready()


def missing_metric(result: RunResult) -> str:
    """What `MissingMetricError` said, if it ended the run; empty otherwise. Once `train` is mended it is run again."""
    if not was_raised(MissingMetricError, result.texts.get(OUTCOME_TAG, "")):
        return ""
    return result.reason.partition(": ")[2]


def _final(returned: Any, run: Run, experiment: Experiment) -> dict[str, Any]:
    """What was returned but for texts and objects beside the metrics that are declared, which are a note of the run."""
    if not isinstance(returned, Mapping):
        raise MissingMetricError(
            f"train() returned {type(returned).__name__}; wanted its final metrics as a dict, or nothing"
        )
    declared = {metric.tag for metric in experiment.metrics}
    others = {
        tag: value
        for tag, value in returned.items()
        if tag not in declared and not has_elements(value) and not numbers_among({tag: value}, lambda tag, why: None)
    }
    if others:
        said = ", ".join(f"{tag}={short(value)}" for tag, value in others.items())
        run.text(f"{NOTES}metrics", f"what it returned beside its metrics is not kept: {said}")
    return {tag: value for tag, value in returned.items() if tag not in others}


def _check_metrics(run: Run, returned: Mapping[str, Any], experiment: Experiment) -> None:
    numbers = run.numbers_of(returned)
    had = {*run.metrics, *run.summary, *numbers}
    several = run.numbers_of.several
    missing = [metric.tag for metric in experiment.metrics if metric.tag not in had]
    if experiment.objective in missing and experiment.objective in several:
        raise MissingMetricError(unranked(experiment.objective))
    missing = [tag for tag in missing if tag not in several]
    if missing:
        raise MissingMetricError(
            f"train() neither returned nor logged the metric {missing[0]!r} "
            f"(it had {', '.join(sorted(had)) or 'none'}); "
            "return it, or take it out of the experiment's metrics"
        )
