"""`--group-by`: which runs are one trial, for the commands that show or count trials."""

from __future__ import annotations

from typing import get_args

import click

from hparams_lab.logdir.reader import GroupBy

group_option = click.option(
    "--group-by",
    type=click.Choice(get_args(GroupBy)),
    default="group",
    show_default=True,
    help="Which runs are one trial: those of one session group, as in TensorBoard, where a run without a group is a "
    "trial of its own; or those with equal hparams.",
)
"""The command gets it as `group_by`."""
