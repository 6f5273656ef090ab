"""`RunCallback`: restored epochs, steps that go on, metrics that are no single number. Models are tiny and eager."""

import keras
import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.integrations.sklearn import KerasRegressor
from hparams_lab.integrations.sklearn.current import logging_into
from hparams_lab.keras import RunCallback

X = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


class Drifts(keras.callbacks.Callback):
    """Sets the one weight of a model before each epoch, so that its loss is known, and is least in the epoch `best`."""

    def __init__(self, best):
        super().__init__()
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        for name in [name for name in logs if name != "drift"]:
            logs[name] = 1.0 + abs(epoch - self.best)


def model_of(metrics=()):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=[*metrics], run_eagerly=True)
    return model


def fit(run, callbacks, epochs=6, model=None, **options):
    """Train; `callbacks` has None where ours is."""
    ours = options.pop("ours", None) or RunCallback(run)
    given = [ours if one is None else one for one in callbacks]
    options = {"batch_size": 8, "verbose": 0, "validation_data": (X, Y), **options}
    (model or model_of()).fit(X, Y, epochs=epochs, callbacks=given, **options)
    return ours


def stop(kind=keras.callbacks.EarlyStopping, **options):
    return kind(**{"monitor": "val_loss", "patience": 2, "restore_best_weights": True, **options})


def logged(folder, *tags):
    (run,) = lab.read(folder).runs
    return [(run.scalars(tag).steps.tolist(), run.scalars(tag).values.tolist()) for tag in tags]


class Own(keras.callbacks.EarlyStopping):
    """A user's own."""


@pytest.mark.parametrize(
    ("callbacks", "epochs", "kept"),
    [
        ([Drifts(1), stop(), None], 4, 2),
        ([Drifts(1), None, stop()], 4, 2),  # ours is asked before the weights are restored
        ([Drifts(1), stop(Own), None], 4, 2),
        ([Drifts(3), stop(patience=9), None], 6, 4),  # Keras restores at the end of any training
        ([Drifts(1), stop(monitor="loss"), None], 4, 2),
        ([Drifts(1), stop(start_from_epoch=3), None], 6, 4),
        ([Drifts(1), stop(patience=1), stop(patience=9, start_from_epoch=2), None], 3, 3),  # the last one wins
        ([Drifts(5), stop(), None], 6, 6),
    ],
)
def test_a_fit_ends_on_the_epoch_that_was_kept(tmp_path, callbacks, epochs, kept):
    best = callbacks[0].best
    with lab.start_run(tmp_path, hparams={"a": 1}) as run:
        fit(run, callbacks)
    losses = [1.0 + abs(epoch - best) for epoch in range(epochs)]
    again = [] if kept == epochs else [epochs + 1]
    for steps, values in logged(tmp_path, "val/loss", "loss"):
        assert steps == [*range(1, epochs + 1), *again]
        assert values == [*losses, *[losses[kept - 1]] * len(again)]
    assert logged(tmp_path, "best_epoch") == [([epochs + 1], [kept])]


def test_without_restored_weights_nothing_is_logged_again(tmp_path):
    for name, options in (("plain", {"restore_best_weights": False}), ("missing", {"monitor": "val_accuracy"})):
        with lab.start_run(tmp_path / name, hparams={"a": 1}) as run:
            stopping = stop(mode="min", **options)
            stopping.get_monitor_value = lambda logs, its=stopping: logs.get(its.monitor)  # without its warning
            fit(run, [Drifts(1), stopping, None], epochs=3)
        assert logged(tmp_path / name, "val/loss", "best_epoch") == [([1, 2, 3], [2.0, 1.0, 2.0]), ([], [])]


def test_the_kept_weights_are_those_that_are_said(tmp_path):
    """Nothing is made up: what the model comes to after the fit is what the run ends on."""
    model = model_of()
    model.compile(keras.optimizers.SGD(1.5), "mse", run_eagerly=True)  # it gets worse from the first epoch on
    with lab.start_run(tmp_path, hparams={"a": 1}) as run:
        fit(run, [stop(), None], model=model)
    (found,) = lab.read(tmp_path).runs
    assert found.metrics["val/loss"] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)
    assert found.metrics["val/loss"] == found.scalars("val/loss").values.min()


def test_steps_go_on_in_a_second_fit_and_in_a_resumed_run(tmp_path):
    """Warnings are errors here, so no step goes back."""
    with lab.start_run(tmp_path, hparams={"a": 1}, name="r") as run:
        ours = fit(run, [Drifts(1), stop(), None])
        fit(run, [None], epochs=2, ours=ours)  # the same callback again
        fit(run, [None], epochs=2)
    with lab.start_run(tmp_path, hparams={"a": 1}, name="r", resume=True) as run:
        fit(run, [Drifts(0), stop(patience=1), None])
    with lab.start_run(tmp_path, hparams={"a": 1}, name="r", resume=True) as run:
        fit(run, [None], epochs=11, initial_epoch=10)  # Keras counts on by itself
        fit(run, [None], epochs=4, initial_epoch=3)
    found = logged(tmp_path, "val/loss", "best_epoch")
    assert found[0][0] == [*range(1, 15)]  # 5 and 12 are kept epochs, logged again
    assert found[1] == ([5, 12], [2.0, 10.0])


def test_a_run_that_goes_on_at_a_checkpoint_counts_from_there(tmp_path):
    with lab.start_run(tmp_path, hparams={"a": 1}, name="r") as run:
        fit(run, [None], epochs=4)
    with lab.start_run(tmp_path, hparams={"a": 1}, name="r", resume=True, from_step=2) as run:
        fit(run, [None], epochs=5, initial_epoch=2)
    assert logged(tmp_path, "loss")[0][0] == [1, 2, 3, 4, 5]


def test_batches_go_on_too(tmp_path):
    for _ in range(2):
        with lab.start_run(tmp_path, hparams={"a": 1}, name="r", resume=True) as run:
            model_of().fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[RunCallback(run, batch_every=2)])
    assert logged(tmp_path, "batch/loss", "loss")[0][0] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert logged(tmp_path, "loss")[0][0] == [1, 2, 3, 4]


def test_an_estimators_curves_end_on_the_kept_epoch(tmp_path):
    estimator = KerasRegressor(lambda: model_of(), epochs=6, validation_split=0.5, callbacks=[Drifts(1), stop()])
    with lab.start_run(tmp_path, hparams={"a": 1}) as run, logging_into(run):
        estimator.fit(X, Y[:, 0])
    assert logged(tmp_path, "epoch/val_loss") == [([1, 2, 3, 4, 5], [2.0, 1.0, 2.0, 3.0, 1.0])]
    assert logged(tmp_path, "epoch/best_epoch") == [([5], [2.0])]


class Says(keras.callbacks.Callback):
    """Reports what no scalar can hold."""

    def on_epoch_end(self, epoch, logs=None):
        logs |= {"pair": np.array([1.0, 2.0]), "one": np.array([[3.0]]), "word": "adam", "long": np.zeros(40)}
        logs["val_nested"] = {"a": 1.0, "b": np.float32(2.0)}


def test_no_metric_ends_a_training(tmp_path):
    classes = np.eye(2)[(Y[:, 0] > 0).astype(int)]
    model = keras.Sequential([keras.layers.Dense(2, "softmax")])
    metrics = [keras.metrics.F1Score(average=None), keras.metrics.R2Score()]
    model.compile("sgd", "categorical_crossentropy", metrics=metrics, run_eagerly=True)
    with lab.start_run(tmp_path, hparams={"a": 1}) as run, pytest.warns(UserWarning, match="'long'") as said:
        model.fit(X, classes, epochs=2, batch_size=8, verbose=0, callbacks=[Says(), RunCallback(run, batch_every=1)])
    assert len(said) == 1
    (found,) = lab.read(tmp_path).runs
    of_keras = {"loss", "r2_score", "f1_score/0", "f1_score/1"}
    plain = {tag for tag in found.metrics if not tag.startswith("batch/")}
    assert plain == of_keras | {"pair/0", "pair/1", "one", "val/nested/a", "val/nested/b"}
    assert {"batch/f1_score/0", "batch/r2_score"} <= {*found.metrics}
    assert found.scalars("f1_score/1").steps.tolist() == [1, 2]
