"""A real single-node Kafka for the demo, for tests and for trying things out; it never outlives its owner.

Rule: ready means that this very broker, known by its cluster id, has answered a request; nothing is concluded from a
log line or from time gone by.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from worker.errors import WorkerError
from worker.kafka.embedded.configuration import LOG4J, PROPERTIES, cluster_id, new_cluster_id, server_properties
from worker.kafka.embedded.local_ports import HOST, free_port, is_free, is_listened_to
from worker.kafka.embedded.runtime import java_command
from worker.kafka.embedded.supervisor import FolderInUseError, Supervised

PORT_ATTEMPTS = 10
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
READY_POLL_S = 0.02
FENCED_POLL_S = 0.5
PROBE_TIMEOUT_MS = 2_000  # a stranger on the port may never answer; the look is repeated
REQUEST_TIMEOUT_MS = 10_000
DETAIL_CHARACTERS = 300
BROKERS_DEFAULT = -1  # in place of a number of replicas


class _PortTakenError(Exception):
    """Another process was faster between our look at the port and the broker's bind."""


class EmbeddedKafka:
    """One Kafka broker on 127.0.0.1, usable as a context manager.

    ``data``: a folder that is kept and used again; None = a temporary one, removed at the end. ``port``: None = a free
    one, which then stays the same over ``restart``. ``properties`` and ``listeners`` (name → port) are added to the
    broker's own. ``cluster``: the id that a new folder gets; None = a random one. Every start raises WorkerError when
    the port is taken, the folder in use, or nothing comes up.
    """

    def __init__(
        self,
        data: Path | None = None,
        port: int | None = None,
        heap_mb: int = 512,
        *,
        auto_create_topics: bool = False,
        properties: Mapping[str, object] | None = None,
        listeners: Mapping[str, int] | None = None,
        jvm_flags: Sequence[str] = (),
        cluster: str | None = None,
    ) -> None:
        self.temporary = data is None
        name = f"rnn-stream-worker-kafka-{secrets.token_hex(8)}"
        self.data = Path(tempfile.gettempdir()) / name if data is None else data.absolute()
        self.log = self.data / "broker.log"
        self.port = port
        self.pid: int | None = None
        self._heap_mb = heap_mb
        self._jvm_flags = tuple(jvm_flags)
        self._cluster = cluster
        topics = {"auto.create.topics.enable": str(auto_create_topics).lower()}
        self._properties = {**PROPERTIES, **topics, **(properties or {})}
        self._listeners = dict(listeners or {})
        self._supervised: Supervised | None = None
        self._log_start = 0

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, once started."""
        assert self.port is not None, "not started yet"
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """True while the broker's process lives, paused or not."""
        return self.pid is not None and self._supervised is not None and self._supervised.exit_code() is None

    def __enter__(self) -> EmbeddedKafka:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> EmbeddedKafka:
        """Start and wait until the broker answers."""
        assert not self.running, "already started"
        command = java_command(self._heap_mb)
        try:
            if self._supervised is None:
                if not self.temporary:
                    self.data.mkdir(parents=True, exist_ok=True)
                self._supervised = Supervised(self.data, remove=self.temporary)
            self._launch_on_a_port(self._supervised, command)
        except FolderInUseError as error:
            raise WorkerError(f"{self.data} is in use by another broker: stop it, or name another folder") from error
        except OSError as error:
            self.stop()
            raise WorkerError(f"the embedded Kafka broker can't run in {self.data}: {error}") from error
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the broker in order, and its temporary folder. Safe to call twice."""
        if self._supervised is not None:
            supervised, self._supervised = self._supervised, None
            with contextlib.suppress(OSError):
                self._terminate(supervised)
            supervised.close()
        self.pid = None

    def kill(self) -> None:
        """SIGKILL, and wait for the end; the data stays for ``restart``."""
        supervised = self._owned()
        supervised.signal(signal.SIGKILL)
        if supervised.wait(STOP_TIMEOUT_S) is None:
            raise WorkerError(f"the Kafka broker {self.pid} does not end")
        self.pid = None

    def restart(self) -> None:
        """Start again on the same port with the same data, after an orderly end if it still runs."""
        self._terminate(self._owned())
        self.pid = None
        self.start()

    def pause(self) -> None:
        """SIGSTOP: the broker keeps its connections and answers nobody."""
        self._owned().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._owned().signal(signal.SIGCONT)

    def create_topic(self, name: str, partitions: int = 1, *, exist_ok: bool = False) -> None:
        """Create a topic and wait until it can be used. Raises WorkerError when Kafka refuses it."""
        from kafka.admin import KafkaAdminClient
        from kafka.errors import InvalidReplicationFactorError, KafkaError, TopicAlreadyExistsError

        wanted = {name: {"num_partitions": partitions, "replication_factor": BROKERS_DEFAULT}}
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            with KafkaAdminClient(bootstrap_servers=self.bootstrap_servers) as admin:
                while True:
                    try:
                        admin.create_topics(wanted, wait_for_metadata=True)
                        return
                    except InvalidReplicationFactorError:
                        # On a busy machine a broker may be late to tell its own controller that it lives.
                        if time.monotonic() > deadline:
                            raise
                        time.sleep(FENCED_POLL_S)
        except TopicAlreadyExistsError as error:
            if not exist_ok:
                raise WorkerError(f"topic '{name}' exists already") from error
        except KafkaError as error:
            raise WorkerError(f"topic '{name}' was not created: {error}") from error

    def _owned(self) -> Supervised:
        assert self._supervised is not None, "not started"
        return self._supervised

    @staticmethod
    def _terminate(supervised: Supervised) -> None:
        supervised.signal(signal.SIGCONT)
        supervised.signal(signal.SIGTERM)
        if supervised.wait(STOP_TIMEOUT_S) is None:
            supervised.signal(signal.SIGKILL)
            supervised.wait(STOP_TIMEOUT_S)

    def _launch_on_a_port(self, supervised: Supervised, command: list[str]) -> None:
        for _ in range(PORT_ATTEMPTS):
            port = self.port or free_port()
            if self.port and not is_free(port):
                raise WorkerError(f"port {port} of {HOST} is taken: name another one, or stop what listens there")
            try:
                self._launch(supervised, command, port, free_port(other_than=port))
            except _PortTakenError:
                continue
            self.port = port
            return
        raise WorkerError(f"no free port of {HOST} for the embedded Kafka broker; its log is {self.log}")

    def _launch(self, supervised: Supervised, command: list[str], port: int, controller_port: int) -> None:
        configuration, logging = self.data / "server.properties", self.data / "log4j2.properties"
        told = (HOST, port, controller_port, self._properties, self._listeners)
        configuration.write_text(server_properties(self.data / "log", *told))
        logging.write_text(LOG4J)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        settings = [f"-Dlog4j2.configurationFile={logging}", "-Dlog4j2.disable.jmx=true"]
        cluster = cluster_id(self.data / "log")
        if cluster is None:
            cluster = self._cluster or new_cluster_id()
            form = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(configuration)]
            supervised.run([*command, *settings, *form], self.log)
            if supervised.wait(START_TIMEOUT_S) != 0:
                raise self._failure("could not format its folder")
        self.pid = supervised.run([*command, *settings, *self._jvm_flags, "kafka.Kafka", str(configuration)], self.log)
        self._await_ready(supervised, port, cluster)

    def _await_ready(self, supervised: Supervised, port: int, cluster: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (is_listened_to(port) and _answers(port, cluster)):
            if supervised.exit_code() is not None:
                raise self._failure("ended while starting")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {START_TIMEOUT_S:.0f} s")
            time.sleep(READY_POLL_S)

    def _failure(self, what: str) -> Exception:
        """Why the broker did not come up, read from what this start has logged."""
        self.pid = None
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        if any("Address already in use" in line for line in lines):
            return _PortTakenError()
        errors = [line for line in lines if re.search(r"ERROR|FATAL|Exception|Unrecognized|Error:", line)]
        detail = (errors or lines[-1:] or ["it logged nothing"])[0][:DETAIL_CHARACTERS]
        kept = "" if self.temporary else f"; its log is {self.log}"
        return WorkerError(f"the Kafka broker {what}: {detail}{kept}")


def _answers(port: int, cluster: str) -> bool:
    """Whether this cluster's broker, not a stranger on the same port, serves requests and is registered."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    limits = {"bootstrap_timeout_ms": PROBE_TIMEOUT_MS, "request_timeout_ms": REQUEST_TIMEOUT_MS}
    try:
        with KafkaAdminClient(bootstrap_servers=f"{HOST}:{port}", **limits) as admin:
            answer = admin.describe_cluster()
    except KafkaError:
        return False
    return answer["cluster_id"] == cluster and any(node["port"] == port for node in answer["brokers"])
