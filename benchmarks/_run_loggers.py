"""Everyone who logs a whole short run, hparams and three scalars, prepared for `logging.py`; and what they import."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import without_tensorflow
from _scalar_loggers import (
    OUR_RUN,
    TB,
    TENSORBOARDX,
    TF,
    TORCH,
    TUFF_BIRD,
    WARM_UP,
    Contender,
    our_run,
    tuff_bird_run,
)

_NUMBERS = random.Random(0)
_HPARAMS = [
    {"units": _NUMBERS.choice([16, 32, 64, 128]), "lr": _NUMBERS.uniform(1e-4, 1e-1)} for _ in range(WARM_UP + 1000)
]


def hparams_of(number: int) -> dict[str, Any]:
    """Two values that vary from run to run, at random."""
    return _HPARAMS[number % len(_HPARAMS)]


METRICS = {"loss": 0.25, "accuracy": 0.9, "seconds": 12.0}


def our_short_run(logdir: str) -> Callable[[int], None]:
    def log(number: int) -> None:
        with our_run(logdir, hparams_of(number)) as run:
            run.log(METRICS, 1)

    return log


def add_hparams_torch(logdir: str) -> Callable[[int], None]:
    without_tensorflow()
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(logdir)
    return lambda number: writer.add_hparams(hparams_of(number), METRICS, run_name=str(number), global_step=1)


def add_hparams_tensorboardx(logdir: str) -> Callable[[int], None]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(logdir)
    return lambda number: writer.add_hparams(hparams_of(number), METRICS, name=str(number), global_step=1)


def tf_short_run(logdir: str) -> Callable[[int], None]:
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hp

    def log(number: int) -> None:
        writer = tf.summary.create_file_writer(f"{logdir}/{number}")
        with writer.as_default():
            hp.hparams(hparams_of(number))
            for tag, value in METRICS.items():
                tf.summary.scalar(tag, value, step=1)
        writer.close()

    return log


def tensorboard_short_run(logdir: str) -> Callable[[int], None]:
    without_tensorflow()
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def log(number: int) -> None:
        writer = EventFileWriter(f"{logdir}/{number}")
        writer.add_event(Event(wall_time=time.time(), summary=hparams_pb(hparams_of(number))))
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in METRICS.items()])
        writer.add_event(Event(wall_time=time.time(), step=1, summary=summary))
        writer.close()

    return log


def tuff_bird_short_run(logdir: str) -> Callable[[int], None]:
    def log(number: int) -> None:
        with tuff_bird_run(logdir, hparams_of(number), str(number)) as run:
            run.log(METRICS, 1)

    return log


def raw_short_run(logdir: str) -> Callable[[int], None]:
    with tempfile.TemporaryDirectory() as elsewhere:
        our_short_run(elsewhere)(0)
        (path,) = Path(elsewhere).glob("run-*/*tfevents*")
        name, data = path.name, path.read_bytes()

    def log(number: int) -> None:
        directory = f"{logdir}/{number}"
        os.mkdir(directory)
        with open(f"{directory}/{name}", "wb", buffering=0) as file:
            file.write(data)

    return log


SHORT_RUNS = {
    OUR_RUN: Contender(our_short_run),
    "tf.summary and hp.hparams": Contender(tf_short_run, *TF, most=200),
    "torch add_hparams": Contender(add_hparams_torch, *TORCH, most=500),
    "tensorboardX add_hparams": Contender(add_hparams_tensorboardx, *TENSORBOARDX, most=500),
    "tensorboard EventFileWriter, hparams_pb": Contender(tensorboard_short_run, *TB, most=500),
    "tuff-bird": Contender(tuff_bird_short_run, *TUFF_BIRD, most=500),
    "the same bytes, mkdir and a raw write": Contender(raw_short_run),
}

WITHOUT_TENSORFLOW = 'import sys; sys.modules["tensorboard.compat.notf"] = sys; '
OUR_IMPORT = "from hparams_lab import start_run"
STATEMENTS = {
    OUR_IMPORT: (None, OUR_IMPORT),
    "import hparams_lab": (None, "import hparams_lab"),
    "python -c pass": (None, "pass"),
    "import numpy": (None, "import numpy"),
    "tensorboard EventFileWriter, hparams_pb": (
        TB,
        f"{WITHOUT_TENSORFLOW}import tensorboard.summary.writer.event_file_writer as writer; writer.EventFileWriter;"
        "from tensorboard.plugins.hparams.summary_v2 import hparams_pb",
    ),
    "tensorflow": (TF, "import tensorflow; tensorflow.summary"),
    "torch SummaryWriter": (TORCH, f"{WITHOUT_TENSORFLOW}from torch.utils.tensorboard import SummaryWriter"),
    "tensorboardX SummaryWriter": (TENSORBOARDX, "from tensorboardX import SummaryWriter"),
    "tuff-bird": (TUFF_BIRD, "import tuffbird"),
}
