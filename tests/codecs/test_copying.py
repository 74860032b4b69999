"""What outputs repeat of their records: fields of the value (output.copy) and headers (output.headers)."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sums import batch, sums_pipeline
from worker.codecs.copying import COPIED_BYTES_LIMIT, TRACES_ALONE, Copier, Repeated
from worker.codecs.unusable import UnusableError
from worker.pipeline.pipeline import Pipeline
from worker.records.carried_headers import CARRIED_BYTES_LIMIT, CarriedHeaders
from worker.records.ownership import Partition

PLACE = Partition("in", 0)
BIG = 2**70
packed, unpacked = msgspec.msgpack.encode, msgspec.msgpack.decode
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)  # fmt: skip


def copied(value: Any, *names: str, read: str = "json", written: str = "json") -> Any:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode() if read == "json" else packed(value)
    found = bytes(Copier(names, read, written).of(raw))
    return msgspec.json.decode(found) if written == "json" else unpacked(found)


@pytest.mark.parametrize(
    ("value", "names", "found"),
    [
        ({"x": 1, "site": "A"}, ["site"], {"site": "A"}),
        ({"x": 7, "meta": {"site": {"n": [1, None]}}}, ["meta.site", "x"], {"meta.site": {"n": [1, None]}, "x": 7}),
        ({"meta.site": 1, "meta": {"site": 2}}, ["meta.site"], {"meta.site": 1}),
        ({"a.b": 1}, [r"a\.b"], {"a.b": 1}),
        ({"timestamp": 5}, ["value:timestamp"], {"timestamp": 5}),
        ({}, ["site"], {"site": None}),
        ({"n": BIG, "f": 1.5, "t": True, "z": None}, ["n", "f", "t", "z"], {"n": BIG, "f": 1.5, "t": True, "z": None}),
        (b'\xef\xbb\xbf{"site": "A", "noise": NaN}', ["site"], {"site": "A"}),
    ],
)
def test_fields_are_found_as_features_are(value: Any, names: list[str], found: Any) -> None:
    assert copied(value, *names) == found


@given(JSON)
def test_any_json_is_repeated_as_it_is(value: Any) -> None:
    assert copied({"v": value}, "v") == {"v": value}


@pytest.mark.parametrize(("read", "written"), list(itertools.product(["json", "msgpack"], repeat=2)))
def test_formats_may_differ(read: str, written: str) -> None:
    value = {"a": [1, -2.5, "ä", None, True], "b": {"c": 2**63}}
    assert copied(value, "a", "b", read=read, written=written) == value


def test_messagepack_holds_more_than_json() -> None:
    assert copied({"v": [float("inf"), b"\x00"]}, "v", read="msgpack", written="msgpack") == {
        "v": [float("inf"), b"\x00"]
    }
    assert copied({"v": b"\x00"}, "v", read="msgpack") == {"v": "AA=="}


@pytest.mark.parametrize(
    ("value", "read", "written", "error", "reason"),
    [
        (b'{"v": NaN}', "json", "json", "bad_field", "field 'v' (output.copy) holds nan, which JSON does not have"),
        (packed({"v": [{"a": float("-inf")}]}), "msgpack", "json", "bad_field",
         "field 'v' (output.copy) holds -inf, which JSON does not have"),
        (b'{"v": "\\ud800"}', "json", "json", "bad_field",
         "field 'v' (output.copy) has half a surrogate pair, which is not text"),
        (b'{"v": [{"\\ud800": 1}]}', "json", "msgpack", "bad_field",
         "field 'v' (output.copy) has half a surrogate pair, which is not text"),
        (json.dumps({"v": BIG}).encode(), "json", "msgpack", "bad_field",
         "field 'v' (output.copy) can't be written as msgpack: can't serialize ints < -2**63 or > 2**64 - 1"),
        (packed({"v": msgspec.msgpack.Ext(5, b"1")}), "msgpack", "json", "bad_field",
         "field 'v' (output.copy) can't be written as json: "),
        (packed({"v": {None: 1}}), "msgpack", "json", "bad_field",
         "field 'v' (output.copy) can't be written as json: "),
        (json.dumps({"v": "x" * COPIED_BYTES_LIMIT}).encode(), "json", "json", "too_large",
         f"the fields v (output.copy) have {COPIED_BYTES_LIMIT + 8} bytes, above {COPIED_BYTES_LIMIT}"),
    ],
)  # fmt: skip
def test_what_can_not_be_repeated_is_said(value: bytes, read: str, written: str, error: str, reason: str) -> None:
    with pytest.raises(UnusableError) as caught:
        copied(value, "v", read=read, written=written)
    assert caught.value.error == error
    assert caught.value.reason.startswith(reason)


REPEATED = Repeated(Copier(["site"], "json", "json"), CarriedHeaders(None))


def opened(repeated: Repeated = TRACES_ALONE) -> Pipeline:
    pipeline = sums_pipeline(repeated=repeated, features="x")
    pipeline.engine.table.open(PLACE)
    return pipeline


def record(x: Any, site: Any, headers: Any = None, key: bytes = b"k") -> tuple[Any, ...]:
    return key, json.dumps({"x": x, "site": site}).encode(), 0, headers


def test_every_output_of_a_record_repeats_it_and_neighbours_of_a_refused_one_are_answered() -> None:
    long = [("h", b"x" * CARRIED_BYTES_LIMIT)]
    rows = [
        record(1, "A", [("h", b"1"), ("h", None)]), record([[2], [3]], {"n": 1}), record(4, "\ud800"),
        record(5, "B", long), (b"k", None, 0, None), (b"k", b"", 0, [("worker-command", b"reset")]),
        record(6, "C", [("traceparent", b"p")]),
    ]  # fmt: skip
    (outcome,) = opened(REPEATED).turn([batch(PLACE, rows)])
    values = [json.loads(value) for value in outcome.outputs.values if value is not None]
    assert [(value["source"]["offset"], value["fields"]) for value in values] == [
        (0, {"site": "A"}), (1, {"site": {"n": 1}}), (1, {"site": {"n": 1}}), (6, {"site": "C"}),
    ]  # fmt: skip
    assert outcome.outputs.headers == [(("h", b"1"), ("h", None)), (), (), (("traceparent", b"p"),)]
    assert [(each.record, each.error) for each in outcome.refusals] == [(2, "bad_field"), (3, "too_large")]
    assert outcome.refusals[1].reason == (
        f"the headers to carry over (output.headers) have {CARRIED_BYTES_LIMIT + 11} bytes, above {CARRIED_BYTES_LIMIT}"
    )
    assert outcome.dead.values == [rows[2][1], rows[3][1]]


def test_how_records_are_cut_into_turns_does_not_show() -> None:
    rows = [record(number, number if number % 3 else None, [("h", b"%d" % number)]) for number in range(9)]
    (whole,) = opened(REPEATED).turn([batch(PLACE, rows)])
    pipeline = opened(REPEATED)
    alone = [pipeline.turn([batch(PLACE, rows[at : at + 1], at)])[0].outputs for at in range(9)]
    assert [*whole.outputs.values] == [value for each in alone for value in each.values]
    several = opened(REPEATED).turn([batch(PLACE, rows[:4]), batch(PLACE, rows[4:], 4)])
    assert [*whole.outputs.values] == [value for each in several for value in each.outputs.values]


def test_outputs_are_as_before_where_nothing_is_to_be_repeated() -> None:
    (outcome,) = opened().turn([batch(PLACE, [record(1, "A", [("h", b"1")])])])
    (value,) = outcome.outputs.values
    assert value is not None
    assert (b'"fields"' in value, outcome.outputs.headers) == (False, None)
