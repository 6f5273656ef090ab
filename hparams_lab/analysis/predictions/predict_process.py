"""What the model that a run kept says of ten random test images, found in a process of its own.

A model file and a domain module can hold code, and need a framework: neither is loaded in the process that asks. It
tells the other what to do, and that ends when nobody waits for it any more (`worker`).

    answers = ask("digits", None, run.dir / "model.keras")
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hparams_lab
from hparams_lab.executors import Resources
from hparams_lab.executors.devices import shares
from hparams_lab.keras.no_images import NoAnswersError, NoImagesError

SECONDS = 300.0
LOOK_SECONDS = 0.1

# The process, without the working directory on its path until it has imported what is ours: there may be a logging.py.
_PROCESS = """
import sys
sys.path = [entry for entry in sys.path if entry] + sys.argv[2:]
from hparams_lab.analysis.predictions.worker import main
main(sys.argv[1])
"""
_DEFAULTS = {"TF_CPP_MIN_LOG_LEVEL": "2"}


@dataclass(frozen=True, slots=True)
class Job:
    """What the process is to do: the domain's source, its data file and the model; where modules and the answer are."""

    source: str
    data: str | None
    model: str
    folder: str
    path: tuple[str, ...]

    @property
    def answers(self) -> Path:
        """The answers, once there are any."""
        return Path(self.folder, "answers.npz")

    @property
    def why(self) -> Path:
        """Why there are none."""
        return Path(self.folder, "why.json")


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Some test images, of uint8 and shape (n, h, w) or with channels last, and of which class they are.

    `predicted` is the class that the model says, `of` how many test images there are, `picture` all of it as
    `keras.predictions.prediction_picture` draws it.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    of: int
    picture: NDArray[np.uint8]

    @property
    def right(self) -> int:
        """How many answers are right."""
        return int((self.labels == self.predicted).sum())


def ask(
    source: str,
    data: str | None,
    model: Path,
    seconds: float = SECONDS,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Answers | None:
    """The answers of a saved model; None when asked to stop before there are any.

    Args:
      source: the domain whose test images they are, as for `load_domain`.
      data: a file for its `load_data`.
      model: the file, loaded in Keras' safe mode.
      seconds: how long that may take.

    Raises NoImagesError where the test data are no images with classes, NoAnswersError when anything goes wrong.
    """
    with _folder() as folder:
        job = Job(source, data, str(model.resolve()), str(folder), tuple(map(str, sys.path)))
        said = folder / "said"
        with said.open("wb") as file, _process(job, file) as process:
            if not _ended(process, seconds, asked_to_stop):
                return None
        if job.why.is_file():
            raise _error(json.loads(job.why.read_text(encoding="utf-8")))
        if not job.answers.is_file():
            lines = said.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {process.returncode}")
            raise NoAnswersError(f"the model cannot predict here: {last[:300]}")
        return _read(job.answers)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the answers, and nothing but NoAnswersError where there can be none."""
    try:
        with tempfile.TemporaryDirectory(prefix="hparams-lab-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise NoAnswersError(f"the model's answers cannot be kept here: {error}") from None


@contextlib.contextmanager
def _process(job: Job, said: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The process, gone afterwards. It looks at no GPU, and knows by its standard input whether this one is there."""
    command = [sys.executable, "-c", _PROCESS, json.dumps(asdict(job)), str(Path(hparams_lab.__file__).parents[1])]
    environment = {**_DEFAULTS, **os.environ, **shares(Resources(gpus="none"))[0].environment}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _ended(process: subprocess.Popen[bytes], seconds: float, asked_to_stop: Callable[[], bool]) -> bool:
    """Wait for the process; False when asked to stop. Raises NoAnswersError when it takes too long."""
    end = time.monotonic() + seconds
    while not asked_to_stop():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_SECONDS)
            return True
        if time.monotonic() > end:
            raise NoAnswersError(f"the model took more than {seconds:g} s to load and predict")
    return False


def _error(found: dict[str, Any]) -> NoAnswersError:
    return (NoImagesError if found["no_images"] else NoAnswersError)(found["why"])


def _read(path: Path) -> Answers:
    try:
        with np.load(path, allow_pickle=False) as found:
            return Answers(found["images"], found["labels"], found["predicted"], int(found["of"]), found["picture"])
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise NoAnswersError(f"the model's answers cannot be read: {error}") from None
