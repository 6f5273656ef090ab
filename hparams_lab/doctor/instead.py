"""What stands in the place of an event file that was not fetched, or not unpacked. It is named, and left alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Instead(NamedTuple):
    """What a file is, and what a person does about it."""

    what: str
    way_out: str


_KNOWN = (
    (b"version https://git-lfs", Instead("a Git LFS pointer", "fetch the content: git lfs pull")),
    (b"\x1f\x8b", Instead("compressed by gzip", "unpack it: gunzip -k -S '' FILE")),
    (b"PK\x03\x04", Instead("a zip archive", "unpack it: unzip FILE")),
    (b"BZh", Instead("compressed by bzip2", "unpack it: bunzip2 -k FILE")),
    (b"\xfd7zXZ\0", Instead("compressed by xz", "unpack it: xz -dk FILE")),
    (b"\x28\xb5\x2f\xfd", Instead("compressed by zstd", "unpack it: zstd -d FILE")),
    (b"<!doctype html", Instead("an HTML page", "download the file itself: its raw or resolve address")),
    (b"<html", Instead("an HTML page", "download the file itself: its raw or resolve address")),
)


def instead_of_events(path: Path) -> Instead | None:
    """What a file is that does not begin with a record; None when that is not known."""
    with path.open("rb") as file:
        head = file.read(256).lstrip(b" \t\r\n\xef\xbb\xbf")
    return next((found for begins, found in _KNOWN if head.startswith(begins) or head.lower().startswith(begins)), None)
