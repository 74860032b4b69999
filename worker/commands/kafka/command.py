"""``worker kafka up`` and ``down``: the embedded broker by itself, for trying things out.

Rule: the process that runs a broker holds a lock on the state file of its port. A file without a lock is a leftover, so
``down`` can never end a process that this command did not start. Cheap to import: the broker is only imported to run
it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from worker.errors import WorkerError

DEFAULT_PORT = 9092
DETACH_TIMEOUT_S = 180.0
DOWN_TIMEOUT_S = 60.0
POLL_S = 0.1


@click.group()
def kafka() -> None:
    """A Kafka broker on this machine, without Java or Docker, for trying things out.

    \b
    Example:
      worker kafka up --topic readings:4 --topic probabilities:4
    """


@kafka.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Port on 127.0.0.1."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps the data for the next start; without it, data are deleted at the end.",
)
@click.option("--topic", "topics", multiple=True, metavar="NAME:PARTITIONS", help="Create this topic if it is missing.")
@click.option("--detach", is_flag=True, help="Leave the broker running in the background; `worker kafka down` ends it.")
def up(port: int, data: Path | None, topics: tuple[str, ...], detach: bool) -> None:
    """Start a broker and run until Ctrl-C or SIGTERM.

    \b
    Examples:
      worker kafka up
      worker kafka up --port 9093 --data kafka-data --topic readings:4
      worker kafka up --detach
    """
    wanted = [_topic(text) for text in topics]
    if detach:
        _detach(port, data, topics)
    else:
        _run(port, data, wanted)


@kafka.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Port on 127.0.0.1."
)
def down(port: int) -> None:
    """End the broker that `worker kafka up` runs on this port.

    \b
    Example:
      worker kafka down
    """
    path = _state_path(port)
    with contextlib.suppress(FileNotFoundError), path.open("r+") as file:
        if not _lock(file):
            os.kill(_read(path)["pid"], signal.SIGTERM)
            deadline = time.monotonic() + DOWN_TIMEOUT_S
            while not _lock(file):
                if time.monotonic() > deadline:
                    raise WorkerError(f"the broker on port {port} has not ended within {DOWN_TIMEOUT_S:.0f} s")
                time.sleep(POLL_S)
            click.echo(f"Kafka on 127.0.0.1:{port} ended")
            return
        path.unlink(missing_ok=True)  # left behind by a kill -9
    raise WorkerError(f"no broker of `worker kafka up` runs on port {port}")


def _topic(text: str) -> tuple[str, int]:
    name, _, partitions = text.rpartition(":") if ":" in text else (text, "", "1")
    if not name or not partitions.isdecimal() or int(partitions) < 1:
        raise click.BadParameter(f"'{text}' is not NAME:PARTITIONS, such as readings:4", param_hint="--topic")
    return name, int(partitions)


def _run(port: int, data: Path | None, topics: list[tuple[str, int]]) -> None:
    from worker.kafka.embedded.broker import EmbeddedKafka

    # Both signals act the same way; a second one while the broker is being stopped ends this process at once, and the
    # watcher ends the broker.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), _claim(port) as state, EmbeddedKafka(data, port) as broker:
        for name, partitions in topics:
            broker.create_topic(name, partitions, exist_ok=True)
        where = f"data in {broker.data}" if data else "data are deleted at the end"
        click.echo(f"Kafka is ready: {broker.bootstrap_servers} ({where}; log: {broker.log}); Ctrl-C ends it")
        _tell(state, ready=True)
        while broker.running:
            time.sleep(POLL_S)
        raise WorkerError(f"the Kafka broker on port {port} has ended by itself")


def _detach(port: int, data: Path | None, topics: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "worker.commands.kafka.command", "up", "--port", str(port)]
    command += ["--data", str(data.absolute())] if data else []
    for topic in topics:
        command += ["--topic", topic]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(  # noqa: S603 - this module
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            deadline = time.monotonic() + DETACH_TIMEOUT_S
            while not _is_ready(port, child.pid):
                if child.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    lines = said.read().decode(errors="replace").strip().splitlines()
                    raise WorkerError(lines[-1] if lines else f"no broker came up on port {port}")
                time.sleep(POLL_S)
        except BaseException:
            child.terminate()
            child.wait(DOWN_TIMEOUT_S)
            raise
    click.echo(f"Kafka is ready: 127.0.0.1:{port}; `{_down(port)}` ends it")


def _down(port: int) -> str:
    return "worker kafka down" + (f" --port {port}" if port != DEFAULT_PORT else "")


def _state_path(port: int) -> Path:
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "rnn-stream-worker"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"kafka-{port}.json"


def _is_ready(port: int, pid: int) -> bool:
    try:
        state = _read(_state_path(port))
    except (FileNotFoundError, WorkerError):
        return False
    return bool(state["pid"] == pid and state["ready"])


def _tell(file: IO[str], *, ready: bool) -> None:
    file.truncate(0)
    json.dump({"pid": os.getpid(), "ready": ready}, file)
    file.flush()


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:  # between the two writes of _tell
        raise WorkerError("the broker is still starting: try again") from error
    return state


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _claim(port: int) -> Iterator[IO[str]]:
    """Hold the lock on the port's state file, which names this process, until the end."""
    path = _state_path(port)
    with path.open("a+") as file:
        if not _lock(file):
            raise WorkerError(f"`worker kafka up` runs on port {port} already: `{_down(port)}` ends it")
        _tell(file, ready=False)
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)


def main() -> int:
    """The group as a command by itself, in the form that ``--detach`` starts it in."""
    try:
        kafka()
    except WorkerError as error:
        click.echo(str(error), err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
