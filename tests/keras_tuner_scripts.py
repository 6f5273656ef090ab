"""The scripts that `test_keras_tuner.py` runs in processes of their own, which import Keras."""

from importlib.util import find_spec

QUICK = "jax" if find_spec("jax") else "tensorflow"
"""The backend of Keras for what holds on any: JAX takes a third of the time to import, but few have it."""

HEAD = """
import warnings
warnings.simplefilter("error")
# keras-tuner asks for the thread's name in the old way
warnings.filterwarnings("ignore", "(currentThread|getName)\\\\(\\\\) is deprecated", DeprecationWarning)
# Keras hands its variables to NumPy 2 in the old way
warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword", DeprecationWarning)
# Hyperband loads the weights of the round before into a model whose optimizer is new
warnings.filterwarnings("ignore", "Skipping variable loading for optimizer", UserWarning)

import json, os, sys, time
import keras, keras_tuner
from sklearn.datasets import load_digits
import hparams_lab as lab
from hparams_lab.core.errors import HParamsLabError
from hparams_lab.integrations.keras_tuner import HParamsMixin, log_to

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
DATA = dict(x=images[:200], y=labels[:200], validation_data=(images[200:300], labels[200:300]))

def build(hp):
    units, rate = hp.Int("units", 4, 16, step=4), hp.Float("rate", 1e-3, 1e-1, sampling="log")
    net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")])
    net.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return net

def made(kind, name, build=build, overwrite=True, **more):
    more = {"objective": "val_accuracy", "seed": 1, **more}
    return kind(build, directory="projects", project_name=name, overwrite=overwrite, **more)

def search(tuner, epochs=2, **more):
    tuner.search(**DATA, batch_size=100, epochs=epochs, verbose=0, **more)
    return tuner

def told(tuner):
    return {t.trial_id: [t.status, t.score, t.hyperparameters.values] for t in tuner.oracle.trials.values()}
"""

SEARCHES = (
    HEAD
    + """
found = {}

# executions, a real objective, conditions, and what only fit asks for
class Fitted(keras_tuner.HyperModel):
    def build(self, hp):
        kind = hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["b"]):
            deep = hp.Boolean("deep")
            with hp.conditional_scope("deep", [True]):
                hp.Int("depth", 1, 3)
        return build(hp)
    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, **{**kwargs, "batch_size": hp.Choice("batch", [50, 100])})

tuner = made(keras_tuner.RandomSearch, "random", Fitted(), max_trials=2, executions_per_trial=2, seed=5)
assert log_to(tuner, "logs/random") is tuner and isinstance(tuner, keras_tuner.RandomSearch)
found["random"] = told(search(tuner))

tuner = log_to(made(keras_tuner.Hyperband, "hyperband", max_epochs=3, factor=3), "logs/hyperband")
class Look(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        looks.append({run.name: run.outcome.value for run in lab.read("logs/hyperband").runs})
looks = []
found["hyperband"] = told(search(tuner, callbacks=[Look()]))
found["hyperband looks"] = looks
found["hyperband best"] = tuner.oracle.get_best_trials()[0].score

def faulty(hp):
    what = hp.Choice("what", ["good", "nan", "build", "big"])
    if what == "build":
        raise ValueError("no such\\nlayer")
    net = build(hp)
    if what == "big":
        net.add(keras.layers.Dense(1000))
    if what == "nan":
        net.compile("sgd", lambda y, said: keras.ops.mean(said) * float("nan"), metrics=["accuracy"], run_eagerly=True)
    return net

space = keras_tuner.HyperParameters()
space.Fixed("units", 4), space.Fixed("rate", 0.01)
more = dict(hyperparameters=space, max_model_size=5000, max_consecutive_failed_trials=9)
tuner = log_to(made(keras_tuner.GridSearch, "faulty", faulty, objective="val_loss", **more), "logs/faulty")
found["faulty"] = told(search(tuner, 1))

# judged by the accuracy, which there is without a loss
space = keras_tuner.HyperParameters()
space.Fixed("units", 4), space.Fixed("rate", 0.01), space.Fixed("what", "nan")
tuner = log_to(made(keras_tuner.GridSearch, "lost", faulty, hyperparameters=space), "logs/lost")
found["lost"] = told(search(tuner, 1))

# a retry that works out
tries = []
def flaky(hp):
    net = build(hp)
    tries.append(1)
    if len(tries) == 2:  # the first is to explore the space
        raise OSError("not now")
    return net
tuner = log_to(made(keras_tuner.RandomSearch, "flaky", flaky, max_trials=1, max_retries_per_trial=2), "logs/flaky")
found["flaky"] = told(search(tuner, 1))

# run_trial of one's own: no model at all, a number
class Box(HParamsMixin, keras_tuner.BayesianOptimization):
    def run_trial(self, trial, verbose):
        hp = trial.hyperparameters
        x = hp.Float("x", -1.0, 1.0)
        return x * x + (hp.Int("more", 0, 3) if len(self.oracle.trials) > 1 else 0)
box = Box(max_trials=4, directory="projects", project_name="box", overwrite=True, seed=2, logdir="logs/box")
box.search(verbose=0)
found["box"] = told(box)

# run_trial of one's own around keras-tuner's, and several objectives
class Batches(keras_tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        kwargs["batch_size"] = trial.hyperparameters.Choice("batch", [40, 200])
        return super().run_trial(trial, *args, **kwargs)
tuner = made(Batches, "several", objective=["val_loss", "val_accuracy"], max_trials=2)
found["several"] = told(search(log_to(tuner, "logs/several")))

# folds
from sklearn import ensemble, metrics, model_selection
def forest(hp):
    return ensemble.RandomForestClassifier(hp.Int("trees", 2, 6), max_depth=hp.Int("depth", 2, 4), random_state=0)
oracle = keras_tuner.oracles.RandomSearchOracle(objective=keras_tuner.Objective("score", "max"), max_trials=2, seed=3)
folds = dict(cv=model_selection.StratifiedKFold(3), metrics=[metrics.accuracy_score], overwrite=True)
tuner = keras_tuner.SklearnTuner(oracle, forest, directory="projects", project_name="folds", **folds)
oracle.verbose = 0
log_to(tuner, "logs/folds").search(images, labels)
found["folds"] = told(tuner)

# interrupted, and a fatal error
class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if sum(run.ended is not None for run in lab.read("logs/stopped").runs) and epoch:
            raise KeyboardInterrupt
tuner = log_to(made(keras_tuner.RandomSearch, "stopped", max_trials=3), "logs/stopped")
try:
    search(tuner, callbacks=[Stop()])
except KeyboardInterrupt:
    found["stopped"] = told(tuner)
def none(hp):
    hp.Int("units", 1, 2)
tuner = log_to(made(keras_tuner.RandomSearch, "fatal", none, max_trials=3), "logs/fatal")
try:
    search(tuner)
except keras_tuner.errors.FatalTypeError as error:
    found["fatal"] = str(error)

# what is refused, with nothing done
def refused(call):
    try:
        return f"not refused: {call()}"
    except HParamsLabError as error:
        return f"{type(error).__name__}: {error}"
def fresh_tuner(name, **more):
    return made(keras_tuner.RandomSearch, name, max_trials=1, **more)
def behind():
    class Behind(keras_tuner.RandomSearch, HParamsMixin): ...
def unholdable(hp):
    hp.Int("size", 1, 2**60)
    return build(hp)
def distributed():
    tuner = fresh_tuner("new")
    os.environ["KERASTUNER_ORACLE_IP"] = "127.0.0.1"
    try:
        log_to(tuner, "logs/new")
    finally:
        del os.environ["KERASTUNER_ORACLE_IP"]
from hparams_lab.integrations.keras_tuner.found import check_version
objectives = [keras_tuner.Objective("a", "max"), keras_tuner.Objective("b", "min")]
def several():
    oracle = keras_tuner.oracles.RandomSearchOracle(objective=objectives)
    return keras_tuner.SklearnTuner(oracle, forest, directory="projects", project_name="new")
def ran_already():
    return made(keras_tuner.RandomSearch, "several", overwrite=False)
with lab.start_run("logs/other", hparams={"a": 1}) as run:
    run.log({"accuracy": 1.0})
found["refused"] = {
    "no tuner": refused(lambda: log_to(build, "logs/new")),
    "a class": refused(lambda: log_to(keras_tuner.RandomSearch, "logs/new")),
    "twice": refused(lambda: log_to(log_to(fresh_tuner("twice"), "logs/twice"), "logs/twice")),
    "ran already": refused(lambda: log_to(ran_already(), "logs/new")),
    "ran already, fresh": refused(lambda: log_to(ran_already(), "logs/random", fresh=True)),
    "something else": refused(lambda: log_to(fresh_tuner("new"), "logs/other")),
    "another search": refused(lambda: log_to(fresh_tuner("new"), "logs/random")),
    "inside the project": refused(lambda: log_to(fresh_tuner("new"), "projects/new/logs")),
    "around the project": refused(lambda: log_to(fresh_tuner("new"), "projects", fresh=True)),
    "several": refused(lambda: log_to(several(), "logs/new")),
    "unholdable": refused(lambda: log_to(made(keras_tuner.RandomSearch, "new", unholdable), "logs/new")),
    "behind": refused(behind),
    "distributed": refused(distributed),
    "old": refused(lambda: check_version("1.4.5", True)),
    "changed": refused(lambda: check_version("1.5.0", False)),
    "newer": refused(lambda: check_version("2.0.0", True)),
    "new is still": os.path.exists("logs/new"),
}
json.dump(found, open("found.json", "w"), default=float)
"""
)

# A Hyperband that waits to be killed, at the end of the epoch that is asked for.
GATED = (
    HEAD
    + """
class Gate(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == int(sys.argv[1]):
            open(f"waiting{epoch}", "w").close()
            time.sleep(120)

tuner = made(keras_tuner.Hyperband, "gated", overwrite=False, max_epochs=3, factor=3)
log_to(tuner, "logs")
search(tuner, callbacks=[Gate()])
assert ("tensorflow" in sys.modules) == (keras.backend.backend() == "tensorflow")
json.dump(told(tuner), open("found.json", "w"), default=float)
"""
)

# What goes wrong while a search goes on, or between log_to and it.
TROUBLE = (
    HEAD
    + """
import resource, shutil
found = {}

class Plain(keras_tuner.RandomSearch):
    hook = staticmethod(lambda hp: None)
    def run_trial(self, trial, **more):
        x = trial.hyperparameters.Float("x", 0.0, 1.0)
        self.hook(trial.hyperparameters)
        return x

def plain(name, hook=None, trials=4, **more):
    objective = keras_tuner.Objective("default_objective", "max")
    tuner = made(Plain, name, None, objective=objective, max_trials=trials, **more)
    tuner.hook = hook or tuner.hook
    return tuner

def warned(search):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        search()
    return [str(one.message) for one in said if issubclass(one.category, UserWarning)]

def line_of(call):
    try:
        call()
    except HParamsLabError as error:
        return f"{type(error).__name__}: {error}"

# the log directory is lost while the search goes on
def lose():
    shutil.rmtree("logs/lost")
    open("logs/lost", "w").close()
def seeded(name, second):
    built = []
    def build_seeded(hp):
        built.append(1)
        keras.utils.set_random_seed(len(built))
        if len(built) == 3:  # the first is to explore the space
            second()
        return build(hp)
    tuner = made(keras_tuner.RandomSearch, name, build_seeded, max_trials=3)
    return tuner, built
for name, second in (("unlogged", lambda: None), ("lost", lose)):
    tuner, built = seeded(name, second)
    if name == "lost":
        log_to(tuner, "logs/lost")
    found[name + " said"] = warned(lambda: search(tuner))
    found[name] = [told(tuner), len(built)]

# a full disk: less room than the epochs of the second trial need, and enough for what keras-tuner writes
class Fits(keras_tuner.RandomSearch):
    trained = 0
    def run_trial(self, trial, callbacks, **more):
        rate = trial.hyperparameters.Float("rate", 1e-3, 1e-1)
        self.trained += 1
        keras.utils.set_random_seed(self.trained)
        if self.trained == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
        net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, "softmax")])
        net.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return net.fit(**DATA, batch_size=200, epochs=60, verbose=0, callbacks=callbacks)
for name in ("full unlogged", "full"):
    tuner = made(Fits, name, None, max_trials=2)
    if name == "full":
        log_to(tuner, "logs/full")
    found[name + " said"] = warned(lambda: tuner.search(callbacks=[], verbose=0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    found[name] = [told(tuner), tuner.trained]

# types that one column cannot hold: the second comes up late; both are known
def late(hp):
    late.calls += 1
    if late.calls > 1:
        hp.Choice("kind", ["a", "b"])
    if late.calls > 2:
        with hp.conditional_scope("kind", ["a", "b"]):
            hp.Int("y", 1, 3)
    if late.calls > 3:
        with hp.conditional_scope("kind", ["a"]):
            hp.Choice("y", ["p", "q"])
    note(hp)
late.calls = 0
def note(hp):  # keras-tuner may draw anew, after the trial, for a name that it has twice
    trained_with.append(dict(hp.values))
trained_with = []
tuner = log_to(plain("late", late, 7), "logs/late")
found["late said"] = warned(lambda: tuner.search(verbose=0))
found["late"] = [told(tuner), trained_with]
trained_with = []
mixed = keras_tuner.HyperParameters()
mixed.Choice("a", ["x", "y"])
with mixed.conditional_scope("a", ["x"]):
    mixed.Int("size", 1, 9)
    with mixed.conditional_scope("size", [*range(1, 10)]):
        mixed.Boolean("more")
with mixed.conditional_scope("a", ["y"]):
    mixed.Choice("size", ["small", "large"])
tuner = log_to(plain("mixed", note, 8, hyperparameters=mixed), "logs/mixed")
found["mixed said"] = warned(lambda: tuner.search(verbose=0))
found["mixed"] = [told(tuner), trained_with]

# a cell that is run twice; the directory is filled by the second before the first searches
first = log_to(plain("cell"), "logs/cell")
second = log_to(plain("cell"), "logs/cell", fresh=True)
found["cell is still"] = os.path.exists("logs/cell")
def meanwhile(hp):
    found["cell meanwhile"] = line_of(lambda: log_to(plain("cell 2"), "logs/cell"))
second.hook = meanwhile
second.search(verbose=0)
found["cell"] = told(second)
found["cell is filled"] = line_of(lambda: first.search(verbose=0))
found["cell first"] = told(first)
with open("logs/cell/mine", "w"):
    second.oracle.max_trials = 5
    second.hook = lambda hp: None
    second.search(verbose=0)  # fresh=True was for the first time
found["cell goes on"] = [os.path.exists("logs/cell/mine"), os.path.getsize("logs/cell/.lock")]

# a run whose end logged the value that counts behind its last epoch is gone on with
from hparams_lab.integrations.keras_tuner.left import LeftRuns
from hparams_lab.integrations.keras_tuner.objective import Objective
from hparams_lab.integrations.search_log import SearchLog
from hparams_lab.storage.paths import paths_of
class Worse(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs):
        logs["val_accuracy"] = [0.25, 0.75, 0.5][epoch]
class First(keras_tuner.HyperModel):
    def build(self, hp):
        return build(hp)
    def fit(self, hp, model, *args, callbacks, **kwargs):
        return model.fit(*args, callbacks=[Worse(), *callbacks], **kwargs)
tuner = made(keras_tuner.RandomSearch, "behind", First(), max_trials=1)
search(log_to(tuner, "logs/behind"), 3)
def points():
    (run,) = lab.read("logs/behind").runs
    return [*map(float, run.scalars("val/accuracy").steps)], [*map(float, run.scalars("val/accuracy").values)]
found["behind"] = [points()]
objective = Objective.of(tuner)
for after in (None, 4):
    log = SearchLog.open("logs/behind", "keras-tuner RandomSearch", goes_on=True)
    log.experiment = lab.read("logs/behind").experiment
    left = LeftRuns(paths_of("logs/behind"), tuner.oracle, objective)
    runs = left.restored(0, [tuner.oracle.trials["0"]], after)
    (training,) = runs.trainings
    training.open(log, runs)
    found["behind"].append([training.epochs, training.rounds[0].step, training.rounds[0].value])
    training.epoch(training.epochs, {"val/accuracy": 0.625, "train/loss": 1.0}, objective)
    training.judge(objective, None)
    runs.end_round(0.625)
    runs.finish(objective)
    log.close()
    found["behind"].append(points())
json.dump(found, open("found.json", "w"), default=float)
"""
)
