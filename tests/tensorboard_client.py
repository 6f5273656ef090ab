"""For the tests that show a sweep in a real TensorBoard: the sweep, the server, and what its HParams tab asks for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hparams_lab as lab
from hparams_lab.targets.builtin import classifier

EXPERIMENT = classifier.experiment("digits", epochs=15, batch=32)
STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
SECONDS = 60.0


def train(run: lab.Run) -> dict[str, float]:
    """A training that takes no time: the accuracy tells every hparam apart."""
    hparams = run.hparams
    accuracy = 0.5 + hparams["num_units"] / 128 + 10 * hparams["learning_rate"] + hparams["hpdropout"] / 5
    accuracy += 0.01 * hparams["hplayer"] + 0.005 * (hparams["optimizer"] == "adam")
    for step in range(1, 4):
        run.log({"loss": 1 / step, "hpaccuracy": accuracy * step / 3}, step=step)
    return {"hpaccuracy": accuracy, "hploss": 1 - accuracy, "hpmse": (1 - accuracy) / 10}


def quick_sweep(logdir: Path) -> lab.Results:
    """The 32 trials of `mnist` and `digits` by `train`, each in a process of its own."""
    return lab.run_sweep(EXPERIMENT, train, logdir=logdir, executor="process", workers=2, observe=lambda event: None)


def eventually(ask: Callable[[], Any], is_right: Callable[[Any], Any] = bool, seconds: float = SECONDS) -> Any:
    """Ask again until the answer is right; give it back. Fails with the last answer when time is up."""
    deadline = time.monotonic() + seconds
    while not is_right(answer := ask()):
        assert time.monotonic() < deadline, f"after {seconds} s still {str(answer)[:2000]}"
        time.sleep(0.1)
    return answer


class Client:
    """Asks a TensorBoard what its HParams tab asks. An answer other than 200 is an AssertionError."""

    def __init__(self, url: str) -> None:
        self._root = url.partition("#")[0]

    def post(self, route: str, **request: Any) -> Any:
        body, head = json.dumps(request).encode(), {"Content-Type": "application/json"}
        address = f"{self._root}data/plugin/hparams/{route}"
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, head), timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read()[:300]
            raise AssertionError(f"{route} {request} answers {error.code}: {said!r}") from None

    def experiment(self) -> dict[str, Any]:
        return self.post("experiment")

    def columns(self) -> dict[str, dict[str, Any]]:
        """The hparams' columns by name, in TensorBoard's order."""
        return {info["name"]: info for info in self.experiment().get("hparamInfos", [])}

    def groups(self, *columns: dict[str, Any]) -> list[dict[str, Any]]:
        """The session groups, sorted and filtered by `columns`."""
        asked = {"allowedStatuses": STATUSES, "sliceSize": 1000, "startIndex": 0, "colParams": list(columns)}
        return self.post("session_groups", **asked).get("sessionGroups", [])

    def loaded(self, groups: int, metrics: int, tag: str = "hpaccuracy") -> list[dict[str, Any]]:
        """The session groups, once there are so many, so many of them with the metric and all its points."""

        def are_there(found: list[dict[str, Any]]) -> bool:
            return len(found) == groups and sum(tag in values(group) for group in found) == metrics

        return eventually(self.groups, are_there)

    def points(self, run: str, tag: str) -> list[list[float]]:
        """The wall time, step and value of each of a metric's points."""
        return self.post("metric_evals", sessionName=run, metricName={"tag": tag, "group": ""})


def values(group: dict[str, Any]) -> dict[str, float]:
    """A session group's metrics by tag."""
    return {metric["name"]["tag"]: float(metric["value"]) for metric in group.get("metricValues", [])}


def session(group: dict[str, Any]) -> dict[str, Any]:
    """The one session of a group: name, status, times."""
    (only,) = group["sessions"]
    return only


@contextlib.contextmanager
def plain_tensorboard(logdir: Path, said: Path) -> Iterator[str]:
    """The `tensorboard` executable as anybody starts it; its address. What it prints goes to the file `said`."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0", "--host", "127.0.0.1"]
    with said.open("w") as log, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as server:
        try:
            address = r"at (http://\S+) "
            eventually(said.read_text, lambda text: re.search(address, text) or server.poll() is not None)
            found = re.search(address, said.read_text())
            assert found, said.read_text()
            yield found[1]
        finally:
            server.terminate()


def processes(marker: str) -> list[int]:
    """The running processes (no zombies) that have `marker` in their command line; none without Linux's /proc."""
    listed = os.listdir("/proc") if os.path.isdir("/proc") else []
    return [pid for pid in map(int, filter(str.isdigit, listed)) if marker in _command_line(pid)]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
