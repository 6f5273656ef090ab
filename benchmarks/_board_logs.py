"""The log directories of the board's benchmark: many runs as we write them, and as they are usually written.

    ours       run-0000/ with one file: hparams, the scalars of training and validation; one Experiment summary
    usual      run-0000/ with the hparams, train/ and validation/ below it with the scalars; no Experiment summary

The usual one is what Keras's callbacks leave, written by TensorBoard's own `EventFileWriter`, without TensorFlow.
"""

from __future__ import annotations

import math
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hparams_lab as lab

EPOCHS = 10
OPTIMIZERS = ("adam", "sgd", "rmsprop")


def hparams_of(number: int) -> dict[str, Any]:
    """The values of a run; no two are the same."""
    return {"units": 16 + number, "rate": 1e-4 * (1 + number % 100), "optimizer": OPTIMIZERS[number % 3]}


def curve(number: int, epoch: int) -> tuple[float, float]:
    """Loss and accuracy after an epoch."""
    loss = math.exp(-epoch / (2 + number % 7))
    return loss, 1 - loss / 2


def write_ours(root: Path, runs: int) -> None:
    """As `start_run` does."""
    experiment = lab.Experiment(
        [
            lab.HParam("units", lab.IntInterval(1, 16 + runs)),
            lab.HParam("rate", lab.RealInterval(1e-5, 1e-1)),
            lab.HParam("optimizer", lab.Discrete(OPTIMIZERS)),
        ],
        [lab.Metric("val/accuracy"), lab.Metric("val/loss"), lab.Metric("accuracy"), lab.Metric("loss")],
    )
    for number in range(runs):
        hparams = hparams_of(number)
        with lab.start_run(root, hparams=hparams, experiment=experiment, provenance=False, fsync=False) as run:
            for epoch in range(1, EPOCHS + 1):
                loss, accuracy = curve(number, epoch)
                run.log({"val/accuracy": accuracy, "val/loss": loss, "accuracy": accuracy, "loss": loss}, step=epoch)


def write_usual(root: Path, runs: int) -> None:
    """As Keras's `TensorBoard` and `hp.KerasCallback` do."""
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
    from tensorboard.plugins.hparams import summary_v2

    def write(number: int) -> None:
        directory = root / f"run-{number:04d}"
        start = summary_v2.hparams_pb(hparams_of(number), start_time_secs=1.7e9)
        end = summary_v2._summary_pb("_hparams_/session_end_info", _ended())
        _write(directory, [(start, 0), (end, 0)])
        for part in ("train", "validation"):
            _write(directory / part, [(_scalars(curve(number, epoch)), epoch) for epoch in range(EPOCHS)])

    with ThreadPoolExecutor(64) as pool:  # each file waits for a thread of its own to end
        list(pool.map(write, range(runs)))


def _ended() -> Any:
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

    info = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=1.7e9 + 60)
    return plugin_data_pb2.HParamsPluginData(session_end_info=info)


def _scalars(values: tuple[float, float]) -> Any:
    """As TensorFlow 2 writes scalars: float tensors."""
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2
    from tensorboard.plugins.scalar.metadata import create_summary_metadata

    summary = summary_pb2.Summary()
    for tag, value in zip(("epoch_loss", "epoch_accuracy"), values, strict=True):
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[value])
        summary.value.add(tag=tag, metadata=create_summary_metadata("", ""), tensor=tensor)
    return summary


def _write(directory: Path, events: list[tuple[Any, int]]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(directory))
    for summary, step in events:
        writer.add_event(Event(wall_time=1.7e9 + step, step=step, summary=summary))
    writer.close()
