"""The checks of what a log directory declares, and the one experiment that declares it right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tensorboard.plugins.hparams import api_pb2

from hparams_lab.core.present import some
from hparams_lab.core.scalar import is_of_system
from hparams_lab.events.format.stored import as_text
from hparams_lab.events.format.summaries import plain_value
from hparams_lab.logdir.declaration import ExperimentMessage, observed_info, observed_message, union
from hparams_lab.logdir.doctor.ailment import Ailment, Severity, plural
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.storage.paths import lies_in

ERROR, WARNING = Severity.ERROR, Severity.WARNING
MOST_VALUES = 9
"""Of a column of numbers, as choices: with more, TensorBoard's filter answers 400."""

_KINDS = {"number_value": "numbers", "string_value": "strings", "bool_value": "True or False"}
_TYPES = {
    "numbers": api_pb2.DATA_TYPE_FLOAT64,
    "strings": api_pb2.DATA_TYPE_STRING,
    "True or False": api_pb2.DATA_TYPE_BOOL,
}


def kind_of(value: Any) -> str:
    """What a value of a session start is, in words."""
    return _KINDS.get(value.WhichOneof("kind"), "lists or nothing")


def kinds_of_columns(tree: Tree) -> dict[str, dict[str, list[str]]]:
    """By column, by kind of its values, the runs that have such a value."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in tree.sessions:
        assert run.start is not None
        for name, value in run.start.hparams.items():
            found.setdefault(name, {}).setdefault(kind_of(value), []).append(run.name)
    return found


def mixed_columns(tree: Tree) -> set[str]:
    """The columns that do not sort: they become strings."""
    kinds = kinds_of_columns(tree)
    return {name for name, by_kind in kinds.items() if len(by_kind) > 1 or not set(by_kind) <= set(_TYPES)}


def mixed_types(tree: Tree) -> Iterator[Ailment]:
    """Columns with values of several types."""
    kinds = kinds_of_columns(tree)
    names = sorted(mixed_columns(tree))
    if names:
        counts = ", ".join(f"{kind} in {plural(len(runs), 'run')}" for kind, runs in kinds[names[0]].items())
        listed = some(map(repr, names))
        fewest = (run for name in names for run in min(kinds[name].values(), key=len))
        is_one = len(names) == 1
        yield Ailment(
            "mixed-types",
            ERROR,
            f"hparam {listed} has {counts}" if is_one
            else f"{len(names):,} hparams have values of several types, or lists: {listed}",
            f"the table, until somebody sorts by {'this' if is_one else 'such a'} column: then an error",
            "a column of strings" if is_one else "columns of strings",
            tuple(dict.fromkeys(fewest)),
            names=tuple(names),
        )  # fmt: skip


def several_experiments(tree: Tree) -> Iterator[Ailment]:
    """More than one Experiment summary."""
    found = tree.experiments
    if len(found) < 2:
        return
    same = all(_same_message(message, found[0][2]) for _, _, message in found)
    sweeps = {_sweep_of(run.name, tree.sweeps) for run in tree.sessions} - {None}
    several = len(sweeps) > 1
    yield Ailment(
        "several-sweeps" if several else "several-experiments",
        WARNING if same else ERROR,
        f"{len(sweeps)} sweeps below one root, each with its experiment" if several
        else f"{len(found)} Experiment summaries, {'all the same' if same else 'which differ'}",
        "the columns of any one of them, not the same after each start" if not same else "what any of them says",
        "one experiment with the columns of all, in `_experiment`",
        tuple(dict.fromkeys(file.name for _, file, _ in found)),
    )  # fmt: skip


def _sweep_of(name: str, sweeps: Iterable[str]) -> str | None:
    """The sweep that a run belongs to: the nearest one that it lies in."""
    return max((sweep for sweep in sweeps if lies_in(name, sweep)), key=len, default=None)


def _same_message(one: ExperimentMessage, other: ExperimentMessage) -> bool:
    return list(one.hparam_infos) == list(other.hparam_infos) and list(one.metric_infos) == list(other.metric_infos)


def no_experiment(tree: Tree) -> Iterator[Ailment]:
    """No Experiment summary."""
    if not tree.experiments and tree.sessions:
        yield Ailment(
            "no-experiment",
            WARNING,
            "no Experiment summary",
            "columns that it guesses from all runs, anew at each request, in no order",
            "an experiment with what the runs have",
        )


def declared(tree: Tree) -> ExperimentMessage:
    """What TensorBoard may show: the first of the experiments."""
    return tree.experiments[0][2] if tree.experiments else ExperimentMessage()


def undeclared_hparams(tree: Tree) -> Iterator[Ailment]:
    """Hparams outside of the experiment."""
    known = {info.name for _, _, message in tree.experiments for info in message.hparam_infos}
    kinds = kinds_of_columns(tree)
    names = sorted(kinds.keys() - known) if tree.experiments else []
    if names:
        runs = dict.fromkeys(run for name in names for runs in kinds[name].values() for run in runs)
        listed = some(map(repr, names))
        is_one = len(names) == 1
        yield Ailment(
            "undeclared-hparam",
            ERROR,
            f"{f'hparam {listed}' if is_one else f'{len(names):,} hparams'} of {plural(len(runs), 'run')} "
            + ("is not in the experiment" if is_one else f"are not in the experiment: {listed}"),
            "no such column" if is_one else "no such columns",
            "a column of its values" if is_one else "a column of the values of each",
            tuple(runs),
            names=tuple(names),
        )


def undeclared_metrics(tree: Tree) -> Iterator[Ailment]:
    """Metrics outside of the experiment, unless a sweep of ours chose its metrics."""
    if not tree.experiments or (tree.sweeps and all((tree.root / s / "sweep.json").is_file() for s in tree.sweeps)):
        return
    known = {(i.name.group, i.name.tag) for _, _, message in tree.experiments for i in message.metric_infos}
    running = {run.name for run in tree.sessions if run.is_held}  # a run declares its metrics when it ends
    outside = [metric for metric, names in tree.metrics.items() if metric not in known and names - running]
    if outside:
        none = not known & tree.metrics.keys()
        names = sorted(f"{group}/{tag}".lstrip("/") for group, tag in outside)
        is_one = len(names) == 1
        yield Ailment(
            "undeclared-metric",
            ERROR if none else WARNING,
            f"{plural(len(names), 'metric')} {'is' if is_one else 'are'} logged and not in the experiment: "
            + some(names),
            "no metric at all" if none else "no such column" if is_one else "no such columns",
            f"{'a column of it' if is_one else 'columns of them'}, behind those of the experiment",
            names=tuple(names),
        )


def domains(tree: Tree) -> Iterator[Ailment]:
    """Columns without a domain, or with one that does not hold their values."""
    values = values_of_columns(tree)
    mixed = mixed_columns(tree)
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for info in {info.name: info for _, _, message in tree.experiments for info in message.hparam_infos}.values():
        if info.name in values and info.WhichOneof("domain") is None:
            what, effect = ("has no domain", "have no domain"), "no filter for it, and none in the Time Series tab"
        elif info.name in mixed or not values.get(info.name):
            continue
        elif _is_long(info):
            numbers = f"{len(info.domain_discrete.values)} numbers to choose from"
            what = f"has {numbers}", f"have more than {MOST_VALUES} numbers to choose from"
            effect = "a filter that answers 400"
        elif not _holds_all(info, values[info.name]):
            what = "has values outside of its domain", "have values outside of their domains"
            effect = "a filter that cannot choose them"
        else:
            continue
        found.setdefault((what[1], effect), []).append((info.name, what[0]))
    for (several, effect), said in found.items():
        names = tuple(name for name, _ in said)
        listed = some(map(repr, names))
        words = f"hparam {listed} {said[0][1]}" if len(said) == 1 else f"{len(said):,} hparams {several}: {listed}"
        cure = "a domain that holds its values" if len(said) == 1 else "domains that hold their values"
        yield Ailment("domain", WARNING, words, effect, cure, names=names)


def _is_long(info: api_pb2.HParamInfo) -> bool:
    return info.type == api_pb2.DATA_TYPE_FLOAT64 and len(info.domain_discrete.values) > MOST_VALUES


def values_of_columns(tree: Tree, texts: Iterable[str] = ()) -> dict[str, list[Any]]:
    """The different values of each column, in order of the runs; those of the columns `texts` as strings."""
    found: dict[str, dict[tuple[type, Any], None]] = {}
    texts = set(texts)
    for run in tree.sessions:
        assert run.start is not None
        for name, value in run.start.hparams.items():
            is_nan = value.WhichOneof("kind") == "number_value" and value.number_value != value.number_value
            plain = as_text(value) if name in texts else math.nan if is_nan else plain_value(value)
            found.setdefault(name, {})[type(plain), plain] = None
    return {name: [value for _, value in values] for name, values in found.items()}


def _holds_all(info: api_pb2.HParamInfo, values: Iterable[Any]) -> bool:
    """Whether a column's domain has the values; no domain has a NaN."""
    values = [value for value in values if value == value]
    if info.WhichOneof("domain") == "domain_interval":
        low, high = info.domain_interval.min_value, info.domain_interval.max_value
        return all(_kind(value) is float and low <= value <= high for value in values)
    choices = {(_kind(choice), choice) for choice in map(plain_value, info.domain_discrete.values)}
    return all((_kind(value), value) in choices for value in values)


def _kind(value: Any) -> type:
    """1 and 1.0 are of one kind, and 1 and True are not."""
    return float if type(value) is int else type(value)


def whole_experiment(tree: Tree) -> ExperimentMessage:
    """The one experiment that holds every declaration, and every value and metric that was logged."""
    message = ExperimentMessage()
    for _, _, found in tree.experiments:
        message = union(message, found)
    mixed = mixed_columns(tree)
    values = values_of_columns(tree, mixed)
    infos = {info.name: info for info in message.hparam_infos}
    for name, there in values.items():
        infos[name] = _widened(infos.get(name), name, there, name in mixed)
    metrics = observed_message({}, []).metric_infos
    missing = tree.metrics if not message.metric_infos or _are_missing(tree) else ()
    shared = shared_metrics([tree]) if len(tree.experiments) > 1 else ()
    for group, tag in sorted({*missing, *shared}):
        metrics.add(name=api_pb2.MetricName(group=group, tag=tag))
    columns = ExperimentMessage(name=message.name, hparam_infos=infos.values(), metric_infos=message.metric_infos)
    return union(columns, ExperimentMessage(metric_infos=metrics)) if metrics else columns


def shared_metrics(trees: Iterable[Tree]) -> set[tuple[str, str]]:
    """The metrics that all sessions with any metric have, as (group, tag): what can be compared over all of them."""
    sessions, counts = 0, Counter[tuple[str, str]]()
    for tree in trees:
        sessions += len({name for names in tree.metrics.values() for name in names})
        counts.update({metric: len(names) for metric, names in tree.metrics.items()})
    return {metric for metric, count in counts.items() if count == sessions and not is_of_system(metric[1])}


def _are_missing(tree: Tree) -> bool:
    return next(undeclared_metrics(tree), None) is not None


def _widened(info: api_pb2.HParamInfo | None, name: str, values: Sequence[Any], mixed: bool) -> api_pb2.HParamInfo:
    """The column, if it holds the values, else with a domain that does."""
    if info is not None and not mixed and info.WhichOneof("domain") and not _is_long(info) and _holds_all(info, values):
        return info
    kinds = {_kind(value) for value in values}  # what is declared of another type no run has
    before = [] if info is None or mixed else [value for value in _span(info) if _kind(value) in kinds]
    known = [value for value in (*before, *values) if value == value]  # no interval holds a NaN
    found = observed_info(name, known or [0.0])
    if info is not None:
        found.display_name, found.description = info.display_name, info.description
        found.differs = found.differs or info.differs
    return found


def _span(info: api_pb2.HParamInfo) -> list[Any]:
    if info.WhichOneof("domain") == "domain_interval":
        return [info.domain_interval.min_value, info.domain_interval.max_value]
    return [plain_value(value) for value in info.domain_discrete.values]


CHECKS = (several_experiments, no_experiment, undeclared_hparams, undeclared_metrics, mixed_types, domains)
