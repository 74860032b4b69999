"""What the demonstration needs: its own topics, its own configuration file, and the real worker as a process.

Rule of this file: everything it sets up it takes down again, also on somebody else's cluster.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias

import yaml

from worker.commands.demo.motions import CHANNELS, LABELS, MODEL_PATH
from worker.errors import WorkerError
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.embedded.supervisor import Supervised
from worker.web.probing import HOST, has_partitions

PARTITIONS = 4
CONNECT_TIMEOUT_S = 20.0
READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
PROBE_INTERVAL_S = 0.2
LOG_TAIL_LINES = 15
COMMAND = (sys.executable, "-m", "worker")


class Names(NamedTuple):
    """Names that nobody else on the cluster has."""

    readings: str
    probabilities: str
    group: str

    @classmethod
    def of(cls, token: str, read: str = "readings", written: str = "probabilities") -> Names:
        return cls(f"demo-{token}-{read}", f"demo-{token}-{written}", f"demo-{token}")


# Servers, names, the folder of the worker's files, its port → its configuration.
Configure: TypeAlias = Callable[[str, Names, Path, int], dict[str, Any]]


def configuration(bootstrap_servers: str, names: Names, folder: Path, port: int) -> dict[str, Any]:
    """The worker's configuration, as a user would write it."""
    return {
        "kafka": {"bootstrap_servers": bootstrap_servers, "group_id": names.group},
        "input": {"topic": names.readings, "features": list(CHANNELS)},
        "output": {"topic": names.probabilities},
        "dead_letters": {"topic": None},
        "model": {"path": str(MODEL_PATH), "labels": list(LABELS)},
        "sequence": {"id": "sequence", "end": "last"},
        "state": {"directory": str(folder / "state"), "checkpoint_interval": "5s"},
        "http": {"host": HOST, "port": port},
    }


@contextlib.contextmanager
def topics(bootstrap_servers: str, names: Names, *, keep: bool) -> Iterator[None]:
    """Create both topics; delete them and the group at the end unless ``keep``.

    Raises WorkerError when the cluster does not answer or refuses, then or at the end.
    """
    from kafka.errors import KafkaError

    both = [names.readings, names.probabilities]
    try:
        with _admin(bootstrap_servers) as client:
            client.create_topics({topic: {"num_partitions": PARTITIONS} for topic in both}, wait_for_metadata=True)
    except KafkaError as error:
        raise WorkerError(
            f"Kafka at {bootstrap_servers}: the demonstration's topics can't be created "
            f"({error}); check --bootstrap-servers, or leave it out to start a broker here"
        ) from error
    told: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    try:
        yield
    except Exception:
        told = contextlib.suppress(WorkerError)  # the first failure is the one to tell
        raise
    finally:
        with told:
            if not keep:
                _take_down(bootstrap_servers, names)


def _take_down(bootstrap_servers: str, names: Names) -> None:
    from kafka.errors import KafkaError

    try:
        with _admin(bootstrap_servers) as client:
            client.delete_topics([names.readings, names.probabilities])
            client.delete_groups([names.group])
    except KafkaError as error:
        raise WorkerError(
            f"Kafka at {bootstrap_servers}: what the demonstration created can't be deleted ({error}); delete the "
            f"topics {names.readings} and {names.probabilities} and the group {names.group} yourself"
        ) from error


def _admin(bootstrap_servers: str) -> Any:
    from kafka.admin import KafkaAdminClient

    return KafkaAdminClient(bootstrap_servers=bootstrap_servers, bootstrap_timeout_ms=int(CONNECT_TIMEOUT_S * 1000))


class WorkerProcess:
    """``python -m worker run`` with its files in a temporary folder; neither outlives this process."""

    def __init__(self, command: Sequence[str] | None = None, configure: Configure = configuration) -> None:
        self._command = command or COMMAND
        self._configure = configure
        self.folder = Path(tempfile.gettempdir()) / f"rnn-stream-worker-demo-{secrets.token_hex(8)}"
        self._log_path = self.folder / "worker.log"
        self._supervised = Supervised(self.folder, remove=True)
        self._port = free_port()
        self._started = False

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._supervised.close()

    @contextlib.contextmanager
    def running(self, bootstrap_servers: str, names: Names) -> Iterator[None]:
        """Started, and stopped in order afterwards: how it ends matters only if nothing else has failed before."""
        self.start(bootstrap_servers, names)
        try:
            yield
        except BaseException:
            with contextlib.suppress(WorkerError):
                self.stop()
            raise
        self.stop()

    @property
    def url(self) -> str:
        """The worker's own page."""
        return f"http://{HOST}:{self._port}/"

    def start(self, bootstrap_servers: str, names: Names) -> None:
        """Write the configuration file and start the worker on it, unaffected by the terminal's Ctrl-C."""
        config_path = self.folder / "worker.yaml"
        config = self._configure(bootstrap_servers, names, self.folder, self._port)
        config_path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        self._supervised.run([*self._command, "run", "-c", str(config_path)], self._log_path)
        self._started = True

    def wait_ready(self) -> None:
        """Wait for all partitions and a warm model. Raises WorkerError when it ends or takes too long."""
        ends = time.monotonic() + READY_TIMEOUT_S
        while not has_partitions(self._port, PARTITIONS):
            self.check()
            if time.monotonic() > ends:
                raise WorkerError(self.with_log(f"the worker was not ready after {READY_TIMEOUT_S:.0f} s"))
            time.sleep(PROBE_INTERVAL_S)

    def check(self) -> None:
        """Raise WorkerError with the end of its log when it has ended by itself."""
        status = self._supervised.exit_code()
        if status is not None:
            raise WorkerError(self.with_log(f"the worker ended with status {status} while it was still needed"))

    def stop(self) -> None:
        """End it in order. Raises WorkerError when it had ended before, takes too long or does not exit with 0.

        Safe to call twice.
        """
        if not self._started:
            return
        self._started = False
        self.check()
        self._supervised.signal(signal.SIGTERM)
        status = self._supervised.wait(STOP_TIMEOUT_S)
        if status is None:
            raise WorkerError(self.with_log(f"the worker did not end within {STOP_TIMEOUT_S:.0f} s of SIGTERM"))
        if status != 0:
            raise WorkerError(self.with_log(f"the worker ended with status {status} after SIGTERM"))

    def with_log(self, message: str) -> str:
        """The message, and below it the last lines of the worker's log."""
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"{message}; the last lines of its log:", *(f"  {line}" for line in lines)])
