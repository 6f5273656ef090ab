"""Steps that begin again: a run that is resumed, and what TensorBoard's two loaders show of it."""

import json
import subprocess
import sys
import urllib.parse
import urllib.request
import warnings

import numpy as np
import pytest
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard_client import eventually

from hparams_lab.board.server import Board
from hparams_lab.cli.main import main
from hparams_lab.core.curve import By, extremes
from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events, restart_event, summary_event, version_event
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.doctor.repair import repair_into
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.logdir.reader import LogDirReader, read
from hparams_lab.logdir.run_reader import event_files
from hparams_lab.run.start import start_run


def start(directory, name="r", **more):
    return start_run(directory, hparams={"x": 1}, name=name, provenance=False, **more)


def logged(directory, *stretches, name="r", **more):
    """A run, gone on with for each stretch: steps by tag."""
    for stretch in stretches:
        with start(directory, name, resume=True, **more) as run:
            for step in sorted({step for steps in stretch.values() for step in steps}):
                run.log({tag: step / 8 for tag, steps in stretch.items() if step in steps}, step=step)
    return read(directory).runs[0]


def steps(run):
    return {tag: points.steps.tolist() for tag, points in run.columns.items()}


SLOW_LOADER = """
import json, sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")  # TensorFlow is not imported for reading
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
for path in sys.argv[1:]:
    found = EventAccumulator(path, size_guidance={"tensors": 0}).Reload()
    tags = [tag for tag in found.Tags()["tensors"] if not tag.startswith("_hparams_")]
    print(json.dumps({tag: [event.step for event in found.Tensors(tag)] for tag in tags}))
"""


def slowly(*runs):
    """The steps of each tag of the runs as `--load_fast=false` has them."""
    command = [sys.executable, "-c", SLOW_LOADER, *(str(run.dir) for run in runs)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in said.splitlines()]


def fast(url, run, tag):
    """The steps of a tag as the server has them."""
    query = urllib.parse.urlencode({"run": run, "tag": tag})
    with urllib.request.urlopen(f"{url.partition('#')[0]}data/plugin/scalars/scalars?{query}", timeout=30) as answer:
        return [step for _, step, _ in json.load(answer)]


def told(caught):
    return [str(one.message).partition(" go back;")[0] for one in caught]


@pytest.mark.parametrize(
    ("stretches", "warned"),
    [
        ([{"loss": [1, 2, 3, 4, 5]}, {"loss": [1, 2, 3]}], ["run 'r': the steps of 'loss'"]),
        ([{"loss": [5], "rate": [5]}, {"loss": [6], "rate": [4]}], ["run 'r': the steps of 'rate'"]),
        ([{"loss": [5]}, {"loss": [6]}, {"loss": [2]}], ["run 'r': the steps of 'loss'"]),  # resumed twice
        ([{"loss": [5], "rate": [1]}, {"rate": [2]}], []),  # a tag of its own pace
        ([{"loss": [5]}, {"loss": [5, 6]}], []),  # the last one again, which replaces it
        ([{"loss": [5]}, {"val/loss": [1]}], []),  # a tag that begins
        ([{"loss": [5]}, {}], []),
    ],
)
@pytest.mark.filterwarnings("always")
def test_steps_that_go_back_when_a_run_is_resumed_are_told_of_as_in_one_process(tmp_path, stretches, warned):
    with warnings.catch_warnings(record=True) as caught:
        logged(tmp_path, *stretches)
    assert told(caught) == warned


def test_a_resumed_run_knows_its_last_step_and_values(tmp_path):
    with start(tmp_path) as run:
        assert run.last_step == -1
        run.log({"loss": 0.5, "acc": 0.25}, step=7)
    with start(tmp_path, resume=True) as run:
        assert (run.last_step, run.metrics) == (7, {"loss": 0.5, "acc": 0.25})
        run.log({"loss": 0.125})
        assert (run.last_step, run.metrics) == (8, {"loss": 0.125, "acc": 0.25})
    with start(tmp_path, resume=True) as run:
        pass  # nothing was left to do
    assert steps(read(tmp_path).runs[0]) == {"loss": [7, 8], "acc": [7]}


def test_samples_by_the_clock_go_on_counting(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            with start(tmp_path, resume=True) as run:
                run._began -= 100 * (number == 0)  # as if it had run for so long
                run.log_aside({"sys/cpu_percent": 1.0})
                assert run.last_step == -1
    found = steps(read(tmp_path).runs[0])["sys/cpu_percent"]
    assert found[0] >= 100
    assert found == sorted(set(found))


TAGS = {"loss": range(10), "val/loss": range(0, 10, 3), "late": [7, 8], "sys/cpu_percent": [40]}


def test_from_step_drops_what_was_logged_beyond_it(tmp_path):
    runs = []
    for from_step in (0, 5, 8, 9, 20, np.int64(6)):
        logdir = tmp_path / str(from_step)
        logged(logdir, TAGS)
        with start(logdir, resume=True, from_step=from_step) as run:
            assert run.last_step == from_step
            run.log({"loss": 0.5})
            run.text("note", "words")
        wanted = {tag: [step for step in TAGS[tag] if step <= from_step] for tag in TAGS}
        wanted |= {"loss": [*wanted["loss"], from_step + 1], "sys/cpu_percent": [40]}
        runs += [found := read(logdir).runs[0]]
        assert steps(found) == {tag: steps for tag, steps in wanted.items() if steps}
        assert (found.outcome, found.texts) == (Outcome.COMPLETED, {"note": "words"})
        assert [path.name for path in run.dir.iterdir()] == [file.name for file in event_files(run.dir)]
        assert len(event_files(run.dir)) == 1
    assert slowly(*runs) == [{**steps(run), "note": [steps(run)["loss"][-1]]} for run in runs]


def test_from_step_again_and_again_in_a_server_that_is_open(tmp_path):
    logged(tmp_path, TAGS, name="r")
    reader = LogDirReader(tmp_path)
    with Board(tmp_path, 0, ["--load_fast=true", "--reload_interval=1"]) as board:
        url = board.url
        eventually(lambda: fast(url, "r", "loss"), list(range(10)).__eq__)
        for from_step in (5, 3):
            reader.read()
            with start(tmp_path, resume=True, from_step=from_step) as run:
                run.log({"loss": 0.5})
            wanted = [*range(from_step + 1), from_step + 1]
            assert steps(reader.read().runs[0])["loss"] == wanted
            eventually(lambda wanted=wanted: fast(url, "r", "loss"), wanted.__eq__)
            assert fast(url, "r", "val/loss") == list(range(0, from_step + 1, 3))


def test_from_step_of_a_new_run_and_of_one_whose_points_are_lost(tmp_path):
    for name, resumed in (("new", False), ("r", True)):
        if resumed:
            logged(tmp_path, {"loss": [0, 1]})
        with start(tmp_path, name, resume=True, from_step=5) as run:
            run.log({"loss": 1.0})
            assert run.last_step == 6


def test_from_step_that_cannot_be_gone_on_from(tmp_path):
    logged(tmp_path, TAGS)
    before = {path: path.read_bytes() for path in event_files(tmp_path / "r")}
    with pytest.raises(UsageError, match=r"^from_step=5 goes on with a run; give resume=True and its name$"):
        start(tmp_path, "other", from_step=5)
    for wrong in (-1, 2.5, "5", True, 2**31):
        with pytest.raises(UsageError, match=r"^from_step is .*; wanted a whole number from 0 to 2\*\*31-1"):
            start(tmp_path, resume=True, from_step=wrong)
    with start(tmp_path, resume=True) as run, pytest.raises(LogDirError, match="is being written by another process"):
        start(tmp_path, resume=True, from_step=5)
    assert not (tmp_path / "other").exists()
    assert {path: path.read_bytes()[: len(data) // 2] for path, data in before.items()} == {
        path: data[: len(data) // 2] for path, data in before.items()
    }
    assert steps(read(tmp_path).runs[0])["loss"] == list(range(10))
    assert run.is_over


def torch_like(*points):
    """A file without a session, its events of several values, or images, at any step."""
    made = [version_event(1.7e9)]
    for step, values in points:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        made += [summary_event(summary, step, 1.7e9 - step)]  # by a clock that goes back
    return b"".join(made)


@pytest.fixture(scope="module")
def backwards(tmp_path_factory):
    """Runs whose steps go back in a file; by run and tag the steps as they are logged, and as the doctor makes them."""
    root = tmp_path_factory.mktemp("backwards") / "logs"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logged(root, {"loss": range(1, 6)}, {"loss": range(1, 4)}, name="resumed")
        logged(root, {"loss": range(3)}, {"loss": range(2)}, {"loss": range(4)}, name="twice")
        logged(root, {"loss": [0, 1], "rate": [0, 1]}, {"loss": [0, 1], "rate": [2, 3]}, name="one tag")
        logged(root, {"loss": range(10)}, {"loss": range(7, 12)}, name="checkpoint")
        logged(root, {"loss": [0, 5]}, {"loss": [5, 6]}, name="fine")  # the last one again
        with start(root, "two fits") as run:
            for _ in range(2):
                for epoch in range(1, 5):
                    run.log({"batch/loss": 0.5}, step=epoch * 100)
                    run.log({"loss": 0.5} | ({"val/loss": 0.25} if epoch % 2 == 0 else {}), step=epoch)
    (root / "torch").mkdir()
    several = [(step, {"a": step / 8, "b": 0.5}) for step in (4, 5, 4)]
    (root / "torch/events.out.tfevents.1.h").write_bytes(torch_like(*several, (3, {"b": 0.5}), (0, {"other": 1.0})))
    wanted = {
        ("resumed", "loss"): ([1, 2, 3, 4, 5, 1, 2, 3], [1, 2, 3, 4, 5, 6, 7, 8]),
        ("twice", "loss"): ([0, 1, 2, 0, 1, 0, 1, 2, 3], [*range(9)]),
        ("one tag", "loss"): ([0, 1, 0, 1], [0, 1, 2, 3]),
        ("one tag", "rate"): ([0, 1, 2, 3], [0, 1, 2, 3]),
        ("checkpoint", "loss"): ([*range(10), *range(7, 12)], [*range(15)]),
        ("fine", "loss"): ([0, 5, 5, 6], [0, 5, 5, 6]),
        ("two fits", "batch/loss"): ([100, 200, 300, 400] * 2, [100, 200, 300, 400, 401, 501, 601, 701]),
        ("two fits", "loss"): ([1, 2, 3, 4] * 2, [*range(1, 9)]),
        ("two fits", "val/loss"): ([2, 4] * 2, [2, 4, 6, 8]),
        ("torch", "a"): ([4, 5, 4], [4, 5, 6]),
        ("torch", "b"): ([4, 5, 4, 3], [4, 5, 6, 7]),
        ("torch", "other"): ([0], [0]),
    }
    return root, wanted


def all_steps(root):
    return {(run.name, tag): points.steps.tolist() for run in read(root).runs for tag, points in run.columns.items()}


def test_the_doctor_finds_steps_that_go_back_and_mends_them_in_one_pass(backwards, tmp_path):
    root, wanted = backwards
    assert all_steps(root) == {key: before for key, (before, _) in wanted.items()}
    (found,) = [ailment for ailment in examine(root).ailments if ailment.name == "steps-back"]
    assert set(found.files) == {"resumed", "twice", "one tag", "checkpoint", "two fits", "torch"}
    assert found.what == "6 runs whose steps go back, as of 'loss' in checkpoint from 9 to 7"
    done = repair_into(Tree(root), tmp_path / "mended", 4e9)
    assert all_steps(done.root) == {key: after for key, (_, after) in wanted.items()}
    before, after = ({run.name: run for run in read(place).runs} for place in (root, done.root))
    for (name, tag), _ in wanted.items():
        for one, other in zip(before[name].scalars(tag)[1:], after[name].scalars(tag)[1:], strict=True):
            assert one.tolist() == other.tolist()
    assert not [ailment.name for ailment in examine(done.root).ailments if ailment.repairable]


def test_tensorboard_shows_fewer_points_before_and_all_after(backwards, tmp_path):
    root, wanted = backwards
    repair_into(Tree(root), tmp_path / "mended" / "after", 4e9)
    with Board(tmp_path / "mended" / "after", 0, ["--load_fast=true"]) as board:
        for (run, tag), (_, after) in wanted.items():
            shown = [*dict.fromkeys(after)]  # of one step the last point
            eventually(lambda run=run, tag=tag: fast(board.url, run, tag), shown.__eq__)
    with Board(root, 0, ["--load_fast=true"]) as board:
        eventually(lambda: fast(board.url, "resumed", "loss"), [1, 2, 3].__eq__)
        eventually(lambda: fast(board.url, "twice", "loss"), [0, 1, 2, 3].__eq__)
        eventually(lambda: fast(board.url, "checkpoint", "loss"), [*range(12)].__eq__)


def points_of(tag, steps, began, values=None):
    """The records of a tag's points, a second apart."""
    values = values or [step / 8 for step in steps]
    pairs = enumerate(zip(steps, values, strict=True))
    return [summary_event(summaries.scalars({tag: value}), step, began + place) for place, (step, value) in pairs]


def files(directory, *written):
    """The event files of a directory, each of its records, in the order of their names."""
    directory.mkdir(parents=True)
    for number, records in enumerate(written):
        (directory / f"events.out.tfevents.{number}.h").write_bytes(b"".join([version_event(1.7e9), *records]))


T = 1.7e9
AGAIN = {
    "from its start": [
        points_of("loss", [1, 2, 3], T, [0.9, 0.1, 0.2]),
        points_of("loss", [1, 2], T + 100, [0.8, 0.7]),
    ],
    "from a checkpoint": [
        points_of("loss", range(10), T) + points_of("other", range(10), T),
        points_of("loss", range(6, 12), T + 100),
    ],
    "twice": [points_of("loss", range(lo, hi), T + 100 * lo) for lo, hi in ((0, 9), (5, 12), (8, 10))],
    "at its last step": [points_of("loss", [0, 1], T), points_of("loss", [1, 2], T + 100)],
    "goes on": [points_of("loss", [0, 1], T), points_of("loss", [2, 3], T + 100)],
    "many points": [points_of("loss", range(3000), T), points_of("loss", range(2000, 2500), T + 5000)],
}


def brute(written):
    """What a loader shows that drops a tag's points whose step is not smaller than that of the next."""
    shown = []
    for record in [record for records in written for record in records]:
        (event,) = read_events(record)
        if event.summary.value[0].tag == "loss":
            shown = [*(one for one in shown if one[0] < event.step), (event.step, event.summary.value[0].simple_value)]
    return shown


def test_tensorboard_shows_of_a_directory_that_began_again_what_is_read(tmp_path):
    for name, written in AGAIN.items():
        files(tmp_path / name, *written)
    shown = {name: [step for step, _ in brute(written)] for name, written in AGAIN.items() if name != "many points"}
    with Board(tmp_path, 0, ["--load_fast=true"]) as board:
        eventually(lambda: {name: fast(board.url, name, "loss") for name in shown}, shown.__eq__)


def loss_of(results):
    found = results.runs[0].scalars("loss")
    return list(zip(found.steps.tolist(), found.values.tolist(), strict=True))


@pytest.mark.parametrize("name", AGAIN)
def test_a_directory_that_began_again_is_read_as_tensorboard_shows_it(tmp_path, name, capsys):
    written = AGAIN[name]
    files(tmp_path / "logs" / "r", *written)
    wanted = brute(written)
    found = read(tmp_path / "logs")
    assert loss_of(found) == wanted
    thinned = read(tmp_path / "logs", thin=extremes)
    for by in ("last", "best"):
        for goal in ("min", "max"):
            values = [one.runs[0].value("loss", By.of(by), goal) for one in (found, thinned)]
            best = (min if goal == "min" else max)(value for _, value in wanted)
            assert values == [wanted[-1][1] if by == "last" else best] * 2
    dropped = sum(map(len, written)) - 10 * (name == "from a checkpoint") - len(wanted)
    said = [str(finding.kind) + finding.reason for finding in found.findings]
    end = f"{dropped:,} earlier points are left out, as TensorBoard does"
    assert said == ([f"overtakenthe steps of 'loss' begin again: {end}"] if dropped else [])
    assert found.findings == thinned.findings
    ailments = [ailment.name for ailment in examine(tmp_path / "logs").ailments]
    assert ("restarted" in ailments, "steps-back" in ailments) == (bool(dropped), False)
    with pytest.raises(SystemExit):
        main(["top", str(tmp_path / "logs"), "--metric", "loss", "--min"])
    assert (end in " ".join(capsys.readouterr().out.split())) is bool(dropped)


@pytest.mark.parametrize("thin", [None, extremes])
def test_a_reader_that_is_open_sees_the_restart(tmp_path, thin):
    for name, written in AGAIN.items():
        (tmp_path / name / "r").mkdir(parents=True)
        reader = LogDirReader(tmp_path / name, thin)
        for number, records in enumerate(written):
            file = tmp_path / name / f"r/events.out.tfevents.{number}.h"
            for piece in (records[: len(records) // 2], records[len(records) // 2 :]):
                with file.open("ab") as end:
                    end.write(b"".join([version_event(T)] * (not end.tell()) + piece))
                assert loss_of(reader.read()) == loss_of(read(tmp_path / name, thin=thin))


def test_two_writers_at_one_time_are_two_runs_with_all_their_points(tmp_path):
    files(tmp_path / "r", points_of("loss", [0, 1, 2], T), points_of("loss", [0, 1, 2], T + 0.5))
    assert [steps(run) for run in read(tmp_path).runs] == [{"loss": [0, 1, 2]}] * 2


def test_sessions_of_tensorflow_restart_as_its_slow_loader_has_it(tmp_path):
    """A START that is not the first drops all points from its step on, also of tags that are not logged again."""
    cases = {
        "two files": [
            [restart_event(0, T), *points_of("loss", range(9), T), *points_of("once", [3, 7], T)],
            [restart_event(5, T + 100), *points_of("loss", range(5, 8), T + 100)],
        ],
        "one file": [
            [
                restart_event(0, T), *points_of("loss", range(300), T), *points_of("once", [3, 270], T),
                restart_event(250, T + 400), *points_of("loss", range(250, 600), T + 400),
            ],
        ],
        "after single points": [
            [*points_of("loss", [0], T), restart_event(0, T), *points_of("loss", [1, 2], T + 1),
             restart_event(2, T + 9), *points_of("loss", [2], T + 9)],
        ],
        "the first only": [[restart_event(0, T), *points_of("loss", range(4), T)]],
    }  # fmt: skip
    runs = []
    for name, written in cases.items():
        files(tmp_path / name / "r", *written)
        runs += read(tmp_path / name).runs
        best = read(tmp_path / name, thin=extremes).runs[0].value("loss", By.of("best"), "max")
        assert best == runs[-1].scalars("loss").values.max()
    assert [steps(run) for run in runs] == slowly(*runs)


def test_points_and_restarts_keep_their_order_however_they_are_read(tmp_path):
    """Tags in no order are gathered by the length of their records."""
    records = []
    for step in range(600):
        records += points_of("loss", [step], T + step) + points_of("a" * (step % 7 + 1), [step], T + step)
    files(tmp_path / "logs" / "r", [restart_event(0, T), *records, restart_event(300, T + 700), *records[600:700]])
    (run,) = read(tmp_path / "logs").runs
    assert [steps(run)] == slowly(run)


def test_the_step_of_the_checkpoint_that_is_logged_again_counts_once(tmp_path):
    logged(tmp_path, TAGS)
    with start(tmp_path, resume=True, from_step=5) as run:
        run.log({"loss": 0.75}, step=5)
    found = read(tmp_path).runs[0].scalars("loss")
    assert (found.steps.tolist(), found.values[-1]) == ([*range(6)], 0.75)
