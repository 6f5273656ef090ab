"""keras-tuner: its searches in TensorBoard's HParams tab, as they are.

    from hparams_lab.integrations.keras_tuner import HParamsMixin, log_to

    tuner = keras_tuner.RandomSearch(build_model, objective="val_accuracy", max_trials=5)
    log_to(tuner, "logs/random")               # this line; then tuner.search(...) as ever

    class MyTuner(HParamsMixin, keras_tuner.RandomSearch): ...     # MyTuner(..., logdir="logs/mine")

Needs keras-tuner 1.4.6 or later and Keras 3, on any backend; nothing here imports TensorFlow when the backend is
another.
"""

from hparams_lab.integrations.keras_tuner import found as found  # first: it says what is missing
from hparams_lab.integrations.keras_tuner.tuner import HParamsMixin, log_to

__all__ = ["HParamsMixin", "log_to"]
