"""All parts of a worker put together, connected and not yet in the group."""

from __future__ import annotations

import gc
import logging
import time

import worker
from worker.assembly.clients import client_settings
from worker.assembly.input_description import input_description, rules_description
from worker.assembly.model import prove_model
from worker.assembly.pipeline import build_pipeline, fit_messages
from worker.assembly.shadow import build_shadow
from worker.assembly.text_model import TextModel
from worker.assembly.watching import watched
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.opening import open_store
from worker.checkpoints.writer import CheckpointWriter
from worker.config.sections import Config
from worker.errors import KafkaUnavailableError
from worker.kafka.contracts import Source
from worker.kafka.message_sizes import TopicRules, with_batches_that_fit
from worker.kafka.opening import (
    open_questions,
    open_sink,
    open_source,
    open_transactional_sink,
)
from worker.kafka.settings import ClientSettings
from worker.member.delivery import AtLeastOnce, Delivery, ExactlyOnce
from worker.member.limits import LoopLimits, Topics
from worker.member.loop import Worker
from worker.member.model_watch import ModelWatch
from worker.member.owned_states import OwnedStates
from worker.member.recovery import Recovery
from worker.member.recovery_policy import RecoveryPolicy
from worker.member.reporter import Reporter
from worker.member.timing import Clock
from worker.member.warming import Warm
from worker.model.streaming import StreamingModel
from worker.pipeline.generation import GenerationPipeline
from worker.pipeline.pipeline import Pipeline
from worker.processor import cpu_level
from worker.web.metrics import Metrics
from worker.web.status import WorkerStatus

log = logging.getLogger("worker")

FIRST_CONTACT_S = 10.0  # then report that nobody answers, see whether to stop, and try again
TOPIC_S = 5.0  # for a broker that creates topics by itself to do so
FAILED_CLOSE_S = 0.5  # for a consumer whose producer could not be opened


def build_worker(
    config: Config,
    model: StreamingModel | TextModel | None = None,
    metrics: Metrics | None = None,
    status: WorkerStatus | None = None,
    shadow: StreamingModel | None = None,
) -> Worker:
    """All parts put together, connected and not yet in the group. Raises KafkaUnavailableError, WorkerError."""
    settings = client_settings(config)
    model = model or prove_model(config)
    store = open_store(config.state.directory, config.kafka.group_id)
    store.check_writable()
    pipeline, settings = _fitted(config, model, settings)
    identity = CheckpointIdentity(
        model.identity, "", config.kafka.group_id, worker.__version__,
        input=_input(config, model),
        rules=rules_description(config), cpu=cpu_level(),
    )  # fmt: skip
    clock = Clock(time.monotonic, time.time)
    reporter = Reporter(metrics or Metrics(), status or WorkerStatus(clock.now), clock)
    _watch_model(config, model, pipeline, reporter, clock)
    limits = _limits(config, settings)
    recovery = Recovery(store, identity, model.states, _policy(config))
    source, delivery = _connect(settings, config.delivery, limits)
    writer = CheckpointWriter(store, config.state.keep)
    states = OwnedStates(source, pipeline.engine.table, recovery, writer, reporter, limits, clock)
    if shadow is not None:
        states.follower = build_shadow(config, shadow, settings, reporter.metrics)
    _spare_the_garbage_collector()
    return Worker(
        source=source,
        delivery=delivery,
        pipeline=pipeline,
        states=states,
        reporter=reporter,
        topics=Topics(config.input.topics, config.output.topic, config.dead_letters.topic),
        limits=limits,
        clock=clock,
    )


def _watch_model(
    config: Config,
    model: StreamingModel | TextModel,
    pipeline: Pipeline | GenerationPipeline,
    reporter: Reporter,
    clock: Clock,
) -> None:
    """Of task score: metrics tell what the model reads and says. Raises ConfigError."""
    if isinstance(model, StreamingModel) and isinstance(pipeline, Pipeline):
        watch = ModelWatch(watched(config, model), pipeline.engine.sampler, clock.now)
        reporter.watch, reporter.metrics.predictions.source = watch.look, watch.figures


def _input(config: Config, model: StreamingModel | TextModel) -> str:
    if isinstance(model, TextModel):
        return input_description(config, vocabularies=model.vocabularies)
    return input_description(config, [port.name for port in model.inputs])


def _limits(config: Config, settings: ClientSettings) -> LoopLimits:
    return LoopLimits(
        poll_records=config.batch.max_events,
        turn_events=config.batch.max_events,
        batch_wait_s=config.batch.max_wait.seconds,
        checkpoint_interval_s=config.state.checkpoint_interval.seconds,
        kafka_call_s=settings.patience_s,
        session_s=settings.session_s,
    )


def _fitted(
    config: Config, model: StreamingModel | TextModel, settings: ClientSettings
) -> tuple[Pipeline | GenerationPipeline, ClientSettings]:
    """A pipeline that writes what the topics take, and how to write it. Raises KafkaUnavailableError, WorkerError."""
    output, dead = _look_for_topics(config, settings)
    pipeline = build_pipeline(config, model)
    fit_messages(pipeline, settings, output, dead)
    return pipeline, with_batches_that_fit(settings, output, dead)


def _look_for_topics(config: Config, settings: ClientSettings) -> tuple[TopicRules, TopicRules]:
    """What the topics of outputs and of dead letters accept.

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
                "ends the worker", dead, extra={"topic": dead},
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
        warm=Warm(warm.events, warm.time.ms if warm.time else None) if (warm := state.warm) else None,
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
        source.close(FAILED_CLOSE_S)
        raise
