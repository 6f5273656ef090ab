"""What `mnist` and `digits` share: the hparams, the metrics and the network.

A Dense(relu) layer, dropout, a second Dense(relu) layer when `hplayer` says so, softmax over the 10 digits. The squared
error is against one-hot labels: against class numbers it is meaningless, and Keras 3 refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hparams_lab.core.domains import Discrete
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import RealInterval

CLASSES = 10

Data = tuple[tuple[Any, Any], tuple[Any, Any]]


def experiment(name: str, epochs: int, batch: int) -> Experiment:
    """The experiment: 32 trials by the end points of its intervals."""
    return Experiment(
        name=name,
        hparams=[
            HParam("num_units", Discrete([16, 32]), description="width of each hidden layer"),
            HParam("learning_rate", RealInterval(0.001, 0.01), description="step size of the optimizer"),
            HParam("optimizer", Discrete(["adam", "sgd"]), description="which optimizer trains"),
            HParam("hplayer", Discrete([False, True]), description="whether there is a second hidden layer"),
            HParam("hpdropout", RealInterval(0.1, 0.2), description="share of the first layer that is dropped"),
            HParam("hpepoch", Discrete([epochs]), description="passes over the training data"),
            HParam("hpbatch", Discrete([batch]), description="examples per step"),
        ],
        metrics=[
            Metric("hpaccuracy", "HPaccuracy", goal="max", description="share of right answers on the test data"),
            Metric("hploss", "HPloss", goal="min", description="cross-entropy on the test data"),
            Metric("hpmse", "HPmse", goal="min", description="squared error against one-hot labels, test data"),
        ],
        objective="hpaccuracy",
    )


def build_model(hparams: Mapping[str, Any]) -> Any:
    """The compiled network of these values."""
    import keras

    optimizers = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    layers = [
        keras.layers.Dense(hparams["num_units"], activation="relu"),
        keras.layers.Dropout(hparams["hpdropout"]),
    ]
    if hparams["hplayer"]:
        layers.append(keras.layers.Dense(hparams["num_units"], activation="relu"))
    layers.append(keras.layers.Dense(CLASSES, activation="softmax"))
    model = keras.Sequential(layers)
    model.compile(
        optimizer=optimizers[hparams["optimizer"]](learning_rate=hparams["learning_rate"]),
        loss="categorical_crossentropy",
        metrics=["accuracy", "mse"],
    )
    return model


def fit_options(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `model.fit`."""
    return {"epochs": hparams["hpepoch"], "batch_size": hparams["hpbatch"]}


def final_metrics(logs: Mapping[str, float]) -> dict[str, float]:
    """The experiment's metrics from what `model.evaluate` returned."""
    return {"hpaccuracy": logs["accuracy"], "hploss": logs["loss"], "hpmse": logs["mse"]}


def as_data(x_train: Any, y_train: Any, x_test: Any, y_test: Any, brightest: int) -> Data:
    """Images of any shape to rows of floats in [0, 1], labels to one-hot rows."""
    import numpy as np

    def rows(images: Any) -> Any:
        return images.reshape(len(images), -1).astype("float32") / brightest

    one_hot = np.eye(CLASSES, dtype="float32")
    return (rows(x_train), one_hot[y_train]), (rows(x_test), one_hot[y_test])
