"""`Outcome`: how a run stands or ended."""

from __future__ import annotations

import enum


class Outcome(str, enum.Enum):
    """How a run stands or ended."""

    COMPLETED = "completed"  # ended by itself, with a finite objective
    DIVERGED = "diverged"  # ended by itself, the objective NaN or infinite
    FAILED = "failed"  # the train function raised
    CRASHED = "crashed"  # the process died, or ended without a result
    TIMED_OUT = "timed out"  # stopped for taking longer than --timeout
    OUT_OF_MEMORY = "out of memory"  # it asked for more than --memory, or than there was
    PRUNED = "pruned"  # stopped early because it was not worth going on
    INTERRUPTED = "interrupted"  # stopped from outside, or left without an end
    RUNNING = "running"  # a process holds its event file
    UNKNOWN = "unknown"  # a log in which nothing tells how the run ended, as of a loop without hyperparameters

    def __str__(self) -> str:
        return self.value
