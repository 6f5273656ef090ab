"""Halves of a run: directories of one training that its logger keeps apart, such as `train/` and `validation/`.

- Keras and `tf.summary` write beside each other: `run/train`, `run/validation`.
- An Estimator writes into `model/`, its evaluation into `model/eval` or `model/eval_NAME`.
- `SummaryWriter.add_scalars("loss", {"a": ...})` writes the tag `loss` alone into `run/loss_a`, tensorboardX into
  `run/loss/a`.

Only whole words count: `train_lr0.01`, `test1` and `eval-runs/1` are runs of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

Tags = Callable[[str], Collection[str]]
"""The tags of the scalars in a directory, by its name."""

_OF = "set|split|data|logs?|summary|summaries|writer|events|metrics|results?|epochs?|loss|accuracy|acc"
_NEUTRAL = rf"(?:[-_ ](?:{_OF}))?"
_TRAIN = rf"train(?:ing)?{_NEUTRAL}"
_HELD_OUT = (
    rf"(?:validation|validate|valid|val|evaluation|eval|testing|test|dev|hold[-_]?out){_NEUTRAL}(?:[-_]\d{{1,3}})?"
    r"|eval(?:uation)?[-_][a-z]+(?:[-_][a-z]+)*"
)
_BESIDE = r"metrics|scalars|lr|learning[-_]rate"
"""What a program writes beside `train/` and `validation/`, as in TensorFlow's guide to its summaries."""


def halves_of(bare: Iterable[str], tags: Tags, sweeps: Collection[str] = ()) -> dict[str, tuple[str, str]]:
    """The halves among directories: to which directory each belongs, and what goes before its tags.

    Args:
      bare: the directories with event files and without a session, those above first.
      tags: of their scalars.
      sweeps: the directories above sessions, whose scalars are of no model.

    The directory that they belong to may have no event files of its own.
    """
    known = dict.fromkeys(bare)
    children: dict[str, list[str]] = {}
    for name in known:
        if name:
            children.setdefault(name.rpartition("/")[0], []).append(name)
    found: dict[str, tuple[str, str]] = {}
    for parent, names in children.items():
        is_model = parent in known and parent not in sweeps and bool(tags(parent))
        of_parent = {*_paired(names, is_model), *_of_one_tag(names, tags)}
        for name in names:
            above = _writer_of_scalars(name, known, tags)
            if above is None and name in of_parent:
                above = parent
            if above is not None:
                owner, prefix = found.get(above, (above, ""))
                found[name] = owner, f"{prefix}{name[len(above) :].lstrip('/')}/"
    return found


def sibling_of(name: str, sessions: Iterable[str]) -> str | None:
    """The session that a half belongs to whose other half has one, as where hyperparameters go into `run/train`."""
    parent, _, base = name.rpartition("/")
    other = _TRAIN if _is(_HELD_OUT, base) else _HELD_OUT if _is(_TRAIN, base) else None
    if other is None:
        return None
    found = [one for one in sessions if one.rpartition("/")[0] == parent and _is(other, one.rpartition("/")[2])]
    return found[0] if len(found) == 1 else None


def _is(half: str, name: str) -> bool:
    return re.fullmatch(half, name, re.IGNORECASE) is not None  # compiled at its first use: most logs need it not


def _paired(names: Collection[str], is_model: bool) -> Iterator[str]:
    """The halves below a directory: any below a model's scalars, else where one is of the training, one held out."""
    bases = {name: name.rpartition("/")[2] for name in names}
    train = [name for name, base in bases.items() if _is(_TRAIN, base)]
    held_out = [name for name, base in bases.items() if _is(_HELD_OUT, base)]
    if train and held_out:
        yield from (*train, *held_out, *(name for name, base in bases.items() if _is(_BESIDE, base)))
    elif is_model:
        yield from (*train, *held_out)


def _of_one_tag(names: Collection[str], tags: Tags) -> Iterator[str]:
    """What `add_scalars` wrote for a training and what is held out, each the same tag alone: `loss_train`, `loss_val`.

    For a writer's directory without a file of its own; see `_writer_of_scalars` otherwise.
    """
    found: dict[str, dict[str, str]] = {}
    for name in names:
        stem, _, half = name.rpartition("/")[2].rpartition("_")
        if stem and (_is(_TRAIN, half) or _is(_HELD_OUT, half)):
            found.setdefault(stem, {})[name] = half
    for stem, halves in found.items():
        has_both = len({_is(_TRAIN, half) for half in halves.values()}) == 2
        if has_both and all(_is_of(stem, tags(name)) for name in halves):
            yield from halves


def _is_of(stem: str, tags: Collection[str]) -> bool:
    return len(tags) == 1 and next(iter(tags)).replace("/", "_") == stem


def _writer_of_scalars(name: str, known: Mapping[str, None], tags: Tags) -> str | None:
    """The directory above whose writer wrote this one for `add_scalars`: it holds one tag, which its name begins with.
    None where there is none."""
    above = name
    while above:
        above = above.rpartition("/")[0]
        if above in known:
            said = tags(name)
            tag = next(iter(said)) if len(said) == 1 else ""
            below = name[len(above) :].lstrip("/")
            ways = (f"{tag}/", f"{tag.replace('/', '_')}_")
            return above if tag and below.startswith(ways) else None
    return None
