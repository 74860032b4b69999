"""Texts of tasks that generate → bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from worker.codecs.encoding import ORIGIN_NAMES, RESET_NAMES, Source, chosen, keys_of
from worker.records.carried_headers import TRACES, CarriedHeaders
from worker.records.events import Events
from worker.records.messages import Messages
from worker.records.prompts import Finish
from worker.records.texts import WHOLE_TEXT, Texts
from worker.records.vocabulary import Vocabulary

FINISH_NAMES = {finish: finish.name.lower() for finish in Finish}
# Of an output: token, text, tokens.
Content: TypeAlias = tuple[int | UnsetType | None, str | UnsetType, list[int] | UnsetType]


class TextOutput(msgspec.Struct, gc=False):
    """One output record, fields in the order in which they are written: a whole text, or one item of it."""

    stream: str
    sequence: Any
    step: int
    token: int | UnsetType | None
    text: str | UnsetType
    tokens: list[int] | UnsetType
    finish: str | UnsetType
    score: float | UnsetType
    final: bool
    reset: str | None
    time: int
    origin: str
    model: str
    fields: Any
    source: Source


class TextEncoder:
    """Encodes texts as ``json`` or ``msgpack``. ``vocabulary``: None leaves the text out; ``model``: short SHA-256."""

    def __init__(
        self,
        wire_format: str,
        model: str,
        vocabulary: Vocabulary | None,
        stream_is_key: bool,
        carried: CarriedHeaders = TRACES,
    ) -> None:
        self._encode = (msgspec.json.Encoder() if wire_format == "json" else msgspec.msgpack.Encoder()).encode
        self._model = model
        self._vocabulary = vocabulary
        self._stream_is_key = stream_is_key
        self._carried = carried

    def encode(self, events: Events, texts: Texts) -> Messages:
        """The outputs of a batch, in their order."""
        where = texts.events
        batch, records = events.batch, events.records[where]
        topic, partition = batch.partition
        streams = chosen(events.streams, where)
        columns = zip(
            streams,
            [None] * len(streams) if events.ids is None else chosen(events.ids, where),
            texts.steps.tolist(),
            map(self._content, texts.tokens, texts.items.tolist()),
            _finishes(texts.finishes),
            [UNSET] * len(streams) if texts.scores is None else texts.scores,
            texts.finals.tolist(),
            [RESET_NAMES[reset] for reset in texts.resets.tolist()],
            events.times[where].tolist(),
            [ORIGIN_NAMES[origin] for origin in texts.origins.tolist()],
            [batch.offsets[record] for record in records.tolist()],
            texts.items.tolist(),
            [UNSET] * len(streams) if events.copied is None else chosen(events.copied, where),
            strict=True,
        )
        encode, model = self._encode, self._model
        values: list[bytes | None] = [
            encode(
                TextOutput(
                    stream, sequence, step, token, text, tokens, finish, score, final, reset, time, origin, model,
                    fields,
                    Source(topic, partition, offset) if item == WHOLE_TEXT else Source(topic, partition, offset, item),
                )
            )
            for (
                stream, sequence, step, (token, text, tokens), finish, score, final, reset, time, origin, offset, item,
                fields,
            ) in columns
        ]  # fmt: skip
        keys = keys_of(batch, records, streams, self._stream_is_key)
        return Messages(keys, values, self._carried.of_all(batch, records), records)

    def _content(self, tokens: list[int], item: int) -> Content:
        text = UNSET if self._vocabulary is None else self._vocabulary.text(tokens)
        if item == WHOLE_TEXT:
            return UNSET, text, tokens
        return (tokens[0] if tokens else None), text, UNSET


def item_bytes(units: int, vocabulary: Vocabulary | None) -> int:
    """What an item of a text takes at most in an output, in bytes of JSON: its id and, if it has one, its name.

    ``units``: items there are.
    """
    id_bytes = len(f"{units - 1},")
    if vocabulary is None:
        return id_bytes
    encode = msgspec.json.Encoder().encode
    return id_bytes + len(" ") + max(len(encode(item)) - len('""') for item in vocabulary.items)


def _finishes(finishes: Sequence[Finish | None]) -> list[str | UnsetType]:
    return [UNSET if finish is None else FINISH_NAMES[finish] for finish in finishes]
