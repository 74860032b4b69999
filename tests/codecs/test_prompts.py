"""Records of tasks that generate: bytes in, prompts or the exact refusal out."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs.test_codecs import LAYOUT, STATES, batch_of, flags
from tests.depth import examples
from worker.codecs.decoding import open_decoder
from worker.codecs.fields import InputFields
from worker.codecs.prompts import ITEMS_PER_RECORD_LIMIT, PromptFields
from worker.records.events import Events, Kind
from worker.records.prompts import Finish, Prompt
from worker.records.vocabulary import SKIP, Vocabulary

PLAIN = InputFields(0, ())
END = InputFields(0, (), end="end")
VECTORS = InputFields(2, "x", end="end")
CHARACTERS = Vocabulary(["a", "b", " ", "5", "é"])
WORDS = Vocabulary(["<start>", "the", "door", "opens"])
WRITES = PromptFields("generate", max_length=400, temperature=1.0, below=5, vocabulary=CHARACTERS)
READS = PromptFields("seq2seq", max_length=30, temperature=0.0, below=4, vocabulary=WORDS)
READS_VECTORS = PromptFields("seq2seq", max_length=30, temperature=0.0)


def as_bytes(value: Any, form: str) -> bytes:
    if isinstance(value, bytes):
        return value
    return msgspec.msgpack.encode(value) if form == "msgpack" else json.dumps(value).encode()


def decode(
    asked: PromptFields, value: Any, form: str = "json", fields: InputFields = PLAIN, **columns: list[Any]
) -> Events:
    decoder = open_decoder(form, fields, LAYOUT, asked)
    return decoder.decode(batch_of([None if value is None else as_bytes(value, form)], **columns))


def prompt(asked: PromptFields, value: Any, form: str = "json", fields: InputFields = PLAIN) -> Prompt:
    events = decode(asked, value, form, fields)
    assert events.refusals == []
    assert (events.kinds.tolist(), events.vectors.shape, events.items.tolist()) == ([Kind.STEP], (1, 0), [-1])
    assert events.prompts is not None
    (found,) = events.prompts
    assert found is not None
    return found


def refusal(asked: PromptFields, value: Any, form: str = "json", fields: InputFields = PLAIN) -> tuple[str, str]:
    events = decode(asked, value, form, fields)
    assert (len(events), events.prompts, events.vectors.shape) == (0, [], (0, 0))
    (refused,) = events.refusals
    assert refused.record == 0
    return refused.error, refused.reason


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("value", "items", "length", "finish", "temperature"),
    [
        ({}, [], 400, Finish.MAX_LENGTH, 1.0),
        ({"text": None, "tokens": None, "length": None, "temperature": None}, [], 400, Finish.MAX_LENGTH, 1.0),
        ({"text": "ab 5", "length": 200, "temperature": 0.5}, [0, 1, 2, 3], 200, Finish.LENGTH, 0.5),
        ({"text": "é", "other": [1], "": {}}, [4], 400, Finish.MAX_LENGTH, 1.0),
        ({"text": ""}, [], 400, Finish.MAX_LENGTH, 1.0),
        ({"tokens": []}, [], 400, Finish.MAX_LENGTH, 1.0),
        ({"tokens": [4, 0, 4]}, [4, 0, 4], 400, Finish.MAX_LENGTH, 1.0),
        ({"tokens": [4.0, 0], "length": 3.0}, [4, 0], 3, Finish.LENGTH, 1.0),
        ({"length": 0}, [], 0, Finish.LENGTH, 1.0),
        ({"length": 400, "temperature": 0}, [], 400, Finish.LENGTH, 0.0),
        ({"text": "a", "tokens": None, "temperature": 1e-300}, [0], 400, Finish.MAX_LENGTH, 1e-300),
    ],
)
def test_what_a_record_of_task_generate_asks_for(
    form: str, value: Any, items: list[int], length: int, finish: Finish, temperature: float
) -> None:
    found = prompt(WRITES, value, form)
    assert (found.items.tolist(), found.items.dtype.name) == (items, "int64")
    assert (found.length, found.finish, found.temperature) == (length, finish, temperature)


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("value", "error", "reason"),
    [
        ([1], "not_an_object", "the value is a list, not an object with fields"),
        ("ab", "not_an_object", "the value is a string, not an object with fields"),
        ({"text": 5}, "bad_text", "field 'text' is a number, not a string"),
        ({"text": ["a"]}, "bad_text", "field 'text' is a list, not a string"),
        ({"text": False}, "bad_text", "field 'text' is a boolean, not a string"),
        (
            {"text": "abcb"},
            "unknown_item",
            "item 2 of field 'text' (the first is 0) is 'c', which the vocabulary of 5 items does not have (model.un",
        ),
        ({"text": "a\n"}, "unknown_item", "item 1 of field 'text' (the first is 0) is '\\n', which the vocabulary of"),
        ({"text": "", "tokens": []}, "text_and_tokens", "the record has both 'text' and 'tokens'; one of them says"),
        ({"tokens": [0, 5]}, "unknown_token", "number 1 of field 'tokens' (the first is 0) is 5; ids are whole number"),
        ({"tokens": [-1]}, "unknown_token", "number 0 of field 'tokens' (the first is 0) is -1; ids are whole numbers"),
        ({"tokens": [1.5]}, "unknown_token", "number 0 of field 'tokens' (the first is 0) is 1.5; ids are whole numb"),
        ({"tokens": [1, True]}, "unknown_token", "number 1 of field 'tokens' (the first is 0) is a boolean; ids are"),
        ({"tokens": ["1"]}, "unknown_token", "number 0 of field 'tokens' (the first is 0) is a string; ids are whole"),
        ({"tokens": [[1]]}, "unknown_token", "number 0 of field 'tokens' (the first is 0) is a list; ids are whole"),
        ({"tokens": 3}, "unknown_token", "field 'tokens' is a number, not a list of ids"),
        ({"tokens": [2**63]}, "unknown_token", "is 9223372036854775808; ids are whole numbers from 0 to 4"),
        ({"tokens": [0] * (ITEMS_PER_RECORD_LIMIT + 1)}, "too_large", "100,001 tokens in one record, above 100,000"),
        ({"text": "a" * (ITEMS_PER_RECORD_LIMIT + 1)}, "too_large", "100,001 items of text in one record, above 100,"),
        ({"length": -1}, "bad_length", "field 'length' is -1, not a whole number from 0 on"),
        ({"length": 1.5}, "bad_length", "field 'length' is 1.5, not a whole number from 0 on"),
        ({"length": "5"}, "bad_length", "field 'length' is a string, not a whole number from 0 on"),
        ({"length": True}, "bad_length", "field 'length' is a boolean, not a whole number from 0 on"),
        ({"length": {}}, "bad_length", "field 'length' is an object, not a whole number from 0 on"),
        ({"length": 401}, "length_too_large", "field 'length' is 401, above 400 (model.max_length)"),
        ({"length": 1e300}, "length_too_large", "field 'length' is an integer of 301 digits, above 400 (model.max_le"),
        ({"temperature": -0.1}, "bad_temperature", "field 'temperature' is -0.1, not a finite number from 0 on"),
        ({"temperature": "1"}, "bad_temperature", "field 'temperature' is a string, not a finite number from 0 on"),
        ({"temperature": True}, "bad_temperature", "field 'temperature' is a boolean, not a finite number from 0 on"),
        ({"temperature": math.nan}, "bad_temperature", "field 'temperature' is nan, not a finite number from 0 on"),
        ({"temperature": math.inf}, "bad_temperature", "field 'temperature' is inf, not a finite number from 0 on"),
    ],
)
def test_what_task_generate_can_not_use(form: str, value: Any, error: str, reason: str) -> None:
    found = refusal(WRITES, value, form)
    assert found[0] == error
    assert reason in found[1]
    assert len(found[1]) < 200, "one sentence"


@pytest.mark.parametrize(
    ("value", "error", "reason"),
    [
        (b"", "not_json", "it is empty"),
        (b'{"text": "\xe9"}', "not_utf8", "byte 10 is 0xe9"),
        (b'{"text": "\\ud800"}', "bad_text", "field 'text' has half a surrogate pair, which is not text"),
        (b'{"length": 1%s}' % (b"0" * 5000), "length_too_large", "an integer of thousands of digits, above 400"),
        (b'{"length": NaN}', "bad_length", "field 'length' is nan, not a whole number"),
        (b'{"tokens": [1%s]}' % (b"0" * 500), "unknown_token", "is an integer of 501 digits; ids are whole numbers"),
        (b'{"temperature": 1%s}' % (b"0" * 400), "bad_temperature", "is an integer of 401 digits, not a finite"),
        (b'{"temperature": ' + b"[" * 400 + b"]" * 400 + b"}", "bad_temperature", "is a list, not a finite number"),
        (b'{"text": ' + b"[" * 50_000, "not_json", "it is nested too deeply"),
    ],
)
def test_json_that_can_not_be_used(value: bytes, error: str, reason: str) -> None:
    found = refusal(WRITES, value)
    assert found[0] == error
    assert reason in found[1]


def test_msgpack_that_can_not_be_used() -> None:
    assert refusal(WRITES, b"\x81\xa4text\xa1\xff", "msgpack") == (
        "bad_text",
        "field 'text' is binary data, not a string",
    )
    assert refusal(WRITES, b"\xc1", "msgpack")[0] == "not_msgpack"


def test_text_outside_the_vocabulary_by_policy() -> None:
    assert prompt(replace(WRITES, unknown=SKIP), {"text": "axb"}).items.tolist() == [0, 1]
    assert prompt(replace(WRITES, unknown=SKIP), {"text": "xyz"}).items.tolist() == []
    assert prompt(replace(WRITES, unknown=3), {"text": "axb"}).items.tolist() == [0, 3, 1]
    assert refusal(replace(READS, unknown=SKIP), {"text": "nothing known"})[0] == "no_items"


def test_a_long_word_is_not_repeated_in_full() -> None:
    error, reason = refusal(READS, {"text": "the " + "o" * 100_000})
    assert (error, "oooo…', which the vocabulary of 4 items" in reason) == ("unknown_item", True)


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_words_are_split_at_white_space(form: str) -> None:
    found = prompt(READS, {"text": " the\tdoor\n opens "}, form)
    assert found.items.tolist() == [1, 2, 3]
    assert (found.length, found.finish, found.temperature) == (30, Finish.MAX_LENGTH, 0.0)


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_a_source_comes_in_any_number_of_records(form: str) -> None:
    for value, items, ends in (
        ({"tokens": [3, 1]}, [3, 1], False),
        ({"text": "door", "end": True}, [2], True),
        ({"end": 1}, [], True),
        ({"text": "", "end": True}, [], True),
        ({"text": "door", "length": -5, "temperature": "hot"}, [2], False),  # fields of task generate
    ):
        assert prompt(READS, value, form, END).items.tolist() == items
        assert flags(decode(READS, value, form, END).ends) == [ends]
    nothing: list[Any] = [{}, {"text": ""}, {"tokens": [], "end": False}, {"text": None, "end": None}]
    for value in nothing:
        assert refusal(READS, value, form, END) == (
            "no_items",
            "the record has no items of a source, and does not end its sequence",
        )
    assert refusal(READS, {}, form) == ("no_items", "the record has no items of a source")
    assert refusal(READS, {"end": "yes"}, form, END)[0] == "bad_field"


def test_without_a_vocabulary_records_hold_tokens() -> None:
    asked = replace(READS, vocabulary=None, below=90)
    assert prompt(asked, {"tokens": [89]}).items.tolist() == [89]
    assert refusal(asked, {"text": "the"}) == (
        "bad_text",
        "field 'text' can't be read without a vocabulary; give 'tokens' (ids)",
    )


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_sources_of_vectors(form: str) -> None:
    sources: list[tuple[Any, list[Any]]] = [
        ({"x": [1, 2.5]}, [[1, 2.5]]),
        ({"x": [[1, 2], [3, 4], [5, 6]], "text": 7}, [[1, 2], [3, 4], [5, 6]]),
        ({"x": [[1, 2]], "end": True}, [[1, 2]]),
        ({"end": True}, []),
        ({"x": None, "end": True}, []),
        ({"x": [], "end": True}, []),
    ]
    for value, items in sources:
        found = prompt(READS_VECTORS, value, form, VECTORS).items
        assert (found.tolist(), found.shape, found.dtype.name) == (items, (len(items), 2), "float32")
    wrong: list[tuple[Any, str]] = [
        ({}, "no_items"),
        ({"x": []}, "no_items"),
        ({"x": [1]}, "wrong_length"),
        ({"x": [[1, 2], [3]]}, "wrong_length"),
        ({"x": [1, True]}, "not_a_number"),
        ({"x": [1, 1e39]}, "not_finite"),
        ({"x": "1 2"}, "not_a_number"),
    ]
    for value, error in wrong:
        assert refusal(READS_VECTORS, value, form, VECTORS)[0] == error
    named = InputFields(2, ("a", "b"), end="end")
    assert prompt(READS_VECTORS, {"a": 1, "b": 2}, form, named).items.tolist() == [[1, 2]]
    assert prompt(READS_VECTORS, {"b": None, "end": True}, form, named).items.tolist() == []
    assert refusal(READS_VECTORS, {"a": 1, "end": True}, form, named)[0] == "field_missing"
    ids = InputFields(2, "x", end="end", ids=((slice(0, 1), 7),))
    assert refusal(READS_VECTORS, {"x": [7, 0]}, form, ids)[0] == "unknown_id"


def test_raw_vectors_as_sources() -> None:
    fields = InputFields(2, ())
    raw = np.array([1, 2.5], "<f4").tobytes()
    assert prompt(READS_VECTORS, raw, "float32", fields).items.tolist() == [[1, 2.5]]
    assert refusal(READS_VECTORS, raw[1:], "float32", fields)[0] == "wrong_length"
    assert refusal(READS_VECTORS, np.array([1, math.nan], "<f4").tobytes(), "float32", fields)[0] == "not_finite"
    set_state = decode(READS_VECTORS, json.dumps({"states": STATES}).encode(), "float32", fields, headers=SET_STATE)
    assert set_state.kinds.tolist() == [Kind.SET_STATE]


SET_STATE = [[("worker-command", b"set-state")]]
EVERYTHING = InputFields(0, (), stream="device.id", time="at", id="run", start="first", end="last")


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_streams_times_and_boundaries_are_read_as_in_task_score(form: str) -> None:
    value = {"device": {"id": 7}, "at": "2024-05-06T07:08:09Z", "run": "r1", "first": True, "text": "a"}
    events = decode(WRITES, value, form, EVERYTHING, keys=[None], timestamps=[-1])
    assert (events.streams, events.times.tolist(), events.ids) == (["7"], [1_714_979_289_000], ["r1"])
    assert (flags(events.starts), flags(events.ends)) == ([True], [False])
    for part, error in (
        ({"device": {"id": 1.5}}, "bad_field"),
        ({"device": {}}, "field_missing"),
        ({"device": {"id": "d\0"}}, "bad_key"),
        ({"at": True}, "bad_field"),
        ({"at": -1}, "bad_time"),
        ({"run": []}, "bad_field"),
        ({"run": 2**63}, "bad_field"),
        ({"last": "x"}, "bad_field"),
    ):
        assert refusal(WRITES, {**value, **part}, form, EVERYTHING)[0] == error
    assert refusal(WRITES, {"device": {"id": 7}, "at": 1}, form, EVERYTHING) == (
        "field_missing",
        "field 'run' (sequence.id) is missing",
    )


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_commands_and_tombstones_have_no_prompt(form: str) -> None:
    reset = [[("worker-command", b"reset")]]
    for value, headers, kind in (
        (None, [None], Kind.TOMBSTONE),
        (b"free text", reset, Kind.RESET),
        (json.dumps({"states": STATES}).encode(), SET_STATE, Kind.SET_STATE),
    ):
        events = decode(WRITES, value, form, headers=headers)
        assert (events.kinds.tolist(), events.prompts, events.streams) == ([kind], [None], ["k"])
        assert events.vectors.shape == (1, 0)
    assert decode(WRITES, None, keys=[None]).refusals[0].error == "no_key"


def written(form: str) -> st.SearchStrategy[bytes | None]:
    odd = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.text("ab 5", max_size=6),
        st.lists(st.one_of(st.integers(-1, 6), st.floats(), st.booleans()), max_size=3),
        st.lists(st.lists(st.floats(-9, 9), min_size=2, max_size=2), max_size=3),
        st.dictionaries(st.text(max_size=2), st.none(), max_size=2),
    )  # fmt: skip
    names = ("text", "tokens", "length", "temperature", "x", "end", "device", "at", "run", "first", "last")
    likely = {
        "device": st.fixed_dictionaries({"id": st.sampled_from(["d", 7])}),
        "at": st.integers(0, 10**12),
        "run": st.integers(0, 3),
        "text": st.text("ab 5", max_size=6),
    }
    objects = st.one_of(
        st.fixed_dictionaries(likely, optional={"length": st.integers(0, 400), "last": st.booleans()}),
        st.fixed_dictionaries({}, optional=dict.fromkeys(names, odd)),
    )

    def encoded(value: Any) -> bytes:
        try:
            return as_bytes(value, form)
        except OverflowError:  # MessagePack has no such integers
            return b"\xc1"

    return st.one_of(objects.map(encoded), odd.map(encoded), st.binary(max_size=6), st.none())


def rows(events: Events) -> list[Any]:
    """Events and refusals as comparable rows, in record order."""
    prompts = events.prompts or []
    assert len(prompts) == len(events)
    assert events.vectors.shape == (len(events), 0)
    found: list[Any] = [
        (int(record), int(kind), stream, int(time), None if each is None else (each.items.tobytes(), repr(each)))
        for record, kind, stream, time, each in zip(
            events.records, events.kinds, events.streams, events.times, prompts, strict=True
        )
    ]
    return sorted([*found, *map(tuple, events.refusals)], key=lambda row: row[0])


CASES = [
    (WRITES, PLAIN),
    (replace(WRITES, unknown=SKIP), EVERYTHING),
    (READS, END),
    (READS_VECTORS, VECTORS),
    (replace(READS, vocabulary=None), EVERYTHING),
]


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(("asked", "fields"), CASES)
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_whatever_comes_is_a_prompt_or_a_refusal_one_by_one_or_together(
    form: str, asked: PromptFields, fields: InputFields, data: st.DataObject
) -> None:
    column = data.draw(st.lists(written(form), min_size=1, max_size=4))
    decoder, count = open_decoder(form, fields, LAYOUT, asked), len(column)
    whole = batch_of(column)
    events = decoder.decode(whole)
    assert len(events) + len(events.refusals) == count
    one_by_one = [rows(decoder.decode(whole.part(index, index + 1)))[0] for index in range(count)]
    assert rows(events) == [(index, *row[1:]) for index, row in enumerate(one_by_one)]
    cut = data.draw(st.integers(0, count))
    halves = [replace(whole.part(0, cut), replay=True), whole.part(cut, count)]
    for half, found in zip(halves, decoder.decode_all(halves), strict=True):
        assert (rows(found), found.batch) == (rows(decoder.decode(half)), half)


def test_every_code_is_documented() -> None:
    root = Path(__file__).parents[2]
    raised = set(re.findall(r'UnusableError\("(\w+)"', (root / "worker/codecs/prompts.py").read_text()))
    page = (root / "docs/records.md").read_text()
    codes = raised - {"not_an_object"} | {"nothing_to_continue", "empty_source", "source_too_long", "invalid_state"}
    codes |= {"stream_forgotten"}
    assert [code for code in sorted(codes) if f"\n| `{code}` |" not in page] == []
    assert len(raised) > 8
