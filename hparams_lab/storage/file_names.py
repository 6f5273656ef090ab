"""Which names mean what, before a file is opened."""

from __future__ import annotations


def is_event_file(name: str) -> bool:
    """Whether TensorBoard takes a file of that name for an event file."""
    return "tfevents" in name
