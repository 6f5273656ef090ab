"""`PATH`: Click's parameter type of a path as a person gives it, as `hparams_lab.storage.paths.local` takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hparams_lab.core.errors import UsageError
from hparams_lab.storage.paths import local


class _LocalPath(click.Path):
    """A path on this machine, and not the working directory where a shell's variable is unset."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "" and isinstance(param, click.Option):
            raise UsageError(f"{param.opts[0]} is empty; name a path, or leave it out")
        return local(value, UsageError)


PATH = _LocalPath(path_type=Path)
