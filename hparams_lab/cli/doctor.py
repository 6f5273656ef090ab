"""`hparams-lab doctor`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from hparams_lab.cli.paths import PATH
from hparams_lab.core.errors import UsageError
from hparams_lab.core.present import dump, visible
from hparams_lab.logdir.doctor.ailment import Ailment, Diagnosis, Severity, plural
from hparams_lab.logdir.doctor.examine import diagnosis_of, examine
from hparams_lab.logdir.doctor.repair import Repaired, repair_in_place, repair_into
from hparams_lab.logdir.doctor.tree import Tree

FILES_SHOWN = 3
INDENT = "    "


@click.command(short_help="Tell what is wrong with a log directory, and mend it.")
@click.argument("logdir", type=PATH)
@click.option("--repair", is_flag=True, help="Mend what can be mended: with --output or --in-place.")
@click.option("--output", type=PATH, help="Mend a copy in this directory, which is made.")
@click.option("--in-place", is_flag=True, help="Mend LOGDIR itself; the files as they were go beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(logdir: Path, repair: bool, output: Path | None, in_place: bool, as_json: bool) -> None:
    """Tell what is wrong with LOGDIR, what TensorBoard shows because of it, and how it is mended.

    Nothing is changed unless --repair says so. The exit code is 1 when there is an error, 0 when there is none; after
    --repair it is that of the mended directory.

    \b
    Examples:
      hparams-lab doctor logs/mine
      hparams-lab doctor logs/mine --repair --output logs/mended
      hparams-lab doctor logs/mine --repair --in-place
    """
    if repair is not (in_place or output is not None) or (in_place and output is not None):
        raise UsageError("a repair is --repair with --output DIR (a copy), or --repair with --in-place")
    tree = Tree(logdir)
    found = diagnosis_of(tree)
    if not repair:
        click.echo(dump(found.to_json()), nl=True) if as_json else _show(found)
        sys.exit(int(not found.is_healthy))
    done = repair_into(tree, output) if output is not None else repair_in_place(tree)
    after = examine(done.root)
    if as_json:
        click.echo(dump(_as_json(found, done, after)))
    else:
        _show_repair(found, done, after)
    sys.exit(int(not after.is_healthy))


def _as_json(before: Diagnosis, done: Repaired, after: Diagnosis) -> dict[str, object]:
    lost = [
        {"file": one.file, "offset": one.offset, "kind": str(one.kind), "bytes": one.bytes_lost} for one in done.lost
    ]
    return {
        **after.to_json(),
        "mended": [one.name for one in before.ailments if one.repairable and one not in after.ailments],
        "backup": str(done.backup) if done.backup else None,
        "changed": list(done.changed),
        "lost": lost,
    }


def _show(found: Diagnosis) -> None:
    console = Console(highlight=False, soft_wrap=False)
    console.print(Text(_head(found), "bold"), soft_wrap=True)  # one line, for those who grep
    for ailment in found.ailments:
        _show_ailment(console, ailment)
    if found.is_repairable:
        command = f"hparams-lab doctor {visible(found.root)} --repair"
        console.print(Text(f"\nMend a copy: {command} --output DIR; or with --in-place", "dim"), soft_wrap=True)


def _head(found: Diagnosis) -> str:
    warnings = len(found.ailments) - found.errors
    counts = [plural(found.errors, "error")] * bool(found.errors) + [plural(warnings, "warning")] * bool(warnings)
    running = f" ({len(found.running)} running)" if found.running else ""
    return f"{visible(found.root)}: {found.counts}{running}, {' and '.join(counts) or 'nothing is wrong'}"


def _show_ailment(console: Console, ailment: Ailment) -> None:
    colour = "red" if ailment.severity is Severity.ERROR else "yellow"
    _show_words(
        console,
        Text.assemble((f"{ailment.severity} ", colour), (ailment.name, "bold"), f"  {visible(ailment.what)}"),
        before="\n",
    )
    lines = [
        ("TensorBoard shows: ", ailment.effect),
        ("mended by: " if ailment.repairable else "what to do: ", ailment.cure),
    ]
    for head, words in lines:
        _show_words(console, Text.assemble((head, "dim"), visible(words)), INDENT)
    if ailment.files:
        _show_files(console, ailment.files)


def _show_words(console: Console, words: Text, indent: str = "", before: str = "") -> None:
    """Words over as many lines as they need, without spaces at their ends."""
    for number, line in enumerate(words.wrap(console, max(console.width - len(indent), 1))):
        line.rstrip()
        console.print(Text.assemble("" if number else before, indent, line), soft_wrap=True)


def _show_files(console: Console, files: Sequence[str]) -> None:
    """The first three: in a line, or in one each where they are too long, so that they can be copied."""
    listed = [*map(visible, files[:FILES_SHOWN])]
    more = f"and {len(files) - FILES_SHOWN:,} more (--json lists them)" if len(files) > FILES_SHOWN else ""
    line = f"in: {', '.join(listed)} {more}".rstrip()
    if len(INDENT) + len(line) <= console.width:
        lines = [line]
    else:
        lines = [f"in: {listed[0]}", *(f"    {name}" for name in listed[1:]), *([f"    {more}"] if more else [])]
    for one in lines:
        head, words = one[:4], one[4:]
        console.print(Text.assemble(INDENT, (head, "dim"), words), soft_wrap=True)


def _show_repair(before: Diagnosis, done: Repaired, after: Diagnosis) -> None:
    console = Console(highlight=False, markup=False)
    left = {one.name for one in after.ailments}
    mended = dict.fromkeys(one.name for one in before.ailments if one.repairable and one.name not in left)
    console.print(
        f"{visible(done.root)}: {plural(len(done.changed), 'file')} changed; mended: {', '.join(mended) or 'nothing'}"
    )
    if done.backup is not None:
        console.print(f"The files as they were are in {visible(done.backup)}")
    if done.lost:
        lost = sum(finding.bytes_lost for finding in done.lost)
        files = list(dict.fromkeys(finding.file for finding in done.lost))
        more = f" and {len(files) - FILES_SHOWN:,} more (--json lists them)" if len(files) > FILES_SHOWN else ""
        said = f"{plural(lost, 'byte')} could not be read, and are in the original only: "
        console.print(Text(said + ", ".join(map(visible, files[:FILES_SHOWN])) + more, "yellow"))
    if before.running:
        console.print(f"Left as they were, because they are running: {visible(', '.join(before.running))}")
    if after.ailments:
        console.print("\nWhat is left:")
        _show(after)
