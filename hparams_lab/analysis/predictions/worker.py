"""The process that asks a saved model about ten test images of its domain: the other end of `predict_process`."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from typing import Any

import numpy as np

from hparams_lab.analysis.predictions.predict_process import Answers, Job
from hparams_lab.core.errors import HParamsLabError
from hparams_lab.keras.no_images import NoImagesError
from hparams_lab.keras.predictions import as_images, as_picture, classes, draw
from hparams_lab.targets.load import load_module

SMALLEST_SIDE = 7
"""What is smaller is a table of numbers, and no image."""


def answer(job: Job) -> Answers:
    """The answers. Raises NoAnswersError, and whatever the domain's code and the model do."""
    from hparams_lab.keras.domain import KerasTraining

    module = load_module(job.source)
    if not hasattr(module, "load_data"):
        raise NoImagesError("the domain has no load_data(), so there are no test images")
    inputs, targets = KerasTraining(module, data=job.data).data()[-1]
    if not hasattr(inputs, "shape") or not len(inputs):
        raise NoImagesError("the test inputs are not an array of images")
    drawn = draw(len(inputs))
    some = np.asarray(inputs)[drawn]
    images = as_images(some, "the test inputs", SMALLEST_SIDE)
    labels = classes(np.asarray(targets)[drawn], "the test targets")
    predicted = classes(_outputs(job.model, some), "the model's outputs")
    return Answers(images, labels, predicted, len(inputs), as_picture(images, labels, predicted))


def _outputs(file: str, inputs: Any) -> Any:
    import keras

    model = keras.saving.load_model(file, compile=False, safe_mode=True)
    outputs = model(inputs, training=False)
    if isinstance(outputs, (list, tuple, dict)):
        raise NoImagesError("the model has several outputs")
    return keras.ops.convert_to_numpy(outputs)


def main(fields: str) -> None:
    """Do the job, and leave what came of it where it says."""
    threading.Thread(target=_end_with_who_asked, daemon=True).start()
    job = Job(**json.loads(fields))
    sys.path[:] = job.path
    try:
        answers = answer(job)
        with open(f"{job.answers}.part", "wb") as file:
            np.savez(file, **asdict(answers))
        os.replace(file.name, job.answers)
    except HParamsLabError as why:
        _say(job, str(why), isinstance(why, NoImagesError))
    except Exception as error:  # the user's code and model may raise anything
        _say(job, f"the model cannot predict here: {type(error).__name__}: {error}", False)


def _say(job: Job, why: str, no_images: bool) -> None:
    said = {"why": " ".join(why.split())[:300], "no_images": no_images}
    job.why.write_text(json.dumps(said), encoding="utf-8")


def _end_with_who_asked() -> None:
    """End at once when the standard input does, which nobody writes to: who holds its other end is gone."""
    os.read(0, 1)
    os._exit(1)
