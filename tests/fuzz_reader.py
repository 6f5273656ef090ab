"""The fast reader against the slow one, on many mutants: `python tests/fuzz_reader.py --mutants 500000 --seed 1`.

Processes read the mutants in batches, each as the runs of one log directory, under a limit on their memory, and tell of
each batch before and after it; so what kills a process is told with the seeds that it was reading. Prints a table; the
exit code is 1 when something was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mutants import mutant
from slow_reader import differences, slow_read, whole
from watched import ALLOWED, Watched, can_watch, limited, warm_up, watched

from hparams_lab.core.curve import Thin
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.results import Results
from hparams_lab.logdir.reader import read

NAME = "events.out.tfevents.1"
BATCH = 250
TURN = 10_000
"""So many mutants a process reads before the next one takes over."""


def quick_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary directory, in memory where the system has one there: thousands of files are made and removed."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


@dataclass
class Tally:
    """What came of mutants: how they were made, how often what was found, what the worst took, what went wrong."""

    changes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    grown: int = 0

    def add(self, other: Tally) -> None:
        """Take the other's in."""
        self.changes += other.changes
        self.kinds += other.kinds
        self.wrong |= other.wrong
        self.seconds, self.grown = max(self.seconds, other.seconds), max(self.grown, other.grown)


def read_mutants(root: Path, seeds: Sequence[int], watch: bool = False, thin: Thin | None = None) -> Tally:
    """Read mutants as the runs of a directory, which is made and removed, and compare each with the slow reader's."""

    def reads() -> Results:
        return read(root, thin=thin)

    made = {seed: mutant(seed) for seed in seeds}
    for seed, (_, data) in made.items():
        (root / str(seed)).mkdir(parents=True)
        (root / str(seed) / NAME).write_bytes(data)
    took, results, error = Watched(0.0, 0), None, None
    try:
        results, took = watched(reads) if watch else (reads(), took)
    except LogDirError:
        results = Results(None, ())  # not one of them is a run
    except Exception as caught:
        error = caught
    shutil.rmtree(root)
    if results is None and len(seeds) > 1:  # which of them?
        return _together(read_mutants(root, [seed], watch, thin) for seed in seeds)
    tally = Tally(Counter(change.split("+")[0] for change, _ in made.values()), seconds=took.seconds, grown=took.grown)
    if results is None:
        tally.wrong = {str(seeds[0]): [repr(error)]}
    else:
        _compare(tally, results, {str(seed): data for seed, (_, data) in made.items()}, thin or whole)
    return tally


def _together(tallies: Iterator[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


def _compare(tally: Tally, results: Results, files: dict[str, bytes], thin: Thin) -> None:
    """Hold each run and its findings against the slow reader's."""
    runs = {run.name: run for run in results.runs}
    findings = {name: [] for name in files}
    for finding in results.findings:
        findings[Path(finding.file).parent.name].append(finding)
    for name, data in files.items():
        slow = slow_read(data)
        if wrong := differences(slow, runs.get(name), findings[name], thin):
            tally.wrong[name] = wrong
        tally.kinds.update({damage.kind.value for damage in slow.damages} or {"nothing"})


def work(seeds: range) -> None:
    """Read these mutants, batch by batch, telling of each as a JSON line; runs in a process of its own."""
    if can_watch():
        warm_up()
        limited(more=8 * ALLOWED)  # the slow reader remembers what it decoded
    with quick_folder() as folder:
        for begin in range(seeds.start, seeds.stop, BATCH):
            batch = range(begin, min(begin + BATCH, seeds.stop))
            print(json.dumps([batch.start, batch.stop]), flush=True)
            print(json.dumps(vars(read_mutants(Path(folder, "logs"), batch, can_watch()))), flush=True)


def in_a_process(seeds: range) -> Tally:
    """What came of these mutants in a process of their own, and of the batch in which it died, if it did."""
    command = [sys.executable, __file__, "--work", str(seeds.start), str(seeds.stop)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    tally = _together(
        Tally(Counter(told["changes"]), Counter(told["kinds"]), told["wrong"], told["seconds"], told["grown"])
        for told in lines
        if isinstance(told, dict)
    )
    if done.returncode:
        begin, end = next((told for told in reversed(lines) if isinstance(told, list)), (seeds.start, seeds.stop))
        tally.wrong[f"{begin} to {end - 1}"] = [f"the process died with {done.returncode}"]
    return tally


def table(tally: Tally, count: int, seconds: float) -> str:
    """What came of it, to read."""
    rows = [("mutants", f"{count:,}"), ("seconds", f"{seconds:.0f}"), ("wrong", f"{len(tally.wrong):,}")]
    rows += [(f"slowest batch of {BATCH}", f"{tally.seconds:.2f} s"), ("most memory", f"{tally.grown / 2**20:.0f} MB")]
    rows += [("", ""), *((f"made by: {name}", f"{times:,}") for name, times in tally.changes.most_common())]
    rows += [("", ""), *((f"with: {name}", f"{times:,}") for name, times in tally.kinds.most_common())]
    return "\n".join(f"{name:28}{value:>12}" if name else "" for name, value in rows)


def main() -> int:
    """Read the command line, then the mutants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=20_000, help="how many (20000)")
    parser.add_argument("--seed", type=int, default=1, help="which of them: a million to a seed")
    parser.add_argument("--processes", type=int, default=2, help="how many read at once (2)")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(range(*asked.work))
        return 0
    first, began = asked.seed * 1_000_000, time.monotonic()
    turns = [range(at, min(at + TURN, first + asked.mutants)) for at in range(first, first + asked.mutants, TURN)]
    tally = Tally()
    with ThreadPoolExecutor(asked.processes) as pool:
        for number, one in enumerate(pool.map(in_a_process, turns)):
            tally.add(one)
            print(f"{min((number + 1) * TURN, asked.mutants):,} mutants, {len(tally.wrong)} wrong", file=sys.stderr)
    print(table(tally, asked.mutants, time.monotonic() - began))
    for name, wrong in list(tally.wrong.items())[:20]:
        print(f"\nmutant {name}:", *wrong[:4], sep="\n  ")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
