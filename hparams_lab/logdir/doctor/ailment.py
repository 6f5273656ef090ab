"""`Ailment`: something wrong with a log directory. `Diagnosis`: all of it."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hparams_lab.core.present import Counts


class Severity(str, enum.Enum):
    """How bad it is."""

    ERROR = "error"  # TensorBoard shows something wrong, less than there is, or nothing
    WARNING = "warning"  # what it shows is right, but awkward, or soon will not be

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something wrong.

    `what` says what was found, `effect` what TensorBoard shows because of it, `cure` how it is mended, each in a line;
    `files` are paths below the log directory, `names` the hparams, metrics or tags that it is about; `repairable` tells
    whether `repair` mends it: else `cure` is what a person does.
    """

    name: str
    severity: Severity
    what: str
    effect: str
    cure: str
    files: tuple[str, ...] = ()
    repairable: bool = True
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a log directory, errors first; `running` names the runs that a process writes just now."""

    root: Path
    counts: Counts
    ailments: tuple[Ailment, ...]
    running: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        """How many of the ailments are errors."""
        return sum(ailment.severity is Severity.ERROR for ailment in self.ailments)

    @property
    def is_healthy(self) -> bool:
        """Whether there is no error; warnings are none."""
        return not self.errors

    @property
    def is_repairable(self) -> bool:
        """Whether `repair` would change something."""
        return any(ailment.repairable for ailment in self.ailments)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        ailments = [{**asdict(ailment), "severity": str(ailment.severity)} for ailment in self.ailments]
        return {
            "logdir": str(self.root),
            **self.counts.as_json(),
            "running": list(self.running),
            "healthy": self.is_healthy,
            "ailments": ailments,
        }


def plural(count: int, what: str) -> str:
    """A count in words: 1 file, 2 files, 3 directories."""
    several = f"{what[:-1]}ies" if what.endswith("ry") else f"{what}s"
    return f"{count:,} {what if count == 1 else several}"
