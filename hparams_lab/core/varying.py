"""`varying`: which hparams vary over trials. Tables, reports and forests all ask here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hparams_lab.core.values import Value, key_of


def varying(trials: Sequence[Mapping[str, Value]]) -> tuple[list[str], dict[str, Value]]:
    """The names of the hparams that vary over trials, or that some lack; and the others with their value.

    Values are compared as they are, not as they are shown: 0.1000000001 is not 0.1000000002, and True is not 1. Of a
    single trial all hparams count as varying.
    """
    names = dict.fromkeys(name for hparams in trials for name in hparams)
    same = {name: trials[0][name] for name in names if len(trials) > 1 and _is_same(trials, name)}
    return [name for name in names if name not in same], same


def _is_same(trials: Sequence[Mapping[str, Value]], name: str) -> bool:
    return all(name in hparams for hparams in trials) and len({key_of(hparams[name]) for hparams in trials}) == 1
