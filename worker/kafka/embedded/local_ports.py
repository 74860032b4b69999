"""Ports of this machine for the embedded broker.

Rule: free means free now; whoever binds next must be ready to find it taken.
"""

from __future__ import annotations

import random
import socket

from worker.errors import WorkerError

HOST = "127.0.0.1"
# Below the ports that systems give to outgoing connections: a client that tries again and again while its broker is
# down could otherwise be given the broker's own port, and the broker could not come back.
PORTS = range(20_000, 30_000)
SAMPLE = 200
CONNECT_TIMEOUT_S = 1.0


def free_port(other_than: int | None = None) -> int:
    """A port of 127.0.0.1 on which nobody listens now. Raises WorkerError when none is found."""
    for port in random.SystemRandom().sample(PORTS, SAMPLE):
        if port != other_than and is_free(port):
            return port
    raise WorkerError(f"no free port of {HOST} between {PORTS.start} and {PORTS.stop}")


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def is_listened_to(port: int) -> bool:
    """Whether somebody takes connections on this port of 127.0.0.1."""
    try:
        socket.create_connection((HOST, port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
