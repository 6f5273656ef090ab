"""The driver's first act: to see that something that may be a Ray cluster answers, before Ray is imported.

Ray itself takes long to find out that nothing does.
"""

from __future__ import annotations

import os
import socket
import sys
from multiprocessing.connection import Connection

from hparams_lab.core.errors import UsageError

PROBE_SECONDS = 4.0

# What an HTTP/2 client says first, and the kind of the frame that a server answers: RFC 9113, sections 3.4 and 4.1.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
_SETTINGS = 4


def enter(fd: int) -> None:
    """Begin to be the driver: see `ray_driver` for what is said on the control socket."""
    control = Connection(fd)
    sys.path[:], resources, own = control.recv()
    try:
        if resources.ray_address not in (None, "auto"):
            check_address(resources.ray_address)
    except UsageError as error:
        control.send(("error", error))
        return
    control.send(("answer", None))
    from hparams_lab.executors.ray_driver import serve

    serve(control, resources, own)


def check_address(address: str) -> None:
    """See that something that may be Ray answers at "host:port". Raises UsageError, within 8 seconds.

    A server of gRPC, which Ray's is, says first what its settings are, before it knows who asks.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--ray-address is {address!r}; wanted HOST:PORT, such as 10.0.0.1:6379, or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("1", "true"):  # else it waits for us to speak
                _check_speech(connection, address)
    except OSError as error:
        what = f"nothing within {PROBE_SECONDS:g} s" if isinstance(error, TimeoutError) else error.strerror
        raise no_answer(address, what or str(error)) from None


def _check_speech(connection: socket.socket, address: str) -> None:
    connection.settimeout(PROBE_SECONDS)
    connection.sendall(_HELLO)
    said = b""
    while len(said) < 4:
        more = connection.recv(4 - len(said))
        if not more:
            break
        said += more
    if len(said) < 4 or said[3] != _SETTINGS:
        raise no_answer(address, "something there that is not Ray")


def no_answer(address: str, what: str) -> UsageError:
    """The error of a cluster that does not answer, by what came instead."""
    return UsageError(
        f"no Ray cluster answers at --ray-address {address} ({what}); wanted HOST:PORT of one that runs (ray start "
        "--head prints it), or auto; leave it out for a Ray on this machine alone"
    )


def not_joined(address: str, said: str) -> UsageError:
    """The error of something that answers and cannot be joined, by what Ray said of it."""
    if "Authentication" in said:
        return UsageError(
            f"the Ray cluster at --ray-address {address} asks for its token; set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as on the cluster"
        )
    if address == "auto" or "RPC error" in said:
        return no_answer(address, said)
    return UsageError(
        f"the Ray cluster at --ray-address {address} answers, and has no node on this machine; make it one with: "
        f"ray start --address={address} --num-cpus=0"
    )
