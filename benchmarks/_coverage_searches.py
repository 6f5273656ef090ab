"""The searches of `coverage`, in a process of their own: ROUTE INTO NAME...

The code is the same either way but for one line: `keras.callbacks.TensorBoard(logdir)` among the callbacks, or
`log_to`; nothing, or `log_search`. Each search logs into INTO/<name>/log and keeps what it knows of its trials in
INTO/<name>/said.json.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _bench  # noqa: F401  (`logging` is the standard library's)
import keras
import keras_tuner
from _coverage_plan import (
    DIVERGES,
    EPOCHS,
    GAINS,
    GOOD,
    PENALTIES,
    RAISES_IN_BUILD,
    RAISES_IN_FIT,
    RATES,
    STOPPED,
    UNITS,
)
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

WAITS = 120.0


def digits(size: int = 600) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """scikit-learn's digits: two thirds to train, one to validate."""
    images, labels = load_digits(return_X_y=True)
    images = (images[:size] / 16).astype("float32")
    cut = size * 2 // 3
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:size])


def build(hp: Any) -> Any:
    """A small network; one of 8 units computes NaN, one of 12 cannot be built."""
    activation = hp.Choice("activation", ["relu", "tanh"])
    with hp.conditional_scope("activation", ["tanh"]):
        gain = hp.Float("gain", *GAINS, step=0.25) if activation == "tanh" else 1.0
    rate = hp.Float("learning_rate", *RATES, sampling="log", default=RATES[1])
    bias = hp.Boolean("bias", default=True)
    hp.Fixed("optimizer", "adam")
    units = hp.Int("units", *UNITS, step=2)
    if units == RAISES_IN_BUILD:
        raise ValueError("no such network")
    trap = [keras.layers.Rescaling(float("nan"))] if units == DIVERGES else []
    return network(units, activation, [keras.layers.Rescaling(gain), *trap], rate, bias)


def build_any(hp: Any) -> Any:
    """A small network without traps."""
    return network(hp.Int("units", *UNITS, step=2), "relu", [], 1e-2, True)


def network(units: int, activation: str, more: list[Any], rate: float, bias: bool) -> Any:
    """One hidden layer, compiled; its name says how wide it is."""
    layers = [keras.Input((64,)), keras.layers.Dense(units, activation, use_bias=bias), *more]
    model = keras.Sequential([*layers, keras.layers.Dense(10, "softmax")], name=f"units_{units}")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Fate(keras.callbacks.Callback):
    """Has a training go as its model's name says."""

    def __init__(self, into: str) -> None:
        super().__init__()
        self.into = into

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Spoil the good one's last epoch (the best is what counts); have the second one looked at while it trains."""
        units = int(self.model.name.removeprefix("units_"))
        if units == RAISES_IN_FIT and epoch == 1:
            raise RuntimeError("no more data")
        if units == GOOD and epoch == EPOCHS - 1:
            self.model.optimizer.learning_rate = 10.0
        if units == STOPPED and epoch == 1:
            wait_to_be_seen(Path(self.into))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """End the one that stops early after two epochs, as `EarlyStopping` does. Keep what each epoch came to."""
        with Path(self.into, "epochs.txt").open("a") as told:
            print(self.model.name, epoch + 1, logs["val_accuracy"], file=told)
        if self.model.name == f"units_{STOPPED}" and epoch == 1:
            self.model.stop_training = True


class Fits(LogisticRegression):
    """Has its second candidate looked at while it is fitted."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Fits:
        """As every estimator."""
        if PENALTIES.index(self.C) == 1:
            wait_to_be_seen(Path(sys.argv[2], "grid_search_cv"))
        return super().fit(X, y, sample_weight)


def wait_to_be_seen(into: Path) -> None:
    """Say that a training goes on, and wait until it was looked at; once."""
    (into / "training").touch()
    until = time.monotonic() + WAITS
    while not (into / "seen").exists():
        if time.monotonic() > until:
            raise SystemExit(f"nobody looked at {into} for {WAITS:.0f} s")
        time.sleep(0.05)


def tune(tuner: Any, route: str, into: Path, callbacks: list[Any], **options: Any) -> None:
    """Search by one route or the other, and keep what the tuner says of its trials."""
    if route == "ours":
        from hparams_lab.integrations.keras_tuner import log_to

        log_to(tuner, into / "log")
    else:
        callbacks = [keras.callbacks.TensorBoard(str(into / "log")), *callbacks]
    train, held_out = digits()
    tuner.search(*train, validation_data=held_out, callbacks=callbacks, verbose=0, **options)
    keep(into, [said(trial.get_state()) for trial in tuner.oracle.trials.values()])


def said(trial: dict[str, Any]) -> dict[str, Any]:
    """What the tuner says of a trial: its values, status, score, and the epoch that was its best."""
    score = trial["score"]
    return {
        "hparams": trial["hyperparameters"]["values"],
        "status": trial["status"],
        "score": score if score is not None and math.isfinite(score) else None,
        "best_epoch": trial["best_step"],
    }


def keep(into: Path, trials: list[dict[str, Any]]) -> None:
    """Write down what a search says of its trials."""
    (into / "said.json").write_text(json.dumps(trials))


def grid(route: str, into: Path) -> None:
    """Five trials, each trained twice: good, stopped early, NaN, raising in `fit`, raising in `build`."""
    tuner = keras_tuner.GridSearch(
        build,
        "val_accuracy",
        max_trials=5,
        executions_per_trial=2,
        max_consecutive_failed_trials=5,
        directory=str(into),
        project_name="tuner",
    )
    tune(tuner, route, into, [Fate(str(into))], epochs=EPOCHS)


def nan(route: str, into: Path) -> None:
    """The trial whose loss is NaN, where the loss is what it is judged by."""
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Fixed("units", DIVERGES)
    tuner = keras_tuner.GridSearch(
        build, "val_loss", max_trials=1, hyperparameters=hyperparameters, directory=str(into), project_name="tuner"
    )
    tune(tuner, route, into, [], epochs=1)


def hyperband(route: str, into: Path) -> None:
    """Brackets of three trials, of which one is promoted from 1 epoch to 3, and of two."""
    tuner = keras_tuner.Hyperband(
        build_any, "val_accuracy", max_epochs=EPOCHS, factor=3, seed=1, directory=str(into), project_name="tuner"
    )
    tune(tuner, route, into, [])


def reloaded(route: str, into: Path) -> None:
    """A search of one trial, and the tuner loaded again to make three of it."""
    for trials in (1, 3):
        tuner = keras_tuner.RandomSearch(
            build_any, "val_accuracy", max_trials=trials, seed=1, directory=str(into), project_name="tuner"
        )
        tune(tuner, route, into, [], epochs=1)


def sklearn_tuner(route: str, into: Path) -> None:
    """Three trials of an estimator of scikit-learn, whose tuner takes no callbacks."""
    tuner = keras_tuner.SklearnTuner(
        keras_tuner.oracles.RandomSearchOracle(keras_tuner.Objective("score", "max"), max_trials=3, seed=1),
        lambda hp: LogisticRegression(C=hp.Float("C", 0.01, 10.0, sampling="log")),
        directory=str(into),
        project_name="tuner",
    )
    if route == "ours":
        from hparams_lab.integrations.keras_tuner import log_to

        log_to(tuner, into / "log")
    tuner.search(*digits()[0])
    keep(into, [said(trial.get_state()) for trial in tuner.oracle.trials.values()])


def grid_search_cv(route: str, into: Path) -> None:
    """Four candidates on three folds, one of which cannot be fitted."""
    search = GridSearchCV(Fits(max_iter=1000), {"C": PENALTIES}, cv=3)
    if route == "ours":
        from hparams_lab.integrations.sklearn import log_search

        log_search(search, into / "log")
    search.fit(*digits()[0])
    columns = search.cv_results_
    found = zip(*(columns[name].tolist() for name in ("mean_test_score", "rank_test_score")), strict=True)
    keep(into, [{"score": score if math.isfinite(score) else None, "rank": rank} for score, rank in found])


SEARCHES: dict[str, Callable[[str, Path], None]] = {
    "grid": grid,
    "nan": nan,
    "hyperband": hyperband,
    "reloaded": reloaded,
    "sklearn_tuner": sklearn_tuner,
    "grid_search_cv": grid_search_cv,
}

if __name__ == "__main__":
    _, route, root, *names = sys.argv
    for name in names:
        keras.utils.set_random_seed(0)
        SEARCHES[name](route, Path(root, name))
        Path(root, name, "over").touch()
