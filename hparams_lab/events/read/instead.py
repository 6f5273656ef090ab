"""What stands in the place of an event file that was not fetched, or not unpacked. It is named, and left alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hparams_lab.core.findings import Finding, Kind

HEAD = 4096
"""Bytes of a file that tell what it is."""

_SPACE = b" \t\r\n\xef\xbb\xbf"


class Instead(NamedTuple):
    """What a file is, and what a person does about it."""

    what: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.what} in the place of an event file ({self.way_out})"


def _unpacked(tool: str) -> Instead:
    return Instead(f"compressed data ({tool})", f"unpack it: {tool} -dc FILE > NEW, and put NEW in its place")


_PAGE = Instead("an HTML page", "download the file itself: its raw or resolve address")
_ANSWER = Instead("a server's answer", "download the file itself: its raw or resolve address")
_LFS = Instead("a Git LFS pointer", "fetch the content: git lfs pull")
_ANNEX = Instead("a git-annex pointer", "fetch the content: git annex get FILE")
_DVC = Instead("a DVC pointer", "fetch the content: dvc pull")
_LOCKED = Instead("a file that git-crypt has locked", "unlock it: git-crypt unlock")
_ENCRYPTED = Instead("an encrypted file", "decrypt it, and put what comes of it in its place")
_ARCHIVE = Instead("an archive", "unpack it, and move it away: tar -xf FILE, unzip FILE or 7z x FILE")
_ZEROS = Instead("nothing but zero bytes", "copy or download the file again; a disk that was full leaves such")
_TEXT = Instead("a text", "bring the event file back from where the text came from")
UNKNOWN = Instead("a file without one whole event", "bring the event file back from a copy; `file FILE` may name it")
NO_RECORD = Instead("the beginning of a record", "bring it back from a copy, or run it again")

_TEXTS = (
    (b"version https://git-lfs", _LFS),
    (b"version https://hawser", _LFS),  # as the first releases wrote it
    (b"/annex/objects/", _ANNEX),
    (b"outs:", _DVC),
    (b"md5:", _DVC),
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"<?xml", _ANSWER),
    (b"<error", _ANSWER),
    (b"{", _ANSWER),
    (b"404", _ANSWER),
    (b"not found", _ANSWER),
    (b"-----begin pgp", _ENCRYPTED),
    (b"$ansible_vault", _ENCRYPTED),
)
_BYTES = (
    (b"\0gitcrypt", _LOCKED),
    (b"\x1f\x8b\x08", _unpacked("gzip")),
    (b"bzh", _unpacked("bzip2")),
    (b"\xfd7zxz\0", _unpacked("xz")),
    (b"\x28\xb5\x2f\xfd", _unpacked("zstd")),
    (b"\x04\x22\x4d\x18", _unpacked("lz4")),
    (b"pk\x03\x04", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (b"rar!\x1a\x07", _ARCHIVE),
    (b"salted__", _ENCRYPTED),
    (b"age-encryption.org/", _ENCRYPTED),
)
"""How such files begin, spaces and a byte order mark left out, in lower case; the first are texts throughout."""

_TAR = slice(257, 262)
"""Where a tar archive says `ustar`: the field `magic` of its first header."""


def instead_of_events(path: str | os.PathLike[str]) -> Instead | None:
    """What a file is that does not begin with a record; None when that is not known."""
    link = _link(path)
    if link is not None:
        return link
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head[_TAR] == b"ustar":
        return _ARCHIVE
    begin = head.lstrip(_SPACE).lower()
    known = (*_BYTES, *_TEXTS) if _is_text(head) else _BYTES
    return next((found for begins, found in known if begin.startswith(begins)), None)


def without_events(path: Path) -> Instead:
    """What a file is in which there is no event."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.strip(b"\0"):
        return _ZEROS
    return _TEXT if _is_text(head) else UNKNOWN


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8, but for a character that is cut off, without control characters."""
    text = head[:-3].decode("utf-8", "replace") if len(head) == HEAD else head.decode("utf-8", "replace")
    return "\ufffd" not in text and all(char.isprintable() or char in "\t\r\n\f\ufeff" for char in text)


def _link(path: str | os.PathLike[str]) -> Instead | None:
    """What a link stands for that leads nowhere: content that git-annex or DVC has not fetched."""
    if not os.path.islink(path) or os.path.exists(path):
        return None
    target = os.readlink(path).replace(os.sep, "/")
    if "annex/objects/" in target:
        return _ANNEX
    return _DVC if ".dvc/" in target or "/cache/files/md5/" in target else None


def instead_of(finding: Finding) -> Instead | None:
    """What the file of a finding is, when it is no event file at all; None for one that is damaged."""
    if finding.offset or finding.kind not in (Kind.BAD_LENGTH, Kind.UNREADABLE, Kind.SYMLINK):
        return None
    try:
        return instead_of_events(finding.file) if finding.kind is Kind.BAD_LENGTH else _link(finding.file)
    except OSError:
        return None


def in_words(found: Iterable[Instead]) -> Iterator[str]:
    """A line for each kind: how many files there are of it, and the way out."""
    counts: dict[Instead, int] = {}
    for instead in found:
        counts[instead] = counts.get(instead, 0) + 1
    for instead, count in counts.items():
        yield f"{count:,} file{'s' * (count > 1)}: {instead}"
