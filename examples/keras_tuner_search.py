"""One network, searched by keras-tuner in three ways, every trial in TensorBoard's HParams tab.

    python examples/keras_tuner_search.py --data mnist.npz
    python examples/keras_tuner_search.py --quick --tuner Hyperband --seed 3

A tenth of the training images says which trial is best; the test images then say how good that model is.
"""

import argparse
import functools
import os
import sys

import keras
import keras_tuner

import hparams_lab as lab
from hparams_lab.integrations.keras_tuner import log_to
from hparams_lab.keras.predictions import prediction_picture
from hparams_lab.run.amend import add_image
from hparams_lab.targets.builtin import digits, mnist

TUNERS = {
    "RandomSearch": functools.partial(keras_tuner.RandomSearch, max_trials=5, executions_per_trial=3),
    "Hyperband": functools.partial(keras_tuner.Hyperband, max_epochs=8, factor=3),
    "BayesianOptimization": functools.partial(keras_tuner.BayesianOptimization, max_trials=10, num_initial_points=5),
}
QUICK = {
    "RandomSearch": functools.partial(keras_tuner.RandomSearch, max_trials=3, executions_per_trial=2),
    "Hyperband": functools.partial(keras_tuner.Hyperband, max_epochs=3, factor=3),
    "BayesianOptimization": functools.partial(keras_tuner.BayesianOptimization, max_trials=3, num_initial_points=2),
}


def build_model(hp, pixels):
    activation = hp.Choice("activation", ["relu", "tanh", "sigmoid"])
    model = keras.Sequential([keras.Input((pixels,))])
    model.add(keras.layers.Dense(hp.Int("units", 32, 512, step=32), activation))
    for layer in (2, 3, 4):
        model.add(keras.layers.Dense(hp.Int(f"units_{layer}", 8, 64, step=8), "relu"))
    model.add(keras.layers.Dropout(hp.Float("dropout", 0.0, 0.1, step=0.01)))
    model.add(keras.layers.Dense(10, "softmax"))
    rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy", metrics=["accuracy"])
    return model


def search(name, options, train, test):
    """Search; say how good the best model is on the test images; put a picture of its answers there into its run."""
    keras.utils.set_random_seed(options.seed)
    tuner = (QUICK if options.quick else TUNERS)[name](
        functools.partial(build_model, pixels=train[0].shape[1]),
        objective="val_accuracy",
        seed=options.seed,
        directory=f"{options.logdir}_state",  # for its own files
        project_name=f"{name}-{'digits' if options.quick else 'mnist'}-{options.seed}",
        overwrite=options.fresh,  # else a search that was stopped goes on
    )
    logdir = f"{options.logdir}/{name}"
    log_to(tuner, logdir, fresh=options.fresh)
    print(f"{name}; to follow it: hparams-lab top {logdir} --watch", flush=True)
    tuner.search(*train, epochs=5, validation_split=0.1, verbose=0)

    model, best = tuner.get_best_models()[0], lab.read(logdir).best()
    loss, accuracy = model.evaluate(*test, verbose=0)
    print(f"{name}: accuracy {accuracy:.4f}, loss {loss:.4f} on the test images")
    print(f"  val/accuracy {best.metrics['val/accuracy']:.4f} with {dict(best.hparams)}", flush=True)
    picture = prediction_picture(*test, model.predict(test[0], verbose=0))
    add_image(max(best.runs, key=lambda run: run.metrics["val/accuracy"]).dir, "predictions", picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's small digits, and fewer trials")
    parser.add_argument("--tuner", action="append", choices=TUNERS, help="one of them, or several; all when left out")
    parser.add_argument("--seed", type=int, default=0, help="fixes what is tried and the first weights")
    parser.add_argument("--data", default=os.environ.get("HPARAMS_LAB_MNIST"), help="mnist.npz; else Keras' own copy")
    parser.add_argument("--logdir", default="logs/keras_tuner", help="gets a directory per tuner")
    parser.add_argument("--fresh", action="store_true", help="move what is there aside")
    options = parser.parse_args()
    try:
        train, test = digits.load_data() if options.quick else mnist.load_data(options.data)
        for name in options.tuner or TUNERS:
            search(name, options, train, test)
    except lab.HParamsLabError as error:
        sys.exit(f"error: {error}".replace("fresh=True", "--fresh"))
    print(f"Leaderboard:  hparams-lab top {options.logdir}")
    print(f"TensorBoard:  hparams-lab board {options.logdir}")


if __name__ == "__main__":
    main()
