"""What logging costs another library's search: with `log_to` or `log_search` and without, in turn.

Each row is one search. Wall time is what counts, CPU time (all threads and processes) is what a busy machine leaves
comparable, and the time that the search's own thread spends in this package is measured by itself.

    scripts/bench integrations --data mnist.npz
    scripts/bench integrations --quick
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _bench import ROOT, in_turn_columns, machine
from _meter import OURS, Meter, cpu_seconds
from rich.console import Console
from rich.table import Table

import hparams_lab as lab

WITHOUT, WITH = "without", "with"
LIMIT = 1.0
"""Per cent of a search's wall time that logging may cost."""


@dataclass(frozen=True)
class Size:
    """How much is searched and trained."""

    rounds: int
    images: int
    trials: int
    epochs: int
    candidates: int


FULL = Size(rounds=3, images=20_000, trials=3, epochs=3, candidates=8)
QUICK = Size(rounds=1, images=4_000, trials=2, epochs=1, candidates=4)


def mnist(path: str, images: int) -> tuple[Any, Any]:
    """So many of MNIST's training images, in 0..1, and their labels."""
    import numpy as np

    with np.load(path) as data:
        return data["x_train"][:images].reshape(images, -1).astype("float32") / 255, data["y_train"][:images]


def network(units: int, rate: float = 1e-3) -> Any:
    """784 -> units -> 10, compiled."""
    import keras

    model = keras.Sequential(
        [keras.Input((784,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")]
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def random_search(asked: argparse.Namespace, size: Size) -> Callable[[Path, bool], tuple[Callable[[], Any], int]]:
    """keras-tuner's `RandomSearch` on MNIST."""
    import keras
    import keras_tuner

    images, labels = mnist(asked.data, size.images)
    cut = size.images * 4 // 5

    def build(hp: Any) -> Any:
        return network(hp.Int("units", 32, 512, step=32), hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"))

    def prepare(folder: Path, logged: bool) -> tuple[Callable[[], Any], int]:
        keras.utils.set_random_seed(0)
        tuner = keras_tuner.RandomSearch(
            build, "val_accuracy", max_trials=size.trials, seed=1, directory=str(folder), project_name="tuner"
        )

        def search() -> None:
            if logged:
                from hparams_lab.integrations import keras_tuner as ours

                ours.log_to(tuner, folder / "log")
            held_out = images[cut:], labels[cut:]
            tuner.search(
                images[:cut], labels[:cut], validation_data=held_out, epochs=size.epochs, batch_size=128, verbose=0
            )

        return search, size.trials

    return prepare


def keras_grid(asked: argparse.Namespace, size: Size) -> Callable[[Path, bool], tuple[Callable[[], Any], int]]:
    """`GridSearchCV` over `KerasClassifier` on MNIST, 3 folds."""
    import keras
    from sklearn.model_selection import GridSearchCV

    from hparams_lab.integrations.sklearn import KerasClassifier

    images, labels = mnist(asked.data, size.images // 2)

    def prepare(folder: Path, logged: bool) -> tuple[Callable[[], Any], int]:
        keras.utils.set_random_seed(0)
        classifier = KerasClassifier(network, epochs=size.epochs, batch_size=128)
        units = [32, 64, 128][: size.trials - 1]
        search = GridSearchCV(classifier, {"units": units}, cv=3, refit=False)
        return lambda: fit(search, images, labels, folder, logged), 3 * len(units)

    return prepare


def quick_grid(jobs: int) -> Callable[[argparse.Namespace, Size], Any]:
    """`GridSearchCV` over `LogisticRegression` on scikit-learn's digits, 5 folds."""

    def of(asked: argparse.Namespace, size: Size) -> Callable[[Path, bool], tuple[Callable[[], Any], int]]:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV

        images, labels = load_digits(return_X_y=True)

        def prepare(folder: Path, logged: bool) -> tuple[Callable[[], Any], int]:
            grid = {"C": [10.0 ** (number - 4) for number in range(size.candidates)]}
            search = GridSearchCV(LogisticRegression(max_iter=50), grid, cv=5, n_jobs=jobs)
            return lambda: fit(search, images / 16, labels, folder, logged), 5 * size.candidates

        return prepare

    return of


def fit(search: Any, images: Any, labels: Any, folder: Path, logged: bool) -> None:
    """Fit a search of scikit-learn, logged or not."""
    if logged:
        from hparams_lab.integrations import sklearn as ours

        ours.log_search(search, folder / "log")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge
        search.fit(images, labels)


SEARCHES: dict[str, tuple[str, Callable[[argparse.Namespace, Size], Any]]] = {
    "random": ("keras-tuner's RandomSearch, MNIST", random_search),
    "keras": ("GridSearchCV of KerasClassifier, MNIST", keras_grid),
    "quick": ("GridSearchCV of LogisticRegression, digits", quick_grid(1)),
    "quick-2": ("the same, n_jobs=2", quick_grid(2)),
}
"""What each is called, and what makes it."""


def measure(prepare: Any, meter: Meter, parent: str | None, logged: bool) -> tuple[float, ...]:
    """A search in a new directory: wall and CPU seconds, those of the main thread in our code, runs."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        search, runs = prepare(Path(folder), logged)
        meter.reset()
        cpu, began = cpu_seconds(), time.perf_counter()
        search()
        wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
        found = len(lab.read(Path(folder, "log")).runs) if logged else runs
        if found != runs:
            raise SystemExit(f"{found} runs were logged of {runs}")
    return wall, cpu, meter.wall, meter.cpu, runs


def one_search(asked: argparse.Namespace, size: Size) -> None:
    """Measure one of the searches, in this process, and print the figures as JSON."""
    _, make = SEARCHES[asked.search]
    prepare, meter = make(asked, size), Meter()
    meter.attach(asked.search)
    measure(prepare, meter, asked.dir, True)  # what is compiled, imported and started once
    contenders = {
        name: lambda logged=logged: measure(prepare, meter, asked.dir, logged)
        for name, logged in ((WITHOUT, False), (WITH, True))
    }
    print(json.dumps(in_turn_columns(contenders, rounds_of(asked.search, asked))))


def rounds_of(name: str, asked: argparse.Namespace) -> int:
    """How often a search is measured: thrice as often where nothing large is trained."""
    few: int = asked.rounds or (QUICK if asked.quick else FULL).rounds
    return few * 3 if name.startswith("quick") else few


def in_a_process(name: str, asked: argparse.Namespace) -> dict[str, list[float]]:
    """The figures of a search that is measured in a process of its own."""
    command = [sys.executable, __file__, "--search", name, "--data", str(asked.data)]
    command += ["--rounds", str(asked.rounds)] if asked.rounds else []
    command += ["--dir", asked.dir] if asked.dir else []
    command += ["--quick"] if asked.quick else []
    print(SEARCHES[name][0], file=sys.stderr, flush=True)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}  # threads that wait take CPU
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    figures: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(found: dict[str, dict[str, list[float]]]) -> Table:
    """The figures, a row for each search."""
    drawn = Table(title="A search with its logging and without", title_justify="left")
    drawn.add_column("")
    columns = ("wall s", "logged", "more, %", "CPU s", "logged", "more, %")
    for column in (*columns, "in our code, % of wall", "ms a run", "CPU ms a run"):
        drawn.add_column(column, justify="right")
    for name, figures in found.items():
        (wall, cpu, *_), (wall_logged, cpu_logged, ours, ours_cpu, runs) = figures[WITHOUT], figures[WITH]
        direct = [f"{ours / wall_logged * 100:.2f}", f"{ours / runs * 1e3:.1f}", f"{ours_cpu / runs * 1e3:.1f}"]
        if name not in OURS:  # it is in worker processes, which are not watched
            direct = ["", "", f"{(cpu_logged - cpu) / runs * 1e3:+.1f} in all"]
        drawn.add_row(
            SEARCHES[name][0],
            *(f"{wall:.2f}", f"{wall_logged:.2f}", f"{(wall_logged / wall - 1) * 100:+.1f}"),
            *(f"{cpu:.2f}", f"{cpu_logged:.2f}", f"{(cpu_logged / cpu - 1) * 100:+.1f}"),
            *direct,
        )
    return drawn


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("HPARAMS_LAB_MNIST") or ROOT.parent / "shared/data/mnist.npz"
    parser.add_argument("--data", required=not Path(data).exists(), default=str(data), help="MNIST as Keras keeps it")
    parser.add_argument("--rounds", type=int, help="how often each is measured; 3 when left out, quick 1")
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    parser.add_argument("--dir", help="where to write; a temporary directory when left out")
    parser.add_argument("--search", choices=SEARCHES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = QUICK if asked.quick else FULL
    if asked.search:
        one_search(asked, size)
        return
    found = {name: in_a_process(name, asked) for name in SEARCHES}
    console = Console(width=165)
    console.print(table(found))
    rounds = ", ".join(str(rounds_of(name, asked)) for name in SEARCHES)
    console.print("a process's first search, which compiles, imports and asks git, is not counted")
    console.print(f"medians of {rounds} rounds; asked: less than {LIMIT:g} % of the wall time")
    console.print(machine())


if __name__ == "__main__":
    main()
