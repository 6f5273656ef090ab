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
import inspect
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from _bench import ROOT, in_turn, in_turn_columns, peak_memory, show, show_columns, without_tensorflow
from _run_loggers import METRICS, SHORT_RUNS, STATEMENTS, our_short_run
from _scalar_loggers import (
    MEMORY,
    OUR_RUN,
    OURS,
    SCALARS,
    STEPS,
    WARM_UP,
    Contender,
    empty_call,
    our_run,
    ours,
)

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


PEAK_MEMORY = f"import contextlib, sys\n{inspect.getsource(peak_memory)}"
"""As text, because it also runs where nothing else may be imported."""


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
