"""The worker as a process: HTTP, patience with a cluster that is not there yet, the loop."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import worker
from worker.assembly.clients import check_clients, client_settings
from worker.assembly.member import build_worker
from worker.assembly.model import prove_model
from worker.assembly.shadow import proven_or_none
from worker.assembly.text_model import TextModel
from worker.checkpoints.opening import open_store
from worker.config.sections import Config
from worker.errors import KafkaRefusedError, UnavailableError, WorkerError
from worker.logs import configure_logs
from worker.member.loop import run
from worker.model.backend import keras, tf
from worker.model.streaming import StreamingModel
from worker.processor import cpu_level
from worker.records.names import short_digest
from worker.stopping import Stopping
from worker.telemetry.identity import Identity
from worker.telemetry.opening import open_telemetry
from worker.web.metrics import Metrics
from worker.web.server import ProbeServer
from worker.web.status import WorkerStatus

if TYPE_CHECKING:
    from worker.telemetry.exporting import Telemetry

log = logging.getLogger("worker")
Answer = TypeVar("Answer")

RETRY_FIRST_S = 0.5
RETRY_LONGEST_S = 10.0
REFUSED_FIRST_S = 5.0  # a broker logs each wrong password
REFUSED_LONGEST_S = 30.0


def serve(config: Config, stop: Stopping) -> None:
    """Run until ``stop`` is set. Raises WorkerError for anything that a restart alone would not mend."""
    configure_logs(config.log.format, config.log.level)
    # Known mistakes are refused at once, not after the seconds that loading a model takes.
    check_clients(client_settings(config))
    open_store(config.state.directory, config.kafka.group_id).check_writable()
    metrics, status = Metrics(), WorkerStatus(time.monotonic)
    with _exported(config, metrics) as telemetry:
        _serve(config, stop, metrics, status, telemetry)


def _serve(config: Config, stop: Stopping, metrics: Metrics, status: WorkerStatus, telemetry: Telemetry | None) -> None:
    server = ProbeServer(config.http.host, config.http.port, metrics, status)
    address = f"http://{config.http.host}:{server.port}"
    log.info("rnn-stream-worker %s: metrics and probes on %s", worker.__version__, address)
    log.info(
        "group '%s' with %s, %s: from %s to '%s'", config.kafka.group_id, config.kafka.client, config.delivery,
        ", ".join(f"'{topic}'" for topic in config.input.topics), config.output.topic,
    )  # fmt: skip
    try:
        model = prove_model(config, status, metrics)
        _tell_build(config, model, metrics)
        shadow = proven_or_none(config, metrics)
        member = patiently(lambda: build_worker(config, model, metrics, status, shadow), "kafka", status, stop)
        if member is None:
            log.info("stopped before any record was read")
            return
        if telemetry is not None and telemetry.spans is not None:
            member.reporter.traced = telemetry.spans.turned
        status.set("kafka", "has not joined the group yet")
        run(member, time.monotonic, stop.is_set, stop.wait)
        log.info("stopped in order")
    finally:
        server.close()


@contextmanager
def _exported(config: Config, metrics: Metrics) -> Iterator[Telemetry | None]:
    """Traces, metrics and logs go to a collector meanwhile, if the environment names one."""
    instance = config.kafka.instance_id or f"{platform.node()}-{os.getpid()}"
    telemetry = open_telemetry(
        os.environ, metrics.registry, Identity(config.kafka.group_id, instance, worker.__version__)
    )
    try:
        yield telemetry
    except (WorkerError, UnavailableError) as error:
        if telemetry is not None:
            telemetry.ends(error)
        raise
    finally:
        if telemetry is not None:
            telemetry.close()


def _tell_build(config: Config, model: StreamingModel | TextModel, metrics: Metrics) -> None:
    level, wanted = cpu_level(), config.model.cpu_level
    metrics.set_build(
        version=worker.__version__,
        model=short_digest(model.sha256),
        group=config.kafka.group_id,
        client=config.kafka.client,
        keras=keras.__version__,
        tensorflow=tf.__version__,
        cpu=level,
    )
    window = None if isinstance(model, TextModel) else model.window
    metrics.form.info({"form": "streaming" if window is None else window.words})
    if wanted not in (None, level):
        log.warning(
            "model.cpu_level: %s is pinned, but this processor has only %s: the same events may give other last digits "
            "here than on other workers", wanted, level,
        )  # fmt: skip


def patiently(attempt: Callable[[], Answer], name: str, status: WorkerStatus, stop: Stopping) -> Answer | None:
    """Try until the cluster answers, waiting longer each time; None when told to stop first."""
    wait_s = RETRY_FIRST_S
    while not stop.is_set():
        status.turned(time.monotonic())
        try:
            return attempt()
        except UnavailableError as error:
            status.set(name, str(error))
            longest_s = RETRY_LONGEST_S
            if isinstance(error, KafkaRefusedError):
                wait_s, longest_s = max(wait_s, REFUSED_FIRST_S), REFUSED_LONGEST_S
            wait_s = min(wait_s, longest_s)
            log.warning("%s; trying again in %.1f s", error, wait_s, extra={"error": type(error).__name__})
        stop.wait(wait_s)
        wait_s = 2 * wait_s
    return None
