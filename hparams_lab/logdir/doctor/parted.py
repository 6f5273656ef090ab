"""Two sessions in one directory: which files get which directory of their own, so that each run has its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hparams_lab.logdir.doctor.checks import writers_of, written
from hparams_lab.logdir.doctor.tree import FileFacts, RunFacts, Tree
from hparams_lab.logdir.sessions import names_of, whose
from hparams_lab.logdir.walk import owners_of


@dataclass(frozen=True, slots=True)
class Moved:
    """Files in the directory of `run` that get the directory `name`."""

    run: RunFacts
    name: str
    files: list[FileFacts]

    @property
    def is_session(self) -> bool:
        """Whether TensorBoard takes them for a session once they have a directory."""
        return self.run.start is not None

    @property
    def group(self) -> str:
        """The name of the session's group, its own where it has none."""
        return next((start.group_name for file in self.files for start in file.starts), "") or self.name

    @property
    def lacks_a_session(self) -> bool:
        """Whether they have the values of the first session, as its directory has one, and they say none."""
        return self.is_session and not any(file.starts for file in self.files)


def moved(tree: Tree) -> list[Moved]:
    """What each session but the first of its directory gets: its files there, and its files below."""
    names = {run.name: run for run in tree.runs}
    ours = {run.name for run in tree.runs if any(file.is_own for file in run.files)}
    sessions = [run.name for run in tree.sessions]
    writers = {run.name: writers_of(run) for run in tree.runs}
    shared = {name for name, parts in writers.items() if len(parts) > 1}
    owners = owners_of([*names], sessions, ours.__contains__, lambda name: names[name].tags, shared)
    taken = {*names}
    found: list[Moved] = []
    settled: set[str] = set()  # below a directory of several sessions: what is there goes with them
    for run in tree.runs:
        parts = [run.files] if run.name in settled else writers[run.name]
        called = names_of(run.name, len(parts), taken)
        if len(parts) > 1:
            found += (Moved(run, name, files) for name, files in zip(called[1:], parts[1:], strict=True))
            below = [(names[name], prefix) for name, (owner, prefix) in owners.items() if owner == run.name and prefix]
            for other, prefix in below:
                settled.add(other.name)
                found += _below(other, [f"{name}/{prefix.rstrip('/')}" for name in called], parts)
    return found


def _below(run: RunFacts, names: Sequence[str], parts: Sequence[list[FileFacts]]) -> Iterator[Moved]:
    above = [[written(file) for file in part] for part in parts]
    places = {file.name: whose(written(file), above) for file in run.files}
    for place in range(1, len(parts)):
        files = [file for file in run.files if places[file.name] == place]
        if files:
            yield Moved(run, names[place], files)
