"""Everyone who logs scalars, prepared for `logging.py`: every tag in every step."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _bench import without_tensorflow

Values = Sequence[float]
Log = Callable[[], object]

MEMORY = "/dev/shm"
STEPS = {1: 100_000, 20: 5_000}
"""How many steps are logged of so many tags."""
WARM_UP = 50
NAME_FORM = 'run.log("loss", value, step)'
MAPPING_FORM = "run.log({20 tags}, step)"
COLUMNS = "run.log_columns"
OURS = {1: NAME_FORM, 20: MAPPING_FORM}
OUR_RUN = "start_run, run.log, finish"


class Contender(NamedTuple):
    """Someone who logs.

    Attributes:
      prepare: given a directory and what else is to be logged, gets ready and returns the call whose time is taken.
      package: what it needs, as pip calls it; module: as Python does.
      most: how many scalars, or short runs, are enough.
    """

    prepare: Callable[..., Callable[..., object]]
    package: str = "hparams-lab"
    module: str = "hparams_lab"
    most: int = 1 << 30


def tf_eager(logdir: str, tags: Sequence[str], values: Values) -> Log:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(logdir)

    def log() -> None:
        with writer.as_default():
            for step, value in enumerate(values):
                for tag in tags:
                    tf.summary.scalar(tag, value, step=step)
        writer.close()

    return log


def tf_function_per_step(logdir: str, tags: Sequence[str], values: Values) -> Log:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(logdir)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32), tf.TensorSpec([], tf.int64)])
    def log_step(value: Any, step: Any) -> None:
        for tag in tags:
            tf.summary.scalar(tag, value, step=step)

    with writer.as_default():
        log_step.get_concrete_function()
    points = list(zip(tf.constant(values, tf.float32), tf.range(len(values), dtype=tf.int64), strict=True))

    def log() -> None:
        with writer.as_default():
            for value, step in points:
                log_step(value, step)
        writer.close()

    return log


def tf_function_of_loop(logdir: str, tags: Sequence[str], values: Values) -> Log:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(logdir)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def log_steps(values: Any) -> None:
        with writer.as_default():
            for step in tf.range(tf.size(values, out_type=tf.int64)):
                for tag in tags:
                    tf.summary.scalar(tag, values[step], step=step)

    log_steps.get_concrete_function()
    tensor = tf.constant(values, tf.float32)

    def log() -> None:
        log_steps(tensor)
        writer.close()

    return log


def torch_writer(logdir: str, tags: Sequence[str], values: Values) -> Log:
    without_tensorflow()
    from torch.utils.tensorboard import SummaryWriter

    return add_scalars(SummaryWriter(logdir), tags, values)


def tensorboardx_writer(logdir: str, tags: Sequence[str], values: Values) -> Log:
    from tensorboardX import SummaryWriter

    return add_scalars(SummaryWriter(logdir), tags, values)


def tensorboard_writer(logdir: str, tags: Sequence[str], values: Values) -> Log:
    without_tensorflow()
    from tensorboard.summary import Writer

    return add_scalars(Writer(logdir), tags, values)


def add_scalars(writer: Any, tags: Sequence[str], values: Values) -> Log:
    def log() -> None:
        for step, value in enumerate(values):
            for tag in tags:
                writer.add_scalar(tag, value, step)
        writer.close()

    return log


def tensorboard_event_file_writer(logdir: str, tags: Sequence[str], values: Values) -> Log:
    without_tensorflow()
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(logdir)

    def log() -> None:
        for step, value in enumerate(values):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag in tags])
            writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.close()

    return log


def tuff_bird(logdir: str, tags: Sequence[str], values: Values) -> Log:
    run = tuff_bird_run(logdir, {})

    def log() -> None:
        for step, value in enumerate(values):
            run.log(dict.fromkeys(tags, value), step)
        run.finish()

    return log


def tuff_bird_run(logdir: str, config: Mapping[str, Any], name: str = "run") -> Any:
    import tuffbird

    return tuffbird.init(logdir, name, config=config, board=False, capture_output=False, system_metrics=False)


def ours(logdir: str, tags: Sequence[str], values: Values) -> Log:
    run = our_run(logdir, {})
    return log_each(run.log, run.finish, tags, values)


def our_run(logdir: str, hparams: Mapping[str, Any]) -> Any:
    from hparams_lab import start_run

    return start_run(logdir, hparams=hparams, fsync=False, provenance=False)


def empty_call(logdir: str, tags: Sequence[str], values: Values) -> Log:
    def nothing(metrics: Any, value: Any = None, step: Any = None) -> None:
        pass

    return log_each(nothing, lambda: None, tags, values)


def log_each(call: Callable[..., None], finish: Log, tags: Sequence[str], values: Values) -> Log:
    """By name where there is one tag, else by a mapping."""

    def log_names() -> None:
        (tag,) = tags
        for step, value in enumerate(values):
            call(tag, value, step)
        finish()

    def log_mappings() -> None:
        for step, value in enumerate(values):
            call(dict.fromkeys(tags, value), step)
        finish()

    return log_names if len(tags) == 1 else log_mappings


def our_columns(logdir: str, tags: Sequence[str], values: Values) -> Log:
    import numpy as np

    run = our_run(logdir, {})
    columns = {tag: np.array(values) for tag in tags}

    def log() -> None:
        run.log_columns(columns, range(len(values)))
        run.finish()

    return log


def raw_write(logdir: str, tags: Sequence[str], values: Values) -> Log:
    with tempfile.TemporaryDirectory() as elsewhere:
        ours(elsewhere, tags, values)()
        (path,) = Path(elsewhere).glob("run-*/*tfevents*")
        name, data = path.name, path.read_bytes()

    def log() -> None:
        os.mkdir(logdir)
        with open(os.path.join(logdir, name), "wb") as file:
            file.write(data)

    return log


TB = ("tensorboard", "tensorboard")
TF = ("tensorflow-cpu", "tensorflow")
TORCH = ("torch", "torch")
TENSORBOARDX = ("tensorboardX", "tensorboardX")
TUFF_BIRD = ("tuff-bird", "tuffbird")
SCALARS = {
    "run.log": Contender(ours),
    COLUMNS: Contender(our_columns),
    "tf.summary, eager": Contender(tf_eager, *TF, most=5_000),
    "tf.summary, tf.function per step": Contender(tf_function_per_step, *TF, most=20_000),
    "tf.summary, tf.function of the loop": Contender(tf_function_of_loop, *TF),
    "torch SummaryWriter": Contender(torch_writer, *TORCH, most=50_000),
    "tensorboardX SummaryWriter": Contender(tensorboardx_writer, *TENSORBOARDX, most=50_000),
    "tensorboard.summary.Writer": Contender(tensorboard_writer, *TB, most=50_000),
    "tensorboard EventFileWriter": Contender(tensorboard_event_file_writer, *TB),
    "tuff-bird": Contender(tuff_bird, *TUFF_BIRD),
    "an empty Python function": Contender(empty_call),
    "the same bytes, one raw write": Contender(raw_write),
}
