"""The picture of what the best model says of ten test images, put into its run when a sweep is over."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.analysis.predictions.predict_process import ask
from hparams_lab.core.curve import Scalars
from hparams_lab.core.errors import HParamsLabError
from hparams_lab.core.results import Results, RunResult, TrialResult
from hparams_lab.events.read.cursor import Cursor
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.executors.job import notes_of
from hparams_lab.keras.no_images import NoAnswersError, NoImagesError
from hparams_lab.logdir.run_reader import event_files
from hparams_lab.run.amend import add_image
from hparams_lab.storage.paths import MODEL
from hparams_lab.sweep.events import PictureStarted, SweepEvent, SweepNote
from hparams_lab.sweep.plan import Plan
from hparams_lab.sweep.signals import StopRequests
from hparams_lab.targets.load import ModuleTarget

PREDICTIONS_TAG = "predictions"
"""The tag of the picture."""


def picture_best(plan: Plan, results: Results, stop: StopRequests) -> Generator[SweepEvent, None, str | None]:
    """Put the picture into the best trial's run, unless it is there: the name of the run that has it, None without.

    Only where models are kept, and silently not where the test data are no images. Anything that goes wrong is a note.
    """
    target = plan.domain.target
    best = results.best()
    if not isinstance(target, ModuleTarget) or not target.save_model or best is None or stop.asked():
        return None
    try:
        run = with_model(best)
        if run is None:
            why = "" if any(map(notes_of, best.runs)) else ", as it was trained without --save-model"
            yield _note(best.name, f"it kept no {MODEL}{why}")
            return None
        if not has_image(run, PREDICTIONS_TAG):
            yield PictureStarted(run.name)
            answers = ask(target.source, target.data, run.dir / MODEL, asked_to_stop=stop.asked)
            if answers is None:
                return None
            add_image(run.dir, PREDICTIONS_TAG, answers.picture)
    except NoImagesError:
        return None
    except Exception as error:  # the sweep is over: nothing here may cost its results
        again = "; the same command tries again" if isinstance(error, NoAnswersError) else ""
        yield _note(best.name, f"{error if isinstance(error, (HParamsLabError, OSError)) else repr(error)}{again}")
        return None
    return run.name


def with_model(trial: TrialResult) -> RunResult | None:
    """The first of a trial's runs that kept its model, if one did. A link is none: it may lead anywhere."""
    kept = (run for run in trial.runs if (run.dir / MODEL).is_file() and not (run.dir / MODEL).is_symlink())
    return next(kept, None)


def has_image(run: RunResult, tag: str) -> bool:
    """Whether an image of that tag is in the run's files."""
    images = _Images()
    for file in event_files(run.dir):
        Cursor(str(file), Layouts(), images, []).read_new()
    return tag in images.tags


def _note(name: str, why: str) -> SweepNote:
    return SweepNote(f"no picture of what {name}, the best, predicts: {why}")


class _Images:
    """A sink for `Scanner` that looks for images only."""

    def __init__(self) -> None:
        self.tags: set[str] = set()

    def take_point(self, tags: Sequence[str], step: int, wall_time: float, values: Sequence[float]) -> None:
        """Nothing."""

    def take_points(self, tag: str, points: Scalars) -> None:
        """Nothing."""

    def take_restart(self, step: int) -> None:
        """A restart: no picture."""

    def take_value(self, value: Summary.Value, offset: int) -> None:
        """The tag of an image."""
        if value.HasField("image"):
            self.tags.add(value.tag)
