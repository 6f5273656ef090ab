"""The columns of merged directories: one Experiment message and one `sweep.json` that hold all runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tensorboard.plugins.hparams import api_pb2

from hparams_lab.core.errors import LogDirError
from hparams_lab.core.scalar import is_of_system
from hparams_lab.core.united import IN_WORDS, kind_of, united
from hparams_lab.logdir.declaration import ExperimentMessage, observed_info, union
from hparams_lab.logdir.merge.groups import as_stored
from hparams_lab.logdir.merge.source import Member, Source
from hparams_lab.storage.paths import lies_in


def mixed_columns(sources: Sequence[Source], as_text: bool) -> frozenset[str]:
    """The columns of more than one type, which become text. Raises LogDirError unless they may."""
    kinds: dict[str, dict[str, str]] = {}
    for source in sources:
        for member in source.members:
            for name, value in member.values.items():
                if value is not None:
                    kinds.setdefault(name, {}).setdefault(kind_of(value), f"{source.root}")
    mixed = {name: found for name, found in kinds.items() if len(found) > 1}
    if mixed and not as_text:
        name, found = next(iter(mixed.items()))
        (one, here), (other, there) = list(found.items())[:2]
        raise LogDirError(
            f"hparam {name!r} has {IN_WORDS[one]} in {here} and {IN_WORDS[other]} in {there}; a column of the tab "
            "has one type: --as-text makes it text in all"
        )
    return frozenset(mixed)


def values_by_name(sources: Sequence[Source], texts: AbstractSet[str]) -> dict[str, list[Any]]:
    """The values of each column as the merged directory stores them."""
    found: dict[str, list[Any]] = {}
    for source in sources:
        for member in source.members:
            for name, value in member.values.items():
                found.setdefault(name, []).append(as_stored(name, value, texts))
    return found


# --- for TensorBoard ------------------------------------------------------------------------------------------------


def merged_message(sources: Sequence[Source], texts: AbstractSet[str]) -> ExperimentMessage:
    """What all directories declare, wide enough for all runs; what is not the same for all is marked."""
    message = ExperimentMessage()
    for found in (found for source in sources for found in source.messages):
        message = union(message, _without(found, texts))
    values = values_by_name(sources, texts)
    infos = [observed_info(name, [v for v in found if v is not None] or [""]) for name, found in values.items()]
    message = union(message, ExperimentMessage(hparam_infos=infos, metric_infos=_undeclared(sources)))
    sessions = sum(member.has_session for source in sources for member in source.members)
    for info in message.hparam_infos:
        own = values.get(info.name, [])
        info.differs = len({str(value) for value in own}) > 1 or 0 < len(own) < sessions
    return message


def _without(message: ExperimentMessage, texts: AbstractSet[str]) -> ExperimentMessage:
    """The message without the columns that become text: their domains are found anew."""
    kept = [info for info in message.hparam_infos if info.name not in texts]
    return ExperimentMessage(name=message.name, hparam_infos=kept, metric_infos=message.metric_infos)


def _undeclared(sources: Sequence[Source]) -> list[api_pb2.MetricInfo]:
    """The metrics of the directories that declare none of those they have, and those that the runs of all have.

    PyTorch and Lightning declare `hp_metric`, whatever is logged.
    """
    silent = [source for source in sources if not _declared(source) & {*_logged(source.members)}]
    runs = [logged for source in sources for one in source.members if (logged := {*_logged([one])})]
    shared = set.intersection(*runs) if runs else set()
    names = dict.fromkeys(name for source in silent for name in _logged(source.members))
    names |= dict.fromkeys(name for name in sorted(shared) if not is_of_system(name[1]))
    return [api_pb2.MetricInfo(name=api_pb2.MetricName(group=group, tag=tag)) for group, tag in names]


def _declared(source: Source) -> set[tuple[str, str]]:
    return {(info.name.group, info.name.tag) for message in source.messages for info in message.metric_infos}


def _logged(members: Iterable[Member]) -> Iterator[tuple[str, str]]:
    """The metrics of runs as TensorBoard calls them: what is in a directory below the run's is of a group."""
    for member in members:
        own, *below = (folder.name for folder in member.folders)
        groups = [name[len(own) :].lstrip("/") for name in below if lies_in(name, own)]
        for tag in member.run.metrics:
            group = max((one for one in groups if tag.startswith(f"{one}/")), key=len, default="")
            yield group, tag[len(group) :].lstrip("/") if group else tag


# --- for our own reader ---------------------------------------------------------------------------------------------


def merged_json(sources: Sequence[Source], texts: AbstractSet[str]) -> dict[str, Any] | None:
    """What the `sweep.json` files declare, as one; None where there is none."""
    declared = [found for source in sources for found in source.declared]
    if not declared:
        return None
    return united(declared, values_by_name(sources, texts))
