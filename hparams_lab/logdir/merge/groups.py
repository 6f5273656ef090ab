"""Which runs of several directories are of one trial."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from hparams_lab.core.values import Value, trial_id
from hparams_lab.logdir.merge.source import Key, Member, Source


def new_groups(sources: Sequence[Source], texts: AbstractSet[str]) -> dict[Key, str]:
    """The trial of each run, where it is another than the run says.

    Runs of the same values in two directories are of one trial, whatever each calls it, unless one of the directories
    tells several trials of these values apart; and trials of one name but different values stay different. A run that
    names no trial is one of its own, before and after.
    """
    found: dict[Key, str] = {}
    known: dict[str, str] = {}  # the values by the name of the trial
    names: dict[str, str] = {}  # and the name by the values, where that is one only
    for source in sources:
        sessions = [member for member in source.members if member.group]
        own: dict[str, set[str]] = {}
        for member in sessions:
            own.setdefault(values_id(member, texts), set()).add(member.group)
        taken = dict(known)
        for member in sessions:
            values, group = values_id(member, texts), member.group
            new = group if taken.get(group, values) == values else f"{source.label}-{group}"
            if len(own[values]) == 1:
                new = names.setdefault(values, new)
            known.setdefault(new, values)
            found[member.key] = new
    members = (member for source in sources for member in source.members)
    return {one.key: found[one.key] for one in members if found.get(one.key, one.group) != one.group}


def values_id(member: Member, texts: AbstractSet[str]) -> str:
    """What runs of the same values share."""
    return trial_id({name: as_stored(name, value, texts) for name, value in member.values.items()})


def as_stored(name: str, value: Value, texts: AbstractSet[str]) -> Value:
    """A value as the merged directory has it."""
    return str(value) if name in texts else value
