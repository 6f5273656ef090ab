"""`SystemSampler`: CPU, memory and GPU of the machine into a run, in the background, as `sys/...`.

Needs psutil, and for GPUs NVIDIA's nvidia-ml-py: the `system` extra.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any

from hparams_lab.errors import HParamsLabError, MissingExtraError

if TYPE_CHECKING:
    from hparams_lab.logger import Run

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
        """One sample: percents of the machine, gibibytes."""
        memory = self._psutil.virtual_memory()
        found = {
            "sys/cpu_percent": self._psutil.cpu_percent(),
            "sys/memory_percent": memory.percent,
            "sys/process_memory_gib": self._psutil.Process().memory_info().rss / 2**30,
        }
        for number, (nvml, handle) in enumerate(self._gpus):
            used = nvml.nvmlDeviceGetMemoryInfo(handle).used
            found[f"sys/gpu{number}_percent"] = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            found[f"sys/gpu{number}_memory_gib"] = used / 2**30
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
                found.log_aside(self.sample())
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


def _nvidia_gpus() -> list[tuple[Any, Any]]:
    """The GPUs that NVIDIA's management library sees; none without it."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [(pynvml, pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # not installed, no driver, no GPU: each says so in its own way
        return []
