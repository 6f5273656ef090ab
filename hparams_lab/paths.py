"""`LogDirPaths`: every path of a log directory, in one object.

<logdir>/_experiment/<n>/events.out.tfevents.*    the one Experiment summary
<logdir>/sweep.json                               what was asked for
<logdir>/run-0000/                                a run: event file, output.log, model.keras when asked for
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hparams_lab import disk

EXPERIMENT = "_experiment"
OUTPUT_LOG = "output.log"
MODEL = "model.keras"


@dataclass(frozen=True, slots=True)
class LogDirPaths:
    """The paths of one log directory."""

    root: Path

    @property
    def sweep_json(self) -> Path:
        """What was asked for."""
        return self.root / "sweep.json"

    @property
    def experiments(self) -> Path:
        """The directory of the Experiment summaries, of which there is one."""
        return self.root / EXPERIMENT

    @property
    def experiment_lock(self) -> Path:
        """Held while the Experiment summary is replaced."""
        return self.experiments / ".lock"

    def run(self, name: str) -> Path:
        """A run's directory."""
        return self.root / name


@contextlib.contextmanager
def writing(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's refusals to write into LogDirError, which says where and why."""
    try:
        yield
    except OSError as error:
        raise disk.refusal(directory, error) from None


def paths_of(logdir: str | os.PathLike[str]) -> LogDirPaths:
    """The paths of a log directory, wherever the working directory goes later."""
    return _paths_of(os.path.abspath(logdir))


@functools.lru_cache(maxsize=256)
def _paths_of(root: str) -> LogDirPaths:
    return LogDirPaths(Path(root))


_DIGITS = re.compile(r"(\d+)")


def natural(text: str) -> list[str | int]:
    """A sort key that reads the numbers in a text as numbers."""
    parts: list[str | int] = [*_DIGITS.split(text)]
    parts[1::2] = map(int, parts[1::2])
    return parts
