"""From a point of the space to the runs that try it: `Suggestion`, `Trial`, `RunSpec`.

A strategy yields suggestions (values). The runner checks each against the experiment and makes it a trial (values with
an id and a place in the order), and the trial's runs (one training each, with a directory's name and a seed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hparams_lab.core.values import Value, key_of, name_of, trial_id

if TYPE_CHECKING:
    from hparams_lab.core.experiment import Experiment


class HParams(Mapping[Any, Value]):
    """The values of a trial, read by name or by `HParam` object, in declaration order.

    Equal to a mapping of the same values, in any order: 16 and 16.0 are the same, True and 1 are not.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[Any, Value]) -> None:
        self._values = {name_of(key): value for key, value in values.items()}

    @classmethod
    def of_plain(cls, values: dict[str, Value]) -> HParams:
        """Values by name, taken over as they are."""
        made = cls.__new__(cls)
        made._values = values
        return made

    def __getitem__(self, key: Any) -> Value:
        name = name_of(key)
        if name not in self._values:
            raise KeyError(f"{name!r} is not an hparam of this trial; it has {', '.join(self._values) or 'none'}")
        return self._values[name]

    def __contains__(self, key: object) -> bool:
        return getattr(key, "name", key) in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"HParams({self._values!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return _keyed(self._values) == _keyed(other)

    def __hash__(self) -> int:
        return hash(frozenset(_keyed(self._values).items()))


def _keyed(values: Mapping[Any, Any]) -> dict[object, tuple[str, str]]:
    return {getattr(key, "name", key): key_of(value) for key, value in values.items()}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a strategy asks to be tried: values by hparam name."""

    hparams: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the space: its values, the id that they hash to, and its place in the sweep (from 0)."""

    index: int
    id: str
    hparams: HParams

    @classmethod
    def of(cls, index: int, hparams: Mapping[str, Value]) -> Trial:
        """The trial of these values."""
        return cls(index, trial_id(hparams), HParams(hparams))


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One training to do: the trial, the name of its directory, and the seed for its random numbers."""

    trial: Trial
    name: str
    seed: int

    @classmethod
    def of(cls, trial: Trial, sweep_seed: int, name: str | None = None, repeat: int = 0) -> RunSpec:
        """A run of a trial, by default named after its place. Its seed follows from the sweep's, the id and `repeat`.

        `repeat` is how many runs of the trial come before.
        """
        parts = [f"repeat-{repeat}"] if repeat else []
        return cls(trial, name or f"run-{trial.index:04d}", derive_seed(sweep_seed, trial.id, *parts))


def derive_seed(*parts: object) -> int:
    """A seed from 0 to 2**31-1 that the parts determine."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def stored_values(hparams: Mapping[str, Value], experiment: Experiment | None) -> dict[str, bool | float | str]:
    """The values as TensorBoard holds them; None, which it cannot sort, is the string "None"."""
    domains = {hparam.name: hparam.domain for hparam in experiment.hparams} if experiment else {}
    plain = {name: "None" if value is None else value for name, value in hparams.items()}
    return {name: domains[name].stored(hparams[name]) if name in domains else plain[name] for name in hparams}
