"""The driver: a process that `RayExecutor` starts and nobody else, and the one that speaks to Ray.

Messages on the control socket:

    in   (sys.path, Resources, OwnRay or None)
    out  ("answer", None) when something answers at the address, when Ray is imported, and when it is there
    in   ("describe", source) or ("start", the pickled Setup)
    in   ("hold", whether a descriptor follows that the driver keeps as long as it lives)
    out  ("answer", what came of it)
    in   ("run", Job), ("cancel", name), ("stop", None)
    out  ("slots", how many runs there is room for), whenever that changes
    out  ("report", name, step, metrics), ("note", what is worth knowing), ("ended", Ended)
    out  ("error", HParamsLabError) in place of an answer, or where no run can be begun

A task (`ray_task`) yields such messages too, and the driver passes them on. The end of the control socket is the end of
the driver (`keeper`), and Ray closes the workers of a driver or a node that is gone.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

import ray
import ray.exceptions

from hparams_lab.core.errors import ExecutorError, HParamsLabError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.executors.protocol import Ended, Job, Resources
from hparams_lab.executors.ray_protocol import OwnRay
from hparams_lab.executors.ray_task import Message

NODES_SECONDS = 2.0
"""How often it is looked which nodes there are."""

FORCE_SECONDS = 10.0
"""What a task has to stop its run before its worker is killed."""

_LAST = ("answer", "ended", "error")
_LOSSES = {
    ray.exceptions.NodeDiedError: "the node that it ran on was lost",
    ray.exceptions.LocalRayletDiedError: "the node that it ran on was lost",
    ray.exceptions.WorkerCrashedError: "Ray's worker that carried it died, or its node",
    ray.exceptions.ObjectLostError: "Ray lost what it needed, or its node",
}


def serve(control: Connection, resources: Resources, own: OwnRay | None) -> None:
    """Serve the control socket until its other end closes, and end the process."""
    say = _Sayer(control)
    try:
        say("answer", None)
        driver = _Driver(resources, own, say)
        say("answer", None)
        with contextlib.suppress(EOFError, OSError):
            driver.serve(control)
        ray.shutdown()
    except HParamsLabError as error:
        say("error", error)
    finally:
        os._exit(0)  # whatever Ray's threads still do


class _Sayer:
    """Sends messages from several threads; a runner that is gone is no trouble."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self._lock = threading.Lock()

    def __call__(self, *message: object) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._control.send(message)


class _Driver:
    """The loop between the control socket and Ray's tasks."""

    def __init__(self, resources: Resources, own: OwnRay | None, say: _Sayer) -> None:
        self._resources, self._say = resources, say
        _connect(resources, own)
        self._cpus = resources.cpus_per_run or 1
        self._gpus = self._gpus_per_run()
        self._task = _task(self._cpus, self._gpus)
        self._under_way: dict[str, Any] = {}
        self._setup: list[Any] = []
        if own is None:
            self._slots = self._room()
            if self._slots == 0:
                raise UsageError(self._no_room())
            say("slots", self._slots)
            threading.Thread(target=self._watch_nodes, daemon=True).start()

    def serve(self, control: Connection) -> None:
        """Do what the runner says until it says stop, or no more; then kill what is under way."""
        try:
            while True:
                word, about = control.recv()
                if word == "stop":
                    return
                if word == "cancel":
                    self._cancel(about)
                elif word == "hold":
                    _ = about and recv_handle(control)
                else:
                    self._begin(word, about)
        finally:
            for task in [*self._under_way.values()]:
                ray.cancel(task, force=True)

    def _begin(self, word: str, about: Any) -> None:
        name = about.name if isinstance(about, Job) else word
        if word == "start":
            self._setup, about = [ray.put(about)], None
        payload = pickle.dumps((word, self._resources, about))
        path = [entry or os.getcwd() for entry in sys.path]
        task = self._task.options(name=f"hparams-lab {name}").remote(path, os.getcwd(), payload, self._setup)
        self._under_way[name] = task
        last_of = _last_of_run if word == "run" else _last_of_question
        threading.Thread(target=self._follow, args=(name, task, last_of), daemon=True).start()

    def _follow(self, name: str, task: Any, last_of: Callable[[str, Exception | None], Message]) -> None:
        """Pass on what a task says; say what became of it where it cannot."""
        last: Message = ("nothing",)
        failure: Exception | None = None
        try:
            for said in task:
                last = ray.get(said)
                if last[0] in ("report", "note"):
                    self._say(*last)
        except Exception as error:
            failure = error
        del self._under_way[name]
        self._say(*(last if last[0] in _LAST else last_of(name, failure)))

    def _cancel(self, name: str) -> None:
        """Have the task stop its run; kill its worker, and all below it, when it does not."""
        task = self._under_way.get(name)
        if task is None:
            return
        ray.cancel(task)
        timer = threading.Timer(FORCE_SECONDS, lambda: name in self._under_way and ray.cancel(task, force=True))
        timer.daemon = True
        timer.start()

    def _gpus_per_run(self) -> float:
        there = any(_has(node, "GPU") for node in _nodes())
        if self._resources.gpus == "all" and not there:
            raise UsageError("--gpus all: no node of the Ray cluster has a GPU; leave it out, or say --gpus none")
        if self._resources.gpus == "none" or not there:
            return 0
        return math.floor(10_000 / self._resources.runs_per_gpu) / 10_000  # Ray counts in ten-thousandths

    def _room(self) -> int:
        """How many runs the nodes that are alive have room for, and at most the workers asked for."""
        room = sum(self._room_on(node) for node in _nodes())
        return room if self._resources.workers is None else min(room, self._resources.workers)

    def _room_on(self, node: dict[str, float]) -> int:
        by_cpus = _has(node, "CPU") / self._cpus
        return int(min(by_cpus, _has(node, "GPU") / self._gpus) if self._gpus else by_cpus)

    def _no_room(self) -> str:
        most = max((_has(node, "CPU") for node in _nodes()), default=0)
        gpus = f" and {self._gpus:g} GPUs" if self._gpus else ""
        return (
            f"no node of the Ray cluster has the {self._cpus:g} CPUs{gpus} that a run asks for; the largest has "
            f"{most:g} CPUs; start a larger one, or give --cpus-per-run or --gpus that fit"
        )

    def _watch_nodes(self) -> None:
        while True:
            time.sleep(NODES_SECONDS)
            slots = self._room()
            if slots != self._slots:
                self._slots = slots
                self._say("slots", slots)


def _connect(resources: Resources, own: OwnRay | None) -> None:
    options: dict[str, Any] = {"address": resources.ray_address}
    if own is not None:
        options = {"address": "local", "num_cpus": own.cpus, "num_gpus": own.gpus, "_temp_dir": own.directory}
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        said = " ".join(str(error).split())
        if own is not None:
            raise ExecutorError(f"Ray did not start on this machine: {said}") from None
        raise UsageError(f"the Ray cluster at --ray-address {resources.ray_address} cannot be joined: {said}") from None


def _nodes() -> list[dict[str, float]]:
    """The resources of the nodes that are alive."""
    nodes: Any = ray.nodes  # it has no types
    return [node["Resources"] for node in nodes() if node["Alive"]]


def _has(node: dict[str, float], what: str) -> float:
    return node.get(what, 0.0)


def _task(cpus: float, gpus: float) -> Any:
    """What Ray carries out. It travels by value, so that a node need not find this package before it is told where."""

    def begin(path: list[str], directory: str, payload: bytes, setup: list[Any]) -> Iterator[Message]:
        import sys

        sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
        from hparams_lab.executors.ray_task import carry_out

        yield from carry_out(directory, payload, setup)

    # No retries: what is run again is the runner's to say. No limit of calls: a worker stays for the next run.
    return ray.remote(num_returns="streaming", max_retries=0, max_calls=0, num_cpus=cpus, num_gpus=gpus)(begin)


def _last_of_run(name: str, error: Exception | None) -> Message:
    """The last message of a run's task that did not say it itself, by how Ray says that it ended."""
    if error is None or isinstance(error, ray.exceptions.TaskCancelledError):
        return "ended", Ended(name, "it was stopped")
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "ended", Ended(name, "Ray stopped it, since its node ran out of memory", Outcome.OUT_OF_MEMORY)
    for kind, what in _LOSSES.items():
        if isinstance(error, kind):
            return "ended", Ended(name, what, lost=True)
    return _last_of_question(name, error)


def _last_of_question(name: str, error: Exception | None) -> Message:
    cause = getattr(error, "cause", error)
    said = " ".join(f"{type(cause).__name__}: {cause}".split())
    return "error", ExecutorError(f"Ray could not carry out {name!r}: {said}")
