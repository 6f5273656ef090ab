"""The best model's predictions on ten random test images, the wrong ones marked.

A model file and a domain module can hold code, so they are loaded only when that is asked for, in a process of their
own (`hparams_lab.analysis.predictions.predict_process`), the model in Keras' safe mode.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hparams_lab.analysis.predictions.best import with_model
from hparams_lab.analysis.predictions.predict_process import Answers, ask
from hparams_lab.analysis.report.page import Section, text_section
from hparams_lab.analysis.report.study import Study
from hparams_lab.analysis.report.text import as_html
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.results import RunResult
from hparams_lab.events.format.media import image
from hparams_lab.keras.no_images import NoAnswersError
from hparams_lab.logdir.sweep_json import load_sweep
from hparams_lab.storage.paths import MODEL, LogDirPaths
from hparams_lab.targets.load import is_file

HEADING = "Predictions"


def predictions_section(study: Study, logdir: Path, wanted: bool) -> Section | None:
    """The section; where there can be no predictions it says why. None where nobody asked and no domain is named."""
    if not wanted and (study.best is None or not _sweep(study.best.trial.sweep, logdir).get("domain")):
        return None
    try:
        run, source, data = _best_model(study, logdir)
        if not wanted:
            raise NoAnswersError(
                "Not asked for: --predictions loads the domain's code and the saved model to show some here"
            )
        _check_here(source, data)
        answers = ask(source, data, run.dir / MODEL)
        assert answers is not None  # nobody asks it to stop
    except NoAnswersError as why:
        said = str(why)
        return text_section(HEADING, f"{as_html(said[:1].upper() + said[1:], 1000)}.")
    return Section(HEADING, _as_pictures(run, answers))


def _sweep(name: str, logdir: Path) -> Mapping[str, Any]:
    """What the `sweep.json` of a sweep tells; nothing where there is none that can be read."""
    try:
        return load_sweep(LogDirPaths(logdir / name)) or {}
    except LogDirError:
        return {}


def _best_model(study: Study, logdir: Path) -> tuple[RunResult, str, str | None]:
    """The best trial's run that kept its model, its domain and data. Raises NoAnswersError."""
    if study.best is None:
        raise NoAnswersError("No trial completed, so there is no best model")
    trial = study.best.trial
    sweep = _sweep(trial.sweep, logdir)
    source, data = sweep.get("domain"), sweep.get("data")
    if not isinstance(source, str) or not isinstance(data, (str, type(None))):
        raise NoAnswersError("No sweep.json names the domain that was trained")
    found = with_model(trial)
    if found is None:
        raise NoAnswersError(f"The best trial kept no {MODEL}; run --save-model keeps those of Keras domains")
    return found, source, data


def _check_here(source: str, data: str | None) -> None:
    """Raise NoAnswersError unless the domain's file and its data are in this directory.

    `sweep.json` keeps their names only; a path in it was put there by somebody else, and is not followed.
    """
    for file in [source] * is_file(source) + [data] * bool(data):
        if Path(str(file)).name != file or not Path(file).is_file():
            raise NoAnswersError(f"{file} is not in this directory: make the report in the directory that has it")


def _as_pictures(run: RunResult, answers: Answers) -> str:
    """The images as HTML, the wrong ones marked by a border and a word."""
    count = len(answers.images)
    wrong = count - answers.right
    said = (
        f"What the model of {as_html(run.name)} says of {count} random images of {answers.of:,} test images: "
        f"{f'{wrong} of them wrong (framed)' if wrong else 'all right'}."
    )
    pictures = map(_picture, answers.images, answers.labels.tolist(), answers.predicted.tolist())
    return f'<p class="soft">{said}</p><div class="pictures">{"".join(pictures)}</div>'


def _picture(pixels: NDArray[np.uint8], label: int, predicted: int) -> str:
    is_wrong = label != predicted
    told = f"✗ {predicted}, is {label}" if is_wrong else f"✓ {predicted}"
    kind = ' class="wrong"' if is_wrong else ""
    source = f"data:image/png;base64,{_png(pixels)}"
    return (
        f'<figure{kind}><img alt="test image of class {label}" src="{source}"><figcaption>{told}</figcaption></figure>'
    )


def _png(pixels: NDArray[np.uint8]) -> str:
    return base64.b64encode(image("image", pixels).value[0].image.encoded_image_string).decode()
