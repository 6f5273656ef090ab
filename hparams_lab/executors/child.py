"""A run's process: what happens in it, whether it was forked or is an interpreter of its own.

It has a process group, an `output.log` and limits of its own; it says ("ready",) when it can train, reports
("report", step, metrics) as it goes on, and, where what it logged could not be written, ("unsaved", why).
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection

from hparams_lab.core.errors import DomainLoadError, HParamsLabError, UnsavedError
from hparams_lab.executors import again
from hparams_lab.executors.job import leave_on, perform, probe, redirect_output
from hparams_lab.executors.keeper import die_with_parent
from hparams_lab.executors.memory import MemoryLimit, prefer_to_be_killed
from hparams_lab.executors.protocol import Job, Setup
from hparams_lab.storage.paths import OUTPUT_LOG
from hparams_lab.targets.protocol import Train
from hparams_lab.targets.seeding import loading_alike

UNSAVED_CODE = 74  # EX_IOERR of sysexits.h


def live(job: Job, pipe: Connection, limit: MemoryLimit | None, load: Callable[[], tuple[Setup, Train]]) -> None:
    """A run's process, from its first act to its last but one."""
    die_with_parent()
    faulthandler.enable(2)  # a crash tells in output.log where it was
    leave_on(signal.SIGTERM)
    sys.argv = [again.__file__]
    reporter = Reporter(pipe)
    try:
        redirect_output(job.directory / OUTPUT_LOG)
        prefer_to_be_killed()
        setup, train = load()
        if limit is not None:
            limit.enter()
        probe()
        reporter.say("ready")
        perform(train, setup, job, reporter, limit)
    except UnsavedError as error:
        reporter.say("unsaved", str(error))
        raise SystemExit(UNSAVED_CODE) from None


def run_alone(to_do_fd: int, pipe_fd: int) -> None:
    """In a fresh interpreter: load all anew, and run one job."""
    with out_at_the_end():
        with os.fdopen(to_do_fd, "rb") as to_do:
            sys.path[:], pickled, job, limit = pickle.load(to_do)

        def load_all() -> tuple[Setup, Train]:
            setup, train = loaded(pickled)
            preload(setup)
            return setup, train

        live(job, Connection(pipe_fd), limit, load_all)


def loaded(pickled: bytes) -> tuple[Setup, Train]:
    """What all jobs share, and the train function. Raises DomainLoadError."""
    with _in_words(), loading_alike():
        setup: Setup = pickle.loads(pickled)
        return setup, setup.target.load()


def preload(setup: Setup) -> None:
    """Import what every run will. Raises DomainLoadError."""
    with _in_words():
        for module in setup.target.preload:
            importlib.import_module(module)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except HParamsLabError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise DomainLoadError(f"the train function could not be loaded in another process: {error!r}") from None


@contextlib.contextmanager
def out_at_the_end() -> Iterator[None]:
    """Leave the process at the end of the block, by its exception's code, whatever the interpreter still has to do."""
    code = 1
    try:
        yield
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Reporter:
    """Sends a run's (step, metrics) to the runner; a runner that is gone is no trouble."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report."""
        self.say("report", step, dict(metrics))

    def say(self, *message: object) -> None:
        """Send a message."""
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send(message)
