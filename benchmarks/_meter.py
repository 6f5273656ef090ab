"""How much CPU time a process takes with all that it started, and how much time its main thread spends in our code."""

from __future__ import annotations

import functools
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from inspect import isgeneratorfunction, unwrap
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")

_TUNER = "hparams_lab.integrations.keras_tuner"
_SKLEARN = "hparams_lab.integrations.sklearn"
_HOOKS = ("searching", "trial", "trial_over", "training_begins", "training_ends", "fit_begins", "epoch")

OURS = {
    "random": [(_TUNER, "log_to"), *((f"{_TUNER}.record", f"TunerLog.{name}") for name in _HOOKS)],
    "keras": [
        (_SKLEARN, "log_search"),
        *((f"{_SKLEARN}.search", f"HParamsCallback.{name}") for name in ("setup", "teardown")),
        *((f"{_SKLEARN}.recording", f"Recording.{name}") for name in ("_tasks_of", "_declare", "_rank")),
        *((f"{_SKLEARN}.folds", name) for name in ("Task.start", "_finish", "log_history")),
        *(("hparams_lab.run.run", f"Run.{name}") for name in ("log", "log_columns")),
    ],
}
OURS["quick"] = OURS["keras"]
"""Where a search's thread comes into our code, for each search; the library's hooks that do nothing but call on are not
among them."""


class Meter:
    """The seconds that the main thread spends in our code, by the clock on the wall and on the CPU."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self._inside = [False]
        self._since = 0.0, 0.0

    def reset(self) -> None:
        """Begin again."""
        self.wall = self.cpu = 0.0

    def attach(self, search: str) -> None:
        """Watch the functions where a search comes into our code; nothing for one that is not known."""
        for module, path in OURS.get(search, ()):
            *outer, name = path.split(".")
            owner = functools.reduce(getattr, outer, importlib.import_module(module))
            setattr(owner, name, self._watched(getattr(owner, name)))

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if isgeneratorfunction(unwrap(function)) and function is not unwrap(function):
            return self._context(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._in(True):
                return function(*args, **kwargs)

        return call

    def _context(self, function: Callable[..., AbstractContextManager[Any]]) -> Any:
        """Of a context manager, the time of going in and coming out."""

        @functools.wraps(function)
        @contextmanager
        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with self._in(True), function(*args, **kwargs) as value, self._in(False):
                yield value

        return call

    @contextmanager
    def _in(self, is_ours: bool) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._mark()
        self._inside.append(is_ours)
        try:
            yield
        finally:
            self._mark()
            self._inside.pop()

    def _mark(self) -> None:
        now = time.perf_counter(), time.thread_time()
        if self._inside[-1]:
            self.wall += now[0] - self._since[0]
            self.cpu += now[1] - self._since[1]
        self._since = now


def cpu_seconds() -> float:
    """CPU seconds so far, of this process and those below it, gone ones too; only Linux tells of those that live."""
    if not Path("/proc/self/stat").exists():
        return sum(os.times()[:4])
    return sum(sum(map(int, _stat(pid)[13:17])) for pid in _family()) / TICKS


def _family() -> list[int]:
    """The ids of this process and of those that it started, and so on."""
    parents = {int(name): _stat(name) for name in os.listdir("/proc") if name.isdigit()}
    found = [os.getpid()]
    for pid in found:
        found += [child for child, stat in parents.items() if stat and int(stat[3]) == pid]
    return found


def _stat(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat, the name as one; none when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    head, _, tail = text.rpartition(")")
    return [*head.split("(", 1), *tail.split()]
