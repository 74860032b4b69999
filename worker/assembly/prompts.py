"""From a configuration and its vocabularies to what the decoder of a task that generates reads."""

from __future__ import annotations

from worker.assembly.feature_order import FeatureFields
from worker.assembly.input_fields import input_fields
from worker.codecs.fields import InputFields
from worker.codecs.prompts import PromptFields
from worker.config.sections import Config
from worker.config.tasks import holds_vectors
from worker.config.vocabularies import Vocabularies


def prompt_fields(config: Config, vocabularies: Vocabularies, below: int) -> PromptFields:
    """What records may ask for. ``below``: number of ids that the model reads; not used where records hold vectors."""
    model = config.model
    assert model.task != "score", "it asks for nothing"
    return PromptFields(
        task=model.task,
        max_length=model.max_length,
        temperature=model.temperature,
        below=0 if holds_vectors(config) else below,
        vocabulary=vocabularies.source,
        unknown=vocabularies.unknown,
    )


def fields_beside_text(config: Config) -> InputFields:
    """Stream, time and boundaries of records that hold text or tokens; for vectors use ``input_fields``."""
    assert not holds_vectors(config), "their fields have names and widths"
    return input_fields(config, FeatureFields(()), 0, ())
