"""A tuner's search space as hparams with their domains as declared, and a trial's values in them.

keras-tuner knows a hyperparameter by its name and its conditions; a column of TensorBoard has a name only. So those of
one name become one hparam: with the domain that holds all of theirs, and the conditions that all of them share. Where
no column holds all of their types, it is one of text: of the choices, and of the values that trials had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hparams_lab.core.domains import Discrete, Domain
from hparams_lab.core.errors import DeclarationError, HParamsLabError, HParamValueError
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval, Scale
from hparams_lab.core.values import Value, cast_number, checked, unwrap
from hparams_lab.integrations.keras_tuner.found import keras_tuner

kinds = keras_tuner.engine.hyperparameters

OF_HYPERBAND = ("tuner/epochs", "tuner/initial_epoch", "tuner/bracket", "tuner/round", "tuner/trial_id")
"""What Hyperband keeps among a trial's values: how long it is trained, and no hyperparameters."""

Conditions = dict[str, tuple[Value, ...]]


def hparams_of(
    space: Iterable[Any], of_trials: Iterable[Any] = (), before: Mapping[str, Iterable[Value]] | None = None
) -> list[HParam]:
    """The hparams of a search space (`keras_tuner.HyperParameters.space`), in order.

    Args:
      space: what `hp` was asked for.
      of_trials: the hyperparameters of the trials so far, whose values are among those of a column of text.
      before: the values by name that such columns had before.

    Raises DeclarationError for values that TensorBoard cannot hold.
    """
    of_trials = [*of_trials]
    found: dict[str, HParam] = {}
    for name, alternatives in _by_name(space).items():
        conditions = [_conditions(one, found) for one in alternatives]
        possible = [one for one, condition in zip(alternatives, conditions, strict=True) if condition is not None]
        if possible:
            domain = _joined(
                [_domain_of(one) for one in possible], [*(before or {}).get(name, ()), *_had(name, of_trials)]
            )
            shared = _shared([condition for condition in conditions if condition is not None])
            found[name] = HParam(name, domain, active_when=shared)
    return list(found.values())


def values_of(hyperparameters: Any, hparams: Iterable[HParam]) -> dict[str, Value]:
    """The values of a trial (its `keras_tuner.HyperParameters`), of the types declared; what is inactive is not there.

    Raises HParamValueError for a value of another type, where text is not what was declared.
    """
    return {
        hparam.name: _as_declared(hparam, value) for hparam in hparams for value in _had(hparam.name, [hyperparameters])
    }


def of_several_types(space: Iterable[Any]) -> list[str]:
    """The names that are declared several times in a search space, with types that one column cannot hold."""
    named = _by_name(space).items()
    return [name for name, several in named if len(several) > 1 and _are_mixed([_domain_of(one) for one in several])]


def _by_name(space: Iterable[Any]) -> dict[str, list[Any]]:
    named: dict[str, list[Any]] = {}
    for one in space:
        if one.name not in OF_HYPERBAND:
            named.setdefault(one.name, []).append(one)
    return named


def _had(name: str, of_trials: Iterable[Any]) -> list[Any]:
    """The values of a hyperparameter in the trials in which it was active."""
    return [one.values[name] for one in of_trials if name in one.values and one.is_active(name)]


def _as_declared(hparam: HParam, value: Any) -> Value:
    if hparam.domain.dtype is str:
        return str(checked(hparam.name, value))
    return cast_number(hparam.name, value, hparam.domain.dtype)


def _domain_of(one: Any) -> Domain:
    make = next((make for kind, make in _DOMAINS.items() if isinstance(one, kind)), _any)
    try:
        return make(one)
    except HParamsLabError as error:
        raise DeclarationError(f"hparam {one.name!r} of the tuner cannot be logged: {error}") from None


def _number(one: Any) -> Domain:
    """The domain of an `Int` or `Float`. A step on a log scale multiplies, which no interval says: those are values."""
    interval, dtype = (IntInterval, int) if isinstance(one, kinds.Int) else (RealInterval, float)
    if one.sampling == "linear":
        step = None if dtype is int and one.step == 1 else one.step
        return interval(one.min_value, one.max_value, step=step)
    if one.step is not None:
        return Discrete(dict.fromkeys(map(dtype, one.values)))
    return interval(one.min_value, one.max_value, scale="log" if one.sampling == "log" else "linear")


def _any(one: Any) -> Domain:
    return Discrete(dict.fromkeys(one.values))


_DOMAINS: dict[Any, Callable[[Any], Domain]] = {
    kinds.Int: _number,
    kinds.Float: _number,
    kinds.Boolean: lambda one: Discrete([True, False]),
    kinds.Fixed: lambda one: Discrete([one.value]),
}


def _conditions(one: Any, declared: Mapping[str, HParam]) -> Conditions | None:
    """For which values of the hparams before it one is active; None when it never is."""
    found: Conditions = {}
    for condition in one.conditions:
        if condition.name not in declared:
            return None
        domain = declared[condition.name].domain
        values = [str(value) for value in condition.values] if domain.dtype is str else condition.values
        wanted = found.get(condition.name, values)
        found[condition.name] = tuple(value for value in values if value in wanted and _is_in(domain, value))
        if not found[condition.name]:
            return None
    return found


def _is_in(domain: Domain, value: Any) -> bool:
    try:
        domain.cast("", value)
    except HParamValueError:
        return False
    return True


def _shared(conditions: Sequence[Conditions]) -> Conditions:
    """What holds whenever one of the conditions does, hparam by hparam."""
    first, *others = conditions
    parents = [parent for parent in first if all(parent in other for other in others)]
    return {parent: tuple(dict.fromkeys(v for each in conditions for v in each[parent])) for parent in parents}


def _are_mixed(domains: Iterable[Domain]) -> bool:
    """Whether one column cannot hold the values of these, but as text."""
    types = {domain.dtype for domain in domains}
    return len(types) > 1 and not types <= {int, float}


def _joined(domains: Sequence[Domain], had: Iterable[Any]) -> Domain:
    """The domain that holds all of these. One of text cannot name all numbers of an interval: those that trials had."""
    first = domains[0]
    if all(domain == first for domain in domains):
        return first
    if _are_mixed(domains):
        chosen = [value for domain in domains if isinstance(domain, Discrete) for value in domain.every()]
        return Discrete(dict.fromkeys(str(unwrap(value)) for value in (*chosen, *had)))
    types = {domain.dtype for domain in domains}
    if all(isinstance(domain, Discrete) for domain in domains):
        return Discrete(dict.fromkeys(value for domain in domains for value in domain.points(0)))
    ends = min(domain.min_value for domain in domains), max(domain.max_value for domain in domains)
    scale: Scale = "log" if all(getattr(domain, "scale", "") == "log" for domain in domains) else "linear"
    return (IntInterval if types == {int} else RealInterval)(*ends, scale=scale)
