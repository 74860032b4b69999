"""A worker process that has imported everything and waits for its configuration, so that a restart is quick.

From the line on standard input on it is ``worker run -c LINE`` and nothing else. It never outlives the harness.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

LINUX_PR_SET_PDEATHSIG = 1


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(LINUX_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return  # the harness ended before the line above

    import worker.service  # noqa: F401
    from worker.__main__ import main as command_line

    if file := sys.stdin.readline().strip():
        sys.argv = ["worker", "run", "-c", file]
        command_line()


if __name__ == "__main__":
    main()
