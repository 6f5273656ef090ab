"""Why a model's answers cannot be had, or cannot be pictured."""

from hparams_lab.core.errors import UsageError


class NoAnswersError(UsageError):
    """Why there are no answers, in one line."""


class NoImagesError(NoAnswersError):
    """What was to be pictured is no image, or its class is no class: nothing is wrong with the model."""
