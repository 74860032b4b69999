"""Codecs: bytes in, events or the exact refusal out; predictions in, the documented bytes out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import examples
from worker.codecs.decoding import VALUE_BYTES_LIMIT, open_decoder
from worker.codecs.encoding import Encoder
from worker.codecs.fields import InputFields
from worker.codecs.naming import KEY_BYTES_LIMIT
from worker.codecs.values import CHUNK_VECTORS_LIMIT
from worker.pipeline.fitting import fitting
from worker.records.arrays import BoolArray
from worker.records.events import Events, Kind, Origin, Predictions, Reset
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch
from worker.records.states import StateLayout

READINGS = Partition("readings", 2)
LAYOUT = StateLayout(
    {("lstm", "h"): (slice(0, 2), (2,)), ("conv", "inputs"): (slice(2, 6), (2, 2))}, np.zeros(6, np.float32)
)
A_B = InputFields(2, ("a", "b"))
VECTOR = InputFields(2, "x")
EVERYTHING = InputFields(2, ("m.a", "m.b"), stream="device.id", time="at", id="run", start="first", end="last")
WHOLE = {"m": {"a": 1, "b": 2.5}, "device": {"id": "d"}, "at": 1000, "run": "r1", "first": True, "last": None}


def batch_of(values: Sequence[bytes | None], **columns: list[Any]) -> RecordBatch:
    count = len(values)
    return RecordBatch(
        partition=READINGS,
        next_offset=100 + count,
        offsets=list(range(100, 100 + count)),
        timestamps=columns.get("timestamps", [7] * count),
        keys=columns.get("keys", [b"k"] * count),
        values=list(values),
        headers=columns.get("headers", [None] * count),
    )


def decode(fields: InputFields, value: Any, form: str = "json", **columns: list[Any]) -> Events:
    """One record, decoded; what is not bytes is written as text (json) or packed (msgpack)."""
    if not isinstance(value, bytes | None):
        value = msgspec.msgpack.encode(value) if form == "msgpack" else json.dumps(value).encode()
    return open_decoder(form, fields, LAYOUT).decode(batch_of([value], **columns))


def flags(column: BoolArray | None) -> list[bool]:
    assert column is not None
    return [bool(flag) for flag in column]


def refusal(fields: InputFields, value: Any, form: str = "json", **columns: list[Any]) -> tuple[str, str]:
    events = decode(fields, value, form, **columns)
    assert len(events) == 0
    assert len(events.payloads) == 0
    (refused,) = events.refusals
    assert refused.record == 0
    return refused.error, refused.reason


def with_part(**parts: Any) -> dict[str, Any]:
    return {**WHOLE, **parts}


@pytest.mark.parametrize(
    ("fields", "value", "error", "reason"),
    [
        (A_B, b"\xff", "not_utf8", "the value is not UTF-8: byte 0 is 0xff"),
        (A_B, b'{"a": 1, "b": "\xe9"}', "not_utf8", "the value is not UTF-8: byte 15 is 0xe9"),
        (A_B, b"", "not_json", "the value is not JSON: "),
        (A_B, b'{"a": 1', "not_json", "the value is not JSON: "),
        (A_B, b'{"a": 1, "b": NaN}', "not_finite", "field 'b' (input.features) is NaN"),
        (A_B, b'{"a": 1, "b": -Infinity}', "not_finite", "field 'b' (input.features) is infinite, or too large for"),
        (A_B, b'{"a": 1, "b": NaN', "not_json", "the value is not JSON: "),
        (A_B, b'{"a": 1, "b": 2} {}', "not_json", "the value is not JSON: "),
        (A_B, b'{"a": 1, "b": 2, "c": ' + b"[" * 50_000, "not_json", "it is nested too deeply"),
        (A_B, b"[1, 2]", "not_an_object", "the value is a list, not an object with fields"),
        (A_B, b"null", "not_an_object", "the value is null, not an object with fields"),
        (A_B, b'"a"', "not_an_object", "the value is a string, not an object with fields"),
        (A_B, {"a": 1}, "field_missing", "field 'b' (input.features) is missing"),
        (EVERYTHING, with_part(m={"a": 1}), "field_missing", "field 'm.b' (input.features) is missing"),
        (EVERYTHING, with_part(m=3), "field_missing", "field 'm.a' (input.features) is missing"),
        (EVERYTHING, with_part(device={}), "field_missing", "field 'device.id' (input.stream) is missing"),
        (InputFields(1, ("a",), time="at"), {"a": 1}, "field_missing", "field 'at' (input.time) is missing"),
        (InputFields(1, ("a",), id="run"), {"a": 1}, "field_missing", "field 'run' (sequence.id) is missing"),
        (VECTOR, {"y": [1, 2]}, "field_missing", "field 'x' (input.features) is missing"),
        (A_B, {"a": 1, "b": True}, "not_a_number", "field 'b' (input.features) is a boolean, not a number"),
        (A_B, {"a": 1, "b": "2"}, "not_a_number", "field 'b' (input.features) is a string, not a number"),
        (A_B, {"a": 1, "b": None}, "not_a_number", "field 'b' (input.features) is null, not a number"),
        (A_B, {"a": 1, "b": [2]}, "not_a_number", "field 'b' (input.features) is a list, not a number"),
        (VECTOR, {"x": 1}, "not_a_number", "field 'x' (input.features) is a number, not a list of numbers"),
        (VECTOR, {"x": [1, True]}, "not_a_number", "field 'x' (input.features) holds a boolean in place of a number"),
        (VECTOR, {"x": [[1, 2], [3, "4"]]}, "not_a_number", "holds a string in place of a number"),
        (VECTOR, {"x": [[1, 2], 3]}, "not_a_number", "holds a list in place of a number"),
        (A_B, {"a": 1, "b": 1e39}, "not_finite", "too large for the model's numbers"),
        (A_B, {"a": 1, "b": -(10**400)}, "not_finite", "field 'b' (input.features) holds a number too large"),
        (VECTOR, {"x": [1, 10**400]}, "not_finite", "field 'x' (input.features) holds a number too large"),
        (InputFields(1, "x"), {"x": 10**400}, "not_finite", "field 'x' (input.features) holds a number too large"),
        (A_B, b'{"a": 1, "b": 1e400}', "not_finite", "field 'b' (input.features) is infinite, or too large"),
        (VECTOR, {"x": [[1, 2], [3, -1e39]]}, "not_finite", "too large for the model's numbers"),
        (VECTOR, {"x": []}, "wrong_length", "field 'x' (input.features) is an empty list; the model takes 2 numbers"),
        (VECTOR, {"x": [1, 2, 3]}, "wrong_length", "field 'x' (input.features) has 3 numbers; the model takes 2"),
        (VECTOR, {"x": [[1, 2], [3]]}, "wrong_length", "field 'x' (input.features) has 1 number; the model takes 2"),
        (VECTOR, {"x": [[]]}, "wrong_length", "field 'x' (input.features) has 0 numbers; the model takes 2"),
        (VECTOR, {"x": [[1, 2]] * (CHUNK_VECTORS_LIMIT + 1)}, "too_large", "10001 vectors in one record, above 10000"),
        (A_B, b" " * (VALUE_BYTES_LIMIT + 1), "too_large", "the value has 1048577 bytes, above 1048576"),
        (EVERYTHING, with_part(device={"id": "d" * 1025}), "too_large", "the stream's name is longer than 1024 bytes"),
        (EVERYTHING, with_part(device={"id": "d\0"}), "bad_key", "the stream's name ends with a NUL character"),
        (
            EVERYTHING,
            with_part(at="yesterday"),
            "bad_time",
            "'yesterday' (input.time) is not a time like 2024-07-08T12:00:00Z",
        ),
        (EVERYTHING, with_part(at=-1), "bad_time", "-1 (input.time) is not a time in milliseconds since the epoch"),
        (EVERYTHING, with_part(at=1e300), "bad_time", "is not a time in milliseconds since the epoch"),
        (
            EVERYTHING,
            with_part(at="1969-12-31T23:59:59Z"),
            "bad_time",
            "1969-12-31T23:59:59Z (input.time) is not a time from 1970 on",
        ),
        (EVERYTHING, with_part(at=True), "bad_field", "field 'at' (input.time) is a boolean, not milliseconds or"),
        (EVERYTHING, with_part(at=None), "bad_field", "field 'at' (input.time) is null, not milliseconds or"),
        (EVERYTHING, with_part(device={"id": True}), "bad_field", "field 'device.id' (input.stream) is a boolean, not"),
        (EVERYTHING, with_part(device={"id": None}), "bad_field", "field 'device.id' (input.stream) is null, not a st"),
        (EVERYTHING, with_part(device={"id": 1.5}), "bad_field", "field 'device.id' (input.stream) is a number, not a"),
        (EVERYTHING, with_part(run=[]), "bad_field", "field 'run' (sequence.id) is a list, not a string, a number"),
        (EVERYTHING, with_part(run=2**63), "bad_field", "(sequence.id) does not fit in an integer of 64 bits"),
        (EVERYTHING, with_part(first="yes"), "bad_field", "field 'first' (sequence.start) is a string, not true or"),
        (EVERYTHING, with_part(last=1.0), "bad_field", "field 'last' (sequence.end) is a number, not true or false"),
        (EVERYTHING, with_part(last=2), "bad_field", "a sequence boundary is 2, not true or false"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_json_that_can_not_be_used(fields: InputFields, value: Any, error: str, reason: str) -> None:
    found = refusal(fields, value)
    assert found[0] == error
    assert reason in found[1]
    assert len(found[1]) < 200, "one sentence"


@pytest.mark.parametrize(
    ("fields", "value", "error", "reason"),
    [
        (A_B, b"\xc1", "not_msgpack", "the value is not MessagePack: "),
        (A_B, b"", "not_msgpack", "the value is not MessagePack: "),
        (A_B, b"\x82\xa1a\x01\xa1b\x01\x01", "not_msgpack", "trailing characters"),
        (A_B, b"\x82\xa1a\x01\xa1b" + b"\x91" * 50_000, "not_msgpack", "nested too deeply"),
        (A_B, [1, 2], "not_an_object", "the value is a list, not an object with fields"),
        (A_B, {"a": 1}, "field_missing", "field 'b' (input.features) is missing"),
        (A_B, {"a": 1, "b": b"\x01"}, "not_a_number", "is binary data, not a number"),
        (A_B, {"a": 1, "b": False}, "not_a_number", "is a boolean, not a number"),
        (A_B, {"a": 1, "b": math.nan}, "not_finite", "field 'b' (input.features) is NaN"),
        (
            VECTOR,
            {"x": [[1, 2], [math.inf, 2]]},
            "not_finite",
            "field 'x' (input.features): number 0 of vector 1 of the chunk is infinite, or too large for the model's",
        ),
        (VECTOR, {"x": [1, math.nan]}, "not_finite", "field 'x' (input.features): number 1 is NaN"),
        (EVERYTHING, with_part(run=math.nan), "bad_field", "a number that is not finite (nan) can't be a sequence.id"),
        (EVERYTHING, with_part(at=math.nan), "bad_time", "nan (input.time) is not a time"),
    ],
)
def test_msgpack_that_can_not_be_used(fields: InputFields, value: Any, error: str, reason: str) -> None:
    found = refusal(fields, value, "msgpack")
    assert found[0] == error
    assert reason in found[1]


@pytest.mark.parametrize("wrong", [7, -1, 2.5, 1e9, 5.0000001, 5.999999999, 6.999999999, -1e-50])
@pytest.mark.parametrize("chunk", [False, True])
def test_ids_that_the_model_does_not_know_can_not_be_used(wrong: float, chunk: bool) -> None:
    """In a batch with others; the second column is no id and may hold anything."""
    fields = InputFields(2, "x", ids=((slice(0, 1), 7),))
    good, bad = [6, -2.5], [wrong, 0]
    values = [json.dumps({"x": [good, bad] if chunk else bad}).encode(), json.dumps({"x": good}).encode()]
    events = open_decoder("json", fields, LAYOUT).decode(batch_of(values))
    assert [(each.record, each.error) for each in events.refusals] == [(0, "unknown_id")]
    assert (
        f"{float(wrong)!r}".removesuffix(".0") + " is not an id that the model knows; ids are whole numbers from 0 to 6"
        in events.refusals[0].reason
    )
    assert (events.records.tolist(), events.vectors.tolist()) == ([1], [good])


@pytest.mark.parametrize(
    ("value", "error", "reason"),
    [
        (b"", "wrong_length", "the value has 0 bytes; the model takes 8 bytes (2 float32)"),
        (bytes(9), "wrong_length", "the value has 9 bytes; the model takes 8 bytes (2 float32)"),
        (bytes(16), "wrong_length", "the value has 16 bytes; the model takes 8 bytes (2 float32)"),
        (np.array([1, math.nan], "<f4").tobytes(), "not_finite", "number 1 of the value is NaN"),
        (np.array([-math.inf, 1], "<f4").tobytes(), "not_finite", "number 0 of the value is infinite, or too large"),
    ],
)
def test_float32_that_can_not_be_used(value: bytes, error: str, reason: str) -> None:
    found = refusal(InputFields(2, ()), value, "float32")
    assert found[0] == error
    assert reason in found[1]


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("key", "error", "reason"),
    [
        (None, "no_key", "the record has no key, and the key names the stream (input.stream)"),
        (b"k\xff", "not_utf8", "the key is not UTF-8: byte 1 is 0xff (input.stream_format: hex)"),
        (b"k" * (KEY_BYTES_LIMIT + 1), "too_large", "the stream's name is longer than 1024 bytes"),
        (b"k\0", "bad_key", "the key is not text: byte 1 is 0x00 (input.stream_format: hex)"),
    ],
)
def test_keys_that_name_no_stream(form: str, key: bytes | None, error: str, reason: str) -> None:
    assert refusal(A_B, {"a": 1, "b": 2}, form, keys=[key]) == (error, reason)
    assert refusal(A_B, None, form, keys=[key]) == (error, reason)  # a tombstone for nobody


STATES = {"lstm": {"h": [1, 2]}, "conv": {"inputs": [[1, 2], [3, 4]]}}


@pytest.mark.parametrize(
    ("command", "value", "error", "reason"),
    [
        (b"restart", None, "bad_command", "'restart' (header worker-command) is not a command; known: reset, set-"),
        (None, None, "bad_command", "'' (header worker-command) is not a command"),
        (b"\xff", None, "bad_command", "is not a command"),
        (b"set-state", None, "not_json", "the value of set-state is not JSON"),
        (b"set-state", b"[" * 50_000, "not_json", "the value of set-state is not JSON"),
        (b"set-state", {"a": 1}, "bad_state", 'set-state takes {"states": {"LAYER": {"NAME": [numbers]}}}'),
        (b"set-state", {"states": [1]}, "bad_state", "set-state takes"),
        (b"set-state", {"states": {"lstm": [1, 2]}}, "bad_state", "set-state takes"),
        (b"set-state", {"states": {"lstm": STATES["lstm"]}}, "bad_state", "state 'inputs' of layer 'conv' is missing"),
        (
            b"set-state",
            {"states": {**STATES, "gru": {"h": [1]}}},
            "bad_state",
            "the model has no state 'h' of layer 'gru'; it has 'lstm'/'h', 'conv'/'inputs'",
        ),
        (
            b"set-state",
            {"states": {**STATES, "lstm": {"h": [1, 2, 3]}}},
            "bad_state",
            "state 'h' of layer 'lstm': wanted shape [2], given [3]",
        ),
        (
            b"set-state",
            {"states": {**STATES, "conv": {"inputs": [1, 2, 3, 4]}}},
            "bad_state",
            "state 'inputs' of layer 'conv': wanted shape [2, 2], given [4]",
        ),
        (
            b"set-state",
            {"states": {**STATES, "lstm": {"h": [1, True]}}},
            "bad_state",
            "state 'h' of layer 'lstm': wanted numbers of shape [2], given something else",
        ),
        (b"set-state", {"states": {**STATES, "lstm": {"h": "ab"}}}, "bad_state", "wanted numbers of shape [2]"),
        (b"set-state", {"states": {**STATES, "conv": {"inputs": [[1], [2, 3]]}}}, "bad_state", "wanted numbers of sha"),
        (
            b"set-state",
            {"states": {"lstm": {"h": [1, 2]}, "gru": {}}},
            "bad_state",
            "the model has no states of layer 'gru'; it has 'lstm'/'h', 'conv'/'inputs'",
        ),
        (
            b"set-state",
            {"states": {"lstm": {"h": [1, 2]}, "convolution": {"inputs": [1]}}},
            "bad_state",
            "the model has no state 'inputs' of layer 'convolution'; it has",
        ),
        (b"set-state", {"states": {**STATES, "lstm": {"h": [1, 1e39]}}}, "not_finite", "state 'h' of layer 'lstm' hol"),
        (b"set-state", {"states": {**STATES, "lstm": {"h": [1, 10**400]}}}, "not_finite", "state 'h' of layer 'lstm'"),
    ],
)
def test_commands_that_can_not_be_obeyed(command: bytes | None, value: Any, error: str, reason: str) -> None:
    found = refusal(A_B, value, headers=[[("worker-command", command)]])
    assert found[0] == error
    assert reason in found[1]


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize("depth", [1, 30, 33, 65, 300, 486, 500, 700, 900, 960, 5_000, 50_000])
@pytest.mark.parametrize("inner", [b"1", b"1e39", b"", b"true"], ids=["number", "huge", "empty", "other"])
def test_numbers_of_a_state_may_be_nested_as_deep_as_anyone_likes(form: str, depth: int, inner: bytes) -> None:
    numbers = b"[" * depth + inner + b"]" * depth
    value = b'{"states": {"lstm": {"h": %b}, "conv": {"inputs": [[1, 2], [3, 4]]}}}' % numbers
    error, reason = refusal(A_B, value, form, headers=[[("worker-command", b"set-state")]])
    assert error in (["bad_state"] if depth < 950 else ["bad_state", "not_json", "not_msgpack"])
    assert len(reason) < 500
    packed = b"\x91" * depth + (b"\x01" if inner else b"\x90")
    value = b"\x81\xa6states\x82\xa4lstm\x81\xa1h" + packed + b"\xa4conv\x81\xa6inputs\x92\x92\x01\x02\x92\x03\x04"
    if form == "msgpack":
        error, _ = refusal(A_B, value, form, headers=[[("worker-command", b"set-state")]])
        assert error in (["bad_state"] if depth < 950 else ["bad_state", "not_msgpack"])


@pytest.mark.parametrize(("number", "fits"), [(65504, True), (65519, True), (65520, False), (-1e5, False)])
def test_a_state_must_fit_its_own_layers_numbers(number: float, fits: bool) -> None:
    layout = StateLayout(LAYOUT.slices, LAYOUT.initial, {("lstm", "h"): "float16"})
    value = json.dumps({"states": {**STATES, "lstm": {"h": [1, number]}}}).encode()
    batch = batch_of([value], headers=[[("worker-command", b"set-state")]])
    events = open_decoder("json", A_B, layout).decode(batch)
    assert len(events.payloads) == fits
    assert [(refused.error, refused.reason) for refused in events.refusals] == (
        []
        if fits
        else [("not_finite", "state 'h' of layer 'lstm' holds a number that is not finite, or too large for float16")]
    )


def test_commands() -> None:
    reset = decode(A_B, b"\xff is not looked at", headers=[[("worker-command", b"reset"), ("trace", b"1")]])
    assert (reset.kinds.tolist(), reset.streams, reset.times.tolist()) == ([Kind.RESET], ["k"], [7])
    given = decode(A_B, {"states": STATES}, headers=[[("worker-command", b"x"), ("worker-command", b"set-state")]])
    assert (given.kinds.tolist(), given.streams) == ([Kind.SET_STATE], ["k"])
    assert {row: payload.tolist() for row, payload in given.payloads.items()} == {0: [1, 2, 1, 2, 3, 4]}
    named = {"states": STATES, "device": {"id": 5}}
    by_field = decode(EVERYTHING, named, headers=[[("worker-command", b"set-state")]], keys=[None])
    assert by_field.streams == ["5"]
    tombstone = decode(A_B, None)
    assert (tombstone.kinds.tolist(), tombstone.streams) == ([Kind.TOMBSTONE], ["k"])


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_commands_have_the_records_time_only_where_it_is_the_events_time(form: str) -> None:
    set_state = json.dumps({"states": STATES, "d": "k", "at": 5}).encode()
    for value, command in ((None, None), (b"", b"reset"), (set_state, b"set-state")):
        headers = [None if command is None else [("worker-command", command)]]
        for fields, time in ((A_B, 7), (InputFields(2, ("a", "b"), time="at"), -1)):
            events = decode(fields, value, form, headers=headers)
            assert (events.refusals, events.times.tolist()) == ([], [time])


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("at", "ms"),
    [
        (0, 0),
        (1_700_000_000_123, 1_700_000_000_123),
        (1.7e12, 1_700_000_000_000),
        ("2024-05-06T07:08:09.123Z", 1_714_979_289_123),
        ("2024-05-06T09:08:09+02:00", 1_714_979_289_000),
        ("2024-05-06T07:08:09", 1_714_979_289_000),
        ("2024-05-06", 1_714_953_600_000),
    ],
)
def test_times(form: str, at: Any, ms: int) -> None:
    assert decode(EVERYTHING, with_part(at=at), form, timestamps=[-1]).times.tolist() == [ms]


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize("run", ["r1", "", 7, -(2**63), 1.5, True, False, None])
def test_ids_of_every_scalar_kind(form: str, run: Any) -> None:
    events = decode(EVERYTHING, with_part(run=run), form)
    assert events.ids == [run]
    assert type(events.ids[0]) is type(run)


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("name", "stream"), [("d", "d"), ("", ""), ("ä/🙂", "ä/🙂"), (7, "7"), (-(10**18), str(-(10**18)))]
)
def test_streams_from_a_nested_field_need_no_key(form: str, name: Any, stream: str) -> None:
    events = decode(EVERYTHING, with_part(device={"id": name, "more": [1]}), form, keys=[None])
    assert events.streams == [stream]
    assert events.vectors.tolist() == [[1, 2.5]]
    assert (flags(events.starts), flags(events.ends)) == ([True], [False])


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_one_field_for_two_roles(form: str) -> None:
    both = InputFields(2, ("a", "b"), stream="a", time="b", id="a", end="a")
    events = decode(both, {"a": 1, "b": 2}, form)
    assert (events.streams, events.times.tolist(), events.ids, flags(events.ends)) == (["1"], [2], [1], [True])
    assert events.vectors.tolist() == [[1, 2]]
    assert refusal(InputFields(1, ("a",), stream="a"), {"a": 1.5}, form)[0] == "bad_field"
    same = InputFields(1, ("a",), stream="s", id="s")
    events = decode(same, {"a": 1, "s": 7}, form)
    assert (events.streams, events.ids) == (["7"], [7])


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_the_vector_in_one_field(form: str) -> None:
    assert decode(VECTOR, {"x": [1, 2.5]}, form).vectors.tolist() == [[1, 2.5]]
    assert decode(VECTOR, {"x": [1, 2.5]}, form).items.tolist() == [-1]
    one = InputFields(1, "x")
    for value in (5, [5], [[5]]):
        assert decode(one, {"x": value}, form).vectors.tolist() == [[5]]
    assert decode(one, {"x": [[5]]}, form).items.tolist() == [0]


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_a_chunk_is_stepped_through_in_order(form: str) -> None:
    fields = InputFields(2, "m.x", id="run", start="first", end="last")
    value = {"m": {"x": [[1, 2], [3, 4], [5, 6]]}, "run": 9, "first": True, "last": True}
    events = decode(fields, value, form)
    assert events.vectors.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert (events.records.tolist(), events.items.tolist()) == ([0, 0, 0], [0, 1, 2])
    assert (events.streams, events.ids) == (["k"] * 3, [9] * 3)
    assert flags(events.starts) == [True, False, False]
    assert flags(events.ends) == [False, False, True]


def test_float32_is_little_endian() -> None:
    events = decode(InputFields(3, ()), bytes.fromhex("0000803f 000000c0 cdcccc3d"), "float32")
    assert events.vectors.tolist() == [[1, -2, np.float32(0.1)]]


NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6), st.floats(width=32, allow_nan=False), st.floats(), st.booleans(), st.none()
)
SCALARS = st.one_of(st.text(max_size=3), st.integers(), st.floats(), st.booleans(), st.none())


def values(form: str) -> st.SearchStrategy[bytes | None]:
    vector = st.one_of(st.tuples(NUMBERS, NUMBERS), st.lists(NUMBERS, max_size=3))
    good = {"device": st.fixed_dictionaries({"id": st.sampled_from(["d", "e", 7])}), "at": st.integers(0, 10**13)}
    plain = st.fixed_dictionaries(
        {"x": st.tuples(st.integers(-9, 9), st.floats(-9, 9)), **good, "run": st.integers(0, 3)}
    )
    odd = st.fixed_dictionaries(
        {"x": st.one_of(vector, st.lists(vector, max_size=3), NUMBERS), **good, "run": SCALARS, "at": SCALARS},
        optional={"first": SCALARS, "last": SCALARS},
    )
    encode: Callable[[object], bytes] = (
        msgspec.msgpack.encode if form == "msgpack" else lambda value: json.dumps(value).encode()
    )

    def written(value: Any) -> bytes:
        try:
            return encode(value)
        except OverflowError:  # MessagePack has no such integers
            return b"\xc1"

    return st.one_of(plain.map(written), odd.map(written), st.binary(max_size=4), st.none())


@pytest.mark.parametrize("form", ["json", "msgpack", "float32"])
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_a_batch_decoded_whole_equals_its_records_decoded_one_by_one(form: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    if form == "float32":
        fields = InputFields(2, ())
        cells: st.SearchStrategy[bytes | None] = st.one_of(st.binary(min_size=8, max_size=8), st.binary(max_size=9))
    else:
        fields = InputFields(2, "x", stream="device.id", time="at", id="run", start="first", end="last")
        cells = values(form)
    column = data.draw(st.lists(cells, min_size=count, max_size=count))
    keys = [data.draw(st.sampled_from([b"k", b"l", b"k"])) for _ in column]
    decoder = open_decoder(form, fields, LAYOUT)
    whole = batch_of(column, keys=keys)
    one_by_one = [decoder.decode(whole.part(index, index + 1)) for index in range(count)]
    # Headers that nobody asks for change nothing.
    slow = batch_of(column, keys=keys, headers=[[("trace", b"1")]] * count)
    for events in (decoder.decode(whole), decoder.decode(slow)):
        assert rows(events) == [
            (index + row[0], *row[1:]) for index, each in enumerate(one_by_one) for row in rows(each)
        ]
    # Batches of several partitions are read as one.
    cut = data.draw(st.integers(0, count))
    halves = [replace(whole.part(0, cut), replay=True), whole.part(cut, count)]
    for half, events in zip(halves, decoder.decode_all(halves), strict=True):
        assert (rows(events), events.batch) == (rows(decoder.decode(half)), half)


def rows(events: Events) -> list[tuple[Any, ...]]:
    """Events and refusals as comparable rows, in record order."""

    def column(values: Any) -> list[Any]:
        return [None] * len(events) if values is None else list(values)

    found: list[tuple[Any, ...]] = [
        (int(record), int(item), int(kind), stream, vector.tobytes(), int(time), repr(each), start, end)
        for record, item, kind, stream, vector, time, each, start, end in zip(
            events.records, events.items, events.kinds, events.streams, events.vectors, events.times,
            column(events.ids), column(events.starts), column(events.ends), strict=True,
        )
    ]  # fmt: skip
    found += [(refused.record, refused.error, refused.reason) for refused in events.refusals]
    return sorted(found, key=lambda row: row[:2] if isinstance(row[1], int) else row[:1])


def predictions(**columns: Any) -> Predictions:
    count = len(columns["outputs"])
    return Predictions(
        events=columns.get("events", slice(0, count)),
        outputs=np.array(columns["outputs"], np.float32),
        steps=np.array(columns.get("steps", range(1, count + 1))),
        resets=np.array(columns.get("resets", [Reset.NONE] * count), np.uint8),
        finals=np.array(columns.get("finals", [False] * count)),
        origins=np.array(columns.get("origins", [Origin.LIVE] * count), np.uint8),
    )


def test_an_output_is_as_documented_to_the_byte() -> None:
    batch = batch_of([b"{}"], keys=[b"watch-07"])
    events = decode(EVERYTHING, with_part(device={"id": "watch-07"}, run="s42", at=1795240795377), timestamps=[-1])
    events.batch = batch
    answer = predictions(outputs=[[0.01, 0.02, 0.96, 0.01]], steps=[12])
    encoder = Encoder("json", "4f1c9a2b7d10", ["standing", "running", "walking", "badminton"], stream_is_key=False)
    (value,) = encoder.encode(events, answer).values
    assert value == (
        b'{"stream":"watch-07","sequence":"s42","step":12,"probabilities":[0.01,0.02,0.96,0.01],"label":"walking",'
        b'"final":false,"reset":null,"time":1795240795377,"origin":"live","model":"4f1c9a2b7d10",'
        b'"source":{"topic":"readings","partition":2,"offset":100}}'
    )


def test_outputs_of_chunks_labels_resets_and_what_is_not_emitted() -> None:
    events = decode(VECTOR, {"x": [[1, 2], [3, 4], [5, 6]]}, keys=["schlüssel".encode()])
    answer = predictions(
        outputs=[[1 / 3], [1e-9]],
        events=np.array([0, 2]),
        steps=[1, 3],
        resets=[Reset.INVALID_STATE, Reset.NONE],
        finals=[False, True],
        origins=[Origin.IMPORTED, Origin.RESTORED],
    )
    messages = Encoder("json", "", None, stream_is_key=True).encode(events, answer)
    assert messages.keys == ["schlüssel".encode()] * 2
    assert messages.records.tolist() == [0, 0]
    assert messages.headers is None
    first, second = (json.loads(value or b"") for value in messages.values)
    names = ["stream", "sequence", "step", "probabilities", "final", "reset", "time", "origin", "model", "source"]
    assert list(first) == names
    assert first["source"] == {"topic": "readings", "partition": 2, "offset": 100, "item": 0}
    assert (first["stream"], first["sequence"], first["reset"]) == ("schlüssel", None, "invalid_state")
    assert (first["origin"], second["origin"], second["source"]["item"]) == ("imported", "restored", 2)
    assert (first["final"], second["final"], second["step"]) == (False, True, 3)


def test_an_event_may_have_several_outputs_or_none() -> None:
    events = decode(VECTOR, {"x": [[1, 2], [3, 4], [5, 6]]}, keys=[b"a"])
    answer = predictions(outputs=[[1], [2], [3]], events=np.array([0, 0, 2]))
    messages = Encoder("json", "", None, stream_is_key=False).encode(events, answer)
    found = [json.loads(value or b"") for value in messages.values]
    assert [(each["source"]["item"], each["probabilities"]) for each in found] == [(0, [1.0]), (0, [2.0]), (2, [3.0])]
    assert (messages.keys, messages.records.tolist()) == ([b"a"] * 3, [0] * 3)
    refused = fitting(events, messages, answer.events, 10, {})[1]
    assert [(each.record, each.items) for each in refused] == [(0, "0,2")]


@pytest.mark.parametrize("number", [0.1, 1 / 3, 1e-9, 1.0, 0.0, 123456.79, 3.4e38])
def test_float32_has_as_few_digits_as_tell_it_apart(number: float) -> None:
    single = np.float32(number)
    events = decode(InputFields(1, "x"), {"x": 1})
    (value,) = Encoder("json", "", None, stream_is_key=True).encode(events, predictions(outputs=[[single]])).values
    text = (value or b"").split(b"[")[1].split(b"]")[0].decode()
    assert np.float32(text) == single
    assert len(text.replace(".0", "")) <= len(repr(float(single)))
    assert len(text) <= len("123456.79") + len("e-00") + 2


def test_msgpack_outputs_hold_the_same_fields_in_the_same_order() -> None:
    events = decode(VECTOR, {"x": [[1, 2], [3, 4]]})
    answer = predictions(outputs=[[0.25, 0.75], [1, 0]], finals=[False, True])
    as_json, as_msgpack = (
        Encoder(form, "abc", ["no", "yes"], stream_is_key=True).encode(events, answer).values
        for form in ("json", "msgpack")
    )
    for text, packed in zip(as_json, as_msgpack, strict=True):
        unpacked = msgspec.msgpack.decode(packed or b"")
        assert list(unpacked.items()) == list(json.loads(text or b"").items())


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_whole_numbers_that_the_model_would_round_are_refused(form: str) -> None:
    fields = InputFields(2, ("a", "b"), wholes=((slice(1, 2), -(2**24), 2**24),))
    assert decode(fields, {"a": 0.5, "b": 2**24}, form).vectors.tolist() == [[0.5, 2**24]]
    limits = "whole numbers from -16,777,216 to 16,777,216"
    for wrong in (2**24 + 1, 3.5):
        found = refusal(fields, {"a": 0.5, "b": wrong}, form)
        assert found == ("not_whole", f"{wrong} is not what the model takes: {limits}")
