"""Several log directories made one: `merge`.

Runs keep their names, unless two directories have the same: then the names of all their runs begin with the name of the
directory they come from. Runs of the same values become runs of one trial. What the directories declare becomes one
Experiment; those that other tools wrote beside their runs are left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hparams_lab.core.errors import LogDirError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import Results
from hparams_lab.logdir.declaration import declare
from hparams_lab.logdir.membership import owned
from hparams_lab.logdir.merge.columns import merged_json, merged_message, mixed_columns
from hparams_lab.logdir.merge.groups import new_groups
from hparams_lab.logdir.merge.source import Member, Source, described
from hparams_lab.logdir.merge.transfer import Change, transfer
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.sweep_json import save_sweep
from hparams_lab.storage.paths import LogDirPaths, local, writing
from hparams_lab.storage.scratch import MAKING, scratch


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of it: how many runs came from which directory, and what was put before their names, if anything."""

    runs: dict[str, int]
    prefixes: dict[str, str]
    as_text: tuple[str, ...]


def merge(
    logdirs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    link: bool = False,
    as_text: bool = False,
) -> Merged:
    """Make one log directory of several; it appears when it is whole.

    Args:
      logdirs: the directories; they stay as they are.
      output: the new one, which is not there yet.
      link: give files that need no change a second name, so that they take no room, instead of copying them.
      as_text: make columns text that have numbers in one directory and texts in another.

    Raises LogDirError for directories that cannot be merged: one in another, a run going on, columns that do not fit.
    """
    target = local(output)
    roots = _checked(logdirs, target)
    sources = _named([_read(root, label) for root, label in zip(roots, _labels(roots), strict=True)])
    texts = mixed_columns(sources, as_text)
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch(target.parent, MAKING) as hidden:
            building = hidden / "merged"
            _build(building, sources, texts, link)
            building.rename(target)
    counts = {str(source.root): len(source.members) for source in sources}
    return Merged(counts, {str(s.root): s.prefix for s in sources if s.prefix}, tuple(sorted(texts)))


def _build(building: Path, sources: Sequence[Source], texts: frozenset[str], link: bool) -> None:
    building.mkdir()
    groups = new_groups(sources, texts)
    for source in sources:
        others = {folder.path for member in source.members for folder in member.folders}
        for member in source.members:
            transfer(source, member, building, others, Change(groups.get(member.key), texts), link)
    declare(LogDirPaths(building), merged_message(sources, texts))
    stored = merged_json(sources, texts)
    if stored is not None:
        origin = [{"logdir": str(source.root), "runs": len(source.members)} for source in sources]
        save_sweep(LogDirPaths(building), {"experiment": stored, "merged": origin})


def _checked(logdirs: Sequence[str | os.PathLike[str]], output: Path) -> list[Path]:
    """The directories, if they can be sources, and the output is not in one of them."""
    if len(logdirs) < 2:
        raise LogDirError(f"{len(logdirs)} directory is given; merging takes two or more")
    if os.path.lexists(output):
        raise LogDirError(f"{output} is there already; name a directory that is not, or move it aside")
    roots = [Path(os.path.normpath(local(logdir))) for logdir in logdirs]
    real = [Path(os.path.realpath(root)) for root in roots]
    for number, one in enumerate(real):
        for other, name in zip(real[:number], roots, strict=False):
            if one == other or one in other.parents or other in one.parents:
                raise LogDirError(f"{roots[number]} and {name} are one in the other, or the same; give each run once")
        if one in Path(os.path.realpath(output)).parents:
            raise LogDirError(f"{output} would be in {roots[number]}, which is merged; name a directory beside it")
    return roots


def _labels(roots: Sequence[Path]) -> list[str]:
    """A name for each directory: its own, with a number where that is another's too."""
    labels: list[str] = []
    for root in roots:
        name = Path(os.path.abspath(root)).name or "root"
        numbered = (name if number == 1 else f"{name}-{number}" for number in range(1, len(roots) + 1))
        labels.append(next(label for label in numbered if label not in labels))
    return labels


def _read(root: Path, label: str) -> Source:
    results = read(root)
    going_on = [run.name for run in results.runs if run.outcome is Outcome.RUNNING]
    if going_on:
        raise LogDirError(f"the run {going_on[0]} of {root} is still running; wait for its end, or stop it")
    return described(root, label, _sweeps(results), _members(root, label, results))


def _sweeps(results: Results) -> list[str]:
    return list(dict.fromkeys(["", *results.sweeps]))


def _members(root: Path, label: str, results: Results) -> list[Member]:
    return [Member.of(each, label) for each in owned(root, results.runs)]


def _named(sources: Sequence[Source]) -> list[Source]:
    """The sources with a prefix where their runs' names are another's too.

    One that is itself a part of a run becomes a directory of its own, so that the parts of the run stay together.
    """
    sources = [source.with_prefix(f"{source.label}/") if source.is_part_of_a_run else source for source in sources]
    tops = [source.tops for source in sources]
    named = [
        source.with_prefix(f"{source.label}-")
        if not source.prefix and any(tops[number] & other for place, other in enumerate(tops) if place != number)
        else source
        for number, source in enumerate(sources)
    ]
    seen: set[str] = set()
    for source in named:
        if twice := seen & source.tops:
            raise LogDirError(f"{min(twice)} would be of two directories; rename the one or the other")
        seen |= source.tops
    return named
