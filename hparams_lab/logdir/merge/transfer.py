"""A run's files from one log directory into another: copied or linked, event files changed where they have to be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.errors import LogDirError
from hparams_lab.events.format import summaries
from hparams_lab.events.format.record import frame
from hparams_lab.logdir.merge.pieces import holds, pieces
from hparams_lab.logdir.merge.source import Member, Source
from hparams_lab.logdir.walk import SWEEP_JSON
from hparams_lab.storage.file_names import is_event_file
from hparams_lab.storage.paths import EXPERIMENT, MODEL, OUTPUT_LOG, lies_in


@dataclass(frozen=True, slots=True)
class Change:
    """What is changed in a run's event files: Experiments go, the trial is called otherwise, columns become text."""

    group: str | None
    texts: AbstractSet[str]

    def of(self, file: Path, member: Member) -> Iterator[bytes] | None:
        """The bytes of an event file as they have to be, piece by piece; None when they are right as they are."""
        tags = [summaries.EXPERIMENT_TAG]
        if self.group is not None or any(not isinstance(member.values.get(name, ""), str) for name in self.texts):
            tags.append(summaries.SESSION_START_TAG)
        wanted = [tag.encode() for tag in tags]
        return self._pieces(file, wanted) if holds(file, wanted) else None

    def _pieces(self, file: Path, wanted: list[bytes]) -> Iterator[bytes]:
        for piece, payload in pieces(file):
            yield self._changed(payload) if any(tag in payload for tag in wanted) else piece

    def _changed(self, payload: bytes) -> bytes:
        """The record of an event; nothing when all that it held is to go."""
        try:
            event = Event.FromString(payload)
        except Exception:  # protobuf's DecodeError has no stable home across its versions
            return frame(payload)
        values = [value for value in event.summary.value if not _is_experiment(value)]
        if not values and event.summary.value:
            return b""
        for value in values:
            self._change_start(value)
        del event.summary.value[:]
        event.summary.value.extend(values)
        return frame(event.SerializeToString())

    def _change_start(self, value: Summary.Value) -> None:
        data = summaries.plugin_data(value)
        if data is None or not data.HasField("session_start_info"):
            return
        start = data.session_start_info
        if self.group is not None:
            start.group_name = self.group
        for name in self.texts & set(start.hparams):
            start.hparams[name].string_value = str(summaries.plain_value(start.hparams[name]))
        value.metadata.plugin_data.content = data.SerializeToString()


def _is_experiment(value: Summary.Value) -> bool:
    data = summaries.plugin_data(value)
    return value.tag == summaries.EXPERIMENT_TAG or (data is not None and data.HasField("experiment"))


def transfer(
    source: Source, member: Member, target: Path, others: AbstractSet[str], change: Change, link: bool
) -> None:
    """Bring the files of a run below `target`.

    Args: others: the directories of all runs, which are not copied as a part of this one. link: hard links for what
    does not change. Links out of the source are left behind.
    """
    inside = os.path.realpath(source.root)
    for file, name in _files(source, member, others):
        if not lies_in(os.path.realpath(file), inside) or not file.is_file():
            continue
        there = target / name
        there.parent.mkdir(parents=True, exist_ok=True)
        changed = change.of(file, member) if is_event_file(file.name) else None
        if changed is not None:
            with there.open("wb") as new:
                new.writelines(changed)
            shutil.copystat(file, there)
        elif link and not file.is_symlink():
            _link(file, there)
        else:
            shutil.copy2(file, there)


def _files(source: Source, member: Member, others: AbstractSet[str]) -> Iterator[tuple[Path, str]]:
    """The files of a run, and what each is called below the merged directory."""
    own = {folder.path for folder in member.folders}
    for folder in member.folders:
        new = source.new_name(folder.name)
        for file in folder.files:
            yield Path(folder.path, file), f"{new}/{file}"
        if folder.name:
            yield from _more(folder.path, new, others | own)
        else:
            yield from ((Path(folder.path, file), f"{new}/{file}") for file in (OUTPUT_LOG, MODEL))


def _more(path: str, new: str, taken: AbstractSet[str]) -> Iterator[tuple[Path, str]]:
    """What else is in a run's directory, down to the directories that have event files themselves."""
    for folder, children, files in os.walk(path):
        children[:] = [
            child for child in children if os.path.join(folder, child) not in taken and child not in (EXPERIMENT,)
        ]
        below = os.path.relpath(folder, path).replace(os.sep, "/")
        for file in files:
            if not is_event_file(file) and file != SWEEP_JSON:
                yield Path(folder, file), f"{new}/{file}" if below == "." else f"{new}/{below}/{file}"


def _link(file: Path, there: Path) -> None:
    try:
        os.link(file, there)
    except OSError as error:
        raise LogDirError(f"{file} cannot be linked ({error.strerror}); leave --link out to copy it") from None
