"""Texts in, the documented bytes out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.codecs.test_codecs import LAYOUT, batch_of
from worker.codecs.decoding import open_decoder
from worker.codecs.fields import InputFields
from worker.codecs.prompts import PromptFields
from worker.codecs.texts import TextEncoder, item_bytes
from worker.records.events import Events, Origin, Reset
from worker.records.prompts import Finish
from worker.records.texts import WHOLE_TEXT, Texts
from worker.records.vocabulary import Vocabulary

CHARACTERS = Vocabulary(["a", "b", "\n"])
WORDS = Vocabulary(["the", "door", "opens"])


def events_of(*keys: str, sequence: str | None = None) -> Events:
    fields = InputFields(0, (), id=None if sequence is None else "run")
    asked = PromptFields("generate", 400, 1.0, below=3, vocabulary=CHARACTERS)
    value = json.dumps({"run": sequence}).encode()
    batch = batch_of([value] * len(keys), keys=[key.encode() for key in keys], timestamps=[1795240795377] * len(keys))
    return open_decoder("json", fields, LAYOUT, asked).decode(batch)


def texts(tokens: list[list[int]], **columns: Any) -> Texts:
    count = len(tokens)
    return Texts(
        events=np.array(columns.get("events", range(count)), np.int64),
        items=np.array(columns.get("items", [WHOLE_TEXT] * count), np.int64),
        tokens=tokens,
        finishes=columns.get("finishes", [Finish.LENGTH] * count),
        steps=np.array(columns.get("steps", range(1, count + 1)), np.int64),
        resets=np.array(columns.get("resets", [Reset.NONE] * count), np.uint8),
        finals=np.array(columns.get("finals", [False] * count)),
        origins=np.array(columns.get("origins", [Origin.LIVE] * count), np.uint8),
        scores=columns.get("scores"),
    )


def encoded(events: Events, answers: Texts, vocabulary: Vocabulary | None = CHARACTERS) -> list[dict[str, Any]]:
    messages = TextEncoder("json", "abc", vocabulary, stream_is_key=True).encode(events, answers)
    return [json.loads(value or b"") for value in messages.values]


def test_a_whole_text_is_as_documented_to_the_byte() -> None:
    answer = texts([[1, 0, 2, 0]], steps=[12], finishes=[Finish.STOP], resets=[Reset.NEW])
    messages = TextEncoder("json", "4f1c9a2b7d10", CHARACTERS, stream_is_key=True).encode(
        events_of("pen-1", sequence="s42"), answer
    )
    assert messages.values == [
        b'{"stream":"pen-1","sequence":"s42","step":12,"text":"ba\\na","tokens":[1,0,2,0],"finish":"stop",'
        b'"final":false,"reset":"new","time":1795240795377,"origin":"live","model":"4f1c9a2b7d10",'
        b'"source":{"topic":"readings","partition":2,"offset":100}}'
    ]
    assert (messages.keys, messages.headers, messages.records.tolist()) == ([b"pen-1"], None, [0])


def test_an_item_is_as_documented_to_the_byte() -> None:
    answer = texts([[1], [2]], events=[0, 0], items=[0, 1], steps=[5, 6], finishes=[None, Finish.MAX_LENGTH])
    answer.finals[1] = True
    messages = TextEncoder("json", "4f1c9a2b7d10", CHARACTERS, stream_is_key=False).encode(events_of("é"), answer)
    rest = '"reset":null,"time":1795240795377,"origin":"live","model":"4f1c9a2b7d10"'
    where = '"source":{"topic":"readings","partition":2,"offset":100'
    assert [(value or b"").decode() for value in messages.values] == [
        f'{{"stream":"é","sequence":null,"step":5,"token":1,"text":"b","final":false,{rest},{where},"item":0}}}}',
        f'{{"stream":"é","sequence":null,"step":6,"token":2,"text":"\\n","finish":"max_length","final":true,{rest},'
        f'{where},"item":1}}}}',
    ]
    assert (messages.keys, messages.records.tolist()) == (["é".encode()] * 2, [0, 0])


def test_a_stop_item_has_no_text_and_an_empty_text_no_tokens() -> None:
    stop, empty = texts([[]], items=[3], finishes=[Finish.STOP]), texts([[]])
    (found,) = encoded(events_of("k"), stop)
    assert (found["token"], found["text"], found["finish"], found["source"]["item"]) == (None, "", "stop", 3)
    (found,) = encoded(events_of("k"), empty)
    assert (found["text"], found["tokens"], found["finish"]) == ("", [], "length")
    assert "token" not in found
    assert "item" not in found["source"]


def test_words_are_joined_by_one_space_and_stand_alone_as_items() -> None:
    (whole,) = encoded(events_of("k"), texts([[0, 1, 2]]), WORDS)
    assert whole["text"] == "the door opens"
    items = encoded(events_of("k"), texts([[0], [1]], events=[0, 0], items=[0, 1]), WORDS)
    assert [each["text"] for each in items] == ["the", "door"]


def test_without_a_vocabulary_there_are_only_tokens() -> None:
    (whole,) = encoded(events_of("k"), texts([[70, 0]]), None)
    assert (whole["tokens"], "text" in whole) == ([70, 0], False)
    (item,) = encoded(events_of("k"), texts([[70]], items=[0]), None)
    assert (item["token"], "text" in item, "tokens" in item) == (70, False, False)


def test_scores_only_with_beams() -> None:
    whole = encoded(events_of("k", "l"), texts([[0], [1]], scores=[-0.25, -1.5]))
    assert [each["score"] for each in whole] == [-0.25, -1.5]
    assert list(whole[0])[3:8] == ["text", "tokens", "finish", "score", "final"]
    assert "score" not in encoded(events_of("k"), texts([[0]]))[0]


def test_an_event_may_have_no_output_or_several() -> None:
    events = events_of("k", "l", "m")
    answers = texts([[0], [1], [2]], events=[0, 2, 2], items=[0, 0, 1], origins=[Origin.LIVE, 1, 3])
    messages = TextEncoder("json", "", CHARACTERS, stream_is_key=True).encode(events, answers)
    found = [json.loads(value or b"") for value in messages.values]
    assert [(each["stream"], each["source"]["offset"], each["source"]["item"]) for each in found] == [
        ("k", 100, 0), ("m", 102, 0), ("m", 102, 1),
    ]  # fmt: skip
    assert [each["origin"] for each in found] == ["live", "restored", "imported"]
    assert (messages.keys, messages.records.tolist()) == ([b"k", b"m", b"m"], [0, 2, 2])
    assert TextEncoder("json", "", CHARACTERS, True).encode(events, texts([])).values == []


@pytest.mark.parametrize("finish", list(Finish))
def test_msgpack_holds_the_same_fields_in_the_same_order(finish: Finish) -> None:
    answers = texts([[0, 1], [1]], items=[WHOLE_TEXT, 4], finishes=[finish, None], scores=[-0.5, -0.75])
    as_json, as_msgpack = (
        TextEncoder(form, "abc", CHARACTERS, stream_is_key=True).encode(events_of("k", "l"), answers).values
        for form in ("json", "msgpack")
    )
    for text, packed in zip(as_json, as_msgpack, strict=True):
        assert list(msgspec.msgpack.decode(packed or b"").items()) == list(json.loads(text or b"").items())
    assert json.loads(as_json[0] or b"")["finish"] == finish.name.lower()


@pytest.mark.parametrize("vocabulary", [CHARACTERS, WORDS, Vocabulary(["ä", "\x01", "😀"]), None])
def test_no_item_takes_more_bytes_than_promised(vocabulary: Vocabulary | None) -> None:
    units, count = (1000 if vocabulary is None else len(vocabulary)), 200
    encoder = TextEncoder("json", "abc", vocabulary, stream_is_key=True)
    largest = 0
    for item in (0, 1, 2, units - 1):
        one, more = (encoder.encode(events_of("a"), texts([[item] * n])).values[0] for n in (1, 1 + count))
        assert one is not None
        assert more is not None
        largest = max(largest, len(more) - len(one))
    assert largest == count * item_bytes(units, vocabulary) - (count if vocabulary and vocabulary.characters else 0)
