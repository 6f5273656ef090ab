"""Hostile log directories: what is no plain file, a hostile `sweep.json`, and good runs between hostile ones."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hostile_messages  # noqa: F401  (its files are among the crafted ones)
from hostile import CRAFTED, NAME, SMALL, TAIL, loss
from mutants import END, SECOND, VERSION, event, number, start, told

from hparams_lab.core.findings import Kind
from hparams_lab.events.format import summaries


@dataclass(frozen=True, slots=True)
class Special:
    """Something in a run's directory that is no plain file: how it is made, and what is found."""

    make: Callable[[Path], None]
    kind: Kind | None
    needs: str = ""  # what the system must have


SPECIAL: dict[str, Special] = {}


def special(kind: Kind | None = None, needs: str = "") -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Put what makes it among the special ones, under its name."""

    def add(make: Callable[[Path], None]) -> Callable[[Path], None]:
        SPECIAL[make.__name__.strip("_").replace("_", "-")] = Special(make, kind, needs)
        return make

    return add


def can(needs: str) -> bool:
    """Whether this system has what a special file needs."""
    if needs == "no root":
        return hasattr(os, "geteuid") and os.geteuid() != 0
    return not needs or hasattr(os, needs) or hasattr(socket, needs)


def outside(directory: Path) -> Path:
    """A good run beside the log directory, which is the parent of `directory`."""
    found = directory.parent.with_name("elsewhere")
    found.mkdir(exist_ok=True)
    (found / NAME).write_bytes(VERSION + start("secret") + loss(range(5)) + TAIL)
    return found


@special(Kind.UNREADABLE, "mkfifo")
def fifo(directory: Path) -> None:
    os.mkfifo(directory / NAME)


@special(Kind.UNREADABLE, "AF_UNIX")
def unix_socket(directory: Path) -> None:
    here = os.getcwd()
    os.chdir(directory)  # a socket's path may have some 100 bytes
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
            made.bind(NAME)
    finally:
        os.chdir(here)


@special()
def directory_named_like_a_file(directory: Path) -> None:
    (directory / NAME).mkdir()


@special(Kind.UNREADABLE, "symlink")
def dangling_link(directory: Path) -> None:
    (directory / NAME).symlink_to("nowhere")


@special(Kind.UNREADABLE, "symlink")
def link_to_itself(directory: Path) -> None:
    (directory / NAME).symlink_to(NAME)


@special(Kind.SYMLINK, "symlink")
def link_to_a_file_outside(directory: Path) -> None:
    (directory / NAME).symlink_to(outside(directory) / NAME)


@special(Kind.SYMLINK, "symlink")
def link_to_a_directory_outside(directory: Path) -> None:
    (directory / "sub").symlink_to(outside(directory), target_is_directory=True)


@special(Kind.SYMLINK, "symlink")
def link_to_endless_zeros(directory: Path) -> None:
    (directory / NAME).symlink_to("/dev/zero")


@special(None, "symlink")
def link_to_the_directory_above(directory: Path) -> None:
    (directory / "again").symlink_to("..", target_is_directory=True)


@special(Kind.UNREADABLE, "no root")
def file_that_may_not_be_read(directory: Path) -> None:
    (directory / NAME).write_bytes(VERSION + TAIL)
    (directory / NAME).chmod(0)


SWEEP_JSON: dict[str, bytes] = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "no json": b"{'experiment': 1}",
    "python": b"__import__('os').system('true')",
    "nested lists": b"[" * 200_000,
    "nested experiment": b'{"experiment": ' + b'{"hparams":' * 200_000,
    "endless number": b'{"experiment": ' + b"9" * 100_000 + b"}",
    "a list": b"[1, 2]",
    "no experiment": b'{"experiment": null}',
    "an empty experiment": b'{"experiment": {}}',
    "a text": b'{"experiment": "x"}',
    "numbers for lists": b'{"experiment": {"hparams": 1, "metrics": 2, "objective": 3}}',
    "names that are lists": b'{"experiment": {"hparams": [{"name": [1]}], "metrics": [{"tag": {}}], "objective": []}}',
    "a text for an hparam": b'{"experiment": {"hparams": ["units"], "metrics": ["loss"], "objective": "loss"}}',
    "an unknown domain": b'{"experiment": {"hparams": [{"name": "units", "domain": {"kind": "?"}}], "metrics": [],'
    b' "objective": null}}',
    "a domain of nothing": b'{"experiment": {"hparams": [{"name": "units", "domain": {"kind": "discrete", "values":'
    b' null, "dtype": "int"}}], "metrics": [], "objective": null}}',
    "words that are numbers": b'{"experiment": {"hparams": [], "metrics": [{"tag": "loss", "goal": 5, "display_name":'
    b' 7}], "objective": "loss"}}',
    "an objective nobody logged": b'{"experiment": {"hparams": [], "metrics": [{"tag": "x"}], "objective": "x"}}',
    "8 MB": b'{"experiment": null, "x": "' + b"y" * 2**23 + b'"}',
}


def accuracy(number_of_run: int) -> float:
    """The last accuracy of a good run of a mixed directory; a 32-bit float."""
    return (number_of_run + 1) / 128


def good_run(name: str, number_of_run: int) -> bytes:
    """The file of a good run."""
    stored = {"units": float(number_of_run), "rate": 0.125, "optimizer": "adam" if number_of_run % 2 else "sgd"}
    points = [event([number("accuracy", accuracy(number_of_run) * step / 4)], step, step) for step in range(1, 5)]
    return b"".join([VERSION, told(summaries.session_start(stored, name, SECOND)), *points, END])


KILLERS = (
    "length-2-31", "length-2-60", "length-2-64", "length-one-too-long", "half-a-header", "bad-length-checksum",
    "bad-payload-checksum", "no-protobuf", "nested-tensors", "tensor-of-2-40", "tensor-of-negative-size",
    "tensor-whose-size-overflows-to-1", "tensor-that-is-short", "session-of-odd-values", "session-nested-deep",
    "steps-beyond-all-bounds", "times-that-are-none", "zeros",
)  # fmt: skip
"""What a mixed directory has in any case: each of them takes a reader of event files or the tab down."""


def mixed(root: Path, good: int = 70, bad: int = 30) -> list[str]:
    """Good runs with hostile ones between them; the names of the good ones, whose group is named like the run."""
    specials = [name for name, made in SPECIAL.items() if can(made.needs)]
    small = [name for name, one in CRAFTED.items() if len(one.data) < SMALL]
    hostile = list(dict.fromkeys([*KILLERS, *specials, *small]))[:bad]
    assert len(hostile) == bad
    names = []
    for at in range(good):
        names.append(f"run-{at:03d}-good")
        (root / names[-1]).mkdir(parents=True)
        (root / names[-1] / NAME).write_bytes(good_run(names[-1], at))
    for at, name in enumerate(hostile):
        directory = root / f"run-{at * good // bad:03d}-{name}"
        directory.mkdir()
        if name in SPECIAL:
            SPECIAL[name].make(directory)
        else:
            (directory / NAME).write_bytes(CRAFTED[name].data)
    return names
