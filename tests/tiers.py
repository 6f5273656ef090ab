"""What `scripts/test` leaves to `scripts/test --all`: what repeats at length what another test shows once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

slow = pytest.mark.slow


def one_quick(values: Iterable[Any]) -> list[Any]:
    """For `parametrize`: the first value as it is; the others are slow."""
    first, *others = values
    return [first, *(pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=slow) for value in others)]
