"""Whether the end that a tool wrote tells how a run ended, on event files as the tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sick_logs import VERSION
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

import hparams_lab as lab
from hparams_lab.core.curve import extremes
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.events.format.record import frame
from hparams_lab.logdir.reader import read

BEGIN = 1_700_000_000.0
SUCCESS, FAILURE, UNKNOWN, RUNNING = summaries.SUCCESS, summaries.FAILURE, summaries.UNKNOWN, 3
NAME = "events.out.tfevents.1700000000.host.1.0"


def event(summary, at: float, step: int = 0) -> tuple[float, bytes]:
    return at, frame(Event(wall_time=BEGIN + at, step=step, summary=summary).SerializeToString())


def end_of(status: int, time: float | None):
    """A session end at a time after the beginning; None for none."""
    found = summaries.session_end(status, 1.0)
    data = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=BEGIN + time if time else 0))
    if time is None:
        data.session_end_info.ClearField("end_time_secs")
    found.value[0].metadata.plugin_data.content = data.SerializeToString()
    return found


def write(root: Path, status: int, time: float | None, written: float, points: dict[str, list[float]], started=0.0):
    """A session in a file by another tool: its end with a time and the record's own, points by tag at their times."""
    begin = BEGIN + started if started else 0.0
    events = [event(summaries.session_start({"lr": 0.1}, "", begin), 0.0), event(end_of(status, time), written)]
    for tag, times in points.items():
        events += [event(summaries.scalars({tag: 0.5}), at, step) for step, at in enumerate(times)]
    root.mkdir(parents=True, exist_ok=True)
    order = sorted(events, key=lambda one: one[0])
    (root / NAME).write_bytes(VERSION + b"".join(data for _, data in order))


FIT = [1.0, 2.0, 3.0]
CASES = {
    "Lightning: before the training": (SUCCESS, None, 0.0, {"train_loss": FIT, "val_loss": [3.0]}, "unknown", 3.0),
    "Lightning: its placeholder comes first": (SUCCESS, None, 0.1, {"hp_metric": [0.0], "loss": FIT}, "unknown", 3.0),
    "a placeholder that is logged later": (SUCCESS, None, 0.1, {"hp/loss": [0.0, 3.0]}, "unknown", 3.0),
    "Lightning: it died before the training": (SUCCESS, None, 0.1, {"hp_metric": [0.0]}, "unknown", 0.0),
    "it died, with first values": (SUCCESS, None, 0.1, {"hp/loss": [0.0], "hp/f1": [0.05]}, "unknown", 0.05),
    "one epoch and add_hparams": (SUCCESS, None, 4.1, {"loss": [1.0], "hparam/loss": [4.2]}, "completed", 4.2),
    "Stable Baselines 3": (SUCCESS, None, 0.0, {"rollout/ep_rew_mean": FIT, "eval/mean_reward": FIT}, "unknown", 3.0),
    "Ray: after the training": (SUCCESS, None, 4.0, {"ray/tune/loss": FIT}, "completed", 3.0),
    "add_hparams after it": (SUCCESS, None, 4.0, {"loss": FIT, "hparam/a": [4.1], "hparam/b": [4.1]}, "completed", 4.1),
    "add_hparams alone": (SUCCESS, None, 0.0, {"hparam/loss": [0.1]}, "unknown", 0.1),
    "nothing was logged": (SUCCESS, None, 0.0, {}, "unknown", None),
    "an end of the beginning": (SUCCESS, 0.5, 0.5, {"loss": FIT}, "unknown", 3.0),
    "an end at the first of more points": (SUCCESS, 1.0, 1.0, {"loss": FIT, "f1": FIT}, "unknown", 3.0),
    "trained on after the end": (SUCCESS, 4.0, 4.0, {"loss": [*FIT, 7.0, 8.0]}, "unknown", 8.0),
    "an end before the start": (SUCCESS, 0.5, 4.0, {"loss": FIT}, "unknown", 3.0),
    "Keras": (SUCCESS, 3.5, 3.5, {"epoch_loss": FIT, "epoch_accuracy": FIT}, "completed", 3.5),
    "Keras, and a score at last": (SUCCESS, 3.5, 3.5, {"epoch_loss": FIT, "accuracy": [9.0]}, "completed", 3.5),
    "a failure without a time": (FAILURE, None, 0.0, {"loss": FIT}, "failed", 3.0),
    "a failure at its time": (FAILURE, 3.5, 3.5, {"loss": FIT}, "failed", 3.5),
    "the status UNKNOWN": (UNKNOWN, 3.5, 3.5, {"loss": FIT}, "unknown", 3.5),
    "the status RUNNING": (RUNNING, None, 0.0, {"loss": FIT}, "unknown", 3.0),
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("logs")
    for name, (status, time, written, points, *_) in CASES.items():
        started = 0.9 if "start" in name and time else 0.0
        write(root / name.replace("/", "-"), status, time, written, points, started)
    return root


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("thin", [None, extremes], ids=["all", "extremes"])
def test_an_end_tells_how_a_run_ended_only_where_it_was_written_then(logs: Path, name: str, thin) -> None:
    run = next(run for run in read(logs, thin=thin).runs if run.name == name.replace("/", "-"))
    outcome, ended = CASES[name][4:]
    assert (str(run.outcome), run.ended) == (outcome, None if ended is None else BEGIN + ended)
    assert run.seconds is None or run.seconds == pytest.approx(run.ended - run.started)
    alone = lab.read(run.dir).runs[0]
    assert (alone.outcome, alone.started, alone.ended) == (run.outcome, run.started, run.ended)


def test_a_session_that_was_written_when_all_was_over_began_with_its_points(tmp_path: Path) -> None:
    write(tmp_path / "run", SUCCESS, None, 6.0, {"loss": FIT}, started=6.0)
    (run,) = lab.read(tmp_path).runs
    assert (run.started, run.ended, run.outcome) == (BEGIN + 1, BEGIN + 3, Outcome.COMPLETED)


def test_our_own_runs_say_the_truth_whatever_the_clock_says(tmp_path: Path) -> None:
    with lab.start_run(tmp_path, hparams={"lr": 0.1}, provenance=False) as run:
        run.log({"loss": 0.5}, step=1)
    (file,) = run.dir.glob("*tfevents*")
    later = event(summaries.scalars({"loss": 0.25}), 1e9, 2)[1]
    file.write_bytes(file.read_bytes() + later)
    (found,) = lab.read(tmp_path).runs
    assert found.outcome is Outcome.COMPLETED
    assert found.ended < BEGIN + 1e9
    assert 0 <= found.seconds < 60


def test_pytorch(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="needs PyTorch")
    before, after = (tensorboard.SummaryWriter(str(tmp_path / name)) for name in ("before", "after"))
    before.add_hparams({"lr": 0.1}, {"loss": -1.0}, run_name=".")
    for writer in (before, after):
        for step in range(5):
            writer.add_scalar("loss", 1 / (step + 1), step)
    after.add_hparams({"lr": 0.1}, {"hparam/loss": 0.2})
    before.close()
    after.close()
    found = {run.name.partition("/")[0]: run for run in lab.read(tmp_path).runs}
    assert {name: str(run.outcome) for name, run in found.items()} == {"before": "unknown", "after": "completed"}
    for run in found.values():
        assert run.ended == max(points.wall_times[-1] for points in run.columns.values())
