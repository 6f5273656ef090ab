"""What is told of a `train` that has changed: a function by what it does, a module with the helpers that it imports."""

import itertools
import json
import subprocess
import sys

import pytest

from hparams_lab.targets.fingerprint import fingerprint
from hparams_lab.targets.sources import files_of, hash_of_sources

SCRIPT = """
import functools, json, os, sys
import hparams_lab as lab
{more}
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("loss")])
if __name__ == "__main__":
    events = []
    lab.run_sweep(EXPERIMENT, train, logdir=sys.argv[1], executor="inline", observe=events.append)
    print(json.dumps([event.text for event in events if hasattr(event, "text")]))
"""

PLAIN = """
WIDTH = 3
WORDS = frozenset(["a", "b", "c", "d"])
CONFIG = {"rate": 0.1, "layers": [1, 2]}
def helper(x):
    return x * 2
class Net:
    size = 4
    def forward(self, x):
        return helper(x) + self.size
def outer(scale):
    def train(run):
        "Trains."
        return {"loss": scale * Net().forward(run.hparams["x"]) + WIDTH + CONFIG["rate"] + ("a" in {"a", "b"})}
    return train
train = outer(2)
"""

CHANGES = {
    "the function itself": ("scale * Net()", "scale + Net()"),
    "a function that it calls": ("x * 2", "x * 3"),
    "a class that it uses": ("size = 4", "size = 5"),
    "a method": ("+ self.size", "- self.size"),
    "a closure's value": ("outer(2)", "outer(3)"),
    "a global": ("WIDTH = 3", "WIDTH = 4"),
    "a global dict": ('"rate": 0.1', '"rate": 0.2'),
    "a constant set": ('{"a", "b"}', '{"a", "z"}'),
}

NO_CHANGES = {
    "nothing": ("", ""),
    "lines above": ("WIDTH = 3", "# a comment\n\n\nWIDTH = 3"),
    "what it does not use": ("WIDTH = 3", "WIDTH = 3\nOTHER = 5"),
}


def made(source):
    """The train function of a notebook's cell, which has no file."""
    space = {"__name__": "__main__"}
    exec(compile(source, f"<cell {id(space)}>", "exec"), space)
    return space["train"]


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_seen(what):
    assert fingerprint(made(PLAIN)) != fingerprint(made(PLAIN.replace(*CHANGES[what])))


@pytest.mark.parametrize("what", NO_CHANGES)
def test_what_is_no_change_is_none(what):
    assert fingerprint(made(PLAIN)) == fingerprint(made(PLAIN.replace(*NO_CHANGES[what])))


KINDS = {
    "lambda": "train = lambda run: {'loss': 1.0}",
    "partial": "import functools\ndef base(run, by): return {'loss': by}\ntrain = functools.partial(base, by=1.0)",
    "instance": "class T:\n    def __init__(self): self.by = 1.0\n"
    "    def __call__(self, run): return {'loss': self.by}\ntrain = T()",
    "method": "class T:\n    by = 1.0\n    def fit(self, run): return {'loss': self.by}\ntrain = T().fit",
    "default": "def train(run, by=1.0): return {'loss': by}",
    "decorated": "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def inner(run): return f(run)\n"
    "    return inner\n@deco\ndef train(run): return {'loss': 1.0}",
    "cached": "import functools\n@functools.lru_cache\ndef base(x): return 1.0\n"
    "def train(run): return {'loss': base(1)}",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_callable(kind):
    same, other = KINDS[kind], KINDS[kind].replace("1.0", "1.5")
    assert fingerprint(made(same)) == fingerprint(made(same)) is not None
    assert fingerprint(made(same)) != fingerprint(made(other))


def test_what_it_changes_itself_is_no_change():
    source = (
        "calls, count = [], 0\nclass T:\n    def __init__(self): self.n, self.seen = 0, {}\n"
        "    def __call__(self, run):\n        global count\n        count += 1\n        self.n += 1\n"
        "        self.seen[self.n] = 1\n        calls.append(self.n)\n        return self.n\ntrain = T()"
    )
    train = made(source)
    before = fingerprint(train)
    train(None)
    assert fingerprint(train) == before is not None


def test_what_refers_to_itself_and_to_what_is_strange_ends():
    class Strange:
        def __getattr__(self, name):
            raise ValueError(name)

    odd, loop = Strange(), []
    loop.append(loop)

    def train(run):
        return train, odd, loop

    assert fingerprint(train) in (None, fingerprint(train))
    assert fingerprint(print) == fingerprint(print)


def run_script(path, logdir):
    done = subprocess.run([sys.executable, str(path), str(logdir)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_script_that_changed_is_told_and_one_that_did_not_is_not(tmp_path):
    """In interpreters of their own, with other hashes and addresses; a helper module beside the script."""
    script, helper = tmp_path / "script.py", tmp_path / "far.py"
    helper.write_text("def factor():\n    import farther\n    return farther.FACTOR\n")
    (tmp_path / "farther.py").write_text("FACTOR = 2\n")
    more = PLAIN.replace("helper(x) +", "far.factor() * helper(x) +")
    script.write_text(SCRIPT.replace("{more}", f"import far\n{more}"))
    line = (
        "train has changed since this sweep began; choose another log directory, or fresh=True, to keep results of "
        "different versions apart"
    )
    assert [run_script(script, tmp_path / "logs") for _ in range(3)] == [[], [], []]
    (tmp_path / "farther.py").write_text("FACTOR = 3\n")
    assert run_script(script, tmp_path / "logs") == [line]
    (tmp_path / "farther.py").write_text("FACTOR = 2\n")
    script.write_text(script.read_text().replace("x * 2", "x * 5"))
    assert run_script(script, tmp_path / "logs") == [line]


@pytest.mark.parametrize(
    ("how", "file"),
    [
        ("import near", "near.py"),
        ("from near import f", "near.py"),
        ("def g():\n    import near", "near.py"),
        ("import package.inner", "package/inner.py"),
        ("from package import inner", "package/inner.py"),
        ("from package import inner", "package/__init__.py"),
        ("import package.inner", "package/deep.py"),
    ],
)
def test_the_helpers_that_a_module_imports_count(tmp_path, monkeypatch, how, file):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "package").mkdir()
    for name, text in (
        ("near.py", "import domain\nf = 1\n"),
        ("package/__init__.py", ""),
        ("package/inner.py", "from . import deep\nfrom .deep import x\n"),
        ("package/deep.py", "x = 1\n"),
        ("unused.py", ""),
    ):
        (tmp_path / name).write_text(text)
    domain = tmp_path / "domain.py"
    domain.write_text(f"import os, json, numpy, hparams_lab\n{how}\n")
    before, loaded = hash_of_sources(domain), {*sys.modules}
    (tmp_path / "unused.py").write_text("x = 1")
    assert hash_of_sources(domain) == before
    (tmp_path / file).write_text((tmp_path / file).read_text() + "y = 2\n")
    assert hash_of_sources(domain) != before
    assert {*sys.modules} == loaded
    assert all(path.is_relative_to(tmp_path) for path in files_of(domain))


def test_the_order_of_two_runs_of_the_walk_does_not_matter():
    prints = [fingerprint(made(source)) for source in itertools.chain(KINDS.values(), [PLAIN])]
    assert prints[::-1] == [fingerprint(made(source)) for source in [PLAIN, *[*KINDS.values()][::-1]]]
