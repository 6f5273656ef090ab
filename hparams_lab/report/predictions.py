"""The best model's predictions on ten random test images, the wrong ones marked.

A model file and a domain module can hold code, so they are loaded only when that is asked for, in a process of their
own (`python -m hparams_lab.report.predictions`), the model in Keras' safe mode.
"""

from __future__ import annotations

import base64
import html
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hparams_lab.domain import is_file, load_module
from hparams_lab.errors import HParamsLabError, LogDirError, UsageError
from hparams_lab.events.logdir import load_sweep
from hparams_lab.events.media import image
from hparams_lab.paths import MODEL, LogDirPaths
from hparams_lab.report.page import Section, text_section
from hparams_lab.report.study import Study
from hparams_lab.report.text import as_html
from hparams_lab.results import RunResult

COUNT = 10
SECONDS = 300
SMALLEST_SIDE = 7
HEADING = "Predictions"


@dataclass(frozen=True, slots=True)
class Job:
    """What the process is to do: the domain's source, its data file, the model, and where to put the answer."""

    source: str
    data: str | None
    model: str
    answer: str


class NoPredictionsError(UsageError):
    """Why there are no predictions, in one line for the report."""


def predictions_section(study: Study, logdir: Path, wanted: bool) -> Section | None:
    """The section; where there can be no predictions it says why. None where nobody asked and no domain is named."""
    if not wanted and (study.best is None or not _sweep(study.best.trial.sweep, logdir).get("domain")):
        return None
    try:
        run, source, data = _best_model(study, logdir)
        if not wanted:
            raise NoPredictionsError(
                "Not asked for: --predictions loads the domain's code and the saved model to show some here"
            )
        answer = _in_a_process(source, data, run.dir / MODEL)
    except NoPredictionsError as why:
        return text_section(HEADING, f"{as_html(str(why), 1000)}.")
    return Section(HEADING, _as_pictures(run, answer))


def _sweep(name: str, logdir: Path) -> Mapping[str, Any]:
    """What the `sweep.json` of a sweep tells; nothing where there is none that can be read."""
    try:
        return load_sweep(LogDirPaths(logdir / name)) or {}
    except LogDirError:
        return {}


def _best_model(study: Study, logdir: Path) -> tuple[RunResult, str, str | None]:
    """The best trial's run that kept its model, its domain and data. Raises NoPredictionsError."""
    if study.best is None:
        raise NoPredictionsError("No trial completed, so there is no best model")
    trial = study.best.trial
    sweep = _sweep(trial.sweep, logdir)
    source, data = sweep.get("domain"), sweep.get("data")
    if not isinstance(source, str) or not isinstance(data, (str, type(None))):
        raise NoPredictionsError("No sweep.json names the domain that was trained")
    found = [run for run in trial.runs if (run.dir / MODEL).is_file() and not (run.dir / MODEL).is_symlink()]
    if not found:
        raise NoPredictionsError(f"The best trial kept no {MODEL}; run --save-model keeps those of Keras domains")
    return found[0], source, data


def _in_a_process(source: str, data: str | None, model: Path) -> Mapping[str, Any]:
    """The images, labels and predictions. Raises NoPredictionsError."""
    _check_here(source, data)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(source, data, str(model.resolve()), str(Path(folder) / "answer.json"))
        command = [sys.executable, "-m", __name__, json.dumps({name: getattr(job, name) for name in Job.__slots__})]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise NoPredictionsError(f"The model took more than {SECONDS} s to load and predict") from None
        if not Path(job.answer).is_file():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise NoPredictionsError(f"The model cannot predict here: {last}")
        answer: dict[str, Any] = json.loads(Path(job.answer).read_text(encoding="utf-8"))
    if "why" in answer:
        raise NoPredictionsError(answer["why"])
    return answer


def _check_here(source: str, data: str | None) -> None:
    """Raise NoPredictionsError unless the domain's file and its data are in this directory.

    `sweep.json` keeps their names only; a path in it was put there by somebody else, and is not followed.
    """
    for file in [source] * is_file(source) + [data] * bool(data):
        if Path(str(file)).name != file or not Path(file).is_file():
            raise NoPredictionsError(f"{file} is not in this directory: make the report in the directory that has it")


def _as_pictures(run: RunResult, answer: Mapping[str, Any]) -> str:
    """The images as HTML, the wrong ones marked by a border and a word."""
    wrong = sum(item["label"] != item["predicted"] for item in answer["items"])
    said = (
        f"What the model of {as_html(run.name)} says of {len(answer['items'])} random images of "
        f"{answer['of']:,} test images: {f'{wrong} of them wrong (framed)' if wrong else 'all right'}."
    )
    return f'<p class="soft">{said}</p><div class="pictures">{"".join(map(_picture, answer["items"]))}</div>'


def _picture(item: Mapping[str, Any]) -> str:
    label, predicted = int(item["label"]), int(item["predicted"])
    is_wrong = label != predicted
    told = f"✗ {predicted}, is {label}" if is_wrong else f"✓ {predicted}"
    kind = ' class="wrong"' if is_wrong else ""
    source = f"data:image/png;base64,{html.escape(str(item['png']))}"
    return (
        f'<figure{kind}><img alt="test image of class {label}" src="{source}"><figcaption>{told}</figcaption></figure>'
    )


# What follows runs in the process of its own.


def predict(job: Job) -> dict[str, Any]:
    """Ten test images with their labels and what the model says. Raises NoPredictionsError."""
    import keras

    from hparams_lab.keras.domain import KerasTraining

    module = load_module(job.source)
    if not hasattr(module, "load_data"):
        raise NoPredictionsError("The domain has no load_data(), so there are no test images")
    inputs, targets = KerasTraining(module, data=job.data).data()[-1]
    chosen = np.random.default_rng(0).choice(len(inputs), min(COUNT, len(inputs)), replace=False)
    some = np.asarray(inputs)[chosen]
    pictures = as_images(some)
    labels = classes(np.asarray(targets)[chosen], "The test targets")
    model = keras.saving.load_model(job.model, compile=False, safe_mode=True)
    predicted = classes(keras.ops.convert_to_numpy(model(some, training=False)), "The model's outputs")
    items = [
        {"png": _png(picture), "label": int(label), "predicted": int(says)}
        for picture, label, says in zip(pictures, labels, predicted, strict=True)
    ]
    return {"items": items, "of": len(inputs)}


def as_images(inputs: NDArray[Any]) -> NDArray[Any]:
    """Inputs as images of uint8, if they look like some: (n, h, w), with 1, 3 or 4 channels, or squares in rows."""
    shape = inputs.shape[1:]
    side = round(shape[0] ** 0.5) if len(shape) == 1 else 0
    if len(shape) == 1 and side * side == shape[0]:
        inputs = inputs.reshape(-1, side, side)
    flat = inputs.ndim == 3 or (inputs.ndim == 4 and inputs.shape[3] in (1, 3, 4))
    if not flat or min(inputs.shape[1:3]) < SMALLEST_SIDE or inputs.dtype.kind not in "fiu":
        raise NoPredictionsError(f"The test inputs, {inputs.dtype} of shape {shape}, do not look like images")
    low, high = float(inputs.min()), float(inputs.max())
    if not np.isfinite([low, high]).all():
        raise NoPredictionsError("The test inputs hold NaN or infinity, so they do not look like images")
    if low >= 0 and high <= 255:
        low, high = 0.0, 255.0 if high > 1 else 1.0
    return np.asarray(((inputs - low) / max(high - low, 1e-12) * 255 + 0.5).astype(np.uint8))


def classes(found: NDArray[Any], what: str) -> NDArray[Any]:
    """The class of each row: the largest of several numbers, or a number that is one, or the rounded half of two."""
    if found.ndim == 2 and found.shape[1] > 1:
        return np.asarray(found.argmax(axis=1))
    flat = found.reshape(len(found), -1)
    if flat.shape[1] != 1 or found.dtype.kind not in "fiub":
        raise NoPredictionsError(f"{what}, of shape {found.shape[1:]}, are no classes")
    numbers = flat[:, 0].astype(float)
    if found.dtype.kind == "f" and ((numbers < 0) | (numbers > 1)).any() and (numbers % 1).any():
        raise NoPredictionsError(f"{what} are numbers and no classes")
    return np.round(numbers).astype(int)


def _png(pixels: NDArray[np.uint8]) -> str:
    return base64.b64encode(image("image", pixels).value[0].image.encoded_image_string).decode()


def main(fields: str) -> None:
    """Do the job, and leave what came of it where it says."""
    job = Job(**json.loads(fields))
    try:
        answer = predict(job)
    except HParamsLabError as why:
        answer = {"why": str(why)}
    except Exception as error:  # the user's code and model may raise anything
        answer = {"why": f"The model cannot predict here: {type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    Path(job.answer).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
