"""`SystemSampler`: CPU, memory and GPU of the machine into a run, in the background, as `sys/...`.

Needs psutil, and for GPUs NVIDIA's nvidia-ml-py: the `system` extra.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hparams_lab.core.errors import HParamsLabError, MissingExtraError

if TYPE_CHECKING:
    from hparams_lab.run.run import Run

SECONDS = 10.0
"""Between two samples. A sample's step is the whole seconds since the run began."""


class SystemSampler:
    """Samples until it is stopped or its run is over.

    Args:
      run: what to log into. Its own steps are left alone.
      seconds: between two samples.

    Raises MissingExtraError without psutil.
    """

    def __init__(self, run: Run, seconds: float = SECONDS) -> None:
        self._psutil = found_psutil()
        self._gpus = _nvidia_gpus()
        self._seconds = seconds
        self._stopped = threading.Event()
        self._psutil.cpu_percent()  # the first call only sets where the next one counts from
        self._thread = threading.Thread(
            target=self._work, args=(weakref.ref(run),), name="hparams_lab system", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end."""
        self._stopped.set()
        if self._thread is not threading.current_thread():  # which may have been the last to hold the run
            self._thread.join(timeout=5.0)

    def sample(self) -> dict[str, float]:
        """One sample: percents of the machine, gibibytes. Without what cannot be read now."""
        psutil = self._psutil
        readings: dict[str, Callable[[], float]] = {
            "sys/cpu_percent": psutil.cpu_percent,
            "sys/memory_percent": lambda: psutil.virtual_memory().percent,
            "sys/process_memory_gib": lambda: psutil.Process().memory_info().rss / 2**30,
        }
        for number, gpu in self._gpus.items():
            readings[f"sys/gpu{number}_percent"] = gpu.percent
            readings[f"sys/gpu{number}_memory_gib"] = gpu.memory_gib
        found = {}
        for tag, read in readings.items():
            with contextlib.suppress(Exception):  # a GPU split by MIG has no utilisation, a container may hide the rest
                found[tag] = float(read())
        return found

    def _work(self, run: weakref.ref[Run]) -> None:
        elapsed = 0.0
        while True:
            over = self._stopped.wait(self._seconds if elapsed else min(1.0, self._seconds))
            elapsed += self._seconds
            found = run()
            if found is None or found.is_over:
                return
            with contextlib.suppress(HParamsLabError):
                if sample := self.sample():
                    found.log_aside(sample)
            del found
            if over:
                return


def found_psutil() -> Any:
    """The psutil module. Raises MissingExtraError."""
    try:
        import psutil
    except ModuleNotFoundError:
        raise MissingExtraError.of("psutil, which system metrics need,", "system") from None
    return psutil


@dataclass(frozen=True, slots=True)
class _Gpu:
    """A GPU, by NVIDIA's management library. Raises its errors for what the GPU does not say."""

    nvml: Any
    handle: Any

    def percent(self) -> float:
        """How busy it is."""
        return float(self.nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu)

    def memory_gib(self) -> float:
        """The memory in use, in gibibytes."""
        return float(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used) / 2**30


def _nvidia_gpus() -> dict[int, _Gpu]:
    """The GPUs that NVIDIA's management library sees, by number; none without it."""
    found = {}
    with contextlib.suppress(Exception):  # not installed, no driver, no GPU: each says so in its own way
        import pynvml

        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # one that is lost, or another user's
                found[number] = _Gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(number))
    return found
