"""One pass of `doctor --repair` over random sick directories leaves nothing for a second, and loses no point."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sick_dirs import sick_dir
from sick_logs import NAME, SECOND, VERSION, experiment, interval, point, run, write
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.plugins.hparams import api_pb2

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format.event_file import restart_event
from hparams_lab.events.format.record import frame
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.doctor.repair import repair_in_place, repair_into
from hparams_lab.logdir.doctor.salvage import contents as mapped
from hparams_lab.logdir.doctor.salvage import events
from hparams_lab.logdir.doctor.tree import Tree

NOW = 4e9


def check(random: Random) -> None:
    """Mend a directory in a copy and in place."""
    with tempfile.TemporaryDirectory() as made:
        damaged = random.random() < 0.5
        root = write(Path(made) / "logs", sick_dir(random, damaged))
        before, held, was = contents(root), stored(root), points(root)
        copy = repair_into(Tree(root), Path(made) / "copy", NOW).root
        assert contents(root) == before
        done = repair_in_place(Tree(root), NOW)
        kept = contents(root) | ({} if done.backup is None else contents(done.backup))
        assert {path: kept[path] for path in before} == before
        assert without_experiment(copy) == without_experiment(root)
        for mended in (copy, root):
            after = contents(mended)
            assert [(one.name, one.what) for one in examine(mended).ailments if one.repairable] == []
            assert repair_in_place(Tree(mended), NOW).changed == ()
            assert contents(mended) == after
            assert stored(mended) == held
            assert damaged or was - points(mended) == Counter()


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def without_experiment(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in contents(root).items() if not path.startswith("_experiment/")}


def stored(root: Path) -> Counter[tuple[str, float]]:
    """The points of all whole records."""
    found: Counter[tuple[str, float]] = Counter()
    for path in root.rglob("*tfevents*"):
        with mapped(path) as data:
            values = (value for _, event in events(data, []) for value in event.summary.value)
            found.update((one.tag, one.simple_value) for one in values if one.WhichOneof("value") == "simple_value")
    return found


def points(root: Path) -> Counter[tuple[str, float]]:
    """What is read. In a damaged directory it may be other points: a tag of a run of ours hides what others logged."""
    try:
        runs = lab.read(root).runs
    except LogDirError:
        return Counter()
    return Counter(
        (tag.rpartition("/")[2], value) for run in runs for tag, one in run.columns.items() for value in one.values
    )


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
@given(st.randoms(use_true_random=False))
def test_one_pass_leaves_nothing_for_a_second_and_loses_no_point(random: Random) -> None:
    check(random)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(8))
def test_of_hundreds_too(hundred: int) -> None:
    for number in range(100):
        check(Random(100 * hundred + number))


def mended(root: Path, files: Mapping[str, bytes]) -> Path:
    """A mended copy, after which there is nothing left to mend."""
    done = repair_into(Tree(write(root / "logs", files)), root / "mended", NOW)
    assert [one.name for one in examine(done.root).ailments if one.repairable] == []
    return done.root


def test_experiments_without_a_session_become_one(tmp_path: Path) -> None:
    files = {place: VERSION + experiment([interval(place, 0, 1)], "loss") for place in ("a", "b")}
    root = mended(tmp_path, files | {"c": VERSION + point(1, 0.5)})
    (message,) = (message for _, _, message in Tree(root).experiments)
    assert {info.name for info in message.hparam_infos} == {"a", "b"}


def test_a_nan_is_in_no_domain_and_needs_none(tmp_path: Path) -> None:
    root = mended(tmp_path, {"a": run(float("nan")), "b": run(16), "c": run(1, rate=float("nan"))})
    columns = {info.name: info.domain_interval for _, _, one in Tree(root).experiments for info in one.hparam_infos}
    assert (columns["units"].min_value, columns["units"].max_value) == (1, 16)


def test_a_column_declared_of_another_type_than_all_its_values_takes_theirs(tmp_path: Path) -> None:
    root = mended(tmp_path, {"": VERSION + experiment([interval("units", 1, 64)], "accuracy"), "a": run(True)})
    (info,) = (info for _, _, message in Tree(root).experiments for info in message.hparam_infos)
    assert (info.type, [*info.domain_discrete]) == (api_pb2.DATA_TYPE_BOOL, [True])


def test_one_group_of_split_runs_of_others_makes_them_no_runs_of_ours(tmp_path: Path) -> None:
    """Else what another process logs beside such a run would count no more, and its end would be a failure."""
    root = mended(tmp_path, {"a": run(16, group="x", end=b""), "b": run(16.0, group="y")})
    assert not any(file.is_own for _, file in Tree(root).files)
    first, second = lab.read(root).runs
    assert first.trial_id == second.trial_id
    assert first.outcome is not Outcome.INTERRUPTED


def test_what_is_no_summary_is_kept_as_it_is_when_steps_change(tmp_path: Path) -> None:
    graph = frame(Event(wall_time=SECOND, graph_def=b"graph").SerializeToString())
    log = frame(Event(wall_time=SECOND, step=2**40, session_log=SessionLog(status=SessionLog.STOP)).SerializeToString())
    root = mended(tmp_path, {"a": VERSION + graph + point(2**40 - 5, 0.5) + log + point(2**40, 1.0)})
    with mapped(root / "a" / NAME) as data:
        found = [(event.WhichOneof("what"), event.step) for _, event in events(data, [])]
    assert found == [("file_version", 0), ("graph_def", 0), ("summary", 0), ("session_log", 5), ("summary", 5)]


def test_steps_that_would_grow_too_large_are_numbered(tmp_path: Path) -> None:
    steps = [2**31 - 3, 2**31 - 2, 1, 2, 2**31 - 1]
    root = mended(tmp_path, {"a": VERSION + b"".join(point(step, float(n)) for n, step in enumerate(steps))})
    (one,) = lab.read(root).runs
    assert one.scalars("accuracy").values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert (np.diff(one.scalars("accuracy").steps) > 0).all()


def test_a_restart_is_none_any_more_where_its_steps_follow_on(tmp_path: Path) -> None:
    first = [point(step, step / 10, at=SECOND) for step in (1, 2, 1, 2)]
    again = [restart_event(1, SECOND + 90), *(point(step, float(step), at=SECOND + 100) for step in (1, 2))]
    root = mended(tmp_path, {"a": VERSION + b"".join([restart_event(0, SECOND), *first, *again])})
    (one,) = lab.read(root).runs
    assert one.scalars("accuracy").steps.tolist() == [1, 2, 3, 4, 5, 6]


def test_a_restart_that_overtakes_all_points_of_a_tag_leaves_no_empty_curve(tmp_path: Path) -> None:
    records = [restart_event(0, SECOND), point(1, 0.5, "once"), restart_event(0, SECOND + 9), point(1, 1.0, "again")]
    write(tmp_path, {"a": VERSION + b"".join(records)})
    (one,) = lab.read(tmp_path).runs
    assert [*one.columns] == ["again"]
