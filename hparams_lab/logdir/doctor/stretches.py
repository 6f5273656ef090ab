"""`Renumbering`: what becomes of steps that go back, so that TensorBoard shows every point.

Its default loader drops a tag's earlier points with a step that is not smaller. The points of a tag between two places
where its steps go back are a stretch; each stretch follows on behind the one before: 1, 2, 3, 1, 2 becomes 1 to 5.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/data/server/reservoir.rs
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tensorboard.compat.proto.event_pb2 import Event

from hparams_lab.events.format import summaries
from hparams_lab.logdir.doctor.salvage import contents, events
from hparams_lab.logdir.doctor.tree import LARGEST_STEP, FileFacts


@dataclass(slots=True)
class _Stretches:
    """The stretches of some tags: the first and the last step of each, and what is added to each."""

    ends: list[tuple[int, int]] = field(default_factory=list)
    added: list[int] = field(default_factory=list)
    last: int = 0
    place: int = -1

    def take(self, step: int) -> None:
        """The next step, while the stretches are looked for."""
        if self.ends and step >= self.ends[-1][1]:
            self.ends[-1] = self.ends[-1][0], step
        else:
            self.ends.append((step, step))

    @property
    def largest(self) -> int:
        """The last step, once they follow on."""
        return max((last + added for (_, last), added in zip(self.ends, self.added, strict=True)), default=0)

    def moved(self, step: int) -> int:
        """What becomes of the next step, while they are written."""
        if self.place < 0 or step < self.last:
            self.place += 1
        self.last = step
        return step + self.added[self.place]


class Renumbering:
    """The steps of one run's files, in their order. Tags whose steps never go back keep them.

    Args: files: read once here, and once more by `step`. before: what becomes of a step in any case; where some would
    be too large in the end, they are numbered.
    """

    def __init__(self, files: Iterable[FileFacts], before: Callable[[int], int] | None = None) -> None:
        self._before = before
        self._of: dict[str, _Stretches] = {}
        together = _Together()
        found: list[tuple[str, int]] = []
        for file in files:
            with contents(file.path) as data:
                for _, event in events(data, []):
                    if tags := _tags(event):
                        together.join(tags)
                        found.append((tags[0], event.step))
        self._arrange(together, found)
        if any(one.largest > LARGEST_STEP for one in self._of.values()):
            steps = sorted({step for _, step in found})
            self._before = lambda step: bisect.bisect_left(steps, step)
            self._arrange(together, found)

    def _arrange(self, together: _Together, found: Sequence[tuple[str, int]]) -> None:
        self._of = {}
        for tag in together.first:
            self._of[tag] = self._of.setdefault(together.of(tag), _Stretches())
        for tag, step in found:
            self._of[tag].take(self._known(step))
        _follow_on({id(one): one for one in self._of.values()}.values())

    def step(self, event: Event) -> int:
        """What becomes of the step of the next event."""
        step, tags = self._known(event.step), _tags(event)
        return self._of[tags[0]].moved(step) if tags else event.step

    def _known(self, step: int) -> int:
        return step if self._before is None else self._before(step)


def _tags(event: Event) -> list[str]:
    """The tags of an event; none for the HParams plugin's, which have no steps."""
    plugins = {value.metadata.plugin_data.plugin_name for value in event.summary.value}
    return [] if summaries.HPARAMS_PLUGIN in plugins else [value.tag for value in event.summary.value]


class _Together:
    """Tags that share an event, and so its step."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}

    def of(self, tag: str) -> str:
        """The one that stands for all that a tag goes together with."""
        while self.first[tag] != tag:
            tag = self.first[tag]
        return tag

    def join(self, tags: Sequence[str]) -> None:
        """Tags of one event."""
        for tag in tags:
            self.first.setdefault(tag, tag)
            self.first[self.of(tag)] = self.of(tags[0])


def _follow_on(all_: Iterable[_Stretches]) -> None:
    """What is added to each stretch. Those that follow on one step, as of a loss and its validation, stay together."""
    waiting = list(all_)
    for number in range(max((len(one.ends) for one in waiting), default=0)):
        waiting = [one for one in waiting if len(one.ends) > number]
        for same in _by_step_before(waiting, number):
            least = max(_least(one, number) for one in same)
            for one in same:
                one.added.append(least)


def _by_step_before(all_: Iterable[_Stretches], number: int) -> Iterator[list[_Stretches]]:
    found: dict[int, list[_Stretches]] = {}
    for one in all_:
        found.setdefault(one.ends[number - 1][1] + one.added[-1] if number else 0, []).append(one)
    return iter(found.values())


def _least(one: _Stretches, number: int) -> int:
    """What must be added to a stretch so that it begins behind the one before."""
    return one.ends[number - 1][1] + one.added[-1] + 1 - one.ends[number][0] if number else 0
