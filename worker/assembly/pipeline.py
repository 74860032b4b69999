"""From a configuration and a model to the pipeline, which writes only what the topics take."""

from __future__ import annotations

from worker import __version__
from worker.assembly.boundaries import boundary_rules
from worker.assembly.input_fields import input_fields
from worker.assembly.model import feature_fields
from worker.assembly.repeated import repeated
from worker.assembly.text_model import TextModel
from worker.assembly.text_pipeline import build_text_pipeline
from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import open_decoder
from worker.codecs.encoding import Encoder
from worker.config.sections import Config
from worker.engine.emission import EmitRule
from worker.engine.engine import Engine
from worker.kafka.message_sizes import LEAST_FRAMING_BYTES, NO_RULES, TopicRules, message_bytes_limit
from worker.kafka.settings import ClientSettings
from worker.model.streaming import StreamingModel
from worker.pipeline.generation import GenerationPipeline
from worker.pipeline.pipeline import Pipeline
from worker.records.names import short_digest
from worker.records.reserved_words import KEY
from worker.streams.table import StreamTable


def build_pipeline(config: Config, model: StreamingModel | TextModel) -> Pipeline | GenerationPipeline:
    """Decoder, engine and encoder for this configuration and model. Raises ConfigError."""
    return build_text_pipeline(config, model) if isinstance(model, TextModel) else build_scoring(config, model)


def build_scoring(config: Config, model: StreamingModel) -> Pipeline:
    """Decoder, engine and encoder of task score. Raises ConfigError."""
    fields = input_fields(config, feature_fields(config, model), model.features, model.ids, model.wholes)
    rules, emit = boundary_rules(config), config.output.emit
    table = StreamTable(model.layout, config.state.max_streams, model.units if emit == "change" else 0, rules.idle_ms)
    assert emit != "alert", "refused by the configuration"
    model_id = short_digest(model.sha256)
    return Pipeline(
        decoder=open_decoder(config.input.format, fields, model.layout, repeated=repeated(config)),
        engine=Engine(model, table, rules, EmitRule(emit, config.output.emit_delta)),
        encoder=Encoder(
            config.output.format,
            model_id,
            config.model.labels,
            stream_is_key=config.input.stream == KEY,
            carried=repeated(config).headers,
        ),
        dead_letters=DeadLetters(config.kafka.group_id, model_id, __version__),
    )


def fit_messages(
    pipeline: Pipeline | GenerationPipeline,
    settings: ClientSettings,
    output: TopicRules = NO_RULES,
    dead: TopicRules = NO_RULES,
) -> None:
    """Make it write only messages that the producer and the topics of outputs and of dead letters take."""
    # No output that would be taken is held back: one that is larger by a few bytes is refused by the cluster.
    pipeline.output_bytes = message_bytes_limit(settings.client, settings.producer, output, LEAST_FRAMING_BYTES)
    letter_bytes = message_bytes_limit(settings.client, settings.producer, dead)
    pipeline.dead_letters.fit(letter_bytes, keys_needed=dead.compacted)
