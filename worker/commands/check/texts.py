"""What ``worker check`` finds out about a model that writes texts, beside what it does about any model."""

from __future__ import annotations

from dataclasses import dataclass

from worker.assembly.text_model import TextModel
from worker.commands.check.writing_times import Writer
from worker.model.encoder_decoder import EncoderDecoder
from worker.model.generative import GenerativeModel
from worker.records.texts import NO_STOP
from worker.records.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class VocabularyReport:
    """``kind``: characters or words; ids, or vectors, where there is no vocabulary. ``items``: None of vectors."""

    kind: str
    items: int | None


@dataclass(frozen=True, slots=True)
class TextsReport:
    """What is read and written. In task generate ``source`` and ``target`` are the same.

    ``start``, ``stop``: items, or ids without a vocabulary; None where there is none. ``one_hot``: how the model takes
    items. ``logits``: it answers these, and the worker makes probabilities of them. ``reads_whole``: why sources can't
    be read item by item, so that a stream keeps the items of its source; "" where they are. ``decoder_states``: numbers
    that decoding carries, of a text that is being written.
    """

    source: VocabularyReport
    target: VocabularyReport
    start: str | int | None
    stop: str | int | None
    one_hot: bool
    logits: bool
    reads_whole: str = ""
    decoder_states: int = 0


def texts_report(loaded: TextModel, read_ids: int) -> TextsReport:
    """``read_ids``: ids that records may hold; 0 where they hold vectors."""
    model, given = loaded.model, loaded.vocabularies
    target = _vocabulary(given.target, model.units)
    start, stop = (
        None if number is None or number == NO_STOP else given.target.items[number] if given.target else number
        for number in (given.start, given.stop)
    )
    if isinstance(model, GenerativeModel):
        return TextsReport(target, target, None, stop, model.one_hot, model.logits)
    source = _vocabulary(given.source, read_ids) if read_ids else VocabularyReport("vectors", None)
    return TextsReport(
        source, target, start, stop, model.one_hot, model.logits, model.encoder.why_whole, model.state_width
    )


def decoder_of(model: GenerativeModel | EncoderDecoder) -> Writer:
    """What draws its items."""
    return model if isinstance(model, GenerativeModel) else model.decoder


def _vocabulary(given: Vocabulary | None, ids: int) -> VocabularyReport:
    if given is None:
        return VocabularyReport("ids", ids)
    return VocabularyReport("characters" if given.characters else "words", len(given))
