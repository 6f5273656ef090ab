"""What the Ray executor and its driver say to each other, beside `Job` and `Ended`."""

from __future__ import annotations

from typing import NamedTuple


class OwnRay(NamedTuple):
    """A Ray that is started on this machine, for one sweep: what it has for runs, and where its files are."""

    cpus: int
    gpus: int
    directory: str = ""
