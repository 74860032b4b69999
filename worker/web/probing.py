"""Asks a worker on this machine, from outside, whether it is ready."""

from __future__ import annotations

import http.client

HOST = "127.0.0.1"
TIMEOUT_S = 5.0


def has_partitions(port: int, partitions: int) -> bool:
    """Whether the worker with this HTTP port is ready and owns so many partitions.

    Being ready is not enough: a member that the group has just taken in is ready without partitions, too.
    """
    owns = f"\nrnnw_assigned_partitions {partitions:.1f}\n".encode()
    return _get(port, "/readyz") is not None and owns in (_get(port, "/metrics") or b"")


def _get(port: int, path: str) -> bytes | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
