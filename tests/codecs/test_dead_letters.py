"""Dead letters: one per record that can't be used, with all that says why, and never more than a broker takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sums import batch, sums_pipeline
from worker.codecs.dead_letters import RECORD_BYTES_LIMIT, SIZE_DIGITS, DeadLetters
from worker.codecs.unusable import REASON_CHARACTERS_LIMIT, UnusableError
from worker.pipeline.pipeline import Outcome
from worker.records.events import Refusal
from worker.records.messages import message_bytes
from worker.records.ownership import Partition
from worker.records.record_batch import Headers, RecordBatch

IN = Partition("in", 2)
BROKER_BYTES_LIMIT = 1_000_000  # librdkafka's default, the smallest of those around


def letter(
    value: bytes | None, key: bytes | None = b"k", headers: Headers | None = None, reason: str = "why"
) -> tuple[bytes | None, bytes | None, dict[str, bytes | None], int]:
    """Key, value, headers and bytes of the letter of one record."""
    batch = RecordBatch(IN, 8, [7], [123], [key], [value], [headers])
    messages = DeadLetters("group", "0123456789ab", "1.2").of(batch, [Refusal(0, "code", reason)])
    assert (len(messages), messages.records.tolist()) == (1, [0])
    assert messages.headers is not None
    (found_key,), (found_value,), (found,) = messages.keys, messages.values, messages.headers
    return found_key, found_value, dict(found), message_bytes(found_key, found_value, found)


def test_a_letter_is_the_record_with_the_documented_headers_beside_its_own() -> None:
    batch = RecordBatch(
        IN, 9, [7, 8], [123, -1], [b"\xfe", None], [b"\xff\x00", None], [[("trace", b"7"), ("error", None)], None]
    )
    refusals = [Refusal(0, "not_utf8", "that is it"), Refusal(1, "no_key", "it has none", "0-2,7")]
    messages = DeadLetters("group", "0123456789ab", "1.2").of(batch, refusals)
    assert (messages.keys, messages.values, messages.records.tolist()) == (batch.keys, batch.values, [0, 1])
    where = [("rnnw.topic", b"in"), ("rnnw.partition", b"2")]
    whose = [("rnnw.group", b"group"), ("rnnw.model", b"0123456789ab"), ("rnnw.version", b"1.2")]
    assert messages.headers == [
        [("trace", b"7"), ("error", None), ("rnnw.error", b"not_utf8"), ("rnnw.reason", b"that is it"), *where,
         ("rnnw.offset", b"7"), ("rnnw.timestamp", b"123"), *whose],
        [("rnnw.error", b"no_key"), ("rnnw.reason", b"it has none"), *where, ("rnnw.offset", b"8"),
         ("rnnw.timestamp", b"-1"), ("rnnw.items", b"0-2,7"), *whose],
    ]  # fmt: skip


def test_of_headers_that_do_not_fit_those_of_the_trace_stay() -> None:
    own: Headers = [("own", b"o" * RECORD_BYTES_LIMIT), ("traceparent", b"00-01"), ("tracestate", b"a=1")]
    key, value, headers, _ = letter(b"v", headers=own)
    assert (key, value, "own" in headers) == (b"k", b"", False)
    assert (headers["traceparent"], headers["tracestate"]) == (b"00-01", b"a=1")
    key, value, headers, _ = letter(b"v", b"k" * RECORD_BYTES_LIMIT, headers=own)
    assert (key, value, "traceparent" in headers) == (b"k" * RECORD_BYTES_LIMIT, b"", False)


def test_a_record_of_the_limit_is_whole_and_one_byte_more_leaves_out_the_value() -> None:
    own: Headers = [("trace", b"12")]
    value = b"v" * (RECORD_BYTES_LIMIT - len(b"k") - len("trace12"))
    key, found, headers, _ = letter(value, headers=own)
    assert (key, found, "rnnw.truncated" in headers) == (b"k", value, False)
    key, found, headers, size = letter(value + b"v", headers=own)
    assert (key, found, headers["trace"]) == (b"k", b"", b"12")
    assert headers["rnnw.truncated"] == b"900001"
    assert size < 1000


@pytest.mark.parametrize(
    ("key", "value", "headers", "left"),
    [
        (b"k", b"v" * 2_000_000, [("trace", b"1")], (b"k", b"", True)),
        (b"k", b"v", [("trace", b"x" * 1_000_000)], (b"k", b"", False)),
        (b"k", b"v", [("trace", None), *[("n" * 99, b"")] * 20_000], (b"k", b"", False)),
        (b"k" * 1_000_000, b"v", [("trace", b"1")], (None, b"", False)),
        (b"k" * 800_000, b"v", [("trace", b"1" * 200_000)], (b"k" * 800_000, b"", False)),
        (None, None, [("trace", "ü".encode() * 600_000)], (None, b"", False)),
    ],
    ids=["value", "header", "names of headers", "key", "key and header", "nothing but a header"],
)
def test_whatever_is_large_the_letter_fits(key: Any, value: Any, headers: Any, left: Any) -> None:
    found_key, found_value, found, size = letter(value, key, headers, "ü" * 10_000)
    assert (found_key, found_value, "trace" in found) == left
    assert found["rnnw.truncated"] == b"%d" % message_bytes(key, value, headers)
    assert found["rnnw.offset"] == b"7"
    assert size < BROKER_BYTES_LIMIT


def test_reasons_are_cut() -> None:
    _, _, headers, _ = letter(b"v", reason="ü" * (REASON_CHARACTERS_LIMIT + 1))
    reason = (headers["rnnw.reason"] or b"").decode()
    assert (len(reason), reason[-2:]) == (REASON_CHARACTERS_LIMIT, "ü…")
    assert len(UnusableError("code", "x" * 1_000_000).reason) == REASON_CHARACTERS_LIMIT  # so that the log is, too


def turn(*values: Any, **headers: bytes) -> Outcome:
    pipeline = sums_pipeline(features="x")
    pipeline.engine.table.open(IN)
    given = [(name.replace("_", "-"), text) for name, text in headers.items()]
    rows = [(b"k", value if isinstance(value, bytes) else json.dumps(value).encode(), 0, given) for value in values]
    (outcome,) = pipeline.turn([batch(IN, rows)])
    return outcome


def items_of(outcome: Outcome) -> list[str | None]:
    told = [dict(headers) for headers in outcome.dead.headers or []]
    return [None if (items := each.get("rnnw.items")) is None else items.decode() for each in told]


@pytest.mark.parametrize(
    ("vectors", "items"),
    [
        ([[1], [1], [666], [2]], "2"),
        ([[666], [666], [666], [1], [1], [1], [1], [666]], "0-2,7"),
        ([[666]] * 10_000, "0-9999"),
        ([[666], [1]] * 3, "0,2,4"),
    ],
)
def test_a_chunk_with_results_that_are_not_finite_is_one_letter(vectors: list[Any], items: str) -> None:
    """The other items have their outputs; the stream is at zero after each of those named."""
    outcome = turn({"x": vectors})
    assert [(refusal.error, refusal.items) for refusal in outcome.refusals] == [("invalid_state", items)]
    assert (len(outcome.dead), items_of(outcome)) == (1, [items])
    assert outcome.dead.values == outcome.batch.values
    found = [json.loads(value or b"") for value in outcome.outputs.values]
    assert [each["source"]["item"] for each in found] == [i for i, (x,) in enumerate(vectors) if x != 666]
    after = [each for each in found if each["source"]["item"] and vectors[each["source"]["item"] - 1] == [666]]
    assert [(each["step"], each["reset"]) for each in after] == [(1, "invalid_state")] * len(after)


def test_each_record_has_its_own_letter() -> None:
    bad: dict[str, Any] = {"x": [[666], [1]]}
    outcome = turn({"x": 1}, bad, {"x": 666}, {"y": 1}, bad, {"x": [[1], ["a"]]}, {"x": [[1]]})
    assert outcome.dead.records.tolist() == [1, 2, 3, 4, 5]
    assert items_of(outcome) == ["0", None, None, "0", None]
    assert [refusal.error for refusal in outcome.refusals] == [
        "invalid_state", "invalid_state", "field_missing", "invalid_state", "not_a_number",
    ]  # fmt: skip


def test_a_state_for_a_layer_with_an_endless_name_is_a_short_reason() -> None:
    outcome = turn({"states": {"sum": {"h": [1]}, "L" * 890_000: {"h": [1]}}}, worker_command=b"set-state")
    (headers,) = outcome.dead.headers or []
    (value,) = outcome.dead.values
    assert value == outcome.batch.values[0]
    reason = (dict(headers)["rnnw.reason"] or b"").decode()
    assert "the model has no state 'h' of layer 'LLL" in reason
    assert "it has 'sum'/'h'" in reason
    assert message_bytes(b"k", value, headers) < BROKER_BYTES_LIMIT


def test_a_great_many_small_headers_or_items_fit_too() -> None:
    """Each header has two lengths of its own; every other item of a large chunk may be refused."""
    pipeline = sums_pipeline()
    pipeline.engine.table.open(IN)
    headers: Headers = [("a", b"b")] * 400_000
    (found,) = pipeline.turn([batch(IN, [(b"k", b"{", 0, headers)])])
    assert found.dead.bytes_of(0) < 1_000_000
    assert dict((found.dead.headers or [])[0])["rnnw.truncated"] == b"%d" % (len("k{") + 2 * len(headers))
    items = ",".join(map(str, range(0, 500_000, 2)))
    letters = pipeline.dead_letters.of(batch(IN, [(b"k", b"v")]), [Refusal(0, "invalid_state", "why", items)])
    told = dict((letters.headers or [])[0])["rnnw.items"] or b""
    assert told.startswith(b"0,2,4,")
    assert told.endswith(b",...")
    assert len(told) <= 4_000


@pytest.mark.parametrize("topic_bytes", [10_000, 100_000, 950_000, 1_000_000, 10_000_000])
@pytest.mark.parametrize("header", [("a", b"b"), ("name" * 100, b"text" * 100)])
def test_what_a_topic_takes_is_never_exceeded(topic_bytes: int, header: tuple[str, bytes]) -> None:
    letters = DeadLetters("group" * 100, "0123456789ab", "1.2")
    letters.fit(topic_bytes, keys_needed=False)
    items = ",".join(map(str, range(0, 100_000, 2)))
    for size in (0, 1_000, topic_bytes // 2, topic_bytes, 2 * topic_bytes):
        for count in (0, 10, topic_bytes // 20):
            record = RecordBatch(IN, 8, [7], [123], [b"k"], [b"v" * size], [[header] * count])
            (found,) = map(letters.of(record, [Refusal(0, "code", "\U0001f600" * 1000, items)]).bytes_of, range(1))
            assert found <= topic_bytes


TOLD = 9 * 10 + sum(map(len, [  # each header with its framing, beside a reason and a group that are empty
    "rnnw.error", "code", "rnnw.reason", "rnnw.topic", "in", "rnnw.partition", "2", "rnnw.offset", "7",
    "rnnw.timestamp", "123", "rnnw.group", "rnnw.model", "rnnw.version",
]))  # fmt: skip
CUT = len("rnnw.truncated") + 4 + 10


@pytest.mark.parametrize(
    ("room", "left"),
    [
        (1_500, (b"k" * 100, b"v" * 1_000, True)),
        (1_499, (b"k" * 100, b"", True)),
        (500 + CUT, (b"k" * 100, b"", True)),
        (499 + CUT, (b"k" * 100, b"", False)),
        (100 + CUT, (b"k" * 100, b"", False)),
        (99 + CUT, (None, b"", False)),
    ],
)
def test_only_what_does_not_fit_beside_the_headers_of_this_letter_is_left_out(room: int, left: Any) -> None:
    letters = DeadLetters()
    letters.fit(TOLD + room, keys_needed=False)
    headers = [("n" * 10, b"h" * 380)]
    record = RecordBatch(IN, 8, [7], [123], [b"k" * 100], [b"v" * 1_000], [headers])
    found = letters.of(record, [Refusal(0, "code", "")])
    told = dict((found.headers or [])[0])
    assert (found.keys[0], found.values[0], "n" * 10 in told) == left
    assert told.get("rnnw.truncated") == (None if left[1] else b"1490")
    assert found.bytes_of(0) <= TOLD + room


def test_a_small_record_is_whole_in_a_topic_of_small_messages() -> None:
    letters = DeadLetters("scores", "0123456789ab", "1.2")
    letters.fit(2_488, keys_needed=False)
    record = RecordBatch(IN, 8, [7], [123], [b"device"], [b"{"], [[("trace", b"1")]])
    found = letters.of(record, [Refusal(0, "not_json", "x" * 10_000)])
    assert (found.keys, found.values) == (record.keys, record.values)
    told = dict((found.headers or [])[0])
    assert told["trace"] == b"1"
    assert "rnnw.truncated" not in told
    chunk = letters.of(record, [Refusal(0, "invalid_state", "why", ",".join(map(str, range(0, 5_000, 2))))])
    told = dict((chunk.headers or [])[0])
    assert (told["rnnw.items"] or b"")[:8] + (told["rnnw.items"] or b"")[-4:] == b"0,2,4,6,,..."
    assert (chunk.keys, chunk.values) == (record.keys, record.values)
    assert chunk.bytes_of(0) <= 2_488


@pytest.mark.parametrize("items", ["0-2,7,1821-1830,1900", "1000-1999,2001", ",".join(map(str, range(0, 5_000, 2)))])
def test_items_are_cut_between_two_of_them(items: str) -> None:
    """As many as half of the room takes, all of them if it can be; "..." stands for the others."""
    whole = items.split(",")
    sizes = set()
    for room in range(2, 120):
        letters = DeadLetters()
        letters.fit(TOLD + len("rnnw.items") + 10 + CUT - 4 + SIZE_DIGITS + 2 * room, keys_needed=False)
        record = RecordBatch(IN, 8, [7], [123], [None], [None], [None])
        found = letters.of(record, [Refusal(0, "code", "", items)])
        told = (dict((found.headers or [])[0])["rnnw.items"] or b"").decode()
        *first, last = told.split(",")
        sizes.add(len(first))
        assert told == items or (first, last) == (whole[: len(first)], "...")
        assert len(told) <= max(room, len("..."))
        assert told == items or room < len(items)
        assert last != "..." or len(",".join([*whole[: len(first) + 1], "..."])) > room
    assert len(sizes) > 1


def test_where_keys_are_needed_a_letter_has_one() -> None:
    letters = DeadLetters()
    record = RecordBatch(IN, 9, [7, 8], [1, 2], [None, b"k"], [b"v", b"v"], [None, None])
    for needed, key in ((False, None), (True, b"")):
        letters.fit(1_000_000, keys_needed=needed)
        assert letters.of(record, [Refusal(0, "no_key", "why"), Refusal(1, "code", "why")]).keys == [key, b"k"]
