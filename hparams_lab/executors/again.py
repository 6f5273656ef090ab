"""What a run's command line is: this file, which says why a run cannot be begun again by it.

PyTorch Lightning's `ddp` starts the program again for each further process. A run has no program of its own: it is a
fork, or an interpreter that was handed its work.
"""

from __future__ import annotations

import sys
from pathlib import Path

WORDS = (
    "the run started its command line again, as Lightning's strategy='ddp' does, and a run of a sweep has none; take "
    "strategy='ddp_spawn' (or 'ddp_fork'), or one process"
)
_LAST_BYTES = 1 << 16


def said_in(log: Path) -> bool:
    """Whether the end of a run's output holds these words."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_BYTES))
            return WORDS.encode() in file.read()
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(f"error: {WORDS}")
