"""What the HParams tab shows of a search: keras-tuner's own TensorBoard route against `log_to`, point by point.

The same searches are run twice, with trials that are good, stopped early, NaN and raising; a real TensorBoard is asked
what it shows of each directory, while a search goes on and after it. The same for scikit-learn's search, which has no
route of its own. The table is Markdown: that of docs/coverage.md.

    scripts/bench coverage
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from _bench import machine, without_tensorflow
from _coverage_points import SEARCH_CV, TUNER, Point, Shown, metric_name

from hparams_lab.board.server import Board

ROUTES = {"own": "keras-tuner's own", "ours": "hparams_lab"}
SEARCHES = {
    "grid": "second",
    "nan": "",
    "hyperband": "",
    "reloaded": "",
    "sklearn_tuner": "",
    "grid_search_cv": "second",
}
"""Those that are looked at while their second trial is trained say so."""

STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
PACKAGES = ("keras-tuner", "scikit-learn", "keras", "tensorflow-cpu", "tensorflow", "jax", "tensorboard")
CALM, NOTHING = 4.0, 20.0
"""An answer that stays the same for so many seconds, of a server that loads anew every second, is the answer; one that
shows nothing of what is there, for so many."""

LIVE = 15.0
"""So long a trial waits until it is shown as it is; then what is shown counts."""

LIMIT = 600.0


class Tab:
    """A TensorBoard over a log directory, asked what its HParams tab asks."""

    def __init__(self, url: str, logdir: Path) -> None:
        self._root = url.partition("#")[0]
        self._logdir = logdir

    def shown(self) -> Shown:
        """What it shows now."""
        experiment = self._ask("hparams/experiment", {})
        asked = {"allowedStatuses": STATUSES, "sliceSize": 1000, "startIndex": 0}
        groups = self._ask("hparams/session_groups", asked).get("sessionGroups", [])
        return Shown(
            columns={info["name"]: info for info in experiment.get("hparamInfos", [])},
            metrics=experiment.get("metricInfos", []),
            groups=groups,
        )

    def in_full(self) -> Shown:
        """What it shows once that stays the same, with what is asked of single runs."""
        shown, since = self.shown(), time.monotonic()
        is_empty = not any(self._logdir.rglob("*tfevents*"))
        while time.monotonic() < since + (CALM if shown.groups or is_empty else NOTHING):
            time.sleep(0.3)
            if (now := self.shown()) != shown:
                shown, since = now, time.monotonic()
        points = {
            (session["name"], metric_name(metric["name"])): self._points(session["name"], metric["name"])
            for group in shown.groups
            for session in group["sessions"]
            for metric in session.get("metricValues", [])
        }
        return replace(shown, points=points, texts=self._texts(), experiments=experiments(self._logdir))

    def _points(self, session: str, metric: Any) -> list[float]:
        found = self._ask("hparams/metric_evals", {"sessionName": session, "metricName": metric})
        return [float(value) for _, _, value in found]

    def _texts(self) -> list[str]:
        tags = self._ask("text/tags")
        asked = [urllib.parse.urlencode({"run": run, "tag": tag}) for run, found in tags.items() for tag in found]
        return [event["text"] for query in asked for event in self._ask(f"text/text?{query}")]

    def _ask(self, route: str, request: Any = None) -> Any:
        body = None if request is None else json.dumps(request).encode()
        head = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"{self._root}data/plugin/{route}", body, head)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read()
            if error.code == 404 and b"any hparams" in said:  # where nothing is logged, there is no experiment
                return {}
            raise SystemExit(f"TensorBoard answers {error.code} to {route}: {said!r}") from None


def experiments(logdir: Path) -> int:
    """How many Experiment summaries a directory holds, as TensorBoard's own code reads its files."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    files = [file for file in logdir.rglob("*tfevents*") if file.is_file()]
    events = (event for file in files for event in LegacyEventFileLoader(str(file)).Load())
    return sum(value.tag == "_hparams_/experiment" for event in events for value in event.summary.value)


class Search:
    """A process that runs searches by one route, one after the other."""

    def __init__(self, route: str, root: Path, names: Sequence[str], backend: str) -> None:
        for name in names:
            (root / name / "log").mkdir(parents=True)
        command = [sys.executable, str(Path(__file__).with_name("_coverage_searches.py")), route, str(root), *names]
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._said = (root / "said.txt").open("w")
        self._process = subprocess.Popen(command, stdout=self._said, stderr=self._said, env=environment)

    def wait_for(self, file: Path) -> None:
        """Wait until the searches have made a file. SystemExit, with their last words, when they end without."""
        until = time.monotonic() + LIMIT
        while not file.exists():
            over = self._process.poll() is not None
            if (over and not file.exists()) or time.monotonic() > until:
                raise SystemExit(f"no {file.name} came:\n{Path(self._said.name).read_text()[-3000:]}")
            time.sleep(0.1)

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *error: object) -> None:
        if any(error):
            self._process.kill()
        self._process.wait()
        self._said.close()


@contextlib.contextmanager
def tab_of(logdir: Path) -> Any:
    """A TensorBoard over a directory, which it loads anew every second."""
    with Board(logdir, 0, ["--reload_interval=1"]) as board:
        yield Tab(board.url, logdir)


def while_trained(search: Search, root: Path, is_right: Callable[[Shown], bool]) -> Shown:
    """What is shown while the second trial is trained, once it is right or the time is up."""
    with tab_of(root / "log") as tab:
        search.wait_for(root / "training")
        until = time.monotonic() + LIVE
        while not is_right(shown := tab.shown()) and time.monotonic() < until:
            time.sleep(0.3)
    (root / "seen").touch()
    return shown


def run_searches(route: str, root: Path) -> dict[str, Shown]:
    """Run all searches by a route; what is shown of each."""
    found = {}
    with Search(route, root, [*SEARCHES], "tensorflow") as search:
        for name, when in SEARCHES.items():
            live = while_trained(search, root / name, all_right(name)) if when else None
            search.wait_for(root / name / "over")
            found[name] = look_at(root / name, live)
            print(f"{ROUTES[route]}: {name}", file=sys.stderr, flush=True)
    with Search(route, root / "jax", ["grid"], "jax") as search:
        (root / "jax/grid/seen").touch()
        search.wait_for(root / "jax/grid/over")
        found["jax"] = look_at(root / "jax/grid", None)
        print(f"{ROUTES[route]}: grid on JAX", file=sys.stderr, flush=True)
    return found


def look_at(root: Path, live: Shown | None) -> Shown:
    """What is shown of a search that is over."""
    told = root / "epochs.txt"
    epochs = [line.split() for line in told.read_text().splitlines()] if told.exists() else []
    with tab_of(root / "log") as tab:
        return replace(tab.in_full(), live=live, trials=json.loads((root / "said.json").read_text()), epochs=epochs)


def all_right(name: str) -> Callable[[Shown], bool]:
    """Whether all that is expected while a search goes on is shown."""
    points = [point for point in (*TUNER, *SEARCH_CV) if point.search == name and point.what.startswith("live")]
    return lambda shown: all(point.look(Shown(live=shown))[0] for point in points)


def table(points: Sequence[Point], found: dict[str, dict[str, Shown]], own: str) -> list[str]:
    """The lines of a Markdown table, and below it how much of each route is right."""
    lines = [f"| what | expected | {own} | hparams_lab |", "| --- | --- | --- | --- |"]
    right = dict.fromkeys(ROUTES, 0)
    for point in points:
        cells = []
        for route in ROUTES:
            is_right, said = point.look(found[route][point.search])
            right[route] += is_right
            cells.append(f"{'right' if is_right else 'wrong'}: {said}")
        lines.append(f"| {' | '.join([point.what, point.expected, *cells])} |")
    sums = [f"{number} of {len(points)} right" for number in right.values()]
    return [*lines, f"| in all | | {' | '.join(sums)} |"]


def versions() -> str:
    """The packages and what they are, in one line."""
    found = []
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def main() -> None:
    """Run the searches both ways, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", help="an empty directory that the logs are left in")
    asked = parser.parse_args()
    without_tensorflow()
    with contextlib.ExitStack() as stack:
        root = Path(asked.keep or stack.enter_context(tempfile.TemporaryDirectory())).absolute()
        found = {route: run_searches(route, root / route) for route in ROUTES}
    print("\n".join(table(TUNER, found, "keras-tuner's own")), end="\n\n")
    print("\n".join(table(SEARCH_CV, found, "scikit-learn's own")), end="\n\n")
    print(f"{versions()}; {machine()}")


if __name__ == "__main__":
    main()
