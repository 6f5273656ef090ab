"""Processes of a cluster, and addresses at which none answers."""

import contextlib
import socket
from pathlib import Path


def is_there(pid):
    """Whether a process lives; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def above(pid):
    """The processes above one, the nearest first: id and name."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        with contextlib.suppress(OSError):
            yield pid, Path(f"/proc/{pid}/cmdline").read_text()


@contextlib.contextmanager
def listening(backlog=5):
    """A port of this machine, and the socket that listens there."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}", server


@contextlib.contextmanager
def closed():
    with listening() as (address, _):
        pass
    yield address


@contextlib.contextmanager
def silent():
    with listening() as (address, _):
        yield address
