"""What logging costs: CPU and wall time per scalar and per short run, imports and memory, beside what else there is.

    scripts/bench logging

Every contender runs in a process of its own, in which it first logs a little that is not counted. The time is taken
from the first call to the return of the one that closes the file, in all threads. In the first round the files are
read with TensorBoard's own loader afterwards: every point has to be there. Of contenders whose package is missing a
line says which would bring it.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _bench import ROOT, in_turn, in_turn_columns, show, show_columns

Values = Sequence[float]
Log = Callable[[], object]

MEMORY = "/dev/shm"
STEPS = {1: 100_000, 20: 5_000}
"""How many steps are logged of so many tags."""
WARM_UP = 50
NAME_FORM = 'run.log("loss", value, step)'
MAPPING_FORM = "run.log({20 tags}, step)"
COLUMNS = "run.log_columns"
OURS = {1: NAME_FORM, 20: MAPPING_FORM}
OUR_RUN = "start_run, run.log, finish"


class Contender(NamedTuple):
    """Someone who logs.

    Attributes:
      prepare: given a directory and what else is to be logged, gets ready and returns the call whose time is taken.
      package: what it needs, as pip calls it; module: as Python does.
      most: how many scalars, or short runs, are enough.
    """

    prepare: Callable[..., Callable[..., object]]
    package: str = "hparams-lab"
    module: str = "hparams_lab"
    most: int = 1 << 30


def without_tensorflow() -> None:
    """Have TensorBoard's own code write files by itself, as where TensorFlow is not installed."""
    sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")


# Scalars: every tag in every step.


def tf_eager(logdir: str, tags: Sequence[str], values: Values) -> Log:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(logdir)

    def log() -> None:
        with writer.as_default():
            for step, value in enumerate(values):
                for tag in tags:
                    tf.summary.scalar(tag, value, step=step)
        writer.close()

    return log


def tf_function_per_step(logdir: str, tags: Sequence[str], values: Values) -> Log:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(logdir)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32), tf.TensorSpec([], tf.int64)])
    def log_step(value: Any, step: Any) -> None:
        for tag in tags:
            tf.summary.scalar(tag, value, step=step)

    with writer.as_default():
        log_step.get_concrete_function()
    points = list(zip(tf.constant(values, tf.float32), tf.range(len(values), dtype=tf.int64), strict=True))

    def log() -> None:
        with writer.as_default():
            for value, step in points:
                log_step(value, step)
        writer.close()

    return log


def tf_function_of_loop(logdir: str, tags: Sequence[str], values: Values) -> Log:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(logdir)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def log_steps(values: Any) -> None:
        with writer.as_default():
            for step in tf.range(tf.size(values, out_type=tf.int64)):
                for tag in tags:
                    tf.summary.scalar(tag, values[step], step=step)

    log_steps.get_concrete_function()
    tensor = tf.constant(values, tf.float32)

    def log() -> None:
        log_steps(tensor)
        writer.close()

    return log


def torch_writer(logdir: str, tags: Sequence[str], values: Values) -> Log:
    without_tensorflow()
    from torch.utils.tensorboard import SummaryWriter

    return add_scalars(SummaryWriter(logdir), tags, values)


def tensorboardx_writer(logdir: str, tags: Sequence[str], values: Values) -> Log:
    from tensorboardX import SummaryWriter

    return add_scalars(SummaryWriter(logdir), tags, values)


def tensorboard_writer(logdir: str, tags: Sequence[str], values: Values) -> Log:
    without_tensorflow()
    from tensorboard.summary import Writer

    return add_scalars(Writer(logdir), tags, values)


def add_scalars(writer: Any, tags: Sequence[str], values: Values) -> Log:
    def log() -> None:
        for step, value in enumerate(values):
            for tag in tags:
                writer.add_scalar(tag, value, step)
        writer.close()

    return log


def tensorboard_event_file_writer(logdir: str, tags: Sequence[str], values: Values) -> Log:
    without_tensorflow()
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(logdir)

    def log() -> None:
        for step, value in enumerate(values):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag in tags])
            writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.close()

    return log


def tuff_bird(logdir: str, tags: Sequence[str], values: Values) -> Log:
    run = tuff_bird_run(logdir, {})

    def log() -> None:
        for step, value in enumerate(values):
            run.log(dict.fromkeys(tags, value), step)
        run.finish()

    return log


def tuff_bird_run(logdir: str, config: Mapping[str, Any], name: str = "run") -> Any:
    import tuffbird

    return tuffbird.init(logdir, name, config=config, board=False, capture_output=False, system_metrics=False)


def ours(logdir: str, tags: Sequence[str], values: Values) -> Log:
    run = our_run(logdir, {})
    return log_each(run.log, run.finish, tags, values)


def our_run(logdir: str, hparams: Mapping[str, Any]) -> Any:
    from hparams_lab import start_run

    return start_run(logdir, hparams=hparams, fsync=False, provenance=False)


def empty_call(logdir: str, tags: Sequence[str], values: Values) -> Log:
    def nothing(metrics: Any, value: Any = None, step: Any = None) -> None:
        pass

    return log_each(nothing, lambda: None, tags, values)


def log_each(call: Callable[..., None], finish: Log, tags: Sequence[str], values: Values) -> Log:
    """By name where there is one tag, else by a mapping."""

    def log_names() -> None:
        (tag,) = tags
        for step, value in enumerate(values):
            call(tag, value, step)
        finish()

    def log_mappings() -> None:
        for step, value in enumerate(values):
            call(dict.fromkeys(tags, value), step)
        finish()

    return log_names if len(tags) == 1 else log_mappings


def our_columns(logdir: str, tags: Sequence[str], values: Values) -> Log:
    import numpy as np

    run = our_run(logdir, {})
    columns = {tag: np.array(values) for tag in tags}

    def log() -> None:
        run.log_columns(columns, range(len(values)))
        run.finish()

    return log


def raw_write(logdir: str, tags: Sequence[str], values: Values) -> Log:
    with tempfile.TemporaryDirectory() as elsewhere:
        ours(elsewhere, tags, values)()
        (path,) = Path(elsewhere).glob("run-*/*tfevents*")
        name, data = path.name, path.read_bytes()

    def log() -> None:
        os.mkdir(logdir)
        with open(os.path.join(logdir, name), "wb") as file:
            file.write(data)

    return log


TB = ("tensorboard", "tensorboard")
TF = ("tensorflow-cpu", "tensorflow")
TORCH = ("torch", "torch")
TENSORBOARDX = ("tensorboardX", "tensorboardX")
TUFF_BIRD = ("tuff-bird", "tuffbird")
SCALARS = {
    "run.log": Contender(ours),
    COLUMNS: Contender(our_columns),
    "tf.summary, eager": Contender(tf_eager, *TF, most=5_000),
    "tf.summary, tf.function per step": Contender(tf_function_per_step, *TF, most=20_000),
    "tf.summary, tf.function of the loop": Contender(tf_function_of_loop, *TF),
    "torch SummaryWriter": Contender(torch_writer, *TORCH, most=50_000),
    "tensorboardX SummaryWriter": Contender(tensorboardx_writer, *TENSORBOARDX, most=50_000),
    "tensorboard.summary.Writer": Contender(tensorboard_writer, *TB, most=50_000),
    "tensorboard EventFileWriter": Contender(tensorboard_event_file_writer, *TB),
    "tuff-bird": Contender(tuff_bird, *TUFF_BIRD),
    "an empty Python function": Contender(empty_call),
    "the same bytes, one raw write": Contender(raw_write),
}


# A short run: hparams and three scalars.


_NUMBERS = random.Random(0)
_HPARAMS = [
    {"units": _NUMBERS.choice([16, 32, 64, 128]), "lr": _NUMBERS.uniform(1e-4, 1e-1)} for _ in range(WARM_UP + 1000)
]


def hparams_of(number: int) -> dict[str, Any]:
    """Two values that vary from run to run, at random."""
    return _HPARAMS[number % len(_HPARAMS)]


METRICS = {"loss": 0.25, "accuracy": 0.9, "seconds": 12.0}


def our_short_run(logdir: str) -> Callable[[int], None]:
    def log(number: int) -> None:
        with our_run(logdir, hparams_of(number)) as run:
            run.log(METRICS, 1)

    return log


def add_hparams_torch(logdir: str) -> Callable[[int], None]:
    without_tensorflow()
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(logdir)
    return lambda number: writer.add_hparams(hparams_of(number), METRICS, run_name=str(number), global_step=1)


def add_hparams_tensorboardx(logdir: str) -> Callable[[int], None]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(logdir)
    return lambda number: writer.add_hparams(hparams_of(number), METRICS, name=str(number), global_step=1)


def tf_short_run(logdir: str) -> Callable[[int], None]:
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hp

    def log(number: int) -> None:
        writer = tf.summary.create_file_writer(f"{logdir}/{number}")
        with writer.as_default():
            hp.hparams(hparams_of(number))
            for tag, value in METRICS.items():
                tf.summary.scalar(tag, value, step=1)
        writer.close()

    return log


def tensorboard_short_run(logdir: str) -> Callable[[int], None]:
    without_tensorflow()
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def log(number: int) -> None:
        writer = EventFileWriter(f"{logdir}/{number}")
        writer.add_event(Event(wall_time=time.time(), summary=hparams_pb(hparams_of(number))))
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in METRICS.items()])
        writer.add_event(Event(wall_time=time.time(), step=1, summary=summary))
        writer.close()

    return log


def tuff_bird_short_run(logdir: str) -> Callable[[int], None]:
    def log(number: int) -> None:
        with tuff_bird_run(logdir, hparams_of(number), str(number)) as run:
            run.log(METRICS, 1)

    return log


def raw_short_run(logdir: str) -> Callable[[int], None]:
    with tempfile.TemporaryDirectory() as elsewhere:
        our_short_run(elsewhere)(0)
        (path,) = Path(elsewhere).glob("run-*/*tfevents*")
        name, data = path.name, path.read_bytes()

    def log(number: int) -> None:
        directory = f"{logdir}/{number}"
        os.mkdir(directory)
        with open(f"{directory}/{name}", "wb", buffering=0) as file:
            file.write(data)

    return log


SHORT_RUNS = {
    OUR_RUN: Contender(our_short_run),
    "tf.summary and hp.hparams": Contender(tf_short_run, *TF, most=200),
    "torch add_hparams": Contender(add_hparams_torch, *TORCH, most=500),
    "tensorboardX add_hparams": Contender(add_hparams_tensorboardx, *TENSORBOARDX, most=500),
    "tensorboard EventFileWriter, hparams_pb": Contender(tensorboard_short_run, *TB, most=500),
    "tuff-bird": Contender(tuff_bird_short_run, *TUFF_BIRD, most=500),
    "the same bytes, mkdir and a raw write": Contender(raw_short_run),
}

WITHOUT_TENSORFLOW = 'import sys; sys.modules["tensorboard.compat.notf"] = sys; '
OUR_IMPORT = "from hparams_lab import start_run"
STATEMENTS = {
    OUR_IMPORT: (None, OUR_IMPORT),
    "import hparams_lab": (None, "import hparams_lab"),
    "python -c pass": (None, "pass"),
    "import numpy": (None, "import numpy"),
    "tensorboard EventFileWriter, hparams_pb": (
        TB,
        f"{WITHOUT_TENSORFLOW}import tensorboard.summary.writer.event_file_writer as writer; writer.EventFileWriter;"
        "from tensorboard.plugins.hparams.summary_v2 import hparams_pb",
    ),
    "tensorflow": (TF, "import tensorflow; tensorflow.summary"),
    "torch SummaryWriter": (TORCH, f"{WITHOUT_TENSORFLOW}from torch.utils.tensorboard import SummaryWriter"),
    "tensorboardX SummaryWriter": (TENSORBOARDX, "from tensorboardX import SummaryWriter"),
    "tuff-bird": (TUFF_BIRD, "import tuffbird"),
}


# In a contender's process.


def measured_scalars(contender: Contender, tags: int, steps: int, logdir: Path, check: bool) -> list[float]:
    """CPU and wall time per scalar in microseconds."""
    names = [f"metric-{number}" for number in range(tags)] if tags > 1 else ["loss"]
    steps = min(steps, contender.most // tags)
    values = [number / 1024 for number in range(steps)]
    contender.prepare(str(logdir / "warm-up"), names, values[:WARM_UP])()
    seconds = timed(contender.prepare(str(logdir / "timed"), names, values))
    if check and contender.prepare is not empty_call:
        expect(dict.fromkeys(names, steps), logdir / "timed")
    return [taken / (tags * steps) * 1e6 for taken in seconds]


def measured_runs(contender: Contender, runs: int, logdir: Path, check: bool) -> list[float]:
    """CPU and wall time per run in milliseconds."""
    runs = min(runs, contender.most)
    directory = logdir / "runs"
    directory.mkdir()
    log = contender.prepare(str(directory))
    log_all(log, range(WARM_UP))
    seconds = timed(lambda: log_all(log, range(WARM_UP, WARM_UP + runs)))
    if check:
        expect(dict.fromkeys([*METRICS, "_hparams_/session_start_info"], WARM_UP + runs), directory)
    return [taken / runs * 1e3 for taken in seconds]


def log_all(log: Callable[[int], object], numbers: Sequence[int]) -> None:
    for number in numbers:
        log(number)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of all threads, and wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def expect(wanted: Mapping[str, int], logdir: Path) -> None:
    """End the program unless TensorBoard finds so many values of these tags."""
    without_tensorflow()
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found: dict[str, int] = collections.Counter()
    for path in logdir.rglob("*tfevents*"):
        for event in RawEventFileLoader(str(path)).Load():
            tags = (value.tag for value in Event.FromString(event).summary.value)
            found.update(tag.removeprefix("while/") for tag in tags)  # the name scope of a loop in a tf.function
    short = {tag: found[tag] for tag, count in wanted.items() if found[tag] != count}
    if short:
        sys.exit(f"of {dict(wanted)} there are only {short} in {logdir}")


def memory_of(scalars: int, logdir: Path) -> float:
    """Megabytes at most while so many scalars are logged, 20 in a call."""
    tags = [f"metric-{number}" for number in range(20)]
    run = our_run(str(logdir), {})
    for step in range(scalars // 20):
        run.log(dict.fromkeys(tags, step / 1024), step)
    run.finish()
    return peak_memory()


PEAK_MEMORY = '''
def peak_memory():
    """The most memory that this process had, in megabytes."""
    try:
        with open("/proc/self/status") as status:  # getrusage counts, on Linux, what the process was forked from
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6
    except OSError:
        import resource, sys
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
'''
"""As text, because it also runs where nothing else may be imported."""


def peak_memory() -> float:
    names: dict[str, Any] = {}
    exec(PEAK_MEMORY, names)
    return names["peak_memory"]()


# In the process that compares them.


def in_own_process(*arguments: object) -> list[float]:
    """The figures that this script prints with these arguments."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measures_of(
    contenders: Mapping[str, Contender], kind: str, names: Mapping[str, str], options: argparse.Namespace
) -> dict[str, Callable[[], list[float]]]:
    """By shown name, a measurement in a process of its own that is checked the first time."""

    def measure_of(name: str) -> Callable[[], list[float]]:
        checks: Iterator[list[str]] = itertools.chain([["--check"]], itertools.repeat([]))
        what = ["--contender", name, "--kind", kind, "--scale", options.scale, *directory_of(options)]
        return lambda: in_own_process(*what, *next(checks))

    return {
        names.get(name, name): measure_of(name)
        for name, contender in contenders.items()
        if is_asked_for(name, contender, options.only) and is_installed(name, contender.package, contender.module)
    }


def is_asked_for(name: str, contender: Contender, only: Sequence[str]) -> bool:
    return not only or contender.prepare in (ours, our_short_run) or any(part in name for part in only)


def directory_of(options: argparse.Namespace) -> list[str]:
    return ["--dir", options.dir] if options.dir else []


def is_installed(name: str, package: str, module: str) -> bool:
    if importlib.util.find_spec(module):
        return True
    print(f"without {name}: pip install {package}")
    return False


def import_cost(statement: str) -> list[float]:
    """Wall seconds, CPU seconds and megabytes of a Python that only does this."""
    program = f"{statement}\nimport time\ncpu = time.process_time()\n{PEAK_MEMORY}\nprint([cpu, peak_memory()])"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    return [time.perf_counter() - began, *json.loads(done.stdout.splitlines()[-1])]


def compare_scalars(options: argparse.Namespace) -> None:
    for tags, steps in STEPS.items():
        names = {"run.log": OURS[tags]}
        measures = measures_of(SCALARS, str(tags), names, options)
        title = f"Scalars: {tags} tag{'s' if tags > 1 else ''} x {int(steps * options.scale):,} steps"
        notes = [
            f"{name}: measured with {contender.most:,} scalars"
            for name, contender in SCALARS.items()
            if contender.most < tags * steps * options.scale and name in measures
        ]
        figures = in_turn_columns(measures, options.rounds)
        show_columns(title, ["CPU us a scalar", "wall us"], figures, OURS[tags], notes)


def compare_short_runs(options: argparse.Namespace) -> None:
    measures = measures_of(SHORT_RUNS, "short", {}, options)
    figures = in_turn_columns(measures, options.rounds)
    title = "A whole short run: hparams and three scalars, from start to finish, one after the other"
    show_columns(title, ["CPU ms a run", "wall ms"], figures, OUR_RUN)


def compare_imports(options: argparse.Namespace) -> None:
    statements = {
        name: statement
        for name, (needed, statement) in STATEMENTS.items()
        if needed is None or is_installed(name, *needed)
    }
    for statement in statements.values():
        import_cost(statement)  # for the compiled files
    measures = {name: lambda text=text: import_cost(text) for name, text in statements.items()}
    figures = in_turn_columns(measures, options.rounds)
    show_columns(
        "Imports, Python's own start included", ["wall s", "CPU s", "peak MB"], figures, next(iter(STATEMENTS))
    )


def compare_memory(options: argparse.Namespace) -> None:
    sizes = [int(scalars * options.scale) for scalars in (10**5, 10**6, 10**7)]
    names = {0: "run started, nothing logged", **{size: f"{size:,} scalars" for size in sizes}}
    directory = directory_of(options)
    measures = {name: lambda size=size: in_own_process("--memory", size, *directory)[0] for size, name in names.items()}
    show("Memory of run.log({20 tags}, step)", "peak MB", in_turn(measures, options.rounds), names[sizes[-1]])


COMPARISONS = {
    "scalars": compare_scalars,
    "short-runs": compare_short_runs,
    "imports": compare_imports,
    "memory": compare_memory,
}


def measure_here(options: argparse.Namespace) -> list[float]:
    """The figures of one contender."""
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        logdir = Path(directory)
        if options.memory is not None:
            return [memory_of(options.memory, logdir)]
        if options.kind == "short":
            contender = SHORT_RUNS[options.contender]
            return measured_runs(contender, int(1000 * options.scale), logdir, options.check)
        tags = int(options.kind)
        steps = int(STEPS[tags] * options.scale)
        return measured_scalars(SCALARS[options.contender], tags, steps, logdir, options.check)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(COMPARISONS)}; all when left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="log so many times as much")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PART", help="besides ours, those with it in their name"
    )
    default = MEMORY if os.path.isdir(MEMORY) else None
    parser.add_argument(
        "--dir", default=default, help=f"where to write; {default or 'a temporary directory'} by default"
    )
    for hidden, kind in {"--contender": str, "--kind": str, "--memory": int}.items():
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender or options.memory is not None:
        print(json.dumps(measure_here(options)))
        return
    for name in options.what or COMPARISONS:
        COMPARISONS[name](options)


if __name__ == "__main__":
    main()
