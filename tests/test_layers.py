"""The architecture, read from the code: imports point only downward, and the heavy packages stay in their leaves."""

import ast
import functools
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.core import errors

PACKAGE = Path(lab.__file__).parent
ROOMS = (
    "core", "storage", "events.format", "events.read", "events.write", "logdir", "run", "targets", "executors", "sweep",
    "keras", "integrations", "board", "analysis", "cli", "__main__",
)  # fmt: skip
"""A room imports from itself and from those before it."""
HEAVY = (
    "tensorflow", "torch", "jax", "sklearn", "keras", "keras_tuner", "optuna", "ray", "pandas", "pyarrow",
    "openpyxl", "plotly",
)  # fmt: skip
ALLOWED = {
    "keras": {"keras"}, "targets": {"keras", "sklearn"}, "core": {"pandas", "pyarrow"}, "executors": {"ray"},
    "integrations": {"keras", "keras_tuner", "sklearn"},
    "analysis": {"sklearn", "pyarrow", "openpyxl", "plotly", "keras"},
}  # fmt: skip
FILES_AND_CLOCKS = ("os", "shutil", "tempfile", "subprocess", "socket", "time", "datetime", "threading")


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"}


@functools.cache
def imports_of(path, at_start_only=False):
    """The full names of what a module imports, anywhere or where that happens at its own import."""
    return [*_imports_of(path, at_start_only)]


def _imports_of(path, at_start_only):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in at_import(tree) if at_start_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("hparams_lab.") in MODULES else node.module


def at_import(node):
    """The nodes that run when the module is imported: not those in functions, nor what only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        only_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not only_types and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from at_import(child)


def ours(path, **options):
    """The modules of this package that a module imports; the package itself, with its lazy names, is none."""
    found = {
        name.removeprefix("hparams_lab.") for name in imports_of(path, **options) if name.startswith("hparams_lab.")
    }
    return sorted(found & MODULES.keys())


def room_of(name):
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "events" and len(parts) > 1 else parts[0]


def test_every_module_is_in_a_room():
    assert {room_of(name) for name in MODULES} == {*ROOMS, "events"}
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {"__init__.py", "__main__.py", "py.typed"}


def test_every_folder_of_tests_is_a_room():
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert folders - {"data", "faults", "frameworks"} <= {room.partition(".")[0] for room in ROOMS}


def test_imports_point_downward():
    """Also those in functions."""
    upward = {
        name: [other for other in ours(path) if ROOMS.index(room_of(other)) > ROOMS.index(room_of(name))]
        for name, path in MODULES.items()
        if name != "events"
    }
    assert {name: others for name, others in upward.items() if others} == {}


def test_no_import_cycle():
    graph = {name: ours(path, at_start_only=True) for name, path in MODULES.items()}
    assert len([*graphlib.TopologicalSorter(graph).static_order()]) == len(MODULES)


def packages_of(path):
    return {found.partition(".")[0] for found in imports_of(path)}


def test_the_core_is_pure():
    core = {name: path for name, path in MODULES.items() if room_of(name) == "core"}
    impure = {name: packages_of(path) & {*FILES_AND_CLOCKS} for name, path in core.items()}
    assert {name: packages for name, packages in impure.items() if packages} == {}


def test_heavy_packages_stay_in_the_leaves():
    heavy = {
        name: (packages_of(path) & {*HEAVY}) - ALLOWED.get(name.partition(".")[0], set())
        for name, path in MODULES.items()
    }
    assert {name: packages for name, packages in heavy.items() if packages} == {}


def test_public_names():
    assert dir(lab) == sorted(lab.__all__)
    assert [getattr(lab, name) for name in lab.__all__]
    with pytest.raises(AttributeError, match=r"^module 'hparams_lab' has no attribute 'no_such'$"):
        lab.no_such  # noqa: B018


def documented(thing):
    """The docstrings of a public object and of its public members."""
    members = [member for name, member in vars(thing).items() if name[0] != "_"] if isinstance(thing, type) else []
    return " ".join(getattr(one, "__doc__", None) or "" for one in (thing, *members))


def test_every_name_that_docs_and_docstrings_use_is_public():
    texts = [*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("docs/*.md"), PACKAGE.parent / "README.md"]
    used = {name for path in texts for name in re.findall(r"\blab\.([A-Za-z]\w*)", path.read_text(encoding="utf-8"))}
    classes = {
        node.name
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    public = [getattr(lab, name) for name in lab.__all__]
    used |= classes & set(re.findall(r"(?<![\w.])[A-Z]\w*[a-z][A-Z]\w+", " ".join(map(documented, public))))
    assert used >= {"UsageError", "HParamValueError", "run_sweep", "Pruned"}
    assert used - {*lab.__all__} == set()
    assert {*errors.__all__} <= {*lab.__all__}


LIGHT = {
    "import": ("import hparams_lab", (*HEAVY, "tensorboard", "numpy", "click", "rich")),
    "help": ("from hparams_lab.cli.main import main; main(['--help'])", (*HEAVY, "tensorboard", "numpy", "rich")),
    "declare": (
        "import hparams_lab as lab\n"
        "domains = [lab.Discrete([1, None]), lab.IntInterval(1, 4), lab.RealInterval(0.1, 1, scale='log')]\n"
        "hparams = [lab.HParam(str(domain), domain) for domain in domains]\n"
        "lab.Experiment.from_json(lab.Experiment(hparams, [lab.Metric('accuracy')]).to_json())",
        (*HEAVY, "tensorboard", "google.protobuf", "numpy"),
    ),
    "public names": ("import hparams_lab as lab; [getattr(lab, name) for name in lab.__all__]", HEAVY),
    "run and read": (
        "import hparams_lab as lab\n"
        "with lab.start_run('logs', hparams={'units': 32}) as run: run.log({'accuracy': 0.5}, step=1)\n"
        "assert lab.read('logs').best().metrics == {'accuracy': 0.5}",
        HEAVY,
    ),
    "sweep": (
        "import hparams_lab as lab\n"
        "space = lab.Experiment([lab.HParam('x', lab.Discrete([1]))], [lab.Metric('accuracy')])\n"
        "lab.run_sweep(space, lambda run: {'accuracy': 1.0}, logdir='logs', executor='inline')",
        HEAVY,
    ),
    "top": (
        "import hparams_lab as lab\n"
        "with lab.start_run('logs', hparams={'units': 32}) as run: run.log({'accuracy': 0.5}, step=1)\n"
        "from hparams_lab.cli.main import main; main(['top', 'logs'])",
        (*HEAVY, "rich.console", "hparams_lab.core.experiment"),
    ),
    "plan": ("from hparams_lab.cli.main import main; main(['plan', 'mnist'])", HEAVY),
}


@pytest.mark.parametrize("what", LIGHT)
def test_what_is_light_stays_light(what, tmp_path):
    """In a process of its own: none of the packages is imported."""
    code, absent = LIGHT[what]
    script = (
        f"import atexit, sys\natexit.register(lambda: print('found', *sorted({set(absent)} & sys.modules.keys())))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", script + code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr, ran.stdout.splitlines()[-1]) == (0, "", "found")
