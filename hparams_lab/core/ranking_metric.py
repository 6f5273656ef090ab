"""`choose`: which metric ranks trials where nobody declared one, by the words of its tag.

The rules stand in `RULES` in their order. Each keeps the tags that it prefers, and what is left of the last decides.
Where tags of different quantities are left, such as an accuracy and an F1, none ranks: a person has to say which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from hparams_lab.core.direction import told_by
from hparams_lab.core.metric_words import (
    AGENT,
    AVERAGES,
    BEFORE,
    EPISODES,
    EXTREMES,
    MEANS,
    MEASURED_ON_HELD_OUT,
    NEVER,
    OF_AGENTS_TRAINING,
    PASSING,
    SAME,
    TEST,
    TRAINING,
    MetricTag,
    all_words_of,
    may_be_of_a_model,
)
from hparams_lab.core.scalar import is_of_system

NAMED = 4
"""So many of equally likely metrics are named."""
LISTED = 12
"""So many metrics of unknown direction are named."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The metric that ranks, why, and what else there is.

    `tag` is None where no metric has a known direction, or where several are equally likely. `why` are the reasons in
    a few words each, the one that weighs most first. `others` are the other metrics whose direction is known, the
    likeliest first; without a tag, those that are equally likely.
    """

    tag: str | None
    why: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def in_words(self, most: int = NAMED, last: str = " and ") -> str:
        """The others by name, so many at most; `last` stands before the last one."""
        first, more = self.others[:most], len(self.others) - most
        if more > 0:
            return f"{', '.join(first)} and {more} more" if first else f"{more} more"
        return last.join(filter(None, [", ".join(first[:-1]), *first[-1:]]))

    def way_out(self, logged: Sequence[str]) -> str:
        """Why none ranks of the tags that were logged, and what to do."""
        if self.others:
            return (
                f"no objective is declared, and {self.in_words()} are equally likely; name the metric to rank by "
                "(--metric TAG; in Python metric=)"
            )
        way = " (--metric TAG with --max or --min; in Python metric= and goal=)" if logged else ""
        shown = ", ".join([*logged[:LISTED], *["..."] * (len(logged) > LISTED)]) or "none logged"
        return f"no objective is declared; name the metric to rank by: {shown}{way}"


def choose(goals: Iterable[str], runs: Mapping[str, int], total: int = 0, declared: Iterable[str] = ()) -> Choice:
    """The metric to rank by.

    Args:
      goals: the tags whose better direction is known.
      runs: how many runs have each tag, of all that were logged.
      total: how many runs there are.
      declared: tags that somebody declared as metrics.
    """
    tags = [tag for tag in dict.fromkeys(goals) if not is_of_system(tag)]
    said = {*declared}
    said -= {*tags} if {*tags} <= said else set()  # what is said of all of them says nothing
    known = [MetricTag.read(tag, runs.get(tag, 0), tag in said) for tag in tags]
    left = [tag for tag in _without_common_words(known) if tag.name not in NEVER]
    of_agent = _is_of_an_agent({*runs, *goals})
    log = _Log.of(left, total, of_agent)
    left, passed, reasons = _sifted(left, log)
    is_sure = of_agent or not left or any(_is_unseen(tag) or tag.is_declared for tag in left)
    unknown = [] if is_sure else _unknown(runs, {*tags}, log)
    if len(_quantities(left)) != 1 or unknown:  # what was measured on held-out data may matter more
        return Choice(None, others=(*unknown, *(tag.tag for tag in left)))
    first, *rest = sorted(left, key=lambda tag: (-tag.runs, len(tag.tag)))
    why = [reason(first) if callable(reason) else reason for reason in reasons]
    return Choice(first.tag, tuple(dict.fromkeys(filter(None, why))), tuple(tag.tag for tag in (*rest, *passed)))


def _sifted(tags: list[MetricTag], log: _Log) -> tuple[list[MetricTag], list[MetricTag], list[_Reason]]:
    """The tags that no rule leaves out, the others, the likeliest first, and the reasons of the rules that did."""
    passed: list[MetricTag] = []
    reasons: list[_Reason] = []
    for reason, rule in RULES:
        kept = rule(tags, log)
        names = {tag.tag for tag in kept}
        if len(kept) < len(tags):
            passed[:0] = [tag for tag in tags if tag.tag not in names]
            reasons.append(reason)
            tags = kept
    return sorted(tags, key=lambda tag: -tag.runs), passed, reasons


def _unknown(runs: Mapping[str, int], known: set[str], log: _Log) -> list[str]:
    """The metrics of held-out data, by their words, whose better direction is not known."""
    return [tag for tag, count in runs.items() if tag not in known and 2 * count >= log.most and may_be_of_a_model(tag)]


def shared_tags(order: Iterable[str], runs: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """The tags that every sweep has, in their order, by the sweep and the tags of each run; all when none is shared."""
    by_sweep: dict[str, set[str]] = {}
    for sweep, tags in runs:
        by_sweep.setdefault(sweep, set()).update(tags)
    found = list(dict.fromkeys(order))
    return [tag for tag in found if all(tag in tags for tags in by_sweep.values())] or found


def _without_common_words(tags: list[MetricTag]) -> list[MetricTag]:
    """The tags without the words that all of them have, such as the name of the tool."""
    common = frozenset.intersection(*(tag.of for tag in tags)) if len(tags) > 1 else frozenset()
    return [replace(tag, of=tag.of - common) for tag in tags]


def _is_of_an_agent(tags: Iterable[str]) -> bool:
    """Whether a log is of the training of an agent: by its losses, or by the return of an episode."""
    for tag in tags:
        words = all_words_of(tag)
        names = {SAME.get(name, name) for name in told_by(tag).names}
        if OF_AGENTS_TRAINING.search(" ".join(words)) or (EPISODES & {*words} and names & (AGENT - {"score"})):
            return True
    return False


# --- the rules: of the tags, those that each prefers ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Log:
    """What the rules look at beside the tags that are left.

    `most` is the number of runs that have the commonest of them. `is_unsaid_held_out` tells that a score without a
    word for its data is none of training: where the losses of training all say `train`, and no held-out score is said.
    """

    most: int
    total: int
    is_of_an_agent: bool
    is_unsaid_held_out: bool

    @classmethod
    def of(cls, tags: list[MetricTag], total: int, is_of_an_agent: bool) -> _Log:
        of_agents = [tag.runs for tag in tags if tag.name in AGENT or not is_of_an_agent]
        losses = {tag.data for tag in tags if tag.name == "loss"}
        is_score_said = any(tag.is_usual and tag.is_held_out for tag in tags)
        is_unsaid_held_out = "training" in losses and "" not in losses and not is_score_said
        return cls(max(of_agents, default=0), total, is_of_an_agent, is_unsaid_held_out)


_Rule: TypeAlias = Callable[[list[MetricTag], _Log], list[MetricTag]]
_Reason: TypeAlias = str | Callable[[MetricTag], str]


def _of_an_agent(tags: list[MetricTag], log: _Log) -> list[MetricTag]:
    return [tag for tag in tags if tag.name in AGENT] if log.is_of_an_agent else tags


def _in_most_runs(tags: list[MetricTag], log: _Log) -> list[MetricTag]:
    return [tag for tag in tags if 2 * tag.runs >= log.most]


def _held_out(tags: list[MetricTag], log: _Log) -> list[MetricTag]:
    def data(tag: MetricTag) -> int:
        is_none_of_training = tag.name in MEASURED_ON_HELD_OUT or (log.is_unsaid_held_out and tag.is_usual)
        if tag.is_held_out:
            return int(bool(TRAINING & tag.words))  # meta_test before meta_train, where both are of an evaluation
        if not tag.data and (tag.is_declared or is_none_of_training):
            return 0
        return 3 if tag.is_of_training and not log.is_of_an_agent else 2

    return _least(tags, data)


def _is_unseen(tag: MetricTag) -> bool:
    return tag.is_held_out or tag.name in MEASURED_ON_HELD_OUT


def _of_what_data(tag: MetricTag) -> str:
    return "held-out" if _is_unseen(tag) else "" if tag.is_of_training else "not of training"


def _declared(tags: list[MetricTag], _log: _Log) -> list[MetricTag]:
    return [tag for tag in tags if tag.is_declared] or tags


def _usual(tags: list[MetricTag], _log: _Log) -> list[MetricTag]:
    """The usual score of the field, else the loss, else another metric of the whole, else parts."""
    losses = [tag for tag in tags if tag.name == "loss" and not tag.of]
    terms = [tag for tag in tags if tag.name == "loss" and tag.of]
    scores = _first_of_their_field([tag for tag in tags if tag.is_usual])
    of_parts = [tag for tag in scores if tag.name == "accuracy" and any(not word.isdecimal() for word in tag.of)]
    if len(_quantities(terms)) > 1 and of_parts:  # of a model with several outputs, whose loss is the sum of theirs
        scores = [tag for tag in scores if not tag.of] or losses or [*scores, *terms]
    others = [tag for tag in tags if not tag.is_usual]
    return _whole(scores or losses or _first_of_their_field([tag for tag in others if not tag.of]) or others)


def _of_what_kind(tag: MetricTag) -> str:
    if tag.is_usual:
        return "" if tag.name in AGENT else "a usual score"
    return "the loss" if tag.name == "loss" and not tag.of else ""


def _whole(tags: list[MetricTag]) -> list[MetricTag]:
    """The tags without parts of others."""
    wholes: dict[str, list[MetricTag]] = {}
    for tag in sorted(tags, key=lambda tag: len(tag.of)):
        found = wholes.setdefault(tag.name, [])
        if not any(tag.is_part_of(other) for other in found):
            found.append(tag)
    names = {tag.tag for found in wholes.values() for tag in found}
    return [tag for tag in tags if tag.tag in names]


def _first_of_their_field(tags: list[MetricTag]) -> list[MetricTag]:
    """The tags without those that only go with others, which are of the whole or the only ones of their name."""
    names = [name for name, _ in _quantities(_whole(tags))]
    behind = {name for tag in tags if not tag.of or names.count(tag.name) == 1 for name in BEFORE.get(tag.name, ())}
    return [tag for tag in tags if tag.name not in behind]


def _quantities(tags: Iterable[MetricTag]) -> set[tuple[str, frozenset[str]]]:
    return {tag.quantity for tag in tags}


def _common(tags: list[MetricTag], log: _Log) -> list[MetricTag]:
    """The tags that most runs have, where more than half of all runs have them."""
    most = max((tag.runs for tag in tags), default=0)
    return [tag for tag in tags if 5 * tag.runs >= 4 * most] if 2 * most > log.total else tags


def _least(tags: list[MetricTag], key: Callable[[MetricTag], int]) -> list[MetricTag]:
    least = min(map(key, tags), default=0)
    return [tag for tag in tags if key(tag) == least]


def _least_of_each(tags: list[MetricTag], key: Callable[[MetricTag], int]) -> list[MetricTag]:
    """The least of each quantity: a mean says nothing against another quantity's maximum."""
    least: dict[object, int] = {}
    for tag in tags:
        least[tag.quantity] = min(key(tag), least.get(tag.quantity, key(tag)))
    return [tag for tag in tags if key(tag) == least[tag.quantity]]


def _means(tags: list[MetricTag], _log: _Log) -> list[MetricTag]:
    return _least_of_each(tags, lambda tag: len(EXTREMES & tag.words))


def _of_epochs(tags: list[MetricTag], _log: _Log) -> list[MetricTag]:
    whole = EPISODES | {"epoch", "epochs"}
    return _least_of_each(tags, lambda tag: 2 * len(PASSING & tag.words) + (not whole & tag.words))


def _of_episodes(tags: list[MetricTag], _log: _Log) -> list[MetricTag]:
    """Of an agent's numbers the means: a single episode's is noise."""
    return _least_of_each(tags, lambda tag: tag.name in AGENT and not MEANS & tag.words)


def _macro(tags: list[MetricTag], _log: _Log) -> list[MetricTag]:
    return _least_of_each(tags, lambda tag: max((AVERAGES.get(word, 0) for word in tag.words), default=0))


def _validation(tags: list[MetricTag], _log: _Log) -> list[MetricTag]:
    return _least_of_each(tags, lambda tag: bool(TEST & tag.words))


RULES: tuple[tuple[_Reason, _Rule], ...] = (
    ("an agent's score", _of_an_agent),
    ("", _in_most_runs),
    (_of_what_data, _held_out),
    ("declared", _declared),
    (_of_what_kind, _usual),
    ("a mean", _means),
    ("not of a step", _of_epochs),
    ("a mean", _of_episodes),
    ("macro", _macro),
    ("validation", _validation),
    ("the one that most runs have", _common),
)
"""Why a tag is preferred, and which tags are."""
