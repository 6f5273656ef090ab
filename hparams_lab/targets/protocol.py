"""`Target`: what is trained, in a form that can go to another process; `Train`, the function that it gives there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hparams_lab.run.run import Run

Train = Callable[[Run], Mapping[str, Any] | None]


class Target(Protocol):
    """What is trained, in a form that can go to another process."""

    def load(self) -> Train:
        """The train function. Imports what it needs; raises DomainLoadError."""

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules worth importing once, before processes are forked for the runs."""
