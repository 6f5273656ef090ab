"""A task of Ray's: what happens in a worker, a process that Ray starts on some node.

A run there is what it is on the runner's own machine: a process forked by a `ProcessExecutor`, which is kept for the
worker's next task, so that a framework is imported once in each. With the worker go its server and its run.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import cloudpickle
import ray

from hparams_lab.core.errors import HParamsLabError, LogDirError
from hparams_lab.executors.process import ProcessExecutor
from hparams_lab.executors.protocol import Ended, Executor, Job, Resources, Setup

LOOK_SECONDS = 0.1

Message = tuple[Any, ...]

_kept: list[_Place] = []


def carry_out(directory: str, payload: bytes, setup: list[Any]) -> Iterator[Message]:
    """Do what the driver asks for. Yields messages for the runner: reports, then one that says what came of it.

    Args:
      directory: the runner's working directory, which is this process's where it is there.
      payload: a word, the Resources, and what the word is about, pickled.
      setup: Ray's reference to the pickled Setup, once there is one.
    """
    with contextlib.suppress(OSError):
        os.chdir(directory)
    word, resources, about = pickle.loads(payload)
    try:
        place = _place(resources)
        if word == "describe":
            yield "answer", cloudpickle.dumps(place.executor.describe(about))
            return
        place.get_ready(setup[0])
        yield from place.said()
        if word == "start":
            yield "answer", None
        else:
            yield from place.run(about)
    except BaseException as error:
        _leave()
        if not isinstance(error, HParamsLabError):
            raise
        yield "error", error if resources.ray_address is None else _on_this_node(error)


class _Place:
    """The executor of this worker, and the accelerator that Ray has given it."""

    def __init__(self, resources: Resources) -> None:
        self.visible = _visible()
        here = replace(resources, workers=1, ray_address=None, gpus="none" if resources.gpus == "none" else None)
        here = here if self.visible else replace(here, runs_per_gpu=1)
        self.executor: Executor = ProcessExecutor(here, asked_to_stop=lambda: False)
        self._setup: Any = None
        self._reports: list[Message] = []

    def get_ready(self, setup: Any) -> None:
        """Import what the runs need, once. Raises what keeps any run from starting."""
        if self._setup != setup:
            self.executor.start(cast(Setup, _AsPickled(ray.get(setup))), self._report)
            self._setup = setup

    def run(self, job: Job) -> Iterator[Message]:
        """Train, report, and say how it ended. Raises LogDirError where the run's directory is not."""
        if not job.directory.is_dir():
            raise LogDirError(
                f"the run's directory {job.directory} is not there; wanted a log directory on a path that all nodes of "
                "the cluster share, such as a network file system"
            )
        self.executor.submit(job)
        ended: list[Ended] = []
        while not ended:
            try:
                ended = self.executor.wait(LOOK_SECONDS)
            except KeyboardInterrupt:  # how Ray cancels a task
                self.executor.cancel(job.name)
            yield from self.said()
        yield "ended", ended[0]

    def said(self) -> Iterator[Message]:
        """What was reported, and the executor's notes, one by one: Ray sends something into the generator."""
        while self._reports:
            yield self._reports.pop(0)
        while self.executor.notes:
            yield "note", self.executor.notes.pop(0)

    def _report(self, *said: Any) -> None:
        self._reports.append(("report", *said))


def _place(resources: Resources) -> _Place:
    if _kept and _kept[0].visible != _visible():
        _leave()
    if not _kept:
        _kept.append(_Place(resources))
    return _kept[0]


def _leave() -> None:
    """Stop the executor, and what runs in it."""
    while _kept:
        _kept.pop().executor.stop()


def _visible() -> str:
    """The accelerators that Ray has given this task."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def _on_this_node(error: HParamsLabError) -> HParamsLabError:
    return type(error)(f"on {socket.gethostname()}: {error}")


class _AsPickled:
    """Something pickled, that is unpickled where this is: user's code is not loaded on the way."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __reduce__(self) -> Any:
        return pickle.loads, (self._pickled,)
