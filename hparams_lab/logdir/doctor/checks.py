"""The checks of files and runs: facts in, ailments out. Those of what is declared are in `columns`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format.stored import contradict, group_key
from hparams_lab.events.read.instead import NO_RECORD, Instead, instead_of
from hparams_lab.logdir.doctor.ailment import Ailment, Severity, plural
from hparams_lab.logdir.doctor.tree import FileFacts, RunFacts, Tree
from hparams_lab.logdir.sessions import Written, sessions_of

ERROR, WARNING = Severity.ERROR, Severity.WARNING

_CORRUPT = (Kind.BAD_LENGTH, Kind.BAD_CHECKSUM, Kind.NOT_AN_EVENT)


def wild_lengths(tree: Tree) -> Iterator[Ailment]:
    """Files that take TensorBoard's memory, or its life."""
    files = [file.name for _, file in tree.files if file.claims_too_much]
    if files:
        yield Ailment(
            "wild-length",
            ERROR,
            f"{plural(len(files), 'file')} with a record that claims bytes that are not there, by the megabyte",
            "the server asks for that much memory and dies, with every run of the directory",
            "the whole records are kept, the claim is left out; `hparams-lab board` withholds the file",
            tuple(files),
        )


def corrupt(tree: Tree) -> Iterator[Ailment]:
    """Damaged files."""
    files = [file for _, file in tree.files if file.has(*_CORRUPT) and file.instead is None]
    if files:
        lost = sum(file.lost for file in files)
        yield Ailment(
            "corrupt",
            ERROR,
            f"{plural(len(files), 'file')} with {plural(lost, 'byte')} that are no records: {_reasons(files)}",
            "wrong values where a record's checksum fails, and nothing of what follows other damage",
            "the whole records before and behind the damage are kept, the bytes between are left out",
            tuple(file.name for file in files),
        )


def _reasons(files: Iterable[FileFacts]) -> str:
    kinds = [finding.kind for file in files for finding in file.findings]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def not_events(tree: Tree) -> Iterator[Ailment]:
    """Files of another kind in the place of event files, a line for each kind."""
    found: dict[Instead, list[str]] = {}
    files = [(file.instead, file.name) for _, file in tree.files if file.instead is not NO_RECORD]
    files += [(_link_of(finding), _below(tree, finding.file)) for finding in tree.findings]
    files += [(_link_of(finding), file.name) for _, file in tree.files for finding in file.findings]
    for instead, name in files:
        if instead is not None:
            found.setdefault(instead, []).append(name)
    for instead, names in found.items():
        yield Ailment(
            "not-events",
            ERROR,
            f"{plural(len(names), 'file')}: {instead.what} in the place of an event file",
            "no such run",
            f"{instead.way_out} (--repair leaves it alone)",
            tuple(names),
            repairable=False,
        )


def _link_of(finding: Finding) -> Instead | None:
    """What a link stands for whose content was not fetched."""
    return instead_of(finding) if finding.kind in (Kind.UNREADABLE, Kind.SYMLINK) else None


def no_sessions(tree: Tree) -> Iterator[Ailment]:
    """Scalars, and no hyperparameters at all."""
    runs = [run.name or "." for run in tree.runs if run.tags]
    if runs and not tree.sessions:
        yield Ailment(
            "no-hparams",
            WARNING,
            f"{plural(len(runs), 'directory')} with scalars, and no hyperparameters",
            "curves, and nothing in the HParams tab",
            "nothing here tells the values; log them, as by `start_run(logdir, hparams=...)`",
            tuple(runs),
            repairable=False,
        )


def torn(tree: Tree) -> Iterator[Ailment]:
    """Files whose last record is not whole."""
    files = [
        file
        for _, file in tree.files
        if file.has(Kind.TORN) and file.instead is None and not file.claims_too_much and not file.has(*_CORRUPT)
    ]
    if files:
        lost = sum(file.lost for file in files)
        yield Ailment(
            "torn",
            WARNING,
            f"{plural(len(files), 'file')} whose last record is not whole ({plural(lost, 'byte')}): a killed process",
            "all but that record; what is appended to such a file later is lost too",
            "the torn end is cut off",
            tuple(file.name for file in files),
        )


def unreadable(tree: Tree) -> Iterator[Ailment]:
    """What cannot be read, or lies outside."""
    found = [finding for _, file in tree.files for finding in file.findings if finding.kind is Kind.UNREADABLE]
    found += [finding for finding in tree.findings if finding.kind is Kind.UNREADABLE]
    found = [finding for finding in found if _link_of(finding) is None]
    if found:
        yield Ailment(
            "unreadable",
            ERROR,
            f"{plural(len(found), 'file')} that cannot be read: {found[0].reason}",
            "nothing of them; on a pipe its slower loader waits for ever",
            "give yourself the right to read them, or move them aside",
            tuple(_below(tree, finding.file) for finding in found),
            repairable=False,
        )
    links = [finding for finding in tree.findings if finding.kind is Kind.SYMLINK and _link_of(finding) is None]
    if links:
        yield Ailment(
            "symlink",
            WARNING,
            f"{plural(len(links), 'link')} out of the log directory, which is not followed here",
            "what is behind it, wherever that is",
            "name the directories themselves: `hparams-lab board A B`",
            tuple(_below(tree, finding.file) for finding in links),
            repairable=False,
        )


def _below(tree: Tree, path: str) -> str:
    return path.removeprefix(str(tree.root)).lstrip("/")


def misfits(tree: Tree) -> Iterator[Ailment]:
    """HParams messages that the plugin cannot parse."""
    files = [file for _, file in tree.files if file.misfits]
    if files:
        yield Ailment(
            "broken-hparams",
            ERROR,
            f"{plural(len(files), 'file')} with an hparams summary that is none: {files[0].misfits[0]}",
            "an error in place of the HParams tab, for all runs",
            "those summaries are left out",
            tuple(file.name for file in files),
        )


def odd_scalars(tree: Tree) -> Iterator[Ailment]:
    """Scalars that hold no number."""
    files = [file for _, file in tree.files if file.odd_scalars or file.has(Kind.BAD_TENSOR)]
    if files:
        yield Ailment(
            "odd-scalar",
            ERROR,
            f"{plural(len(files), 'file')} with a scalar that holds no number",
            "an error in place of the HParams tab with --load_fast=false; otherwise nothing of the tag",
            "those values are left out",
            tuple(file.name for file in files),
        )


def empty(tree: Tree) -> Iterator[Ailment]:
    """Files with nothing in them: what was there is lost, or its process died at once."""
    files = [
        file.name
        for _, file in tree.files
        if (not file.size and not file.findings and not file.is_held) or file.instead is NO_RECORD
    ]
    if files:
        yield Ailment(
            "empty",
            WARNING,
            f"{plural(len(files), 'file')} with nothing in {'it' if len(files) == 1 else 'them'}, or no whole record",
            "no such run",
            "bring back from a copy what was in it, or run it again; nothing here tells what it was",
            tuple(files),
            repairable=False,
        )


def left(tree: Tree) -> Iterator[Ailment]:
    """Runs without an end that nobody writes."""
    runs = [run for run in tree.sessions if is_left(run)]
    if runs:
        yield Ailment(
            "left-without-end",
            WARNING,
            f"{plural(len(runs), 'run')} without an end that no process writes any more",
            "the status UNKNOWN and no end, as of a run that goes on",
            "an end at the time of the last event: FAILURE where the run is of hparams_lab, else UNKNOWN",
            tuple(run.name or "." for run in runs),
        )


def is_left(run: RunFacts) -> bool:
    """Whether a session has no end and nobody writes it."""
    return not run.has_end and not run.is_held


def split_groups(tree: Tree) -> Iterator[Ailment]:
    """Runs of the same values in different session groups that were named: a run without a name is a trial of its own.
    """
    split = [*split_trials(tree)]
    if split:
        names = tuple(run.name for runs in split for run in runs)
        yield Ailment(
            "split-groups",
            WARNING,
            f"{plural(len(split), 'trial')} whose runs have the same values (16 is 16.0) and different group names",
            "a row for each group, in place of one with the mean of its runs",
            "one group name for runs of the same values",
            names,
        )


def split_trials(tree: Tree) -> Iterator[list[RunFacts]]:
    """The sessions with one set of values each that were given several group names."""
    found: dict[str, list[RunFacts]] = {}
    for run in tree.sessions:
        assert run.start is not None
        if run.start.hparams and run.start.group_name:
            found.setdefault(group_key(run.start.hparams), []).append(run)
    return (runs for runs in found.values() if len({group_of(run) for run in runs}) > 1)


def group_of(run: RunFacts) -> str:
    """The name of a session's group: its own name where it has none."""
    assert run.start is not None
    return run.start.group_name or run.name


def two_writers(tree: Tree) -> Iterator[Ailment]:
    """Directories in which more than one run was logged."""
    runs = [run for run in tree.runs if len(writers_of(run)) > 1]
    if runs:
        yield Ailment(
            "two-writers",
            ERROR,
            f"{plural(len(runs), 'directory')} that more than one run logged to",
            "their points in one zigzag curve, and the values of one of the runs",
            "a directory for each writer",
            tuple(run.name or "." for run in runs),
        )


def writers_of(run: RunFacts) -> list[list[FileFacts]]:
    """The files of a directory by the run they belong to: one list where all is well."""
    if len(run.files) < 2:
        return [run.files]
    places = sessions_of([written(file) for file in run.files])
    return [[run.files[place] for place in of_one] for of_one in places]


def written(file: FileFacts) -> Written:
    """What tells whose a file is."""
    starts = [*file.starts[:1], *_others(file)]
    values = frozenset(group_key(start.hparams) for start in starts)
    return Written(file.path.name, file.is_own, file.tags, values, file.first, file.last)


def _others(file: FileFacts) -> list[SessionStartInfo]:
    """The session starts of a file that contradict its first."""
    return [start for start in file.starts[1:] if contradict(file.starts[0], start)]


def mixed_sessions(tree: Tree) -> Iterator[Ailment]:
    """Files with several sessions."""
    files = [file.name for _, file in tree.files if not file.is_own and _others(file)]
    if files:
        yield Ailment(
            "mixed-sessions",
            ERROR,
            f"{plural(len(files), 'file')} with several sessions of different values",
            "the values of the first, and the points of all",
            "nothing here tells which points are whose; log each into a directory of its own",
            tuple(files),
            repairable=False,
        )


def guests(tree: Tree) -> Iterator[Ailment]:
    """Sessions that another logger wrote into or below a run of ours."""
    files = [file.name for file in tree.guests]
    if files:
        yield Ailment(
            "other-logger",
            WARNING,
            f"{plural(len(files), 'file')} with hparams that another logger wrote into or below a run",
            "a row for each beside that of its run, and perhaps the columns of them",
            "the scalars stay, and belong to the run; the hparams go",
            tuple(files),
        )


def many_files(tree: Tree) -> Iterator[Ailment]:
    """More files than a process may open."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = sum(1 for _ in tree.files) + 100  # the server's own
    if count > soft:
        yield Ailment(
            "many-files",
            ERROR if count > hard else WARNING,
            f"{plural(len(tree.runs), 'run')}, and a process may open {soft:,} files ({hard:,} when it asks)",
            "an empty table, when it is started as usual: it keeps every file open",
            "`hparams-lab board` raises the limit" if count <= hard else "have the system's limit raised (ulimit -Hn)",
            repairable=False,
        )


CHECKS = (
    wild_lengths, not_events, misfits, corrupt, odd_scalars, unreadable, two_writers, mixed_sessions, torn, empty,
    left, no_sessions, split_groups, guests, many_files,
)  # fmt: skip
