"""`why_no_fork`: what has run in this process that a fork of it does not survive.

A fork has only the thread that made it. What waits there for another, such as a framework's pool, waits for ever. So
whatever leaves threads is a reason, but for pools that are known to be begun anew in a fork: those that are gone from
this process, too, once it was forked (OpenBLAS), those of Intel's and LLVM's OpenMP, and Arrow's.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FRESH = "each run gets a fresh interpreter, which imports everything again"
WAY_OUT = "move what computes at module level into train() or load_data()"

_OWN_NAMES = {"jemalloc_bg_thd"}
"""Threads of libraries that are begun anew in a fork, by name."""
_BEGUN_ANEW = ("libiomp5", "libomp")
"""OpenMP libraries whose pools are begun anew in a fork, unlike that of GNU's libgomp."""


def fork_quietly() -> int:
    """As `os.fork`, without what Python and libraries say about threads: whether they matter is found out here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        return os.fork()


def why_no_fork() -> str:
    """What a fork of this process would miss, as the beginning of a sentence; empty where it may be forked."""
    for name, has_run in _FRAMEWORKS.items():
        if _says_so(has_run):
            return f"{name} ran while the domain was loaded"
    threads = [thread for thread in threading.enumerate() if _is_missed(thread)]
    if threads:
        return f"a thread, {threads[0].name!r}, was started while the domain was loaded"
    native = _native_threads()
    if native and native > _known_to_be_begun_anew():
        library = "PyTorch" if "torch" in sys.modules else "a library"
        return f"{library} started threads while the domain was loaded"
    return ""


def _is_missed(thread: threading.Thread) -> bool:
    """Whether a fork may wait for it: not for that of tqdm, which looks whether it is there."""
    return thread is not threading.main_thread() and type(thread).__name__ != "TMonitor"


def jax_has_run() -> bool:
    """Whether JAX has started what it computes with; also where it does not say."""
    if "jax" not in sys.modules:
        return False
    try:
        bridge: Any = sys.modules["jax._src.xla_bridge"]
        return bool(bridge.backends_are_initialized())
    except (KeyError, AttributeError):  # private, and not there in every version
        return _begins_a_name("tf_XLA") or not Path("/proc/self/task").is_dir()


def _tensorflow_has_run() -> bool:
    return "tensorflow" in sys.modules and _begins_a_name("tf_")


def _cuda_has_run() -> bool:
    torch: Any = sys.modules.get("torch")
    return bool(torch.cuda.is_initialized())


_FRAMEWORKS: dict[str, Callable[[], bool]] = {
    "JAX": jax_has_run,
    "TensorFlow": _tensorflow_has_run,
    "PyTorch on a GPU": _cuda_has_run,
}


def _says_so(has_run: Callable[[], bool]) -> bool:
    try:
        return has_run()
    except Exception:
        return False


def _native_threads() -> int:
    """How many threads this process has that are neither Python's nor harmless, once it was forked."""
    if len([*_names()]) > 1:
        pid = fork_quietly()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    found = [name for name in _names() if name not in _OWN_NAMES]
    return max(0, len(found) - len(threading.enumerate()))


def _known_to_be_begun_anew() -> float:
    """So many native threads are no reason."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        if any(name in line for line in maps for name in _BEGUN_ANEW):
            return float("inf")
    arrow: Any = sys.modules.get("pyarrow")
    return arrow.cpu_count() + arrow.io_thread_count() if hasattr(arrow, "io_thread_count") else 0


def _begins_a_name(start: str) -> bool:
    return any(name.startswith(start) for name in _names())


def _names() -> Iterator[str]:
    """The names of this process's threads; none where the system does not tell."""
    try:
        tasks = os.listdir("/proc/self/task")
    except OSError:
        return
    for task in tasks:
        try:
            yield Path(f"/proc/self/task/{task}/comm").read_text().strip()
        except OSError:  # it ended
            continue
