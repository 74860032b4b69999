"""From a configuration and a model that writes texts to the pipeline."""

from __future__ import annotations

from worker import __version__
from worker.assembly.boundaries import boundary_rules
from worker.assembly.prompts import prompt_fields
from worker.assembly.repeated import repeated
from worker.assembly.text_model import TextModel, ids_read, text_fields
from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import open_decoder
from worker.codecs.texts import TextEncoder, item_bytes
from worker.config.sections import Config
from worker.engine.emission import EmitRule
from worker.engine.feedback import FeedbackEngine
from worker.engine.generation import Generation
from worker.engine.tasks import Task
from worker.engine.translation import Translation
from worker.model.generative import GenerativeModel
from worker.pipeline.generation import GenerationPipeline
from worker.records.names import short_digest
from worker.records.reserved_words import KEY
from worker.streams.table import StreamTable


def build_text_pipeline(config: Config, loaded: TextModel) -> GenerationPipeline:
    """Decoder, engine and encoder of a task that generates. Raises ConfigError."""
    model_id, layout, target = short_digest(loaded.sha256), loaded.layout, loaded.vocabularies.target
    asked = prompt_fields(config, loaded.vocabularies, ids_read(config, loaded))
    rules, repeats = boundary_rules(config), repeated(config)
    table = StreamTable(layout, config.state.max_streams, loaded.answer_numbers, rules.idle_ms, generates=True)
    return GenerationPipeline(
        decoder=open_decoder(config.input.format, text_fields(config, loaded), layout, asked, repeats),
        engine=FeedbackEngine(_task(config, loaded, table), rules, item_bytes(loaded.model.units, target)),
        encoder=TextEncoder(config.output.format, model_id, target, config.input.stream == KEY, repeats.headers),
        dead_letters=DeadLetters(config.kafka.group_id, model_id, __version__),
    )


def _task(config: Config, loaded: TextModel, table: StreamTable) -> Task:
    emit, model = config.output.emit, config.model
    assert emit != "alert", "refused by the configuration"
    rule = EmitRule(emit, config.output.emit_delta)
    if isinstance(loaded.model, GenerativeModel):
        return Generation(loaded.model, table, rule, model.seed)
    return Translation(loaded.model, table, rule, model.seed, model.beams)
