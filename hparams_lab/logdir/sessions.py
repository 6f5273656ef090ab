"""Which event files of a directory are of one session. Two sessions get into one directory where it is used again, or
where two processes write at the same time: they are read apart, and `doctor --repair` gives each its own directory.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hparams_lab.events.format.stored import group_key
from hparams_lab.events.read.collector import Facts

_WRITER = r"tfevents\.(?:hparams_lab\.)?\d+\.(.+?\.\d+)(?:\.|$)"
_SECONDS = r"tfevents\.(?:hparams_lab\.)?(\d{1,12})\."


class Written(NamedTuple):
    """What tells whose a file is: its name, whether a run of ours is in it, the tags of its scalars, the values of its
    session starts as `group_key` has them, and the times of its points, infinite where it has none."""

    name: str
    is_own: bool
    tags: Collection[str]
    values: frozenset[str]
    first: float
    last: float

    @property
    def began(self) -> float:
        """When it was begun, as its points or its name tell."""
        found = None if math.isfinite(self.first) else re.search(_SECONDS, self.name)
        return float(found[1]) if found else self.first


def written(name: str, facts: Facts) -> Written:
    """What a file of that name, with these facts, tells of whose it is."""
    columns = facts.columns()
    starts = [*([] if facts.start is None else [facts.start]), *facts.others]
    values = frozenset(group_key(start.hparams) for start in starts)
    times = [points.wall_times for points in columns.values()]
    first = min((float(each.min()) for each in times), default=math.inf)
    last = max((float(each.max()) for each in times), default=-math.inf)
    return Written(name, facts.is_own(name), columns.keys(), values, first, last)


@dataclass(slots=True)
class _Session:
    """Files of one session, by their places, and the values that they say."""

    files: list[Written]
    places: list[int]
    values: frozenset[str] = field(default_factory=frozenset)

    def take(self, other: _Session) -> None:
        self.files += other.files
        self.places += other.places
        self.values |= other.values


def writer_of(file: str) -> str:
    """The host and process that wrote a file, as its name tells; the name where it does not."""
    found = re.search(_WRITER, file)
    return found[1] if found else file


def sessions_of(files: Sequence[Written]) -> list[list[int]]:
    """The places of the files of each session, in the order of their first files; one list where all is well.

    Files are of different sessions where their values differ, or where two processes wrote the same tags at the same
    time. A process that goes on where another ended, with the same values or without any, goes on with its session.
    Where one of ours is among the files, what else is there belongs to it; files that say nothing are of the first.
    """
    everything = [*range(len(files))]
    told = [place for place in everything if files[place].tags or files[place].values]
    if len(told) < 2 or any(files[place].is_own for place in told):
        return [everything]
    sessions: list[_Session] = []
    for found in sorted(_of_writers(files, told), key=lambda one: min(file.began for file in one.files)):
        fitting = [one for one in sessions if not _clash(one, found)]
        same = [one for one in fitting if one.values and one.values == found.values]
        if fitting:
            (same or fitting)[-1].take(found)
        else:
            sessions.append(found)
    places = sorted(sorted(one.places) for one in sessions)
    others = {place for one in places[1:] for place in one}
    return [[place for place in everything if place not in others], *places[1:]]


def _of_writers(files: Sequence[Written], places: Sequence[int]) -> list[_Session]:
    """The files of each process, apart where it began with other values."""
    latest: dict[str, _Session] = {}
    found: list[_Session] = []
    for place in places:
        file = files[place]
        one = latest.get(writer_of(file.name))
        if one is None or (one.values and file.values and one.values != file.values):
            one = latest[writer_of(file.name)] = _Session([], [])
            found.append(one)
        one.take(_Session([file], [place], file.values))
    return found


def _clash(one: _Session, other: _Session) -> bool:
    """Whether two sessions are not the same: other values, or the same tags by two processes at the same time."""
    if one.values and other.values and one.values != other.values:
        return True
    return any(
        not set(its.tags).isdisjoint(mine.tags) and mine.first < its.last and its.first < mine.last
        for mine in one.files
        for its in other.files
        if writer_of(mine.name) != writer_of(its.name)
    )


def whose(file: Written, sessions: Sequence[Sequence[Written]]) -> int:
    """The session that a file of a directory below belongs to: that of its process, or the last that began before."""
    by_process = [
        place
        for place, files in enumerate(sessions)
        if writer_of(file.name) in {writer_of(one.name) for one in files}
    ]
    if len(by_process) == 1:
        return by_process[0]
    begun = [place for place in by_process or range(len(sessions)) if _began(sessions[place]) <= file.began]
    return max(begun, key=lambda place: _began(sessions[place]), default=by_process[0] if by_process else 0)


def _began(files: Sequence[Written]) -> float:
    return min(file.began for file in files)


def names_of(name: str, count: int, taken: set[str]) -> list[str]:
    """The names of the sessions of a directory: its own, then new ones, which are taken from now on."""
    names = [name]
    for _ in range(count - 1):
        numbered = (f"{name or 'run'}-writer-{number}" for number in itertools.count(2))
        names.append(next(one for one in numbered if one not in taken))
        taken.add(names[-1])
    return names
