"""Log directories as tools write them, for `real_logs.py`: by the tools themselves where they are installed, and by
writers of the same records where they are not, or take long to write much."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _scalar_loggers import tensorboardx_writer, tf_function_of_loop, torch_writer

SECOND = 1.7e9


class Writer(NamedTuple):
    """What fills a log directory.

    Attributes:
      write: given the directory.
      package: what it needs, as pip calls it; modules: as Python does.
    """

    write: Callable[[Path], object]
    package: str = "hparams-lab"
    modules: tuple[str, ...] = ()


# By the tools themselves.


def pytorch(root: Path, writer: Callable[..., Callable[[], object]] = torch_writer) -> None:
    for run in range(4):
        writer(str(root / f"run-{run}"), [f"train/metric-{tag}" for tag in range(20)], _numbers(500))()


def tensorflow(root: Path) -> None:
    tags = ["epoch_loss", "epoch_accuracy", "evaluation_loss_vs_iterations"]
    for part in ("train", "validation"):
        tf_function_of_loop(str(root / part), tags, _numbers(3_000))()


def keras(root: Path) -> None:
    import numpy as np
    from keras import Sequential, callbacks, layers

    for units in (8, 16):
        model = Sequential([layers.Input((16,)), layers.Dense(units), layers.Dense(1)])
        model.compile("adam", "mse", metrics=["mae"])
        board = callbacks.TensorBoard(str(root / f"units-{units}"), histogram_freq=1, update_freq=1)
        examples = np.random.default_rng(0).random((320, 16))
        model.fit(examples, examples[:, :1], epochs=20, validation_split=0.2, callbacks=[board], verbose=0)


def lightning(root: Path) -> None:
    from _bench import without_tensorflow

    without_tensorflow()
    from lightning.pytorch.loggers import TensorBoardLogger

    for version in range(30):
        logger = TensorBoardLogger(str(root), name="default", version=version)
        logger.log_hyperparams({f"option_{at}": version * at for at in range(40)})
        for step in range(40):
            logger.log_metrics({"train_loss": 1 / (step + 1), "val_loss": 2 / (step + 1), "epoch": step // 10}, step)
        logger.finalize("success")


# By writers of the same records.


def events(path: Path, summaries: Iterable[tuple[float, int, Any]], first: Sequence[Any] = ()) -> None:
    """An event file of (time, step, summary), behind a version and other `first` events."""
    from tensorboard.compat.proto.event_pb2 import Event

    from hparams_lab.events.format.record import frame

    path.mkdir(parents=True)
    with open(path / "events.out.tfevents.1700000000.host", "wb") as file:
        for event in (Event(wall_time=SECOND, file_version="brain.Event:2"), *first):
            file.write(frame(event.SerializeToString()))
        for time, step, summary in summaries:
            file.write(frame(Event(wall_time=SECOND + time, step=step, summary=summary).SerializeToString()))


def scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def histogram(tag: str, buckets: int) -> Any:
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    limits, counts = [float(at) for at in range(buckets)], [1.0] * buckets
    histo = HistogramProto(min=0, max=1, num=9, sum=4, sum_squares=3, bucket_limit=limits, bucket=counts)
    return Summary(value=[Summary.Value(tag=tag, histo=histo)])


def image(tag: str, size: int) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, image=Summary.Image(encoded_image_string=random.randbytes(size)))])


def rllib(histograms: int) -> Callable[[Path], None]:
    """39 scalars a step, and histograms of changing length among them."""

    def write(root: Path) -> None:
        draw, names = random.Random(0), [f"ray/tune/{'x' * (3 + 5 * (at % 7))}_{at}" for at in range(39)]

        def reports() -> Iterable[tuple[float, int, Any]]:
            for step in range(4_000):
                summaries = [scalar(name, draw.random()) for name in names]
                for number in range(histograms):
                    summaries.insert(12, histogram(f"ray/tune/hist_stats/{number}", draw.randint(5, 40)))
                yield from ((step + at / 64, 4_000 * (step + 1), summary) for at, summary in enumerate(summaries))

        events(root / "trial", reports())

    return write


def ml_agents(root: Path) -> None:
    names = ["Environment/Cumulative Reward", "Environment/Episode Length", "Is Training", "Losses/Policy Loss"]
    names += ["Losses/Value Loss", "Policy/Entropy", "Policy/Extrinsic Reward", "Policy/Learning Rate"]
    for behaviour in ("Ball", "Walker", "Crawler"):
        steps = range(12_000, 12_000 * 101, 12_000)
        found = ((step / 99, step, scalar(name, 1 / step)) for step in steps for name in names)
        some = ((step / 99, step, histogram("Cumulative Reward_hist", step // 12_000 % 17)) for step in steps)
        events(root / "ppo" / behaviour, (row for rows in zip(*[found] * 8, some, strict=True) for row in rows))


def estimator(root: Path) -> None:
    """A graph, restarts, and events of several values each, as TensorFlow 1 writes them."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary

    graph = Event(wall_time=SECOND, graph_def=random.Random(0).randbytes(500_000))
    start = Event(wall_time=SECOND, session_log=SessionLog(status=SessionLog.START))
    names = ["loss", "global_step/sec", "accuracy", "learning_rate", "gradients/norm"]
    for run in range(4):
        rows = []
        for step in range(2_000):
            values = [Summary.Value(tag=name, simple_value=step / 3) for name in names[: 5 - step % 2]]
            rows.append((step, step * 100, Summary(value=values)))
        events(root / f"model-{run}", rows, [graph, start])


def with_images(root: Path) -> None:
    for run in range(10):
        rows = ((at, at, image("sample", 12_000 + at) if at % 2 else scalar(f"loss-{at % 6}", at)) for at in range(200))
        events(root / f"run-{run}", rows)


def small(root: Path) -> None:
    """25 files of 160 points each, of other lengths."""
    for run in range(25):
        rows = ((at, at // 8 * 10, scalar(f"metric-{at % 8}" + "x" * (at % 8), at)) for at in range(160))
        events(root / ("run" + "-" * (run % 3)) / str(run), [(0, 0, scalar("r" * run, 1)), *rows])


def one_run(root: Path) -> None:
    events(root / "run", [(at, at, scalar("loss", at)) for at in range(20)])


def _numbers(count: int) -> list[float]:
    return [random.Random(0).random() for _ in range(count)]


WRITERS = {
    "39 scalars a step": Writer(rllib(0)),
    "39 scalars, 1 histogram": Writer(rllib(1)),
    "39 scalars, 2 histograms": Writer(rllib(2)),
    "PyTorch": Writer(pytorch, "torch", ("torch",)),
    "tensorboardX": Writer(lambda root: pytorch(root, tensorboardx_writer), "tensorboardX", ("tensorboardX",)),
    "TensorFlow": Writer(tensorflow, "tensorflow-cpu", ("tensorflow",)),
    "Keras": Writer(keras, "tensorflow-cpu", ("tensorflow", "keras")),
    "Lightning": Writer(lightning, "lightning", ("lightning",)),
    "like ML-Agents": Writer(ml_agents),
    "like an Estimator": Writer(estimator),
    "images among scalars": Writer(with_images),
    "25 small runs": Writer(small),
    "1 run of 20 points": Writer(one_run),
}
