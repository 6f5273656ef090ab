"""Where a run came from: command, versions, git commit, host and devices. Nothing from the environment's variables.

Gathered once per process, and without importing anything that the program has not imported itself.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import platform
import re
import shlex
import socket
import subprocess
import sys
from importlib import metadata

PACKAGES = {
    "hparams_lab": ("hparams-lab",),
    "numpy": ("numpy",),
    "tensorboard": ("tensorboard",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "keras": ("keras",),
    "torch": ("torch",),
    "lightning": ("lightning",),
    "jax": ("jax",),
    "flax": ("flax",),
    "keras_tuner": ("keras-tuner",),
    "sklearn": ("scikit-learn",),
    "xgboost": ("xgboost",),
    "transformers": ("transformers",),
}
"""Modules whose versions matter, by the distributions that they come in."""

PROVENANCE_TAG = "run/provenance"
"""The text that holds it."""

GIT_SECONDS = 5.0


def versions(installed: bool = False) -> dict[str, str]:
    """Python's version and those of the packages that are imported here, or of all that are installed."""
    found = {"python": platform.python_version()}
    for module, distributions in PACKAGES.items():
        if installed or module in sys.modules:
            found |= _version(module, distributions)
    return found


def _version(module: str, distributions: tuple[str, ...]) -> dict[str, str]:
    """What an imported module itself says, else the first of its distributions that is installed."""
    said = getattr(sys.modules.get(module), "__version__", None)
    if isinstance(said, str):
        return {distributions[0]: said}
    for distribution in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return {distribution: metadata.version(distribution)}
    return {}


@functools.cache
def git_state() -> tuple[str, bool] | None:
    """The commit of the working directory, and whether there are changes to tracked files; None outside of git."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return None
    return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=GIT_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@functools.cache
def devices() -> tuple[str, ...]:
    """The processor, and NVIDIA's GPUs as the driver names them, on Linux."""
    found = [_first_value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()]
    for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        found.append(_first_value(path, "Model") or "NVIDIA GPU")
    return tuple(found)


def _first_value(path: str, key: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith(key)), None)
    except OSError:
        return None


def command() -> str:
    """How this program was started, for a shell."""
    return shlex.join([sys.executable, *sys.orig_argv[1:]])


def provenance(installed: bool = False) -> dict[str, str]:
    """Everything, by name, in words. `installed` is for `versions`."""
    git = git_state()
    found = {
        "command": command(),
        "git commit": f"{git[0]}{' with changes' if git[1] else ''}" if git else "not in git",
        "host": socket.gethostname(),
        "system": platform.platform(),
        "devices": ", ".join(devices()),
    }
    return found | versions(installed)


def provenance_markdown(installed: bool = False) -> str:
    """Everything as a Markdown table, for TensorBoard's Text tab."""
    rows = [f"| {name} | {_cell(value)} |" for name, value in provenance(installed).items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def provenance_in(markdown: str) -> dict[str, str]:
    """Everything by name again, as it was before `provenance_markdown` wrote it; empty for another text."""
    rows = re.findall(r"^\| (.+?) \| (.*) \|$", markdown, re.MULTILINE)
    return {name: _ENTITY.sub(_meant, value.replace("\\|", "|")) for name, value in rows if name != "---"}


_ENTITY = re.compile(r"&(?:#(\d{1,7})|amp);")
_LINE_ENDS = re.compile("[\0-\x1f\x7f\x85\u2028\u2029]")


def _cell(value: str) -> str:
    """A value in one line of a table: what would end the cell or the line as an entity, which Markdown shows."""
    safe = _ENTITY.sub(lambda found: f"&amp;{found[0][1:]}", value).replace("|", "\\|")
    return _LINE_ENDS.sub(lambda found: f"&#{ord(found[0])};", safe)


def _meant(entity: re.Match[str]) -> str:
    if not entity[1]:
        return "&"
    return chr(int(entity[1])) if int(entity[1]) <= sys.maxunicode else entity[0]
