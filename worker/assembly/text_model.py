"""From a configuration to a model that writes texts, with its vocabularies: for the tasks generate and seq2seq."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.assembly.feature_order import FeatureFields, in_order
from worker.assembly.input_fields import check_fields, input_fields
from worker.assembly.prompts import fields_beside_text
from worker.codecs.fields import InputFields
from worker.config.model import EncoderDecoder as EncoderDecoderFiles
from worker.config.sections import Config
from worker.config.tasks import holds_vectors
from worker.config.vocabularies import Vocabularies, check_sizes, read_vocabularies
from worker.errors import ConfigError
from worker.model.encoder_decoder import EncoderDecoder
from worker.model.generative import GenerativeModel
from worker.model.pair.source import StreamedSource
from worker.model.pair.sources import whole_numbers
from worker.model.proof.parity import Parity
from worker.records.model_url import shown
from worker.records.states import StateLayout, StateSpec

NAMED_AS_KEYS = ("start", "stop", "top_k", "top_p")  # what an EncoderDecoder refuses of what it is given


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model that writes texts, and what its items are called."""

    model: GenerativeModel | EncoderDecoder
    vocabularies: Vocabularies

    @property
    def sha256(self) -> str | None:
        """Of its file, or of both."""
        return self.model.sha256

    @property
    def identity(self) -> str:
        """What states belong to."""
        return self.sha256 or ""

    @property
    def states(self) -> Sequence[StateSpec]:
        """What a stream carries from record to record: of a pair the encoder's, none where sources are kept."""
        if isinstance(self.model, GenerativeModel):
            return self.model.states
        encoder = self.model.encoder
        return encoder.model.states if isinstance(encoder, StreamedSource) else []

    @property
    def layout(self) -> StateLayout:
        """How these stand side by side."""
        return self.model.layout if isinstance(self.model, GenerativeModel) else self.model.encoder.layout

    @property
    def answer_numbers(self) -> int:
        """Numbers that a stream keeps of the last answer: what its next record goes on from."""
        return self.model.units if isinstance(self.model, GenerativeModel) else self.model.encoder.units

    @property
    def bytes_per_stream(self) -> int:
        """Of its states and its last answer, beside items that are kept."""
        return int(self.layout.initial.nbytes + self.answer_numbers * np.dtype(np.float64).itemsize)

    def bytes_per_text(self, beams: int) -> int:
        """Of the working copy of a text that is being written, beside its items."""
        double, numbers = np.dtype(np.float64).itemsize, self.model.state_width
        if isinstance(self.model, GenerativeModel):
            return int(self.layout.initial.nbytes + self.model.units * np.dtype(self.model.dtype).itemsize)
        decoder = self.model.decoder
        source = int(self.layout.initial.nbytes + self.model.encoder.units * double)
        if beams > 1:
            return source + beams * numbers * np.dtype(decoder.dtype).itemsize
        return source + numbers * double + decoder.units * np.dtype(decoder.dtype).itemsize

    def check_parity(self, tolerance: float) -> Parity:
        """See ``StreamingModel.check_parity``."""
        return self.model.check_parity(tolerance)

    def warm_up(self, max_batch: int) -> bool:
        """See ``StreamingModel.warm_up``."""
        return self.model.warm_up(max_batch)


def load_text_model(config: Config, custom_objects: Sequence[Any]) -> TextModel:
    """Raises WorkerError, ModelRefusedError, ConfigError."""
    vocabularies = read_vocabularies(config)
    given = config.model
    more: dict[str, Any] = {
        "allow_lambda": given.allow_lambda,
        "custom_objects": custom_objects,
        "stop": vocabularies.stop if given.stop is not None else None,
        "top_k": given.top_k,
        "top_p": given.top_p,
    }
    check_fields(config)
    if given.task == "generate":
        assert not isinstance(given.path, EncoderDecoderFiles), "refused by the configuration"
        writer = GenerativeModel.load(given.path, sha256=given.sha256, **more)
        check_sizes(config, vocabularies, writer.units, writer.units)
        return TextModel(writer, vocabularies)
    pair = _pair(config, more | {"start": vocabularies.start, "max_length": given.max_length})
    check_sizes(config, vocabularies, source_items(pair), pair.units)
    if holds_vectors(config):
        source_features(config, pair)
    else:
        pair.encoder.features = 1  # ids, of which the encoder makes one-hot vectors where it takes these
    return TextModel(pair, vocabularies)


def _pair(config: Config, more: dict[str, Any]) -> EncoderDecoder:
    given = config.model
    try:
        if isinstance(given.path, EncoderDecoderFiles):
            return EncoderDecoder.load(encoder=given.path.encoder, decoder=given.path.decoder, **more)
        return EncoderDecoder.load(given.path, sha256=given.sha256, **more)
    except ValueError as error:
        if not re.match(rf"({'|'.join(NAMED_AS_KEYS)})\b", str(error)):
            raise
        raise ConfigError(f"model.{error}") from error


def source_items(pair: EncoderDecoder) -> int | None:
    """Ids that the encoder reads, as such or one-hot; None where its items are other vectors."""
    part = pair.encoder.part
    if part.ids is not None:
        return part.ids
    return part.width if part.width > 1 else None


def source_features(config: Config, pair: EncoderDecoder) -> FeatureFields:
    """The fields in the order of the encoder's numbers. Raises ConfigError for fields that it doesn't take."""
    part = pair.encoder.part
    if config.input.features is None:
        return FeatureFields(())  # of raw vectors, which have no fields
    return in_order(config.input.features, {part.name: part.width}, model_name(config))


def text_fields(config: Config, loaded: TextModel) -> InputFields:
    """What to read of records, beside text and tokens."""
    if not holds_vectors(config):
        return fields_beside_text(config)
    assert isinstance(loaded.model, EncoderDecoder), "task generate reads no vectors"
    part = loaded.model.encoder.part
    ids = () if part.ids is None else ((slice(0, part.width), part.ids),)
    limits = whole_numbers(part)
    wholes = () if limits is None else ((slice(0, part.width), *limits),)
    return input_fields(config, source_features(config, loaded.model), part.width, ids, wholes)


def ids_read(config: Config, loaded: TextModel) -> int:
    """Number of ids that records may hold; 0 where they hold vectors. Raises ConfigError where there are none."""
    if isinstance(loaded.model, GenerativeModel):
        return loaded.model.units
    if holds_vectors(config):
        return 0
    found = source_items(loaded.model)
    if found is None:
        part = loaded.model.encoder.part
        raise ConfigError(
            f"input.features: is missing: the encoder of {model_name(config)} reads vectors (input {part.name}, "
            "1 number an item), not ids"
        )
    return found


def model_name(config: Config) -> str:
    """The model's file, or both, for messages."""
    path = config.model.path
    files = (path.encoder, path.decoder) if isinstance(path, EncoderDecoderFiles) else (path,)
    return " and ".join(map(shown, files))
