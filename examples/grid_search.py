"""scikit-learn's GridSearchCV over a Keras network, every fold in TensorBoard's HParams tab.

    python examples/grid_search.py --data mnist.npz
    python examples/grid_search.py --quick --jobs 2

Only training images are searched with; the test images say how good the best network is, once.
"""

import argparse
import os
import sys

import keras
from sklearn.model_selection import GridSearchCV

import hparams_lab as lab
from hparams_lab.integrations.sklearn import KerasClassifier, log_search
from hparams_lab.keras.predictions import prediction_picture
from hparams_lab.run.amend import add_image
from hparams_lab.targets.builtin import digits, mnist

GRID = {"batch_size": [32, 64, 512], "epochs": [10, 20], "units": [8, 16, 32]}
QUICK = {"batch_size": [16, 64], "epochs": [8], "units": [8, 32]}


def build_model(units):
    model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def search(options, train, test):
    (x, y), (x_test, y_test) = train, test
    network = KerasClassifier(build_model, random_state=options.seed)
    search = GridSearchCV(network, QUICK if options.quick else GRID, cv=5, n_jobs=options.jobs)
    log_search(search, options.logdir, fresh=options.fresh)
    print(f"to follow it: hparams-lab top {options.logdir} --watch", flush=True)
    search.fit(x, y.argmax(axis=1))

    print(f"best_score_: {search.best_score_:.4f}, the mean accuracy of {search.n_splits_} folds")
    print(f"best_params_: {search.best_params_}")
    print("training history of the best model, fitted again to all training images:")
    history = search.best_estimator_.history_
    for epoch, (loss, accuracy) in enumerate(zip(history["loss"], history["accuracy"], strict=True), 1):
        print(f"  epoch {epoch:2}  loss {loss:.4f}  accuracy {accuracy:.4f}")
    print(f"accuracy on the test images: {search.score(x_test, y_test.argmax(axis=1)):.4f}")

    picture = prediction_picture(x_test, y_test, search.predict(x_test))
    add_image(lab.read(options.logdir).best().runs[0].dir, "predictions", picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's small digits and a smaller grid")
    parser.add_argument("--seed", type=int, default=0, help="fixes the first weights and the order of the examples")
    parser.add_argument("--jobs", type=int, default=1, help="so many folds are trained at once")
    parser.add_argument("--data", default=os.environ.get("HPARAMS_LAB_MNIST"), help="mnist.npz; else Keras' own copy")
    parser.add_argument("--logdir", default="logs/grid_search")
    parser.add_argument("--fresh", action="store_true", help="move what is there aside")
    options = parser.parse_args()
    try:
        train, test = digits.load_data() if options.quick else mnist.load_data(options.data)
        search(options, train, test)
    except lab.HParamsLabError as error:
        sys.exit(f"error: {error}".replace("fresh=True", "--fresh"))
    print(f"Leaderboard:  hparams-lab top {options.logdir}")
    print(f"TensorBoard:  hparams-lab board {options.logdir}")


if __name__ == "__main__":
    main()
