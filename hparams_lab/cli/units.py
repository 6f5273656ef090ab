"""Click's parameter types of times and sizes: `SECONDS` and `BYTES`.

What does not fit is refused in one line that names the option, as by the library (`executors.limits`), and so with exit
code 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hparams_lab.executors.limits import checked_bytes, checked_seconds


class _Quantity(click.ParamType):  # type: ignore[type-arg] # it has none before click 8.4
    """A text that `check(text, option)` makes a number."""

    def __init__(self, name: str, check: Callable[[str, str], float]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises UsageError."""
        return self._check(value, param.opts[0] if param else self.name)


SECONDS = _Quantity("DURATION", checked_seconds)
"""A time above 0, in seconds: 90, 90s, 5m, 2h, 1d, 1h30m, 0.5."""

BYTES = _Quantity("SIZE", checked_bytes)
"""A size, in bytes: 800000000, 512MB, 2GB (MB is 10**6), 1.5GiB (MiB is 2**20)."""
