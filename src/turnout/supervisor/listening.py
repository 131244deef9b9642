"""Listening sockets: one per worker slot on one port, kept by the supervisor over the lives of its workers.

The kernel spreads new connections over sockets that listen. A slot's socket begins to listen when its
first worker does, and goes on listening when the worker dies: connections wait for the successor.
"""

import contextlib
import socket

from turnout.errors import ConflictError

BACKLOG = 2048


def address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Family and numeric address of a host.

    Raises:
        ConflictError: The host has no address here.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        raise ConflictError(
            f"cannot listen on host {host!r}: {exc.strerror or exc}.",
            hint="Give an address of this machine: --host 127.0.0.1 for this machine only, 0.0.0.0 for all.",
        ) from exc
    family, _, _, _, place = found[0]
    return socket.AddressFamily(family), (str(place[0]), int(place[1]))


def bind(host: str, port: int) -> socket.socket:
    """One more socket on the port, bound, not listening yet, shared through SO_REUSEPORT."""
    family, place = address(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(place)
    except OSError as exc:
        sock.close()
        raise ConflictError(
            f"cannot listen on {host}:{port}: {exc.strerror}.", hint="Choose another --port, or another --host."
        ) from exc
    return sock


def refuse_taken(host: str, port: int) -> None:
    """Raise if somebody listens on the port already.

    SO_REUSEPORT alone would let two servers of one user share a port without a word.

    Raises:
        ConflictError: The port is taken.
    """
    if not port:
        return
    family, place = address(host, port)
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as exc:
            raise ConflictError(
                f"port {port} on {host} is not free: {exc.strerror}.",
                hint="Stop what listens there, or choose another --port (0 takes a free one).",
            ) from exc


def reserve(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets on one port; port 0 takes a free one for all of them."""
    refuse_taken(host, port)
    sockets = [bind(host, port)]
    chosen = sockets[0].getsockname()[1]
    try:
        sockets.extend(bind(host, chosen) for _ in range(count - 1))
    except ConflictError:
        sockets[0].close()
        raise
    return sockets
