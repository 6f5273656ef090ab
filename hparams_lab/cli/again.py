"""`again`: the command that would run a trial again, from what was recorded of the one that ran it."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hparams_lab.core.declared import Declared
from hparams_lab.core.errors import HParamsLabError
from hparams_lab.core.present import visible
from hparams_lab.core.results import Results, RunResult, TrialResult
from hparams_lab.core.values import Value
from hparams_lab.logdir.sweep_json import load_sweep
from hparams_lab.run.provenance import PROVENANCE_TAG, provenance_in
from hparams_lab.storage.paths import LogDirPaths


@dataclass(frozen=True, slots=True)
class Again:
    """A command, None where none can be told, and what is to be known of it."""

    command: str | None
    note: str


def provenance_of(run: RunResult) -> dict[str, str]:
    """Where a run came from, by name: the rows of the Markdown table that it logged; empty without one."""
    return provenance_in(run.texts.get(PROVENANCE_TAG, ""))


def for_a_shell(command: str) -> str:
    """A command in one line that a terminal may show, and that bash takes back: `$'...'` where a word has line ends."""
    try:
        words = shlex.split(command)
    except ValueError:
        return visible(command)
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if visible(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(_in_quotes(char) for char in word) + "'"


def _in_quotes(char: str) -> str:
    return f"\\{char}" if char in "\\'" else visible(char)


def again(logdir: Path, trial: TrialResult, results: Results) -> Again:
    """The command that would run a trial again."""
    root = logdir / trial.sweep
    try:
        sweep = load_sweep(LogDirPaths(root))
    except HParamsLabError:
        sweep = None
    recorded = provenance_of(trial.runs[0]).get("command") or (sweep or {}).get("command")
    declared = results.sweeps.get(trial.sweep) or results.declared
    arguments = _run_arguments(recorded)
    if sweep and declared and "domain" in sweep and (arguments or not recorded):
        return _alone(sweep, declared, trial, arguments or [], f"{root}-{Path(trial.name).name}")
    if recorded and sweep:
        return Again(
            recorded, "the program that made the sweep, all of it: no `hparams-lab run` trains this trial alone"
        )
    if recorded:
        return Again(recorded, "the program that logged the run, with all that it does")
    return Again(None, "not known: the run has no record of the command that started it")


def _run_arguments(recorded: str | None) -> list[str]:
    """What came after `hparams-lab run`, if that is how the run was started."""
    if recorded is None:
        return []
    try:
        words = shlex.split(recorded)
    except ValueError:
        return []
    for place, word in enumerate(words[:-1]):
        if os.path.basename(word) in ("hparams-lab", "hparams_lab") and "run" in words[place + 1 : place + 3]:
            return words[words.index("run", place + 1) + 1 :]
    return []


def _alone(sweep: Mapping[str, Any], declared: Declared, trial: TrialResult, arguments: list[str], to: str) -> Again:
    """`hparams-lab run` with every value set; only if that means this trial."""
    settings = [f"{name}={_typed(value)}" for name, value in trial.hparams.items() if name in declared.hparams]
    problem = _problem(declared, settings, trial)
    if problem:
        return Again(None, f"not possible: {problem}")
    domain, data = str(sweep["domain"]), sweep.get("data")
    words = ["hparams-lab", "run", _as_given(domain, arguments)]
    words += [word for setting in settings for word in ("--set", setting)]
    words += ["--data", _as_given(str(data), arguments)] if data else []
    words += ["--seed", str(sweep["seed"])] if sweep.get("seed") else []
    for limit in ("--timeout", "--memory"):
        words += [limit, given] if (given := _given(limit, arguments)) else []
    note = "with the same seed, into a directory of its own"
    return Again(shlex.join([*words, "--logdir", to]), note)


def _given(option: str, arguments: Sequence[str]) -> str:
    """The value that was typed for an option; empty when there was none."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""


def _as_given(name: str, arguments: Sequence[str]) -> str:
    """A file as it was typed, of which `sweep.json` keeps the name only."""
    typed = [word.removeprefix("--data=") for word in arguments]
    return next((word for word in typed if os.path.basename(word) == name), name)


def _typed(value: Value) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or re.fullmatch(r"[^,'\"\s]+", value):
        return repr(value) if isinstance(value, float) else str(value)
    return f"'{value}'" if "'" not in value else f'"{value}"'


def _problem(declared: Declared, settings: Sequence[str], trial: TrialResult) -> str:
    """Why `--set` with these would not leave this one trial; empty when it does."""
    from hparams_lab.sweep.strategies.grid import grid
    from hparams_lab.targets.overrides import with_overrides

    if declared.experiment is None:
        return "the directory's experiment is not whole"
    try:
        narrowed = with_overrides(declared.experiment, settings)
        found = [dict(narrowed.check(one.hparams)) for one in itertools.islice(grid(narrowed), 2)]
    except HParamsLabError as error:
        return str(error)
    return "" if found == [dict(trial.hparams)] else "--set would leave other trials too"
