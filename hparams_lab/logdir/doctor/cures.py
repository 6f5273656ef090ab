"""What must change in the files of a log directory so that TensorBoard shows it right: facts in, changes out.

Every whole record is kept, those behind damage too. Runs that a process writes just now are left as they are.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.findings import Finding, Kind
from hparams_lab.core.values import trial_id
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import file_name, is_own, summary_event, version_event
from hparams_lab.events.format.record import frame
from hparams_lab.events.format.stored import as_text, group_key
from hparams_lab.events.format.tensor import BadTensor, scalar_of
from hparams_lab.logdir.declaration import ExperimentMessage
from hparams_lab.logdir.doctor.checks import is_left, split_trials
from hparams_lab.logdir.doctor.columns import mixed_columns, whole_experiment
from hparams_lab.logdir.doctor.parted import Moved, moved
from hparams_lab.logdir.doctor.salvage import contents, events
from hparams_lab.logdir.doctor.stretches import Renumbering
from hparams_lab.logdir.doctor.tree import LARGEST_STEP, FileFacts, RunFacts, Tree, misfit_of
from hparams_lab.logdir.run_reader import OUTCOME_TAG
from hparams_lab.storage.paths import EXPERIMENT, lies_in

_MENDABLE = (Kind.TORN, Kind.BAD_LENGTH, Kind.WILD_LENGTH, Kind.BAD_CHECKSUM, Kind.NOT_AN_EVENT, Kind.BAD_TENSOR)

_STEPPED = ("summary", "session_log")
"""What an event of a step may hold; a version or a graph has none."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file, by its path below the root, and what it holds from now on; None for no such file."""

    path: str
    data: bytes | None


@dataclass(slots=True)
class Cure:
    """What must change in the events of a run."""

    texts: set[str] = field(default_factory=set)
    group: str | None = None
    step: Callable[[Event], int] | None = None
    drops_experiments: bool = False
    drops_hparams: bool = False
    drops_restarts: bool = False

    def changes(self, event: Event) -> bool:
        """Mend an event; whether that changed it."""
        before = event.SerializeToString()
        has_step = event.WhichOneof("what") in _STEPPED and not any(map(_is_hparams, event.summary.value))
        if self.step is not None and has_step:
            event.step = self.step(event)
        if self.drops_restarts and event.session_log.status == SessionLog.START:
            event.ClearField("session_log")
        kept = [value for value in event.summary.value if not self._drops(value)]
        if len(kept) != len(event.summary.value):
            del event.summary.value[:]
            event.summary.value.extend(kept)
        for value in event.summary.value:
            self._mend_start(value)
        return bool(event.SerializeToString() != before)

    def _drops(self, value: Summary.Value) -> bool:
        if misfit_of(value):
            return True
        data = summaries.plugin_data(value)
        if data is not None:
            return self.drops_hparams or (self.drops_experiments and bool(data.HasField("experiment")))
        return value.metadata.plugin_data.plugin_name == "scalars" and not _is_number(value)

    def _mend_start(self, value: Summary.Value) -> None:
        data = summaries.plugin_data(value)
        if data is None or not data.HasField("session_start_info"):
            return
        start = data.session_start_info
        names = self.texts & set(start.hparams)
        for name in names:
            start.hparams[name].string_value = as_text(start.hparams[name])
        if self.group is not None:
            start.group_name = self.group
        if names or self.group is not None:  # else its bytes stay: a map has no order
            value.metadata.plugin_data.content = data.SerializeToString()


def _is_hparams(value: Summary.Value) -> bool:
    return bool(value.metadata.plugin_data.plugin_name == summaries.HPARAMS_PLUGIN)


def _is_scalar(value: Summary.Value) -> bool:
    return value.WhichOneof("value") == "simple_value" or _is_number(value)


def _is_number(value: Summary.Value) -> bool:
    try:
        return scalar_of(value) is not None
    except BadTensor:
        return False


def changes(tree: Tree, now: float, lost: list[Finding]) -> Iterator[Change]:
    """The changes that mend a log directory; the bytes that cannot be read are appended to `lost`."""
    message = whole_experiment(tree)
    keeps = _is_right(tree, message)
    declares = bool(tree.sessions or tree.experiments) and not keeps
    if declares:
        yield _experiment_file(tree, message, now)
    texts, groups = mixed_columns(tree), _groups(tree)
    held = [run.name for run in tree.runs if run.is_held]
    parts = [part for part in moved(tree) if not any(lies_in(part.run.name, name) for name in held)]
    for run in tree.runs:
        if not run.is_held:
            cure = Cure(texts, groups.get(run.name), None, declares)
            yield from _changes_of_run(tree, run, cure, [part for part in parts if part.run is run], lost)


def _is_right(tree: Tree, message: ExperimentMessage) -> bool:
    """Whether the directory has one experiment, and that is all that `message` says."""
    if len(tree.experiments) != 1:
        return False
    found = tree.experiments[0][2]
    return all(getattr(found, name) == getattr(message, name) for name in ("name", "hparam_infos", "metric_infos"))


def _experiment_file(tree: Tree, message: ExperimentMessage, now: float) -> Change:
    numbers = [run.name.rpartition("/")[2] for run in tree.runs if run.name.startswith(f"{EXPERIMENT}/")]
    number = max((int(number) for number in numbers if number.isdecimal()), default=0) + 1
    summary = summaries.experiment(message.hparam_infos, message.metric_infos, now, message.name)
    return Change(f"{EXPERIMENT}/{number}/{file_name(now)}", version_event(now) + summary_event(summary, 0, now))


def _groups(tree: Tree) -> dict[str, str]:
    """The new group names of runs, by run, where their trial is split.

    The id of a trial of ours would make runs of ours of those of other loggers.
    """
    found = {}
    for runs in split_trials(tree):
        start = runs[0].start
        assert start is not None
        ours = any(file.is_own for run in runs for file in run.files)
        name = group_key(start.hparams) if ours else f"trial-{group_key(start.hparams)}"
        found.update({run.name: name for run in runs})
    return found


def _step_map(run: RunFacts) -> Callable[[int], int] | None:
    """What becomes of the steps of a run that has some that TensorBoard cannot answer with; None where it has none."""
    if not any(file.wild_steps for file in run.files):
        return None
    found: set[int] = set()
    for file in run.files:
        with contents(file.path) as data:
            found |= {event.step for _, event in events(data, []) if any(map(_is_scalar, event.summary.value))}
    steps = sorted(found)
    if steps[-1] - steps[0] <= LARGEST_STEP:
        return lambda step: min(max(step - steps[0], 0), LARGEST_STEP)
    return lambda step: bisect.bisect_left(steps, step)


def _with_steps(cure: Cure, files: list[FileFacts], wild: Callable[[int], int] | None) -> Cure:
    """The cure, and what becomes of the steps of a writer's files.

    Where they follow on, nothing begins again any more: a restart would hide what is behind it.
    """
    if any(file.back for file in files):
        numbers = Renumbering([file for file in files if not file.has(Kind.UNREADABLE)], wild)
        return replace(cure, step=numbers.step, drops_restarts=True)
    return cure if wild is None else replace(cure, step=lambda event: wild(event.step))


def _with_steps_of_files(
    cure: Cure, files: list[FileFacts], wild: Callable[[int], int] | None
) -> dict[str, Cure]:
    """The cure of each file by its name. The steps of a run of ours and of what others logged there are not one row:
    a tag of ours hides theirs."""
    own = [file for file in files if file.is_own or is_own(file.path.name)]
    both = (own, [file for file in files if file not in own])
    return {file.name: one for part in both for one in [_with_steps(cure, part, wild)] for file in part}


def _changes_of_run(
    tree: Tree, run: RunFacts, cure: Cure, parts: Sequence[Moved], lost: list[Finding]
) -> Iterator[Change]:
    gone = {file.name for part in parts for file in part.files}
    first = [file for file in run.files if file.name not in gone]
    wild = _step_map(run)
    yield from _changes_of_files(tree, run, first, _with_steps_of_files(cure, first, wild), lost)
    for part in parts:
        starts = session_of(first, cure) if part.lacks_a_session else b""
        here = _with_steps(cure, part.files, wild)
        for place, file in enumerate(part.files):
            data, _ = _mended(file, here, lost)
            end = _end(tree, run, part.files) if place == len(part.files) - 1 else b""
            yield Change(f"{part.name}/{file.path.name}", data + (starts if place == 0 else b"") + end)
            yield Change(file.name, None)


def _changes_of_files(
    tree: Tree, run: RunFacts, files: list[FileFacts], cures: Mapping[str, Cure], lost: list[Finding]
) -> Iterator[Change]:
    readable = [file for file in files if not file.has(Kind.UNREADABLE) and file.instead is None]
    end = _end(tree, run, readable)
    ends = next((file for file in reversed(readable) if file.is_own), readable[-1] if readable else None)
    for file in readable:
        more, cure = end if file is ends else b"", cures[file.name]
        if not more and not _needs(file, run, cure):
            continue
        data, is_empty = _mended(file, replace(cure, drops_hparams=file.is_guest), lost)
        if (file.experiments or file.is_guest) and is_empty and not more:
            yield Change(file.name, None)
        elif more or data != file.path.read_bytes():
            yield Change(file.name, data + more)


def _needs(file: FileFacts, run: RunFacts, cure: Cure) -> bool:
    """Whether anything in a file may have to change."""
    if file.has(*_MENDABLE) or file.misfits or file.odd_scalars or file.is_guest or cure.step is not None:
        return True
    if file.experiments and cure.drops_experiments:
        return True
    return any(cure.group is not None or cure.texts & set(start.hparams) for start in file.starts)


def _mended(file: FileFacts, cure: Cure, lost: list[Finding]) -> tuple[bytes, bool]:
    """What a file holds from now on, and whether that is nothing but its version."""
    kept: list[bytes] = []
    is_empty = True
    with contents(file.path) as data:
        for payload, event in events(data, lost, file.name):
            had = bool(event.summary.value) or event.session_log.status != SessionLog.STATUS_UNSPECIFIED
            if not cure.changes(event):
                kept.append(frame(payload))
            elif event.summary.value or event.WhichOneof("what") not in (None, "summary"):
                kept.append(frame(event.SerializeToString()))
            else:
                continue
            is_empty &= bool(event.file_version) and not had
            if len(kept) == 1 and not event.file_version:
                kept.insert(0, version_event(event.wall_time))
    return b"".join(kept), is_empty


def without_experiment(file: FileFacts) -> bytes | None:
    """What a file holds besides its experiment, or besides the hparams of a guest; None when that is nothing."""
    data, is_empty = _mended(file, Cure(drops_experiments=True, drops_hparams=file.is_guest), [])
    return None if is_empty else data


def session_of(files: Iterable[FileFacts], cure: Cure) -> bytes:
    """The record with the session start of another writer's files: what this writer logged has the same values."""
    for file in files:
        with contents(file.path) as data:
            for _, event in events(data, []):
                found = [summaries.plugin_data(value) for value in event.summary.value]
                if any(one is not None and one.HasField("session_start_info") for one in found):
                    cure.changes(event)
                    return frame(event.SerializeToString())
    return b""


def _end(tree: Tree, run: RunFacts, files: list[FileFacts]) -> bytes:
    """The records that end a run that was left; none where it has an end, or is no session."""
    if run.start is None or any(file.ends for file in files) or not files:
        return b""
    if not is_left(run) and files[0] in run.files and len(files) == len(run.files):
        return b""
    now = max(max(file.last, file.told) for file in files)
    found = [summaries.session_end(summaries.UNKNOWN, now)]
    if _is_ours(tree, run):
        found = [
            summaries.text(OUTCOME_TAG, "interrupted: left without an end"),
            summaries.session_end(summaries.FAILURE, now),
        ]
    return b"".join(summary_event(summary, 0, now) for summary in found)


def _is_ours(tree: Tree, run: RunFacts) -> bool:
    """Whether hparams_lab wrote it, which never leaves a run without an end: a run of a sweep, or of our trial id."""
    start = run.start
    assert start is not None
    plain = {name: summaries.plain_value(value) for name, value in start.hparams.items()}
    return start.group_name == trial_id(plain) or any(
        (tree.root / sweep / "sweep.json").is_file() for sweep in tree.sweeps if lies_in(run.name, sweep)
    )
