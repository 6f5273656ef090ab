"""Hyperband's promotions: which trials are one, and which may still be promoted.

keras-tuner makes a new trial of each promotion, with the id of the one before among its values. Here both are one
trial, named by the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hparams_lab.integrations.keras_tuner.found import keras_tuner

BEFORE = "tuner/trial_id"


def is_hyperband(tuner: Any) -> bool:
    """Whether a tuner's trials are promoted."""
    return isinstance(tuner.oracle, keras_tuner.oracles.HyperbandOracle)


def chain(trials: Mapping[str, Any], trial: Any) -> list[Any]:
    """The trials that are one with this, from the first to it."""
    found = [trial]
    while (before := found[0].hyperparameters.values.get(BEFORE)) in trials:
        found.insert(0, trials[before])
    return found


def promotable(oracle: Any) -> set[str]:
    """The ids of the trials that may still be promoted."""
    return {trial_id for bracket in oracle._brackets for trial_id in _of_bracket(oracle, bracket)}


def _of_bracket(oracle: Any, bracket: Mapping[str, Any]) -> Iterator[str]:
    number, rounds = bracket["bracket_num"], bracket["rounds"]
    for place in range(len(rounds) - 1):
        here, after = rounds[place], rounds[place + 1]
        size, size_after = oracle._get_size(number, place), oracle._get_size(number, place + 1)
        promoted = {info["past_id"] for info in after}
        waiting = [oracle.trials[info["id"]] for info in here if info["id"] not in promoted]
        completed = [trial for trial in waiting if trial.status == "COMPLETED"]
        is_under_way = any(trial.status in ("RUNNING", "INVALID") for trial in waiting)
        if is_under_way or len(here) < size:
            chosen = completed if len(after) < size_after else []
        else:  # the best of them, while more are there than are thrown out
            left = min(size_after - len(after), len(completed) - (size - size_after))
            is_max = oracle.objective.direction == "max"
            chosen = sorted(completed, key=lambda trial: trial.score, reverse=is_max)[: max(0, left)]
        yield from (trial.trial_id for trial in chosen)
