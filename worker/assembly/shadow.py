"""From the section ``shadow`` of the configuration to the second model that follows the first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from worker import __version__
from worker.assembly.input_description import input_description, rules_description
from worker.assembly.model import load_scoring, unforeseen_as_one_line
from worker.assembly.pipeline import build_scoring
from worker.assembly.text_model import model_name
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.opening import open_store
from worker.checkpoints.writer import CheckpointWriter
from worker.config.sections import Config
from worker.errors import KafkaUnavailableError, WorkerError
from worker.kafka.contracts import Sink
from worker.kafka.message_sizes import LEAST_FRAMING_BYTES, NO_RULES, message_bytes_limit
from worker.kafka.opening import open_questions, open_sink
from worker.kafka.settings import ClientSettings
from worker.member.shadow import Shadow
from worker.member.shadow_outbox import ShadowOutbox
from worker.model.streaming import StreamingModel
from worker.pipeline.pipeline import OUTPUT_BYTES_LIMIT
from worker.pipeline.shadow import ShadowPipeline
from worker.processor import cpu_level
from worker.records.names import short_digest
from worker.web.metrics import Metrics

log = logging.getLogger("worker.shadow")

TOPIC_S = 5.0  # for a broker that creates topics by itself to do so
CONNECT_S = 10.0
BLOCK_MS = 1_000  # kafka-python's call may wait so long for what it must know of the topic


def shadow_config(config: Config) -> Config:
    """The configuration as if the second model were the first."""
    assert config.shadow.path is not None
    model = config.model.model_copy(update={"path": config.shadow.path, "sha256": config.shadow.sha256})
    return config.model_copy(update={"model": model})


def prove_shadow(config: Config) -> StreamingModel:
    """Load and prove the second model. Raises WorkerError, ModelRefusedError, ConfigError."""
    config = shadow_config(config)
    model = load_scoring(config)
    with unforeseen_as_one_line("proven", config):
        found = model.check_parity(config.model.parity_tolerance).max_abs_difference
    model.warm_up(config.batch.max_events)
    log.info(
        "shadow %s (%s): at most %.2g from the trained model", model_name(config), short_digest(model.sha256), found
    )
    return model


def proven_or_none(config: Config, metrics: Metrics) -> StreamingModel | None:
    """The second model; None where there is none, or where it can't be used: that is counted, and stops nobody."""
    if config.shadow.path is None:
        return None
    try:
        return prove_shadow(config)
    except WorkerError as error:
        metrics.shadow_failures.labels("load").inc()
        log.warning("shadow: there is none, because it can't be used: %s (shadow.path)", error)
        return None


def build_shadow_pipeline(config: Config, model: StreamingModel, output_bytes: int) -> ShadowPipeline:
    """Engine, table and encoder of the second model."""
    pipeline = build_scoring(shadow_config(config), model)
    return ShadowPipeline(pipeline.engine, pipeline.encoder, output_bytes)


def replayed_shadow(config: Config) -> ShadowPipeline | None:
    """For a replay, if there is one. Raises WorkerError, ModelRefusedError, ConfigError."""
    if config.shadow.path is None:
        return None
    return build_shadow_pipeline(config, load_scoring(shadow_config(config)), OUTPUT_BYTES_LIMIT)


def build_shadow(config: Config, model: StreamingModel, settings: ClientSettings, metrics: Metrics) -> Shadow:
    """All of it, connected if its topic answers in time. Raises WorkerError for a store that can't be used."""
    topic, group = config.shadow.topic, config.kafka.group_id
    assert topic is not None, "refused by the configuration"
    store = open_store(config.state.directory, group, shadow=True)
    limit = message_bytes_limit(settings.client, settings.producer, NO_RULES, LEAST_FRAMING_BYTES)
    identity = CheckpointIdentity(
        model.identity, "", group, __version__,
        input=input_description(shadow_config(config), [port.name for port in model.inputs]),
        rules=rules_description(config), cpu=cpu_level(),
    )  # fmt: skip
    shadow = Shadow(
        build_shadow_pipeline(config, model, limit),
        ShadowOutbox(topic, _opening(topic, settings)),
        store,
        CheckpointWriter(store, config.state.keep),
        identity,
        model.states,
        metrics,
    )
    shadow.connect(time.monotonic(), CONNECT_S)
    return shadow


def _opening(topic: str, settings: ClientSettings) -> Callable[[], Sink]:
    producer = {**settings.producer}
    if settings.client == "kafka-python":
        producer.setdefault("max_block_ms", BLOCK_MS)
    own = replace(settings, transactional_id=None, producer=producer, written={topic: "shadow.topic"})

    def open_it() -> Sink:
        with open_questions(own, TOPIC_S) as cluster:
            if cluster.partitions(topic) is None and not cluster.comes_when_asked_for(topic, TOPIC_S):
                raise KafkaUnavailableError(f"topic '{topic}' does not exist")
        return open_sink(own)

    return open_it
