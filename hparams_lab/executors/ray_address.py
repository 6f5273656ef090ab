"""The driver's first act: to see that something that may be a Ray cluster answers, before Ray is imported.

Ray itself takes long to find out that nothing does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from multiprocessing.connection import Connection

from hparams_lab.errors import UsageError

PROBE_SECONDS = 4.0

REPLY_SECONDS = 2.0
"""What a server of something else has to refuse a call. That it does not is left to Ray to find out."""

# A frame of HTTP/2 is length, kind, flags, stream and payload: RFC 9113, sections 3.4 and 4.1.
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4

# The headers of what Ray's own client calls first, packed as by RFC 7541: POST, http, the path, the host.
_METHOD = b"/ray.rpc.NodeInfoGcsService/GetClusterId"
_CALL = b"\x83\x86\x04" + bytes([len(_METHOD)]) + _METHOD + b"\x01\x03ray"
_CALL += b"\x0f\x10\x10application/grpc" + b"\x00\x02te\x08trailers"

# An answer's first byte where its status is 204, 206, 304, 400, 404 or 500. That of gRPC is 200, whatever is called.
_REFUSALS = b"\x89\x8a\x8b\x8c\x8d\x8e"


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

    A server of gRPC, which Ray's is, says first what its settings are, before it knows who asks, and answers any call.
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
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
    try:
        kind, length = _next_frame(connection)
        is_other = kind != _SETTINGS or _refuses(connection, length)
    except EOFError:
        is_other = True
    if is_other:
        raise no_answer(address, "something there that is not Ray")


def _refuses(connection: socket.socket, length: int) -> bool:
    """Whether a call is answered as gRPC never does, such as by a proxy; `length` is that of the frame under way."""
    connection.settimeout(REPLY_SECONDS)
    with contextlib.suppress(OSError, EOFError):
        connection.sendall(_frame(_HEADERS, _END_HEADERS, 1, _CALL) + _frame(_DATA, _END_STREAM, 1, bytes(5)))
        kind = _SETTINGS
        while kind != _HEADERS:
            _read(connection, length)
            kind, length = _next_frame(connection)
        return _read(connection, 1) in _REFUSALS
    return False


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _next_frame(connection: socket.socket) -> tuple[int, int]:
    """The kind of a frame, and the length of its payload. Raises EOFError."""
    header = _read(connection, 9)
    return header[3], int.from_bytes(header[:3], "big")


def _read(connection: socket.socket, size: int) -> bytes:
    said = b""
    while len(said) < size:
        more = connection.recv(size - len(said))
        if not more:
            raise EOFError
        said += more
    return said


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
