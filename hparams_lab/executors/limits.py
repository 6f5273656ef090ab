"""What may be asked of a run: `checked_seconds` for `timeout`, `checked_bytes` for `memory`."""

from __future__ import annotations

import math
import re

from hparams_lab.core.errors import UsageError

LEAST_MEMORY = 2**24
"""Bytes; a process forked for a run needs about as much before it has trained anything."""

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1} | {
    prefix + unit: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for unit, base in (("", 1000), ("b", 1000), ("ib", 1024))
}
_BYTES["b"] = 1
_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_DURATION = re.compile(rf"(?:{_NUMBER}\s*d\s*)?(?:{_NUMBER}\s*h\s*)?(?:{_NUMBER}\s*m\s*)?(?:{_NUMBER}\s*s)?", re.ASCII)
_PART = re.compile(rf"({_NUMBER})\s*([dhms])", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})\s*([a-z]*)", re.ASCII)


def checked_seconds(value: str | float, name: str = "--timeout") -> float:
    """A time above 0 in seconds, from a number of them or a text: "90", "90s", "5m", "2h", "1d", "1h30m".

    Raises UsageError.
    """
    seconds = _seconds(value)
    if not 0 < seconds < math.inf:
        raise UsageError(f"{name} is {value}; wanted a time above 0, such as 90s, 5m, 2h or 1h30m")
    return seconds


def checked_bytes(value: str | float, name: str = "--memory") -> int:
    """A size in bytes that a run can live in, from a number of them or a text: "800000000", "512MB", "1.5GiB".

    kB, MB, GB and TB (and k, M, G, T) are 10**3, 10**6, 10**9 and 10**12; KiB, MiB, GiB and TiB are 2**10, 2**20, 2**30
    and 2**40, whatever the case. Raises UsageError, also below `LEAST_MEMORY`.
    """
    size = _bytes(value)
    if not 0 < size < 2**63:
        raise UsageError(f"{name} is {value}; wanted a size above 0, such as 512MB, 2GB or 1.5GiB")
    if size < LEAST_MEMORY:
        meant = (
            f"; say {value}MB if that is meant" if str(value).isdecimal() and int(value) * 10**6 >= LEAST_MEMORY else ""
        )
        raise UsageError(f"{name} is {value}, which is too little for any run; wanted at least 16MiB{meant}")
    return int(size)


def _seconds(value: object) -> float:
    number = _plain(value)
    if number is not None:
        return number
    text = str(value).strip().lower()
    if not text or not _DURATION.fullmatch(text):
        return math.nan
    return math.fsum(float(count) * _SECONDS[unit] for count, unit in _PART.findall(text))


def _bytes(value: object) -> float:
    number = _plain(value)
    if number is not None:
        return number
    found = _SIZE.fullmatch(str(value).strip().lower())
    if found is None or found[2] not in _BYTES:
        return math.nan
    return float(found[1]) * float(_BYTES[found[2]])


def _plain(value: object) -> float | None:
    """A number, also as text; None for another text. A bool is no number here."""
    if isinstance(value, bool):
        return math.nan
    if isinstance(value, str) and not re.fullmatch(_NUMBER, value.strip(), re.ASCII):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
