"""keras-tuner's search spaces as declared hparams. keras-tuner runs in another process, which imports Keras."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from keras_tuner_scripts import QUICK

import hparams_lab as lab
from hparams_lab.core.hparam import hparam_from_json

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("keras_tuner", "keras"))),
    reason="needs keras-tuner and Keras (pip install 'hparams-lab[keras-tuner,tensorflow]')",
)

SCOPES = """
hp.Choice("kind", ["mlp", "cnn", "none"])
with hp.conditional_scope("kind", ["mlp", "cnn"]):
    hp.Boolean("deep")
    with hp.conditional_scope("deep", [True]):
        hp.Int("layers", 2, 4)
with hp.conditional_scope("kind", ["no such"]):
    hp.Int("never", 1, 2)
    hp.conditional_scope("never", [1])
"""
TWICE = """
hp.Choice("kind", ["mlp", "cnn", "none"])
with hp.conditional_scope("kind", ["mlp"]):
    hp.{0}
with hp.conditional_scope("kind", ["cnn"]):
    hp.{1}
"""
REAL, INT = lab.RealInterval, lab.IntInterval
SPACES = {
    "an int": ('hp.Int("a", 4, 16)', {"a": INT(4, 16)}),
    "an int with a step": ('hp.Int("a", 4, 17, step=4)', {"a": INT(4, 17, step=4)}),
    "a log int": ('hp.Int("a", 4, 64, sampling="log")', {"a": INT(4, 64, scale="log")}),
    "a log int with a step": (
        'hp.Int("a", 4, 64, step=2, sampling="log")',
        {"a": lab.Discrete([4, 8, 16, 32, 64])},
    ),
    "a reversed int": ('hp.Int("a", 4, 64, sampling="reverse_log")', {"a": INT(4, 64)}),
    "a float": ('hp.Float("a", -1, 1)', {"a": REAL(-1.0, 1.0)}),
    "a float with a step": ('hp.Float("a", 0, 0.1, step=0.01)', {"a": REAL(0.0, 0.1, step=0.01)}),
    "a log float": ('hp.Float("a", 1e-4, 1e-2, sampling="log")', {"a": REAL(1e-4, 1e-2, scale="log")}),
    "a log float with a step": (
        'hp.Float("a", 1e-3, 0.1, step=10, sampling="log")',
        {"a": lab.Discrete([0.001, 0.01, 0.1])},
    ),
    "a reversed float with a step": (
        'hp.Float("a", 1, 4, step=2, sampling="reverse_log")',
        {"a": lab.Discrete([4.0, 3.0, 1.0])},
    ),
    "strings": ('hp.Choice("a", ["relu", "tanh"])', {"a": lab.Discrete(["relu", "tanh"])}),
    "numbers": ('hp.Choice("a", [0.5, 0.1])', {"a": lab.Discrete([0.5, 0.1])}),
    "a choice twice": ('hp.Choice("a", [32, 32, 64])', {"a": lab.Discrete([32, 64])}),
    "a boolean": ('hp.Boolean("a")', {"a": lab.Discrete([True, False])}),
    "fixed": ('hp.Fixed("a", 0.25)', {"a": lab.Discrete([0.25])}),
    "in a name scope": ('with hp.name_scope("net"): hp.Int("a", 1, 2)', {"net/a": INT(1, 2)}),
    "Hyperband's own": ('hp.Int("tuner/epochs", 1, 2); hp.Int("a", 1, 2)', {"a": INT(1, 2)}),
    "one name, one domain": (TWICE.format('Int("a", 1, 4)', 'Int("a", 1, 4)'), {"a": INT(1, 4)}),
    "one name, two intervals": (
        TWICE.format('Int("a", 1, 4)', 'Float("a", 0.5, 2)'),
        {"a": REAL(0.5, 4.0)},
    ),
    "one name, two choices": (
        TWICE.format('Choice("a", ["x", "y"])', 'Choice("a", ["y", "z"])'),
        {"a": lab.Discrete(["x", "y", "z"])},
    ),
    "one name, two types": (  # text; of the interval there are the values that trials had
        TWICE.format('Int("a", 1, 4)', 'Choice("a", ["x", "y"])'),
        {"a": lab.Discrete(["x", "y"])},
    ),
}

SCRIPT = """
import json, sys
import keras_tuner
from hparams_lab.integrations.keras_tuner.domains import hparams_of, values_of

def declared(text):
    hp = keras_tuner.HyperParameters()
    exec(text, {"hp": hp})
    return [one.to_json() for one in hparams_of(hp.space)]

def drawn(text, seed):
    oracle = keras_tuner.oracles.RandomSearchOracle(objective="val_loss", seed=seed)
    exec(text, {"hp": oracle.hyperparameters})
    hp = oracle.get_space()
    left = {"layers": 3} if "layers" in text else {}  # of another trial
    hp.values = {"tuner/epochs": 3, **left, **oracle.populate_space("0")["values"]}
    return values_of(hp, hparams_of(hp.space))

asked = json.load(sys.stdin)
found = {what: declared(text) for what, text in asked.items()}
draws = {what: [drawn(text, seed) for seed in range(1, 21)] for what, text in asked.items()}
json.dump([found, draws], sys.stdout)
"""


@pytest.fixture(scope="module")
def answers():
    """What each space was declared as, and 20 trials' values in it."""
    asked = {**{what: text for what, (text, _) in SPACES.items()}, "scopes": SCOPES}
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1]), "KERAS_BACKEND": QUICK}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(asked), env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    found, draws = json.loads(ran.stdout)
    return {what: [hparam_from_json(one) for one in hparams] for what, hparams in found.items()}, draws


@pytest.mark.parametrize("what", SPACES)
def test_domains_are_those_declared(answers, what):
    declared, draws = answers
    _, wanted = SPACES[what]
    found = {hparam.name: hparam for hparam in declared[what]}
    assert {name: hparam.domain for name, hparam in found.items() if name != "kind"} == wanted
    if "kind" in found:
        assert found["a"].active_when == {"kind": ("mlp", "cnn")}
    experiment = lab.Experiment(declared[what], [lab.Metric("val/loss")])
    for values in draws[what]:
        if "one name" not in what:
            assert experiment.check(values) == values
        assert {type(values[name]) for name in wanted if name in values} <= {hparam.dtype for hparam in wanted.values()}


def test_conditional_scopes_are_conditions(answers):
    declared, draws = answers
    found = {hparam.name: hparam for hparam in declared["scopes"]}
    assert {name: hparam.active_when for name, hparam in found.items()} == {
        "kind": {},
        "deep": {"kind": ("mlp", "cnn")},
        "layers": {"kind": ("mlp", "cnn"), "deep": (True,)},
    }
    experiment = lab.Experiment(declared["scopes"], [lab.Metric("val/loss")])
    assert all(experiment.check(values) == values for values in draws["scopes"])
    shapes = {tuple(values) for values in draws["scopes"]}
    assert shapes == {("kind",), ("kind", "deep"), ("kind", "deep", "layers")}
