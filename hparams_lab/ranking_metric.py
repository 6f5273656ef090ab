"""`choose`: which metric ranks trials where nobody declared one, by the words of its tag.

A usual score comes before a loss, what is measured on held-out data before what is measured in training, a metric that
most runs have before one that few have. In a log of reinforcement learning only returns, rewards and successes rank:
a loss of its value function says nothing about the agent.
"""

from __future__ import annotations

from collections.abc import Mapping

from hparams_lab.direction import told_by, words_of
from hparams_lab.scalar import Goal, is_of_system

HELD_OUT = {
    "val", "valid", "validation", "test", "testing", "eval", "evaluation", "dev", "holdout", "heldout", "unseen", "tst",
}  # fmt: skip
TRAINING = {"train", "training", "trn", "tr"}
OF_AN_AGENT = {
    "return", "returns", "reward", "rewards", "rew", "success", "successes", "win", "wins", "winrate", "solved",
    "pass rate",
}  # fmt: skip
"""Names of metrics by which an agent is judged."""
OF_ITS_TRAINING = (
    {"rollout"}, {"policy"}, {"actor"}, {"advantage"}, {"advantages"}, {"value", "loss"}, {"approx", "kl"},
)  # fmt: skip
"""Words of tags that only the training of an agent has."""
MEASURED_ON_HELD_OUT = {
    "ap", "map", "bleu", "sacrebleu", "wer", "cer", "fid", "kid", "rouge", "rougel", "meteor", "cider",
}  # fmt: skip
"""Scores that nobody computes in training."""
LOSSES = {"loss", "losses", "cost"}
PARTS = {"max", "min", "batch", "step", "iter", "iteration"}


def is_of_unseen_data(tag: str) -> bool:
    """Whether a tag says that it was measured on data which were not trained on."""
    return bool(HELD_OUT & _words(tag))


def choose(goals: Mapping[str, Goal], runs: Mapping[str, int]) -> str | None:
    """The tag to rank by; None where none is known to say which trial is better.

    Args:
      goals: the better direction of each tag that has one; the first is preferred to its equals.
      runs: how many runs have each tag, of all that were logged.
    """
    known = [tag for tag in goals if not is_of_system(tag)]
    if any(_is_of_agents_training(tag) for tag in runs):
        known = [tag for tag in known if OF_AN_AGENT & {*told_by(tag).names}]
    most = max((runs.get(tag, 0) for tag in known), default=0)
    return min(known, key=lambda tag: (2 * runs.get(tag, 0) < most, *_preference(tag)), default=None)


def _is_of_agents_training(tag: str) -> bool:
    words = _words(tag)
    return any(words >= some for some in OF_ITS_TRAINING)


def _preference(tag: str) -> tuple[int, int, int, int]:
    """The smaller, the sooner it ranks: a part of a loss last; held-out data; a score before a loss; the mean."""
    told, words = told_by(tag), _words(tag)
    names = {*told.names}
    is_loss = bool(LOSSES & names) or not names
    if HELD_OUT & words:
        data = int(is_loss)
    elif TRAINING & words:
        data = 3
    else:
        data = 1 if names & (MEASURED_ON_HELD_OUT | OF_AN_AGENT) else 2
    return int(is_loss and not told.is_plain), data, int(is_loss), len(PARTS & words)


def _words(tag: str) -> set[str]:
    return {word for part in words_of(tag) for word in part}
