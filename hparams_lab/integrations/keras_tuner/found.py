"""keras-tuner, if there is one that this works with."""

from __future__ import annotations

from hparams_lab.core.errors import MissingExtraError

OLDEST = (1, 4, 6)
RANGE = ">=1.4.6,<2"
"""Versions with the methods that are hooked into; 1.4.6 is the oldest that was tried."""

try:
    import keras_tuner as keras_tuner
except ModuleNotFoundError as error:
    if error.name not in ("keras_tuner", "keras", "tensorflow", "jax", "torch"):
        raise
    what = "keras-tuner" if error.name == "keras_tuner" else f"{error.name}, which keras-tuner needs,"
    raise MissingExtraError.of(what, "keras-tuner") from None


def _has_hooks() -> bool:
    """Whether keras-tuner has the classes and methods that are used here."""
    try:
        base, oracle = keras_tuner.engine.base_tuner.BaseTuner, keras_tuner.oracles.HyperbandOracle
        of_base = ("search", "run_trial", "on_trial_end", "_run_and_update_trial", "_try_run_and_update_trial")
        wanted = {base: of_base, keras_tuner.Tuner: ("_build_and_fit_model",), oracle: ("_get_size",)}
        kinds = keras_tuner.engine.hyperparameters
        return all(hasattr(kind, name) for kind, names in wanted.items() for name in names) and kinds.Int is not None
    except AttributeError:
        return False


def check_version(version: str, has_hooks: bool) -> None:
    """Refuse a keras-tuner that is too old, too new, or changed inside. Raises MissingExtraError."""
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    if numbers >= OLDEST and numbers < (2,) and has_hooks:
        return
    what = "is too old" if numbers < OLDEST else "has changed inside"
    if numbers >= (2,):
        what = "is newer than what was tried"
    raise MissingExtraError(
        f"keras-tuner {version} {what}; hparams_lab logs the searches of keras-tuner{RANGE}: "
        f"pip install 'keras-tuner{RANGE}'"
    )


check_version(keras_tuner.__version__, _has_hooks())
