"""The worker as a process: HTTP, patience with a cluster that is not there yet, the loop."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from typing import TypeVar

import worker
from worker.assembly.input_description import input_description, rules_description
from worker.assembly.parts import (
    MODEL_ID_DIGITS,
    build_pipeline,
    check_clients,
    client_settings,
    fit_messages,
    foreseen,
    load_model,
)
from worker.checkpoints.hdf5 import CheckpointIdentity
from worker.checkpoints.opening import open_store
from worker.checkpoints.writer import CheckpointWriter
from worker.commands.check.advice import ROWS_DEPEND
from worker.config import Config
from worker.errors import KafkaRefusedError, KafkaUnavailableError, UnavailableError
from worker.kafka.contracts import Source
from worker.kafka.message_sizes import TopicRules, with_batches_that_fit
from worker.kafka.opening import (
    ClientSettings,
    open_questions,
    open_sink,
    open_source,
    open_transactional_sink,
)
from worker.logs import configure_logs
from worker.member.delivery import AtLeastOnce, Delivery, ExactlyOnce
from worker.member.limits import LoopLimits, Topics
from worker.member.loop import Worker, run
from worker.member.recovery import Recovery, RecoveryPolicy
from worker.member.reporter import Reporter
from worker.model.backend import keras, tf
from worker.model.streaming import StreamingModel
from worker.pipeline.pipeline import Pipeline
from worker.processor import cpu_level
from worker.stopping import Stopping
from worker.web.metrics import Metrics
from worker.web.server import ProbeServer
from worker.web.status import WorkerStatus

log = logging.getLogger("worker")
Answer = TypeVar("Answer")

FIRST_CONTACT_S = 10.0  # then say that nobody answers, see whether to stop, and try again
TOPIC_S = 5.0  # for a broker that creates topics by itself to do so
RETRY_FIRST_S = 0.5
RETRY_LONGEST_S = 10.0
REFUSED_FIRST_S = 5.0  # a broker answers each wrong password, and writes it into its log
REFUSED_LONGEST_S = 30.0


def serve(config: Config, stop: Stopping) -> None:
    """Run until ``stop`` is set. Raises WorkerError for what a restart would not mend by itself."""
    configure_logs(config.log.format, config.log.level)
    # What can be refused at once is not refused after the seconds that a model takes.
    check_clients(client_settings(config))
    open_store(config.state.directory, config.kafka.group_id).check_writable()
    metrics, status = Metrics(), WorkerStatus(time.monotonic)
    server = ProbeServer(config.http.host, config.http.port, metrics, status)
    address = f"http://{config.http.host}:{server.port}"
    log.info("rnn-stream-worker %s: metrics and probes on %s", worker.__version__, address)
    try:
        model = prove_model(config, status)
        _tell_build(config, model, metrics)
        member = patiently(lambda: build_worker(config, model, metrics, status), "kafka", status, stop)
        if member is None:
            log.info("told to stop before anything was read")
            return
        status.set("kafka", "has not joined the group yet")
        run(member, time.monotonic, stop.is_set, stop.wait)
        log.info("stopped in order")
    finally:
        server.close()


def _tell_build(config: Config, model: StreamingModel, metrics: Metrics) -> None:
    level, wanted = cpu_level(), config.model.cpu_level
    metrics.set_build(
        version=worker.__version__,
        model=(model.sha256 or "")[:MODEL_ID_DIGITS],
        group=config.kafka.group_id,
        client=config.kafka.client,
        keras=keras.__version__,
        tensorflow=tf.__version__,
        cpu=level,
    )
    if wanted not in (None, level):
        log.warning(
            "model.cpu_level: %s is pinned, but this processor has only %s: the same events may give other last digits "
            "here than on the others", wanted, level,
        )  # fmt: skip


def prove_model(config: Config, status: WorkerStatus | None = None) -> StreamingModel:
    """Load the model, prove parity, build its graphs. Raises WorkerError, ModelRefusedError."""
    if status is not None:
        status.set("model", "loading")
    model = load_model(config)
    with foreseen("proven", config):
        found = model.check_parity(config.model.parity_tolerance).max_abs_difference
    if not model.warm_up(config.batch.max_events):
        log.warning(ROWS_DEPEND)
    log.info(
        "model %s (%s): %d states, %d bytes a stream, %s on every prefix",
        config.model.path, (model.sha256 or "")[:12], len(model.states), model.initial_row.nbytes,
        f"at most {found:.2g} from the trained model" if found else "bit for bit the trained model's answer",
    )  # fmt: skip
    if status is not None:
        status.set("model", None)
    return model


def build_worker(
    config: Config,
    model: StreamingModel | None = None,
    metrics: Metrics | None = None,
    status: WorkerStatus | None = None,
) -> Worker:
    """All parts put together, connected and not yet in the group. Raises KafkaUnavailableError, WorkerError."""
    settings = client_settings(config)
    model = model or prove_model(config)
    store = open_store(config.state.directory, config.kafka.group_id)
    store.check_writable()
    pipeline, settings = _fitted(config, model, settings)
    identity = CheckpointIdentity(
        model.sha256 or "", "", config.kafka.group_id, worker.__version__,
        input=input_description(config, [part.name for part in model.inputs]),
        rules=rules_description(config), cpu=cpu_level(),
    )  # fmt: skip
    reporter = Reporter(metrics or Metrics(), status or WorkerStatus(time.monotonic), time.monotonic, time.time)
    limits = LoopLimits(
        poll_records=config.batch.max_events,
        turn_events=config.batch.max_events,
        batch_wait_s=config.batch.max_wait.seconds,
        checkpoint_interval_s=config.state.checkpoint_interval.seconds,
        kafka_call_s=settings.patience_s,
        session_s=settings.session_s,
    )
    source, delivery = _connect(settings, config.delivery, limits)
    _spare_the_garbage_collector()
    return Worker(
        source=source,
        delivery=delivery,
        pipeline=pipeline,
        recovery=Recovery(store, identity, model.states, _policy(config)),
        writer=CheckpointWriter(store, config.state.keep),
        reporter=reporter,
        topics=Topics(config.input.topics, config.output.topic, config.dead_letters.topic),
        limits=limits,
    )


def _fitted(config: Config, model: StreamingModel, settings: ClientSettings) -> tuple[Pipeline, ClientSettings]:
    """A pipeline that writes what the topics take, and how to write it. Raises KafkaUnavailableError, WorkerError."""
    output, dead = _look_for_topics(config, settings)
    pipeline = build_pipeline(config, model)
    fit_messages(pipeline, settings, output, dead)
    return pipeline, with_batches_that_fit(settings, output, dead)


def _look_for_topics(config: Config, settings: ClientSettings) -> tuple[TopicRules, TopicRules]:
    """What the topics of outputs and of dead letters say of messages.

    Raises KafkaUnavailableError for one that is missing: it may yet be created.
    """
    with open_questions(settings, FIRST_CONTACT_S) as cluster:
        for topic in config.input.topics:
            if cluster.partitions(topic) is None:
                raise KafkaUnavailableError(f"input topic '{topic}' does not exist (input.topic)")

        def is_there_to_write(topic: str) -> bool:
            return cluster.partitions(topic) is not None or cluster.comes_when_asked_for(topic, TOPIC_S)

        if not is_there_to_write(config.output.topic):
            raise KafkaUnavailableError(f"output topic '{config.output.topic}' does not exist (output.topic)")
        dead = config.dead_letters.topic
        if dead is not None and not is_there_to_write(dead):
            log.warning(
                "dead-letter topic '%s' does not exist (dead_letters.topic): create it, or the first refused record "
                "ends the worker", dead,
            )  # fmt: skip
        return cluster.rules(config.output.topic), TopicRules() if dead is None else cluster.rules(dead)


def _policy(config: Config) -> RecoveryPolicy:
    state = config.state
    return RecoveryPolicy(
        state.recover,
        state.on_model_change,
        state.on_partitions_change,
        rebuild_from_ms=state.rebuild_from.ms if state.rebuild_from else None,
        exactly_once=config.delivery == "exactly_once",
    )


def _spare_the_garbage_collector() -> None:
    # TensorFlow and Keras are half a million objects that never die. Without this every full collection walks all of
    # them, which was measured to take a third of the throughput with kafka-python.
    gc.collect()
    gc.freeze()


def _connect(settings: ClientSettings, guarantee: str, limits: LoopLimits) -> tuple[Source, Delivery]:
    source = open_source(settings)
    try:
        if guarantee == "exactly_once":
            return source, ExactlyOnce(source, lambda: open_transactional_sink(settings), limits)
        return source, AtLeastOnce(source, lambda: open_sink(settings), limits, time.monotonic)
    except BaseException:
        source.close(RETRY_FIRST_S)
        raise


def patiently(attempt: Callable[[], Answer], name: str, status: WorkerStatus, stop: Stopping) -> Answer | None:
    """Try until the cluster answers, waiting longer each time; None when told to stop before."""
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
            log.warning("%s; trying again in %.1f s", error, wait_s)
        stop.wait(wait_s)
        wait_s = 2 * wait_s
    return None
