"""What kills TensorBoard's server or its HParams tab, for all runs: the quick scan of `board`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hparams_lab.core.findings import Kind
from hparams_lab.logdir.doctor.tree import FileFacts, Tree


def deadly(tree: Tree, slow_loader: bool = False) -> dict[str, str]:
    """What must be withheld from TensorBoard: the paths, each with the reason.

    Args:
      tree: the log directory.
      slow_loader: whether TensorBoard reads with `--load_fast=false`, which more kinds of files kill.
    """
    found = {finding.file: finding.reason for finding in tree.findings if finding.kind is Kind.SYMLINK}
    for _, file in tree.files:
        reason = why_deadly(file, slow_loader)
        if reason:
            found[str(file.path)] = reason
    return found


def why_deadly(file: FileFacts, slow_loader: bool = False) -> str:
    """What a file does to TensorBoard; empty when it does no harm to other runs."""
    if file.has(Kind.UNREADABLE):
        return next(finding.reason for finding in file.findings if finding.kind is Kind.UNREADABLE)
    if file.claims_too_much:
        return "a record claims bytes that are not there, and the server would ask for the memory"
    if file.misfits:
        return f"the HParams tab would answer with an error: {file.misfits[0]}"
    if file.wild_steps:
        return "the HParams tab would answer with an error: steps beyond 2**31-1"
    if slow_loader and file.has(Kind.NOT_AN_EVENT):
        return "a record is not an Event, and the loader would end there for all runs"
    if slow_loader and (file.odd_scalars or file.has(Kind.BAD_TENSOR)):
        return "the HParams tab would answer with an error: a scalar without a number"
    return ""


def loops(root: str) -> Iterator[tuple[str, str]]:
    """Links to directories, with what they do: lead round and round, or from a view back to what it hides."""
    for folder, children, _ in os.walk(root):
        for name in children:
            if os.path.islink(f"{folder}/{name}"):
                yield f"{folder}/{name}", "a link to a directory, whose runs TensorBoard would show again and again"
