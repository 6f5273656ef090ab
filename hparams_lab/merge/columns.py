"""The columns of merged directories: one Experiment message and one `sweep.json` that hold all runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tensorboard.plugins.hparams import api_pb2

from hparams_lab.errors import LogDirError
from hparams_lab.events.declaration import ExperimentMessage, observed_info, union
from hparams_lab.merge.groups import as_stored
from hparams_lab.merge.source import Source
from hparams_lab.values import Value, canonical

_IN_WORDS = {"bool": "True or False", "number": "numbers", "text": "texts"}


def mixed_columns(sources: Sequence[Source], as_text: bool) -> frozenset[str]:
    """The columns of more than one type, which become text. Raises LogDirError unless they may."""
    kinds: dict[str, dict[str, str]] = {}
    for source in sources:
        for member in source.members:
            for name, value in member.values.items():
                if value is not None:
                    kinds.setdefault(name, {}).setdefault(_kind(value), f"{source.root}")
    mixed = {name: found for name, found in kinds.items() if len(found) > 1}
    if mixed and not as_text:
        name, found = next(iter(mixed.items()))
        (one, here), (other, there) = list(found.items())[:2]
        raise LogDirError(
            f"hparam {name!r} has {_IN_WORDS[one]} in {here} and {_IN_WORDS[other]} in {there}; a column of the tab "
            "has one type: --as-text makes it text in all"
        )
    return frozenset(mixed)


def _kind(value: Value) -> str:
    return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


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
    """The tags of the directories that declare no metric."""
    silent = [source for source in sources if not any(message.metric_infos for message in source.messages)]
    tags = dict.fromkeys(tag for source in silent for member in source.members for tag in member.run.metrics)
    return [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags]


# --- for our own reader ---------------------------------------------------------------------------------------------


def merged_json(sources: Sequence[Source], texts: AbstractSet[str]) -> dict[str, Any] | None:
    """What the `sweep.json` files declare, as one; None where there is none.

    It keeps the types of values and the goals of metrics. The objective stays where all agree; conditions and
    constraints go, since they may not hold for the other directory's runs.
    """
    declared = [found for source in sources for found in source.declared]
    if not declared:
        return None
    values = values_by_name(sources, texts)
    columns = _by(declared, "hparams", "name")
    hparams = [_hparam(name, found, values.get(name, [])) for name, found in columns.items()]
    metrics = [_agreed(found) for found in _by(declared, "metrics", "tag").values()]
    objectives = {found.get("objective") for found in declared}
    agree = len(objectives) == 1
    return {
        "name": next((found["name"] for found in declared if found.get("name")), None),
        "hparams": hparams,
        "metrics": metrics,
        "objective": objectives.pop() if agree else None,
        "constraints": [],
    }


def _by(declared: Iterable[Mapping[str, Any]], part: str, key: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in (each for one in declared for each in one.get(part, ())):
        found.setdefault(each[key], []).append(each)
    return found


def _agreed(declarations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All that is said once, or always the same; of a name to show, the first."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in declarations for key in one):
        said = [one[key] for one in declarations if key in one]
        if key in ("display_name", "description") or all(other == said[0] for other in said):
            found[key] = said[0]
    return found


def _hparam(name: str, declarations: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> dict[str, Any]:
    domains = [found["domain"] for found in declarations if found.get("domain")]
    found = _agreed([{k: v for k, v in one.items() if k not in ("domain", "active_when")} for one in declarations])
    domain = merged_domain(domains, values)
    return found if domain is None else {**found, "domain": domain}


def merged_domain(domains: Sequence[Mapping[str, Any]], values: Sequence[Value]) -> dict[str, Any] | None:
    """A domain that holds what the domains hold, and the values as they are stored; None without any."""
    if not domains:
        return None
    listed = [value for domain in domains for value in domain.get("values", ())]
    ends = [domain[end] for domain in domains if "values" not in domain for end in ("min", "max")]
    known = {str(form) for value in listed for form in (value, canonical(value))}
    more = [value for value in values if value is not None and str(canonical(value)) not in known]
    if all(domain == domains[0] for domain in domains) and all(_is_between(value, ends) for value in more):
        return dict(domains[0])
    if ends and all(_kind(value) == "number" for value in [*listed, *more]):
        return _interval(domains, [*listed, *ends, *more])
    return _discrete([*listed, *more])


def _is_between(value: Value, ends: Sequence[float]) -> bool:
    return bool(ends) and _kind(value) == "number" and min(ends) <= float(value or 0) <= max(ends)


def _discrete(values: Sequence[Value]) -> dict[str, Any]:
    """Values by what they say, each once; those of several types as texts."""
    types = {type(value) for value in values if value is not None}
    dtype = next(iter(types)).__name__ if len(types) == 1 else "float" if types == {int, float} else "str"
    if dtype == "str":
        values = [value if value is None else str(value) for value in values]
    once: dict[str, Value] = {}
    for value in values:
        once.setdefault(str(canonical(value)), value)
    return {"kind": "discrete", "values": [*once.values()], "dtype": dtype}


def _interval(domains: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> dict[str, Any]:
    kinds = {domain["kind"] for domain in domains if "values" not in domain}
    whole = kinds == {"IntInterval"} and all(float(value).is_integer() for value in values)
    scales = {domain.get("scale", "linear") for domain in domains if "values" not in domain}
    scale = scales.pop() if len(scales) == 1 and min(values) > 0 else "linear"
    as_one = int if whole else float
    ends = {"min": as_one(min(values)), "max": as_one(max(values))}
    return {"kind": "IntInterval" if whole else "RealInterval", **ends, "scale": scale, "step": None}
