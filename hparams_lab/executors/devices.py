"""Which accelerator each run sees, and how many threads it may use.

    shares(resources)    groups of runs that see the same accelerator, with the environment that brings it about

A framework looks at these variables once, when it is imported or at its first operation; so each share's processes are
started with them.

    CUDA_VISIBLE_DEVICES    which NVIDIA GPUs TensorFlow, PyTorch and JAX see: indices or UUIDs, counted anew from 0 in
                            the program; what follows an entry that is none is hidden, so "-1" hides all
                            https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#cuda-environment-variables
    CUDA_DEVICE_ORDER       PCI_BUS_ID numbers them as nvidia-smi does; CUDA itself begins with the fastest
    HIP_VISIBLE_DEVICES     the same for AMD's GPUs, of those that ROCR_VISIBLE_DEVICES left; HIP reads CUDA's too
                            https://rocm.docs.amd.com/en/latest/conceptual/gpu-isolation.html
    JAX_PLATFORMS           "cpu" keeps JAX from looking for an accelerator at all
                            https://docs.jax.dev/en/latest/config_options.html
    TF_FORCE_GPU_ALLOW_GROWTH, XLA_PYTHON_CLIENT_PREALLOCATE   keep TensorFlow and JAX from taking most of a GPU's
                            memory for themselves, where runs share it; PyTorch never does
                            https://www.tensorflow.org/guide/gpu#limiting_gpu_memory_growth
                            https://docs.jax.dev/en/latest/gpu_memory_allocation.html

A variable that the user has set himself stays, but for those that say which accelerator it is.

Threads: how TensorFlow, PyTorch and JAX split a sum depends on their number, and the last digits of a run with it: a
convolution trains to another network with 1, 2 and 4 threads, also under TensorFlow's op determinism. So
the threads of a run on CPU depend on `cpus_per_run` (1 when not said) and neither on the number of runs nor on the
machine. On a GPU the cores are divided among the runs. JAX takes its number from NPROC (`DefaultThreadPoolSize` in
https://github.com/openxla/xla/blob/main/xla/pjrt/utils.cc).
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hparams_lab.core.errors import UsageError
from hparams_lab.executors.protocol import Resources, default_workers

SMI_SECONDS = 10.0
"""nvidia-smi may have to wake the driver, which takes seconds on some machines."""

_SMI = ("--query-gpu=index", "--format=csv,noheader")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/gpus")
_AMD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")

_NVIDIA = ("CUDA_VISIBLE_DEVICES",)
_AMD = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")  # the first that is set counts

_HIDDEN = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "HIP_VISIBLE_DEVICES": "-1",
    "ROCR_VISIBLE_DEVICES": "",  # which takes an empty list for none
    "JAX_PLATFORMS": "cpu",
}
_SHARED = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "NPROC",
)


@dataclass(frozen=True, slots=True)
class Share:
    """Runs that see the same accelerator.

    Attributes:
      label: "cpu", or "gpu 0" by the number that `--gpus` takes.
      slots: how many of them at the same time; at least 1.
      environment: variables to set, over those of this process, before anything is imported there.
    """

    label: str
    slots: int
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Gpus:
    """The GPUs that this process may use: how each is named in the variables that show it to a framework."""

    names: tuple[str, ...] = ()
    variables: tuple[str, ...] = _NVIDIA
    said: str = ""  # VARIABLE=VALUE that restricts them, if one does

    @property
    def way_out(self) -> str:
        """What there is, for a message."""
        if not self.names:
            return f"there are none ({self.said or 'neither nvidia-smi nor a driver of NVIDIA or AMD shows one'})"
        count = len(self.names)
        numbers = "there is 1, number 0" if count == 1 else f"there are {count}, numbers 0 to {count - 1}"
        return numbers + (f", counted among {self.said}" if self.said else "")


def shares(resources: Resources, environ: Mapping[str, str] = os.environ) -> list[Share]:
    """The shares of what runs may use: one per GPU, or one of the CPU where there is none or `gpus` is "none".

    `workers` fewer than fit are dealt out in turn; a GPU that gets none is left out. "all" and numbers mean the GPUs
    that CUDA_VISIBLE_DEVICES (HIP_VISIBLE_DEVICES) leaves, counted from 0 as a CUDA program counts them; an entry of
    that variable (a UUID) may be named instead.

    Raises UsageError for GPUs that are not there, and for more runs than fit.
    """
    check_numbers(resources)
    found = _Gpus() if resources.gpus == "none" else _present(environ)
    chosen = _chosen(resources.gpus, found)
    if not chosen:
        _check_runs_per_gpu(resources, found)
        return [_cpu_share(resources, environ)]
    slots = _dealt(resources, len(chosen))
    threads = max(1, int(resources.cpus_per_run or default_workers() // sum(slots)))
    common = threads_environment(threads, environ)
    if resources.runs_per_gpu > 1:
        common.update(_unless_set(_SHARED, environ))
    if found.variables == _NVIDIA and not found.said:
        common.update(_unless_set({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, environ))
    return [
        Share(f"gpu {number}", count, {**common, **dict.fromkeys(found.variables, found.names[number])})
        for number, count in zip(chosen, slots, strict=True)
        if count
    ]


def check_numbers(resources: Resources) -> None:
    """Refuse numbers that no machine has. Raises UsageError."""
    if resources.workers is not None and resources.workers < 1:
        raise UsageError(f"--workers is {resources.workers}; wanted at least 1")
    if resources.cpus_per_run is not None and not 0 < resources.cpus_per_run < math.inf:
        raise UsageError(f"--cpus-per-run is {resources.cpus_per_run:g}; wanted a number above 0")
    if resources.runs_per_gpu < 1:
        raise UsageError(f"--runs-per-gpu is {resources.runs_per_gpu}; wanted at least 1")


def threads_environment(count: int, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that tell a framework to use so many threads, but for those that the user has set himself."""
    return _unless_set(dict.fromkeys(_THREADS, str(count)), environ)


def _unless_set(wanted: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if name not in environ}


def _cpu_share(resources: Resources, environ: Mapping[str, str]) -> Share:
    cores = max(1, int(resources.cpus_per_run or 1))
    slots = resources.workers or max(1, default_workers() // cores)
    hidden = _HIDDEN if resources.gpus == "none" else {}
    return Share("cpu", slots, {**threads_environment(cores, environ), **hidden})


def _check_runs_per_gpu(resources: Resources, found: _Gpus) -> None:
    """Where no GPU is used, none can be shared."""
    count = resources.runs_per_gpu
    if count > 1:
        why = "--gpus none" if resources.gpus == "none" else found.way_out.removeprefix("there are ")
        raise UsageError(
            f"--runs-per-gpu is {count}, but no GPU is used ({why}); leave it out, or say --workers {count}"
        )


def _dealt(resources: Resources, gpus: int) -> list[int]:
    """How many runs each GPU gets."""
    fit = gpus * resources.runs_per_gpu
    workers = fit if resources.workers is None else resources.workers
    if workers > fit:
        each, plural = -(-workers // gpus), "s" * (gpus > 1)
        raise UsageError(
            f"--workers {workers} on {gpus} GPU{plural} is {each} runs per GPU; "
            f"say --runs-per-gpu {each}, or --workers {fit}"
        )
    return [workers // gpus + (place < workers % gpus) for place in range(gpus)]


def _chosen(said: str | None, found: _Gpus) -> list[int]:
    """The numbers of the GPUs that are asked for."""
    if said is None or said == "none":
        return list(range(len(found.names)))
    if said == "all":
        if not found.names:
            raise UsageError(f"--gpus all: {found.way_out}; leave it out, or say --gpus none")
        return list(range(len(found.names)))
    chosen = [_number(entry.strip(), said, found) for entry in str(said).split(",")]
    twice = next((number for number in chosen if chosen.count(number) > 1), None)
    if twice is not None:
        raise UsageError(
            f"--gpus {said} names GPU {twice} twice; name it once, and say --runs-per-gpu 2 for runs to share it"
        )
    return chosen


def _number(entry: str, said: str, found: _Gpus) -> int:
    if entry.isascii() and entry.isdecimal():
        number = int(entry) if len(entry) < 6 else len(found.names)
    elif entry in found.names:
        number = found.names.index(entry)
    elif entry.startswith(("GPU-", "MIG-")):
        number = len(found.names)
    else:
        raise UsageError(f"--gpus is {said!r}; wanted all, none, or numbers such as 0,1")
    if number >= len(found.names):
        raise UsageError(f"--gpus {said}: there is no GPU {entry}; {found.way_out}")
    return number


def _present(environ: Mapping[str, str]) -> _Gpus:
    """The GPUs of this machine, as far as the environment shows them."""
    for variables, present in ((_NVIDIA, _nvidia_gpus(environ)), (_AMD, _amd_gpus(environ))):
        if present:
            variable = next((name for name in variables if name in environ), None)
            if variable is None:
                return _Gpus(tuple(present), variables)
            names = _visible(environ[variable], present)
            return _Gpus(tuple(names), variables, f"{variable}={environ[variable]}")
    return _Gpus()


def _visible(said: str, present: Sequence[str]) -> list[str]:
    """The entries that CUDA heeds: those before the first that is no GPU; none at all when one is there twice."""
    names: list[str] = []
    for entry in map(str.strip, said.split(",")):
        name = str(int(entry)) if entry.isascii() and entry.isdecimal() else entry
        if name not in present and not name.startswith(("GPU-", "MIG-")):
            break
        if name in names:
            return []
        names.append(name)
    return names


def _nvidia_gpus(environ: Mapping[str, str]) -> list[str]:
    """The indices of NVIDIA's GPUs, in the order of their buses: by nvidia-smi, else by what the driver shows."""
    smi = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if smi is not None:
        try:
            told = subprocess.run(
                [smi, *_SMI], capture_output=True, stdin=subprocess.DEVNULL, timeout=SMI_SECONDS, env=dict(environ)
            )
        except (OSError, subprocess.TimeoutExpired):
            pass  # it is not to be had; the driver may be
        else:
            lines = told.stdout.decode("ascii", "replace").split() if told.returncode == 0 else []
            return [line for line in lines if line.isdecimal()]
    return [str(number) for number in range(len(_names_in(_NVIDIA_DRIVER)))]


def _amd_gpus(environ: Mapping[str, str]) -> list[str]:
    """The indices of AMD's GPUs that ROCR_VISIBLE_DEVICES leaves: the nodes of the driver that have a GPU's id."""
    count = sum(_text_of(_AMD_NODES / node / "gpu_id") not in ("", "0") for node in _names_in(_AMD_NODES))
    present = [str(number) for number in range(count)]
    left = environ.get("ROCR_VISIBLE_DEVICES")
    return present if left is None else present[: len(_visible(left, present))]


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
