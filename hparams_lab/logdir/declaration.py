"""The one Experiment summary of a log directory: what TensorBoard's tab knows of its columns.

TensorBoard picks one Experiment summary of a tree arbitrarily, so there is exactly one, in a directory of its own. It
is replaced by writing the next number and dropping the one before, which a live TensorBoard follows; under a lock, so
that many processes can declare at once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tensorboard.plugins.hparams import api_pb2

from hparams_lab.core.declared import Declared
from hparams_lab.core.domains import Discrete, Domain
from hparams_lab.core.errors import HParamValueError
from hparams_lab.core.values import Value, canonical
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.run_reader import event_files
from hparams_lab.storage import disk
from hparams_lab.storage.locks import held
from hparams_lab.storage.paths import LogDirPaths, natural

if TYPE_CHECKING:
    from hparams_lab.core.experiment import Experiment

ExperimentMessage: TypeAlias = api_pb2.Experiment

_TYPES = {
    bool: api_pb2.DATA_TYPE_BOOL, int: api_pb2.DATA_TYPE_FLOAT64, float: api_pb2.DATA_TYPE_FLOAT64,
    str: api_pb2.DATA_TYPE_STRING,
}  # fmt: skip

LONGEST_FILTER = 9
"""A numeric `Discrete` of ten or more values gets a filter in TensorBoard that answers 400; an interval works."""


def experiment_message(experiment: Experiment) -> ExperimentMessage:
    """The experiment as TensorBoard's message: what varies marked, the objective first among the metrics."""
    metrics = sorted(experiment.metrics, key=lambda metric: metric.tag != experiment.objective)
    infos = [_hparam_info(hparam) for hparam in experiment.hparams]
    return ExperimentMessage(
        name=experiment.name or "", hparam_infos=infos, metric_infos=[m.to_tensorboard().as_proto() for m in metrics]
    )


def _hparam_info(hparam: Any) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(
        name=hparam.name, display_name=hparam.display_name or "", description=hparam.description or ""
    )
    _fill_domain(info, hparam.domain)
    info.differs = hparam.domain.size != 1
    return info


def _fill_domain(info: api_pb2.HParamInfo, domain: Domain) -> None:
    """The type and domain of a column: values in the order given, an interval also for ten or more numbers."""
    values = [domain.stored(value) for value in domain.values] if isinstance(domain, Discrete) else []
    is_number = not isinstance(values[0], (bool, str)) if values else True
    if is_number and not 0 < len(values) <= LONGEST_FILTER:
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value, info.domain_interval.max_value = domain.min_value, domain.max_value
    else:
        info.type = _TYPES[type(values[0])]
        info.domain_discrete.extend(values)


def observed_message(hparams: Mapping[str, Value], tags: Iterable[str]) -> ExperimentMessage:
    """The message of values that nobody declared, and of the tags that were logged."""
    infos = [observed_info(name, [value]) for name, value in hparams.items()]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags]
    return ExperimentMessage(hparam_infos=infos, metric_infos=metrics)


def observed_info(name: str, values: Sequence[Any]) -> api_pb2.HParamInfo:
    """The column that holds `values`: bools, numbers in an interval, or strings for everything else."""
    info = api_pb2.HParamInfo(name=name, differs=len(set(map(str, values))) > 1)
    if all(isinstance(value, bool) for value in values):
        info.type = api_pb2.DATA_TYPE_BOOL
        info.domain_discrete.extend(sorted(set(values)))
    elif all(_is_number(value) for value in values):
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value, info.domain_interval.max_value = min(values), max(values)
    else:
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(sorted({str(value) for value in values}))
    return info


def _values_of(info: api_pb2.HParamInfo) -> list[Any]:
    """Values that span the column's domain."""
    if info.WhichOneof("domain") == "domain_interval":
        return [canonical(info.domain_interval.min_value), canonical(info.domain_interval.max_value)]
    return [summaries.plain_value(value) for value in info.domain_discrete.values]


def union(*messages: ExperimentMessage) -> ExperimentMessage:
    """All declarations in one: every column and metric once, domains wide enough for all, the order of the first."""
    columns: dict[str, api_pb2.HParamInfo] = {}
    known: dict[str, set[bytes]] = {}  # of each column, what was merged: again it changes nothing
    metrics: dict[tuple[str, str], api_pb2.MetricInfo] = {}
    for message in messages:
        first = not columns
        for info in message.hparam_infos:
            merged, said = known.setdefault(info.name, set()), info.SerializeToString()
            if said in merged:
                continue
            before = columns.get(info.name)
            if before is None:
                columns[info.name] = added = api_pb2.HParamInfo()
                added.CopyFrom(info)
                added.differs = info.differs or not first  # the runs before have no such value
            elif before != info:
                columns[info.name] = _merged(before, info)
            merged.add(said)
        for metric in message.metric_infos:
            metrics.setdefault((metric.name.group, metric.name.tag), metric)
    name = next((message.name for message in messages if message.name), "")
    return ExperimentMessage(name=name, hparam_infos=columns.values(), metric_infos=metrics.values())


def _merged(before: api_pb2.HParamInfo, info: api_pb2.HParamInfo) -> api_pb2.HParamInfo:
    """One column for both: as it was where it holds the new values too, else with a domain wide enough."""
    old, new = _values_of(before), _values_of(info)
    found = observed_info(info.name, [*old, *new])
    if before.type == found.type and all(_holds(before, value) for value in new):
        found.CopyFrom(before)
    found.display_name = before.display_name or info.display_name
    found.description = before.description or info.description
    found.differs = found.differs or before.differs or info.differs
    return found


def _holds(info: api_pb2.HParamInfo, value: Any) -> bool:
    if info.WhichOneof("domain") == "domain_interval":
        low, high = info.domain_interval.min_value, info.domain_interval.max_value
        return _is_number(value) and low <= value <= high
    is_bool = info.type == api_pb2.DATA_TYPE_BOOL  # 1 is no True
    return isinstance(value, bool) is is_bool and value in _values_of(info)


def declared_by(message: ExperimentMessage) -> Declared:
    """What a message declares; of a metric with a group, the tag is `group/tag`."""
    hparams = [
        {"name": info.name, "domain": _domain_json(info), **_words(info)} for info in message.hparam_infos if info.name
    ]
    metrics = [
        {"tag": f"{info.name.group}/{info.name.tag}" if info.name.group else info.name.tag, **_words(info)}
        for info in message.metric_infos
    ]
    return Declared({"name": message.name, "hparams": hparams, "metrics": metrics, "objective": None}, typed=False)


def _words(info: Any) -> dict[str, str]:
    found = {"display_name": info.display_name, "description": info.description}
    return {key: text for key, text in found.items() if text}


def _domain_json(info: api_pb2.HParamInfo) -> dict[str, Any] | None:
    """A column's domain as `Experiment.to_json` has it; None without one."""
    if info.WhichOneof("domain") == "domain_interval":
        ends = {"min": info.domain_interval.min_value, "max": info.domain_interval.max_value}
        return {"kind": "RealInterval", **ends, "scale": "linear", "step": None}
    values = [summaries.plain_value(value) for value in info.domain_discrete.values]
    if not values:
        return None
    kinds = {type(value) for value in values}
    dtype = kinds.pop().__name__ if len(kinds) == 1 else "float" if kinds == {int, float} else "str"
    return {"kind": "discrete", "values": values, "dtype": dtype}


def joined_by(values: Mapping[str, Value]) -> Callable[[ExperimentMessage, ExperimentMessage], ExperimentMessage]:
    """A `union` for a run with these values, which refuses one that its column cannot hold.

    A column has one type, or TensorBoard answers 500 when it is sorted: where earlier runs have numbers, a string does
    not fit. (A column of strings takes anything as text; see `stored_in`.)
    """

    def combine(old: ExperimentMessage, new: ExperimentMessage) -> ExperimentMessage:
        for info in old.hparam_infos:
            kind = _KINDS.get(info.type)
            if info.name in values and kind and not kind[1](values[info.name]):
                value = values[info.name]
                raise HParamValueError(
                    f"hparam {info.name!r} is {value!r} ({type(value).__name__}), the runs before have {kind[0]}; "
                    "a column of the tab has one type: log it under another name, or into another directory"
                )
        return union(old, new)

    return combine


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# What the runs before have, in words, and what fits there.
_KINDS: dict[int, tuple[str, Callable[[Any], bool]]] = {
    api_pb2.DATA_TYPE_FLOAT64: ("numbers", _is_number),
    api_pb2.DATA_TYPE_BOOL: ("True or False", lambda value: isinstance(value, bool)),
}


def stored_in(message: ExperimentMessage, values: Mapping[str, Value]) -> dict[str, bool | float | str]:
    """The values as the columns of `message` hold them: as text in a column of strings, `None` as "None"."""
    texts = {info.name for info in message.hparam_infos if info.type == api_pb2.DATA_TYPE_STRING}
    return {name: str(v) if v is None or name in texts else v for name, v in values.items()}


@dataclass(frozen=True, slots=True)
class _Known:
    """A declaration as this process saw it last: valid for as long as its directory is there, and the same one."""

    directory: Path
    stamp: tuple[int, int] | None
    message: ExperimentMessage
    columns: Mapping[str, api_pb2.HParamInfo]
    tags: frozenset[str]

    def holds(self, name: str, value: Value) -> bool:
        info = self.columns.get(name)
        if info is None:
            return False
        return _holds(info, str(value) if info.type == api_pb2.DATA_TYPE_STRING else value)


def _stamp(directory: Path) -> tuple[int, int] | None:
    """What tells a directory from another one of its name; None when it is gone."""
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


_known: dict[Path, _Known] = {}


def is_declared(paths: LogDirPaths, values: Mapping[str, Value], tags: Iterable[str]) -> ExperimentMessage | None:
    """The directory's declaration, if it holds the values and tags, by what this process saw of it; else None."""
    known = _known.get(paths.root)
    if known is None or not known.tags.issuperset(tags) or _stamp(known.directory) != known.stamp:
        return None
    return known.message if all(known.holds(name, value) for name, value in values.items()) else None


def declare(
    paths: LogDirPaths,
    message: ExperimentMessage,
    *,
    combine: Callable[[ExperimentMessage, ExperimentMessage], ExperimentMessage] = union,
) -> ExperimentMessage:
    """Make `message`, combined with what the directory declares, its one Experiment summary, and return it.

    Nothing is written when that changes nothing, and there is one (a process killed while it replaced it leaves two).
    """
    with held(paths.experiment_lock):
        old = current_declaration(paths)
        message = message if old is None else combine(old, message)
        if old is None or not _same(old, message) or len(_numbered(paths)) != 1:
            _replace_experiment(paths, message)
        columns = {info.name: info for info in message.hparam_infos}
        tags = frozenset(info.name.tag for info in message.metric_infos if not info.name.group)
        directory = _numbered(paths)[-1]
        _known[paths.root] = _Known(directory, _stamp(directory), message, columns, tags)
        return message


def current_declaration(paths: LogDirPaths) -> ExperimentMessage | None:
    """The Experiment message of the directory; None without one."""
    for directory in reversed(_numbered(paths)):
        for file in event_files(directory):
            for event in read_events(file.read_bytes()):
                for value in event.summary.value:
                    data = summaries.plugin_data(value)
                    if data is not None and data.HasField("experiment"):
                        return data.experiment
    return None


def _same(one: ExperimentMessage, other: ExperimentMessage) -> bool:
    fields = ("name", "hparam_infos", "metric_infos")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _numbered(paths: LogDirPaths) -> list[Path]:
    if not paths.experiments.is_dir():
        return []
    names = [entry.name for entry in os.scandir(paths.experiments) if entry.name.isdecimal()]
    return [paths.experiments / name for name in sorted(names, key=natural)]


def _replace_experiment(paths: LogDirPaths, message: ExperimentMessage) -> None:
    """Write the next number, wait until it is on the disk, and drop those before. Raises LogDirError."""
    before = _numbered(paths)
    target = paths.experiments / str(int(before[-1].name) + 1 if before else 1)
    try:
        _write_experiment(target, message)
        disk.sync_directory(paths.experiments)
        if not before:
            disk.sync_directory(paths.root)
    except OSError as error:
        with contextlib.suppress(OSError):
            disk.remove_tree(target)
        raise disk.refusal(target, error) from None
    for directory in before:
        with contextlib.suppress(OSError):
            disk.remove_tree(directory)


def _write_experiment(target: Path, message: ExperimentMessage) -> None:
    disk.make_directory(target)
    now = time.time()
    writer = EventFileWriter.create(target, now)
    try:
        writer.add(summaries.experiment(message.hparam_infos, message.metric_infos, now, message.name), now=now)
        writer.close()
    finally:
        writer.abandon()  # where it could not be closed
