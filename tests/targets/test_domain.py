"""Domains: a file, a module, a built-in name; and what each bad one is told."""

import sys

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import DeclarationError, DomainLoadError, UsageError
from hparams_lab.targets.load import BUILT_IN, function_domain, load_domain, load_module

GOOD = """
import hparams_lab as lab
EXPERIMENT = lab.Experiment([lab.HParam("units", lab.Discrete([8, 16]))], [lab.Metric("accuracy")])
"""
TRAIN = "def train(run):\n    return {'accuracy': run.hparams['units'] / 16}\n"
KERAS = "def build_model(hparams): ...\ndef load_data(): ...\n"


@pytest.fixture(autouse=True)
def own_path(tmp_path, monkeypatch):
    """In a directory of its own, with what is imported there forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file(weird_tmp_path):
    write(weird_tmp_path / "beside.py", "UNITS = 24")
    path = write(weird_tmp_path / "tuning.py", f"import beside\n{GOOD}{TRAIN}")
    domain = load_domain(str(path))
    assert (domain.name, domain.identity) == ("tuning", {"domain": "tuning.py", "data": None})
    assert domain.experiment.hparam("units").domain == lab.Discrete([8, 16])
    assert domain.target.load() is load_module(str(path)).train
    assert domain.target.preload == ()


def test_a_relative_file_is_found_from_another_directory(tmp_path, monkeypatch):
    write(tmp_path / "here/tuning.py", GOOD + TRAIN)
    monkeypatch.chdir(tmp_path / "here")
    target = load_domain("tuning.py").target
    monkeypatch.chdir(tmp_path)
    assert target.load().__name__ == "train"


def test_files_of_one_name_are_different_domains(tmp_path):
    one, other = write(tmp_path / "a/tuning.py", GOOD + TRAIN), write(tmp_path / "b/tuning.py", GOOD + TRAIN)
    assert load_module(str(one)) is not load_module(str(other))
    assert load_module(str(one)) is load_module(str(one))


def test_a_module_of_the_current_directory(tmp_path):
    write(tmp_path / "package_of_mine/tuning.py", GOOD + TRAIN)
    domain = load_domain("package_of_mine.tuning")
    assert (domain.name, domain.identity["domain"]) == ("tuning", "package_of_mine.tuning")
    assert domain.target.load()


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in(name):
    domain = load_domain(name, settings=["num_units=16"])
    assert (domain.name, domain.experiment.name, domain.identity["domain"]) == (name, name, name)
    assert domain.experiment.hparam("num_units").domain == lab.Discrete([16])
    assert domain.target.preload == ("hparams_lab.keras.callback",)


def test_a_keras_domain_may_save_and_take_data(tmp_path):
    path = write(tmp_path / "nets.py", GOOD + "def build_model(hparams): ...\ndef load_data(data): ...\n")
    domain = load_domain(str(path), data="some/data.npz", save_model=True)
    assert (domain.target.data, domain.target.save_model) == (str(tmp_path / "some/data.npz"), True)
    assert domain.identity == {"domain": "nets.py", "data": "data.npz"}


def test_a_function():
    class Callable:
        def __call__(self, run): ...

    def train(run): ...

    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
    assert function_domain(experiment, train).name == "train"
    assert function_domain(experiment, Callable()).identity == {"domain": "Callable", "data": None}


BAD_FILES = {
    r"^domain 'bad.py' has no EXPERIMENT; define EXPERIMENT = lab.Experiment\(hparams=": TRAIN,
    r"^domain 'bad.py' has an EXPERIMENT that is a dict; define EXPERIMENT =": f"EXPERIMENT = {{}}\n{TRAIN}",
    r"^domain 'bad.py' has no train\(run\); define it, or build_model\(hparams\) and load_data\(\) for Keras": GOOD,
    r"^domain 'bad.py' has no train": f"{GOOD}train = 3\n",
    r"^domain 'bad.py' has no train\(run\); define it": f"{GOOD}def build_model(hparams): ...\n",
    r"^domain 'bad.py' has a syntax error: .* \(line 1\)$": "def train(run:\n",
    r"^domain 'bad.py' imports 'no_such_module', which is not installed$": "import no_such_module\n",
    r"^domain 'bad.py' failed to import: ZeroDivisionError: division by zero \(bad.py, line 2\)$": "\nx = 1 / 0\n",
    r"^domain 'bad.py' failed to import: SystemExit": "import sys\nsys.exit(3)\n",
}


@pytest.mark.parametrize("message", BAD_FILES)
def test_bad_files(tmp_path, message):
    write(tmp_path / "bad.py", BAD_FILES[message])
    with pytest.raises(DomainLoadError, match=message):
        load_domain("bad.py")


def test_a_bad_declaration_says_what_is_wrong_with_it(tmp_path):
    write(tmp_path / "bad.py", "import hparams_lab as lab\nlab.Discrete([])\n")
    with pytest.raises(DeclarationError, match=r"^Discrete\(\[\]\) has no value to choose"):
        load_domain("bad.py")


def test_a_file_that_failed_is_read_again(tmp_path):
    path = write(tmp_path / "bad.py", "import no_such_module\n")
    with pytest.raises(DomainLoadError, match="not installed"):
        load_domain("bad.py")
    path.write_text(GOOD + TRAIN)
    assert load_domain("bad.py")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such", r"^there is no domain 'no_such'; give digits, mnist, a module's name, or the path of a .py file$"),
        ("os.no_such", r"^there is no domain 'os.no_such'; give digits"),
        ("no_such.py", r"^there is no file 'no_such.py' in /.*; give a built-in name, a module or a file$"),
        ("./folder", r"^there is no file 'folder' in /.*; give a built-in name, a module or a file$"),
        ("./notes.txt", r"^'notes.txt' is not a Python file; a domain is a module or a .py file$"),
        ("json", r"^domain 'json' has no EXPERIMENT"),
        ("", r"^there is no domain ''; give digits"),
        (".tuning", r"^there is no domain '.tuning'; give digits"),
    ],
)
def test_sources_that_are_no_domain(tmp_path, source, message):
    write(tmp_path / "folder/tuning.py", GOOD + TRAIN)
    write(tmp_path / "notes.txt", "notes")
    with pytest.raises(DomainLoadError, match=message):
        load_domain(source)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TRAIN, {"save_model": True}, r"^--save-model is for Keras domains; 'good.py' has a train\(run\), which can"),
        (TRAIN, {"data": "x.npz"}, r"^--data is for domains whose load_data\(data\) takes a file; 'good.py' does not$"),
        (KERAS, {"data": "x.npz"}, r"^--data is for domains whose load_data\(data\) takes a file; 'good.py' does not$"),
        (TRAIN, {"settings": ["unit=8"]}, r"^--set names 'unit', which is not an hparam; did you mean 'units'\?"),
    ],
)
def test_options_that_do_not_fit(tmp_path, text, options, message):
    write(tmp_path / "good.py", GOOD + text)
    with pytest.raises(UsageError, match=message):
        load_domain("good.py", **options)
