"""A log directory: its one Experiment summary, its `sweep.json`, and `read`.

TensorBoard picks one Experiment summary of a tree arbitrarily, so there is exactly one, in a directory of its own. It
is replaced by writing the next number and dropping the one before, which a live TensorBoard follows; under a lock, so
that many processes can declare at once.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tensorboard.plugins.hparams import api_pb2

from hparams_lab.errors import LogDirError
from hparams_lab.events import summaries
from hparams_lab.events.event_file import read_events
from hparams_lab.events.reader import event_files, read_run
from hparams_lab.events.writer import EventFileWriter, sync_directory
from hparams_lab.experiment import Experiment
from hparams_lab.locks import held
from hparams_lab.paths import LogDirPaths, natural
from hparams_lab.results import Results
from hparams_lab.values import Value

Declared: TypeAlias = api_pb2.Experiment


def read(logdir: str | os.PathLike[str]) -> Results:
    """Everything that a log directory holds.

    Raises LogDirError when there is no such directory, or nothing in it that a run wrote.
    """
    paths = LogDirPaths(Path(logdir))
    if not paths.root.is_dir():
        kind = "is a file" if paths.root.exists() else "does not exist"
        raise LogDirError(f"the log directory {paths.root} {kind}; name a directory that a sweep or run was logged to")
    experiment = declared_experiment(paths)
    found = (read_run(directory, paths.name_of(directory), experiment) for directory in paths.run_dirs())
    runs = tuple(run for run in found if run is not None)
    if not runs and experiment is None:
        raise LogDirError(
            f"{paths.root} holds no runs (no event file with hparams in it or below); is it the right one?"
        )
    return Results(experiment, runs)


def declared_experiment(paths: LogDirPaths) -> Experiment | None:
    """The experiment as `sweep.json` tells it, types and all; None without one."""
    sweep = load_sweep(paths)
    return Experiment.from_json(sweep["experiment"]) if sweep and "experiment" in sweep else None


def load_sweep(paths: LogDirPaths) -> dict[str, Any] | None:
    """What `sweep.json` holds; None when there is none. Raises LogDirError when it is not JSON."""
    try:
        found: dict[str, Any] = json.loads(paths.sweep_json.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise LogDirError(
            f"{paths.sweep_json} cannot be read ({error}); restore it or move the directory aside"
        ) from None
    return found


def save_sweep(paths: LogDirPaths, sweep: Mapping[str, Any]) -> None:
    """Write `sweep.json` whole or not at all."""
    temporary = paths.root / f".sweep.json.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(sweep, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, paths.sweep_json)
    sync_directory(paths.root)


def experiment_message(experiment: Experiment) -> Declared:
    """The experiment as TensorBoard's message: what varies marked, the objective first among the metrics."""
    metrics = sorted(experiment.metrics, key=lambda metric: metric.tag != experiment.objective)
    infos = [_hparam_info(hparam) for hparam in experiment.hparams]
    return Declared(name=experiment.name or "", hparam_infos=infos, metric_infos=[m.as_proto() for m in metrics])


def _hparam_info(hparam: Any) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(
        name=hparam.name, display_name=hparam.display_name or "", description=hparam.description or ""
    )
    hparam.domain.update_hparam_info(info)
    info.differs = hparam.domain.size != 1
    return info


def observed_message(hparams: Mapping[str, Value], tags: Iterable[str]) -> Declared:
    """The message of values that nobody declared, and of the tags that were logged."""
    infos = [observed_info(name, [value]) for name, value in hparams.items()]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags]
    return Declared(hparam_infos=infos, metric_infos=metrics)


def observed_info(name: str, values: Sequence[Any]) -> api_pb2.HParamInfo:
    """The column that holds `values`: bools, numbers in an interval, or strings for everything else."""
    info = api_pb2.HParamInfo(name=name, differs=len(set(map(str, values))) > 1)
    if all(isinstance(value, bool) for value in values):
        info.type = api_pb2.DATA_TYPE_BOOL
        info.domain_discrete.extend(sorted(set(values)))
    elif all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value, info.domain_interval.max_value = min(values), max(values)
    else:
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(sorted({str(value) for value in values}))
    return info


def _values_of(info: api_pb2.HParamInfo) -> list[Any]:
    """Values that span the column's domain."""
    if info.WhichOneof("domain") == "domain_interval":
        return [info.domain_interval.min_value, info.domain_interval.max_value]
    return [summaries.plain_value(value) for value in info.domain_discrete.values]


def union(old: Declared, new: Declared) -> Declared:
    """Both declarations in one: every column and metric once, domains wide enough for both, old order first."""
    columns = {info.name: info for info in old.hparam_infos}
    for info in new.hparam_infos:
        before = columns.get(info.name)
        if before is None:
            columns[info.name] = info
        elif before != info:
            merged = observed_info(info.name, [*_values_of(before), *_values_of(info)])
            merged.display_name = before.display_name or info.display_name
            merged.description = before.description or info.description
            merged.differs = True
            columns[info.name] = merged
    metrics = {(info.name.group, info.name.tag): info for info in [*new.metric_infos, *old.metric_infos]}
    order = dict.fromkeys((info.name.group, info.name.tag) for info in [*old.metric_infos, *new.metric_infos])
    return Declared(
        name=old.name or new.name, hparam_infos=columns.values(), metric_infos=[metrics[key] for key in order]
    )


def declare(
    paths: LogDirPaths, message: Declared, *, combine: Callable[[Declared, Declared], Declared] = union
) -> None:
    """Make `message`, combined with what the directory declares, its one Experiment summary.

    Nothing is written when that changes nothing.
    """
    with held(paths.experiment_lock):
        old = current_declaration(paths)
        message = message if old is None else combine(old, message)
        if old is not None and _same(old, message):
            return
        _replace_experiment(paths, message)


def current_declaration(paths: LogDirPaths) -> Declared | None:
    """The Experiment message of the directory; None without one."""
    for directory in reversed(_numbered(paths)):
        for file in event_files(directory):
            for event in read_events(file.read_bytes()):
                for value in event.summary.value:
                    data = summaries.plugin_data(value)
                    if data is not None and data.HasField("experiment"):
                        return data.experiment
    return None


def _same(one: Declared, other: Declared) -> bool:
    fields = ("name", "hparam_infos", "metric_infos")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _numbered(paths: LogDirPaths) -> list[Path]:
    if not paths.experiments.is_dir():
        return []
    names = [entry.name for entry in os.scandir(paths.experiments) if entry.name.isdigit()]
    return [paths.experiments / name for name in sorted(names, key=natural)]


def _replace_experiment(paths: LogDirPaths, message: Declared) -> None:
    before = _numbered(paths)
    number = int(before[-1].name) + 1 if before else 1
    target = paths.experiments / str(number)
    target.mkdir()
    now = time.time()
    writer = EventFileWriter.create(target, now)
    writer.add(summaries.experiment(message.hparam_infos, message.metric_infos, now, message.name), now=now)
    writer.close()
    for directory in before:
        shutil.rmtree(directory, ignore_errors=True)
