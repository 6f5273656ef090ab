"""`LogDirPaths`: every path of a log directory, in one object; and `local`, which takes a path as a person gives it.

<logdir>/_experiment/<n>/events.out.tfevents.*    the one Experiment summary
<logdir>/sweep.json                               what was asked for
<logdir>/run-0000/                                a run: event file, output.log, model.keras when asked for
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hparams_lab.core.errors import HParamsLabError, LogDirError
from hparams_lab.storage import disk

EXPERIMENT = "_experiment"
OUTPUT_LOG = "output.log"
MODEL = "model.keras"


@dataclass(frozen=True, slots=True)
class LogDirPaths:
    """The paths of one log directory."""

    root: Path

    @property
    def sweep_json(self) -> Path:
        """What was asked for."""
        return self.root / "sweep.json"

    @property
    def experiments(self) -> Path:
        """The directory of the Experiment summaries, of which there is one."""
        return self.root / EXPERIMENT

    @property
    def experiment_lock(self) -> Path:
        """Held while the Experiment summary is replaced."""
        return self.experiments / ".lock"

    def run(self, name: str) -> Path:
        """A run's directory."""
        return self.root / name


@contextlib.contextmanager
def writing(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's refusals to write into LogDirError, which says where and why."""
    try:
        yield
    except OSError as error:
        raise disk.refusal(directory, error) from None


def local(path: str | os.PathLike[str], error: type[HParamsLabError] = LogDirError) -> Path:
    """A path as a person gives it, as one of this machine: `~` is the home directory, `file:///tmp/x` is `/tmp/x`.

    Raises `error` for any other URL, such as `gs://bucket/x`, and a `~user` that is not known.
    """
    text = os.fsdecode(path)
    scheme, rest = _split_url(text, isinstance(path, os.PathLike))
    if scheme == "file":
        text = _path_of_file_url(text, rest, error)
    elif scheme:
        raise error(f"{text} is a URL, where nothing can be read or written yet; give a path on this machine")
    elif text.startswith("~"):
        text = _at_home(text, error)
    if "\0" in text:
        raise error(f"{text!r} holds a null character, which no path has; give another")
    found = Path(text)
    if found.name and (str(found).startswith("~") or _split_url(str(found), True)[0]):
        return Path(os.path.abspath(text))  # of ./~ and ./gs:/x: what it is called is not taken for more later
    return found


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=/)")


def _split_url(text: str, is_path: bool) -> tuple[str, str]:
    """The scheme of a URL and what stands behind its colon; "" for a path. `Path` makes one slash of two.

    A scheme has two letters at least: one is a drive of Windows.
    """
    found = _URL.match(text)
    if found is None:
        return "", text
    scheme, rest = found[1].lower(), text[found.end() :]
    return (scheme, rest) if rest.startswith("//") or is_path or scheme == "file" else ("", text)


def _path_of_file_url(text: str, rest: str, error: type[HParamsLabError]) -> str:
    from urllib.parse import unquote_to_bytes

    host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "/", rest[1:])
    if host.lower() not in ("", "localhost") or not slash:
        what = f"names the machine {host!r}" if host else "has no path"
        raise error(f"{text} {what}; give a path on this machine, as in file:///home/me/logs")
    found = os.fsdecode(unquote_to_bytes(os.fsencode(path)))
    return found if os.name == "nt" else f"/{found}"


def _at_home(text: str, error: type[HParamsLabError]) -> str:
    found = os.path.expanduser(text)
    if found == text and not os.path.lexists(text):
        user = re.split(r"[/\\]", text)[0]
        raise error(f"{text} begins with {user}, whose home directory is not known; ./{text} is a path of that name")
    return found


def paths_of(logdir: str | os.PathLike[str]) -> LogDirPaths:
    """The paths of a log directory, wherever the working directory goes later. Raises LogDirError as `local` does."""
    return _paths_of(os.path.abspath(local(logdir)))


@functools.lru_cache(maxsize=256)
def _paths_of(root: str) -> LogDirPaths:
    return LogDirPaths(Path(root))


def lies_in(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies in it, by whole names: `lr-old/x` does not lie in `lr`.

    Both are absolute, or both are names below one root, of which "" is the root itself.
    """
    inside = directory.rstrip(os.sep)
    return not inside or path == inside or path.startswith(inside + os.sep)


_DIGITS = re.compile(r"(\d+)")


def natural(text: str) -> list[str | int]:
    """A sort key that reads the numbers in a text as numbers."""
    parts: list[str | int] = [*_DIGITS.split(text)]
    parts[1::2] = map(int, parts[1::2])
    return parts
