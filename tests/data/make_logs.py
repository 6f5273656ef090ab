"""Make the logs beside this file, each by the library of its name: `python tests/data/make_logs.py [NAME ...]`.

Each maker logs into an empty directory as the library's own documentation shows. Only event files are kept, and the
host's name in the name of each becomes `host`; nothing in them is touched. What is in them,
`tests/logdir/test_foreign_logs.py` knows.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.remove(str(HERE))  # its directories have the libraries' names
MAKERS: dict[str, Callable[[Path], None]] = {}
RATES = (0.01, 0.1)


def maker(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Add a maker under its name."""
    MAKERS[make.__name__] = make
    return make


def curve(rate: float) -> list[float]:
    """The loss at steps 0 to 4, which halves the faster the greater the rate."""
    return [2.0 ** -(step * rate * 10) for step in range(5)]


@maker
def tensorflow(logdir: Path) -> None:
    """`tf.summary.scalar` and the HParams plugin's API, with an experiment."""
    import tensorflow as tf
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
    from tensorboard.plugins.hparams import api as hp

    rate = hp.HParam("rate", hp.RealInterval(0.001, 1.0), display_name="learning rate")
    units = hp.HParam("units", hp.Discrete([8, 16]))
    bias = hp.HParam("bias", hp.Discrete([False, True]))
    scalar = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    metrics = [hp.Metric("loss", group="", display_name="Loss"), hp.Metric("accuracy", group="test")]
    with tf.summary.create_file_writer(str(logdir)).as_default():
        hp.hparams_config(hparams=[rate, units, bias], metrics=metrics)
    for place, each in enumerate(RATES):
        with tf.summary.create_file_writer(str(logdir / f"run-{place}")).as_default():
            hp.hparams({rate: each, units: 8 * (place + 1), bias: bool(place)})
            for step, loss in enumerate(curve(each)):
                tf.summary.scalar("loss", loss, step=step)
                for dtype in (tf.float16, tf.bfloat16, tf.float64, tf.int32, tf.int64, tf.uint8):
                    tf.summary.write(f"as/{dtype.name}", tf.cast(10 * loss, dtype), step, metadata=scalar)
                tf.summary.text("note", f"step {step}", step=step)
                tf.summary.histogram("weights", [loss, 1.0], step=step, buckets=2)


@maker
def keras(logdir: Path) -> None:
    """`keras.callbacks.TensorBoard`, which logs into `train` and `validation`, and the plugin's `KerasCallback`."""
    import keras
    from tensorboard.plugins.hparams import api as hp

    for place, rate in enumerate(RATES):
        directory = str(logdir / f"run-{place}")
        callbacks = [
            keras.callbacks.TensorBoard(directory, write_graph=False, profile_batch=0),
            hp.KerasCallback(directory, {"rate": rate, "optimizer": "sgd"}, trial_id=f"trial-{place}"),
        ]
        inputs, targets = tiny_data()
        model = tiny_model(rate)
        model.fit(inputs, targets, epochs=3, validation_data=(inputs, targets), callbacks=callbacks, verbose=0)


def tiny_data():
    """Sixteen points of a line."""
    import numpy as np

    inputs = np.linspace(0, 1, 16)[:, None]
    return inputs, 2 * inputs


def tiny_model(rate: float):
    """A line to fit."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


@maker
def keras_tuner(logdir: Path) -> None:
    """A random search with `keras.callbacks.TensorBoard`, to which the tuner adds the hyperparameters.

    Each trial is trained twice.
    """
    import keras
    import keras_tuner

    def build(hp):
        hp.Fixed("kind", "line")
        hp.Choice("units", [1, 2])
        hp.Boolean("bias")
        return tiny_model(hp.Float("rate", 0.01, 0.1, sampling="log"))

    inputs, targets = tiny_data()
    with tempfile.TemporaryDirectory() as scratch:
        tuner = keras_tuner.RandomSearch(
            build, "val_loss", max_trials=2, executions_per_trial=2, seed=1, directory=scratch, project_name="tuning"
        )
        board = keras.callbacks.TensorBoard(str(logdir), write_graph=False, profile_batch=0)
        tuner.search(inputs, targets, epochs=2, validation_data=(inputs, targets), callbacks=[board], verbose=0)


@maker
def torch(logdir: Path) -> None:
    """`SummaryWriter`: the curve into the run, `add_hparams` into a directory below it."""
    from torch.utils.tensorboard import SummaryWriter

    _summary_writer(SummaryWriter, logdir)


@maker
def tensorboardx(logdir: Path) -> None:
    """The writer that PyTorch's is made after, and which other libraries use."""
    from tensorboardX import SummaryWriter

    _summary_writer(SummaryWriter, logdir)


def _summary_writer(summary_writer, logdir: Path) -> None:
    for place, rate in enumerate(RATES):
        with summary_writer(str(logdir / f"run-{place}")) as writer:
            for step, loss in enumerate(curve(rate)):
                writer.add_scalar("loss/train", loss, step)
                writer.add_scalars("split", {"a": loss, "b": 2 * loss}, step)
            writer.add_text("note", "done")
            writer.add_hparams(
                {"rate": rate, "units": 8, "bias": bool(place), "kind": "x"}, {"hparam/loss": curve(rate)[-1]}
            )


@maker
def ray_tune(logdir: Path) -> None:
    """Ray Tune with its TensorBoard logger, on this machine."""
    import ray
    from ray import tune

    def train(config):
        for step, loss in enumerate(curve(config["rate"])):
            tune.report({"loss": loss, "step": step})

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as scratch:
        space = {"rate": tune.grid_search(list(RATES)), "net": {"units": 8, "kind": "x"}}
        settings = tune.RunConfig(storage_path=scratch, name="tuning", verbose=0)
        tune.Tuner(train, param_space=space, run_config=settings).fit()
        keep_events(Path(scratch, "tuning"), logdir)
    ray.shutdown()


@maker
def tensorboard_writer(logdir: Path) -> None:
    """TensorBoard's own `Writer`, which knows of no hyperparameters."""
    from tensorboard.summary import Writer

    for place, rate in enumerate(RATES):
        writer = Writer(str(logdir / f"run-{place}"))
        for step, loss in enumerate(curve(rate)):
            writer.add_scalar("loss", loss, step)
        writer.close()


@maker
def hparams_lab(logdir: Path) -> None:
    """Runs of this package, the second of them pruned."""
    import hparams_lab as lab

    space = [lab.HParam("rate", lab.Discrete(list(RATES))), lab.HParam("kind", lab.Discrete(["x", None]))]
    experiment = lab.Experiment(space, [lab.Metric("loss")])
    for rate, kind, outcome in [(RATES[0], "x", "completed"), (RATES[1], None, "pruned")]:
        point = {"rate": rate, "kind": kind}
        with lab.start_run(logdir, hparams=point, experiment=experiment, provenance=False) as run:
            for step, loss in enumerate(curve(rate)):
                run.log({"loss": loss}, step=step)
            run.finish(outcome=outcome, reason="worse than the first" if outcome == "pruned" else "")


@maker
def guild(logdir: Path) -> None:
    """What `guild tensorboard` prepares: the numbers that a script printed, and its flags. The third run fails.

    Guild wants older packages than this one; $GUILD is the `guild` of an environment of its own.
    """
    command = [os.environ.get("GUILD", "guild"), "-H"]
    script = "rate = 0.5\nunits = 8\nkind = 'x'\nbias = False\nfor step in range(5):\n"
    script += "    print(f'step: {step}')\n    print(f'loss: {2.0 ** -(step * rate * 10)}')\n"
    script += "assert rate < 1\n"
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "train.py").write_text(script)
        for rate in (*RATES, 1.0):
            flags = [f"rate={rate}", f"bias={'yes' if rate > 0.05 else 'no'}"]
            subprocess.run([*command, scratch, "run", "-y", "train.py", *flags], cwd=scratch, check=rate < 1)
        prepare = [*command, scratch, "tensorboard", "--test-logdir"]
        said = subprocess.run(prepare, cwd=scratch, check=True, capture_output=True, text=True)
        prepared = Path(re.search(r"Initialized log dir (.*)", said.stdout + said.stderr)[1])
        keep_events(prepared, logdir)  # links to the numbers become copies
        shutil.rmtree(prepared)


def keep_events(source: Path, target: Path) -> None:
    """Copy the event files, from each directory that holds some to `run-0`, `run-1`, in the order of writing."""
    found = {path.parent for path in source.rglob("*tfevents*")}
    for place, directory in enumerate(sorted(found, key=first_written)):
        kept = target / f"run-{place}"
        kept.mkdir(parents=True)
        for path in directory.glob("*tfevents*"):
            shutil.copyfile(path, kept / path.name)


def first_written(directory: Path) -> float:
    """When the first of its event files was written."""
    return min(path.stat().st_mtime for path in directory.glob("*tfevents*"))


def without_host(logdir: Path) -> None:
    """Rename the event files, whose names have the host's name in them."""
    for path in sorted(logdir.rglob("*tfevents*")):
        path.rename(path.with_name(path.name.replace(socket.gethostname(), "host")))


def make(name: str) -> None:
    """Make one log anew."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch, name)
        made.mkdir()
        MAKERS[name](made)
        without_host(made)
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(
            made,
            HERE / name,
            ignore=lambda folder, names: [
                each for each in names if "tfevents" not in each and not Path(folder, each).is_dir()
            ],
        )


if __name__ == "__main__":
    for name in sys.argv[1:] or MAKERS:
        if name not in MAKERS:
            sys.exit(f"no maker {name!r}; there are {', '.join(MAKERS)}")
        make(name)
        print(name, "made")
