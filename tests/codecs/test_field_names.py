"""Names of fields: every name that JSON may have, literal before nested, and streams that something else names."""

from __future__ import annotations

import json
import re
from pathlib import Path as File
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from tests.config.test_config import load, with_keys
from tests.depth import examples
from tests.sums import LAYOUT, batch, sums_pipeline
from worker.assembly.input_fields import check_fields, readings, warnings
from worker.codecs.decoding import open_decoder
from worker.codecs.fields import InputFields
from worker.codecs.paths import MISSING, Path
from worker.config.features import field_names
from worker.config.sections import Config
from worker.errors import ConfigError
from worker.records.events import Events, Kind
from worker.records.ownership import Partition
from worker.records.record_batch import Headers, NotUtf8, RecordBatch

IN = Partition("in", 0)
FORMS = pytest.mark.parametrize("form", ["json", "msgpack"])
ODD_NAMES = [
    '"DB1"', 'ns=3;s="DB1"."temp"', "a\\b", "C:\\temp\\x", "\\", "a\\\\b", "\t", "line\nbreak", "\0", "\x7f", "😀", "ü",
    "\u2028", "", " ", "a.b", ".", "..", "a.", ".b", "key", "timestamp", "value:x", "header:h", "key:k", "x" * 2000,
    "f_61", "__class__", "é", "e\u0301", "'", "{}", "[0]", "$", "null",
]  # fmt: skip


def packed(form: str, value: Any) -> bytes:
    return msgspec.msgpack.encode(value) if form == "msgpack" else json.dumps(value).encode()


def decode(form: str, fields: InputFields, *values: Any, **columns: Any) -> Events:
    """Each value a record; what is bytes or None stays as it is."""
    count = len(values)
    raw = [value if isinstance(value, bytes | None) else packed(form, value) for value in values]
    keys, headers = columns.get("keys", [b"k"] * count), columns.get("headers", [None] * count)
    decoder = open_decoder(form, fields, LAYOUT)
    return decoder.decode(RecordBatch(IN, count, list(range(count)), [7] * count, keys, raw, headers))


def sums_of(events: Events) -> list[list[float]]:
    return [vector.tolist() for vector in events.vectors]


def why(events: Events) -> list[tuple[str, str]]:
    return [(refused.error, refused.reason) for refused in events.refusals]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ("a",)),
        ("a.b.c", ("a", "b", "c")),
        (r"a\.b.c", ("a.b", "c")),
        (r"a\\.b", ("a\\", "b")),
        (r"a\\\.b", (r"a\.b",)),
        (r"a\b\\", ("a\\b\\",)),
        ("a.", ("a", "")),
        ("value:timestamp", ("timestamp",)),
        ("value:value:x", ("value:x",)),
        ("value:", ("",)),
        ("value:a.b", ("a", "b")),
        ("a\n.b", ("a\n", "b")),
    ],
)
def test_how_a_path_is_read(text: str, names: tuple[str, ...]) -> None:
    assert Path.of(text).names == names


def test_the_longest_name_comes_first() -> None:
    path = Path.of("a.b.c")
    values: list[dict[str, Any]] = [
        {"a.b.c": 1, "a.b": {"c": 2}, "a": {"b.c": 3, "b": {"c": 4}}},
        {"a.b": {"c": 2}, "a": {"b.c": 3, "b": {"c": 4}}},
        {"a": {"b.c": 3, "b": {"c": 4}}},
        {"a.b": {"d": 0}, "a": {"b": {"c": 4}}},
        {"a.b": 7, "a": {"b.c": 5}},
    ]
    assert [path.find(value) for value in values] == [1, 2, 3, 4, 5]
    assert Path.of(r"a\.b.c").find({"a": {"b": {"c": 4}}}) is MISSING
    assert Path.of(r"a\\b").find({"a\\\\b": 1}) == 1  # as it stands: nobody escapes what needs no escape
    assert Path.of(r"a\\b").find({"a\\\\b": 1, "a\\b": 2}) == 2
    assert Path.of("a.b").find([1]) is MISSING


@FORMS
@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[:20])
def test_every_name_can_be_a_feature_a_stream_a_time_and_an_id(form: str, name: str) -> None:
    text = f"value:{name}" if not name.strip() or name.startswith(("value:", "key", "time", "header:")) else name
    other = f"{name}!"
    for fields, value, expected in (
        (InputFields(2, (text, "o")), {name: 1.5, "o": 2}, ([[1.5, 2]], ["k"], 7, None)),
        (InputFields(1, text), {name: [3]}, ([[3]], ["k"], 7, None)),
        (InputFields(1, ("o",), stream=text), {name: "s", "o": 2}, ([[2]], ["s"], 7, None)),
        (InputFields(1, ("o",), time=text), {name: 9, "o": 2}, ([[2]], ["k"], 9, None)),
        (InputFields(1, ("o",), id=text, start=f"{text}!"), {name: "i", "o": 2, other: True}, ([[2]], ["k"], 7, ["i"])),
    ):
        for count in (1, 3):
            events = decode(form, fields, *[value] * count)
            assert why(events) == []
            vectors, streams, time, ids = expected
            assert (sums_of(events), events.streams) == (vectors * count, streams * count)
            assert (events.times.tolist(), events.ids) == ([time] * count, ids and ids * count)
            assert events.starts is None or events.starts.all()


@FORMS
def test_the_literal_field_is_taken_record_by_record(form: str) -> None:
    """In batches of one kind and of several; with records beside them that can't be used."""
    fields = InputFields(2, ("m.a", "m.b"), stream="d.id", start="f.s")
    literal = {"m.a": 1, "m.b": 2, "d.id": "l"}
    nested = {"m": {"a": 3, "b": 4}, "d": {"id": "n"}, "f": {"s": True}}
    both = {**nested, **literal, "f.s": False}
    mixed = {"m.a": 5, "m": {"b": 6}, "d": {"id": 7}, "f": None}
    rows = {"literal": literal, "nested": nested, "both": both, "mixed": mixed}
    told = {
        "literal": ([1, 2], "l", False), "nested": ([3, 4], "n", True),
        "both": ([1, 2], "l", False), "mixed": ([5, 6], "7", False),
    }  # fmt: skip
    for batch_of in (["literal"], ["nested"], ["both"], ["mixed"], ["literal", "literal", "both"], ["nested"] * 3,
                     ["nested", "both"], ["mixed", "mixed", "nested", "literal", "both", "nested"]):  # fmt: skip
        for more in ([], [b"\xc1"]):
            events = decode(form, fields, *(rows[name] for name in batch_of), *more)
            assert len(events.refusals) == len(more)
            assert events.starts is not None
            found = list(zip(sums_of(events), events.streams, events.starts.tolist(), strict=True))
            assert found == [told[name] for name in batch_of]


@FORMS
def test_a_literal_field_that_can_not_be_used_is_not_passed_over(form: str) -> None:
    fields = InputFields(1, ("m.a",), time="t.t")
    good = {"m": {"a": 1}, "t": {"t": 5}}
    assert why(decode(form, fields, {**good, "m.a": None})) == [
        ("not_a_number", "field 'm.a' (input.features) is null, not a number")
    ]
    assert [error for error, _ in why(decode(form, fields, good, {**good, "t.t": "soon"}))] == ["bad_time"]
    assert why(decode(form, fields, {"m": {"b": 1}, "t.t": 5})) == [
        ("field_missing", "field 'm.a' (input.features) is missing")
    ]


@FORMS
def test_names_that_only_look_nested_stand_beside_each_other(form: str) -> None:
    fields = InputFields(3, ("t", "t.max", r"t\.min"))
    events = decode(form, fields, {"t": 1, "t.max": 2, "t.min": 3}, {"t": 4, "t.max": 5, "t.min": 6, "more": [1]})
    assert sums_of(events) == [[1, 2, 3], [4, 5, 6]]
    assert [error for error, _ in why(decode(form, fields, {"t": {"max": 2}, "t.min": 3}))] == ["not_a_number"]
    fields = InputFields(2, ("a.b", r"a\.b.c"))
    assert sums_of(decode(form, fields, {"a": {"b": 1}, "a.b": {"c": 2}})) == []
    assert sums_of(decode(form, InputFields(2, (r"a\.b", "a.c")), {"a.b": 1, "a": {"c": 2}})) == [[1, 2]]


NAMES = st.sampled_from(["a", "b", "a.b", "a.b.c", "b.c", "c"])
TREES = st.recursive(
    st.one_of(st.integers(0, 3), st.none()), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)


@FORMS
@settings(max_examples=examples(200), deadline=None)
@drawn(st.lists(st.dictionaries(NAMES, TREES, max_size=4), min_size=1, max_size=5), st.sampled_from(["a.b.c", "a.b"]))
def test_however_records_are_read_each_has_what_its_path_says(form: str, values: list[Any], text: str) -> None:
    path = Path.of(text)
    events = decode(form, InputFields(1, (text,)), *values)
    found = [path.find(value) for value in values]
    assert sums_of(events) == [[each] for each in found if isinstance(each, int)]
    assert events.records.tolist() == [at for at, each in enumerate(found) if isinstance(each, int)]


@FORMS
@pytest.mark.parametrize("flag", ["true", "yes", 1.0, 2, [], {}])
@pytest.mark.parametrize("end", ["meta.last", "last", r"meta\.last", "a.meta.last"])
def test_a_bad_boundary_is_told_wherever_it_is(form: str, flag: Any, end: str) -> None:
    value: dict[str, Any] = {"x": 1}
    inside = value
    *objects, last = Path.of(end).names
    for name in objects:
        inside = inside.setdefault(name, {})
    inside[last] = flag
    fields = InputFields(1, ("x",), end=end)
    for more in ([], [{"x": 1}], [b"\xc1"]):
        assert why(decode(form, fields, value, *more))[0][0] == "bad_field"


@FORMS
@pytest.mark.parametrize(
    ("features", "end", "value"),
    [
        ("a.b", "c.e", {"a.b": 1, "c": {"e": True}}),
        ("x", "c.e.f", {"x": 1, "c": {"e.f": True}}),
        ("x", "c.e.f", {"x": 1, "c.e": {"f": True}}),
        ("x", "c.e.f", {"x": 1, "c": {"e": {"f": True}}, "c.e": 0}),
        ("x", r"c\.e", {"x": 1, r"c\.e": True}),
        ("a.b", r"c\.e", {"a": {"b": 1}, r"c\.e": True}),
    ],
)
def test_a_boundary_is_seen_wherever_it_is(form: str, features: str, end: str, value: dict[str, Any]) -> None:
    fields = InputFields(1, (features,), end=end)
    for more in ([], [value], [b"\xc1"]):
        events = decode(form, fields, value, *more)
        assert events.ends is not None
        assert events.ends.all()
        assert len(events) == (2 if more == [value] else 1)


@FORMS
@pytest.mark.parametrize("name", ['temp"C', "a\\b", "tab\t", '"', r"a\.b", "x.y"])
def test_an_odd_name_beside_a_tombstone_and_in_every_shape(form: str, name: str) -> None:
    value = {name: 1}
    events = decode(form, InputFields(1, (name,)), value, None, value)
    assert (why(events), events.kinds.tolist()) == ([], [Kind.STEP, Kind.TOMBSTONE, Kind.STEP])
    for shape, rows in (([[1], [2]], [[1], [2]]), (1, [[1]]), ([1], [[1]])):
        for fields in (InputFields(1, name), InputFields(1, name, id=f"{name}!"), InputFields(1, name, end=f"{name}!")):
            events = decode(form, fields, {name: shape, f"{name}!": True}, None)
            assert (why(events), sums_of(events)) == ([], [*rows, [0.0]])


@FORMS
def test_a_name_as_it_stands_is_one_answer_always(form: str) -> None:
    for fields in (InputFields(1, (r"a\.b",)), InputFields(1, (r"a\.b",), end="c.d")):
        for more in ([], [{"a.b": 3}], [b"\xc1"]):
            assert sums_of(decode(form, fields, {r"a\.b": 2}, *more))[0] == [2]


@pytest.mark.parametrize("key", [5, None, True, 1.5, (1, 2), b"x"])
def test_messagepack_keys_that_are_no_text_are_passed_over(key: Any) -> None:
    fields = InputFields(1, ("x",), end="m.end")
    for value in ({"x": 1, key: 1}, {key: {key: key}, "x": 1, "m": {key: 0, "end": True}}):
        for used in (InputFields(1, ("x",)), fields):
            assert sums_of(decode("msgpack", used, value)) == [[1]]
            assert sums_of(decode("msgpack", used, {"x": 2}, value, {"x": 3})) == [[2], [1], [3]]


@FORMS
@pytest.mark.parametrize("role", ["stream", "time", "id", "start", "end"])
def test_a_list_or_a_single_number_that_is_another_role_as_well(form: str, role: str) -> None:
    other: dict[str, Any] = {role: "a"}
    events = decode(form, InputFields(3, ("a", "b"), lengths=(2, 1), **other), {"a": [1, 2], "b": 3}, {"a": 1, "b": 3})
    assert [error for error, _ in why(events)] == ["bad_field", "not_a_number"]
    assert sums_of(decode(form, InputFields(1, "a", **other), {"a": 1}, {"a": [1]})) == [[1]]


ROLE_PATHS = ["a", "b", "a.b", "a.b.c", r"a\.b", r"a\.b.c", "b.c", r"a\b", '"', '".b', r"a\\.b", r"b\.c"]
ROLE_NAMES = st.sampled_from(["a", "b", "c", "a.b", "a.b.c", "b.c", r"a\.b", "a\\b", '"', '".b', "a\\", "zz", r"b\.c"])
ROLE_LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, 1, 1, 2, 7, True, False, True, None, 1.0, 2.5, "s", "1", [], [1], [[1], [2]], {}]
)
ROLE_TREES = st.recursive(
    ROLE_LEAVES, lambda inner: st.dictionaries(ROLE_NAMES, inner, min_size=1, max_size=3), max_leaves=6
)


@st.composite
def configurations(draw: Any) -> InputFields:
    paths = st.sampled_from(ROLE_PATHS)
    maybe = st.one_of(st.none(), paths)
    vector = draw(st.booleans())
    return InputFields(
        width=1,
        features=draw(paths) if vector else (draw(paths),),
        stream=draw(maybe) or "key",
        time=draw(maybe) or "timestamp",
        id=draw(maybe), start=draw(maybe), end=draw(maybe),
    )  # fmt: skip


@st.composite
def records(draw: Any, fields: InputFields) -> dict[str, Any]:
    """Any object; or one that has what is wanted, in some way, and more beside it."""
    value: dict[str, Any] = draw(st.dictionaries(ROLE_NAMES, ROLE_TREES, max_size=4))
    wanted = {fields.features if isinstance(fields.features, str) else fields.features[0], fields.stream, fields.time}
    for text in {*wanted, fields.id, fields.start, fields.end} - {None, "key", "timestamp"}:
        names = Path.of(text or "").names
        inside = value
        while len(names) > 1:
            count = draw(st.integers(1, len(names)))
            if count == len(names):
                break
            inside, names = inside.setdefault(".".join(names[:count]), {}), names[count:]
            if not isinstance(inside, dict):
                break
        else:
            count = len(names)
        if isinstance(inside, dict) and draw(st.integers(0, 9)):
            inside.setdefault(".".join(names), draw(st.sampled_from([1, 1, 0, 1.0, True, "1", [1]])))
    return value


def is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


def told(fields: InputFields, value: Any) -> list[Any] | str:
    """The rows of one record as ``Path.find`` alone would have them, or the error."""
    texts = fields.features if isinstance(fields.features, str) else fields.features[0]
    found = Path.of(texts).find(value)
    if found is MISSING:
        return "field_missing"
    chunk = isinstance(fields.features, str) and isinstance(found, list)
    if chunk and found == []:
        return "wrong_length"
    vectors = found if chunk and isinstance(found[0], list) else [found if chunk else [found]]
    if not all(map(is_number, (number for vector in vectors for number in vector))):
        return "not_a_number"
    row: dict[str, Any] = {"stream": "k", "time": 7, "id": None}
    for role, text in (("stream", fields.stream), ("time", fields.time), ("id", fields.id)):
        if text in (None, "key", "timestamp"):
            continue
        row[role] = Path.of(text).find(value)
        if row[role] is MISSING:
            return "field_missing"
        types: dict[str, Any] = {"stream": str | int, "time": str | int | float, "id": str | int | float | None}
        if not isinstance(row[role], types[role]) or (role != "id" and isinstance(row[role], bool)):
            return "bad_field"
    flags = [False if text is None else Path.of(text).find(value) for text in (fields.start, fields.end)]
    flags = [False if flag in (MISSING, None) else flag for flag in flags]
    if not all(isinstance(flag, int) and flag in (0, 1) for flag in flags):
        return "bad_field"
    if isinstance(row["time"], str):
        return "bad_time"
    count, time = len(vectors), int(row["time"] + 0.5)
    return [
        ([float(number) for number in vector], str(row["stream"]), time, repr(row["id"]),
         bool(flags[0]) and at == 0, bool(flags[1]) and at == count - 1)
        for at, vector in enumerate(vectors)
    ]  # fmt: skip


@FORMS
@settings(max_examples=examples(500), deadline=None)
@drawn(st.data())
def test_every_role_of_every_record_has_what_its_path_says(form: str, data: st.DataObject) -> None:
    """However a batch is read: whole, or record by record beside one that can't be read."""
    fields = data.draw(configurations())
    values = data.draw(st.lists(records(fields), min_size=1, max_size=4))
    right = [told(fields, value) for value in values]
    read = [(values, [], right), (values, [b"\xc1"], right)]
    for of, more, expected in (*read, *(([value], [], [each]) for value, each in zip(values, right, strict=True))):
        events = decode(form, fields, *of, *more)
        ids, starts, ends = events.ids or [None] * len(events), events.starts, events.ends
        rows: dict[int, Any] = {refused.record: refused.error for refused in events.refusals}
        for at, record in enumerate(events.records.tolist()):
            flags = (starts is not None and bool(starts[at]), ends is not None and bool(ends[at]))
            row = (events.vectors[at].tolist(), events.streams[at], int(events.times[at]), repr(ids[at]), *flags)
            rows.setdefault(record, []).append(row)
        assert [rows[at] for at in range(len(of))] == expected


@pytest.mark.parametrize(
    ("value", "error", "reason"),
    [
        (b'\xef\xbb\xbf{"x": 1}', None, ""),
        (b'{"x": 1, "other": NaN, "far": [Infinity, -Infinity], "much": 1e999}', None, ""),
        (b'{"x": 1, "n": ' + b"9" * 5000 + b"}", None, ""),
        (b'{"x": 1, "x": 2}', None, ""),
        (b'\0\0\0\0\x0c{"x": 1}', "not_json", "it begins with a schema registry's five bytes (schema 12)"),
        (b'\0\0\0\x01\x90{"x": 1}', "not_json", "it begins with a schema registry's five bytes (schema 400)"),
        (
            b"\0\0\x01\x86\xa1\x02\x06dev",
            "not_json",
            "it may begin with a schema registry's five bytes (schema 100001)",
        ),
        (np.array([1, 2], "<f4").tobytes(), "not_utf8", "byte 2 is 0x80"),
        (b'\0{"x": 1}', "not_json", "JSON is malformed: invalid character (byte 0)"),
        ('{"x": 1}'.encode("utf-16-le"), "not_utf8", "the value is not UTF-8: it looks like UTF-16 (without a mark)"),
        ('{"x": 1}'.encode("utf-16-be"), "not_utf8", "the value is not UTF-8: it looks like UTF-16 (without a mark)"),
        ('[1, "é"]'.encode("utf-16-be"), "not_utf8", "the value is not UTF-8: it looks like UTF-16 (without a mark)"),
        ('{"x": 1}'.encode("utf-16"), "not_utf8", "it begins like UTF-16"),
        (b"\x1f\x8b\x08\0", "not_utf8", "it begins like gzip"),
        (b'{"x": 1, "y": "\\ud800"', "not_json", "not JSON: "),
        (b'{"x": "\\ud800"}', "not_a_number", "field 'x' (input.features) is a string, not a number"),
        (b'{"x": 1, "y": "\\ud800", "z": [{"\\udfff": "\\ude00\\ud83d"}]}', None, ""),
        (b'{"x": 1, "cut": "here \\ud83d", "n": NaN}', None, ""),
        (b'{"x\\ud800": 2, "x": 1}', None, ""),
        (b"", "not_json", "it is empty"),
    ],
)
def test_json_as_the_world_writes_it(value: bytes, error: str | None, reason: str) -> None:
    events = decode("json", InputFields(1, ("x",)), value, {"x": 5})
    if error is None:
        assert why(events) == []
        assert sums_of(events)[1] == [5]
    else:
        assert [found for found, _ in why(events)] == [error]
        assert reason in why(events)[0][1]


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (["a", "b"], '{"a": 1, "b": 2%s}'),
        (["m.a", "m.b"], '{"m": {"a": 1, "b": 2}%s}'),
        (["m.a", "m.b"], '{"m.a": 1, "m": {"b": 2%s}}'),
        (['"a"', "b"], '{"\\"a\\"": 1, "b": 2%s}'),
        (["a\\", "b"], '{"a\\\\": 1, "b": 2%s}'),
    ],
)
def test_json_that_is_not_utf8_is_refused_wherever_it_is_not(names: list[str], value: str) -> None:
    """However its fields are spelt, and whether or not anybody reads the field."""
    fields = InputFields(2, tuple(names))
    good = value.replace("%s", ', "é": ["ü😀"]').encode()
    for bad in (b', "n": "\xe9"', b', "n": {"\xe9": 1}', b', "n": "\xed\xa0\x80"', b', "n": ["\xf0\x9f"]'):
        told = good[:-1] + bad + b"}"
        for of in ([told], [told, told], [good, told, good]):
            events = decode("json", fields, *of)
            assert [error for error, _ in why(events)] == ["not_utf8"] * of.count(told)
            assert sums_of(events) == [[1, 2]] * of.count(good)


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (["a", "b"], {"a": 1, "b": 2}),
        (["m.a", "m.b"], {"m": {"a": 1, "b": 2}}),
        (["m.a", "m.b"], {"m.a": 1, "m": {"b": 2}}),
        (['"a"', "b"], {'"a"': 1, "b": 2}),
    ],
)
def test_a_text_of_messagepack_that_nobody_reads_may_be_any_bytes(names: list[str], value: dict[str, Any]) -> None:
    """Older writers have no other type for bytes."""
    fields = InputFields(2, tuple(names), id="i")
    plain = msgspec.msgpack.encode({**value, "n": ["?"], "o": {"p": "??"}, "i": 7})
    odd = plain.replace(b"\xa1?", b"\xa1\xff").replace(b"\xa2??", b"\xa2\xff\xfe")
    records: list[list[Any]] = [[odd], [odd, plain], [odd, {}]]
    for of in records:
        events = decode("msgpack", fields, *of)
        assert [error for error, _ in why(events)] == ["field_missing"] * of.count({})
        assert sums_of(events) == [[1, 2]] * (len(of) - of.count({}))
    read = msgspec.msgpack.encode({**value, "i": "?"}).replace(b"\xa1?", b"\xa1\xff")
    ((error, reason),) = why(decode("msgpack", fields, read))
    assert (error, reason.partition(", not")[0]) == ("bad_field", "field 'i' (sequence.id) is binary data")


def test_bytes_deep_inside_of_messagepack_cost_no_more_than_a_dead_letter() -> None:
    deep = b"\x81\xa1d" * 500 + b"\xa1\xff"
    assert sums_of(decode("msgpack", InputFields(1, ("x",)), b"\x82\xa1x\x01\xa1y" + deep)) == [[1]]
    assert len(why(decode("msgpack", InputFields(1, ("m.x",)), b"\x82\xa1x\x01\xa1y" + deep))) == 1


HALF = '"\\ud83d\\ude00 and \\ud83d"'


@pytest.mark.parametrize(
    ("fields", "value", "reason"),
    [
        (InputFields(1, ("x",), stream="d"), f'{{"x": 1, "d": {HALF}}}', "field 'd' (input.stream) has half a"),
        (InputFields(1, ("x",), stream="m.d"), f'{{"x": 1, "m.d": {HALF}}}', "field 'm.d' (input.stream) has half a"),
        (InputFields(1, ("x",), time="t"), f'{{"x": 1, "t": {HALF}}}', "field 't' (input.time) has half a"),
        (InputFields(1, ("x",), id="i"), f'{{"x": 1, "i": {HALF}}}', "field 'i' (sequence.id) has half a"),
        (InputFields(1, ("x",), id="m.i"), f'{{"x": 1, "m": {{"i": {HALF}}}}}', "field 'm.i' (sequence.id) has half a"),
        (InputFields(1, ("x",), end="e"), f'{{"x": 1, "e": {HALF}}}', "field 'e' (sequence.end) is a string, not"),
    ],
)
def test_half_a_character_costs_the_event_only_where_it_is_read(fields: InputFields, value: str, reason: str) -> None:
    unread = value.replace("1,", f'1, "other": {HALF},')
    good = unread.replace(HALF + "}", "7}").replace('"e": 7', '"e": true')
    events = decode("json", fields, value.encode(), unread.encode(), good.encode())
    assert [error for error, _ in why(events)] == ["bad_field"] * 2
    assert all(reason in told for _, told in why(events))
    assert sums_of(events) == [[1]]


def test_half_a_character_in_keys_and_commands() -> None:
    fields = InputFields(1, ("x",), stream="key:id")
    keys = [f'{{"id": "k", "other": {HALF}, {HALF}: 1}}'.encode(), f'{{"id": {HALF}}}'.encode()]
    events = decode("json", fields, {"x": 1}, {"x": 2}, keys=keys)
    assert (sums_of(events), events.streams) == ([[1]], ["k"])
    assert why(events) == [
        ("bad_field", "field 'id' of the key (input.stream) has half a surrogate pair, which is not text")
    ]
    fields = InputFields(1, ("x",), stream="d")
    values = [f'{{"d": {HALF}}}', f'{{"d": "k", "note": {HALF}}}', f'{{"d": "k", "states": {{{HALF}: {{"h": [1]}}}}}}']
    events = decode("json", fields, *[value.encode() for value in values], headers=[RESET, RESET, SET_STATE])
    assert (events.streams, [error for error, _ in why(events)]) == (["k"], ["bad_field", "bad_state"])
    assert why(events)[1][1].startswith("the model has no state 'h' of layer '😀 and \\ud83d'")


@FORMS
def test_a_record_whose_headers_have_odd_names_leaves_its_neighbours_alone(form: str) -> None:
    headers = [[("trace", b"1")], [(NotUtf8("??"), b"1")], None]
    events = decode(form, InputFields(1, ("x",)), *[{"x": 1}] * 3, headers=headers)
    assert (events.records.tolist(), [error for error, _ in why(events)]) == ([0, 2], ["not_utf8"])


HEADERS: list[Headers] = [[("device", b"d1")], [("device", b"old"), ("device", b"d2"), ("trace", None)]]


@FORMS
def test_a_header_names_the_stream(form: str) -> None:
    fields = InputFields(1, ("x",), stream="header:device")
    events = decode(form, fields, {"x": 1}, {"x": 2}, headers=HEADERS, keys=[None, b"\xff"])
    assert (events.streams, why(events)) == (["d1", "d2"], [])
    bad: list[Any] = [None, [("Device", b"d")], [("device", None)], [("device", b"\xff")], [("device", b"d" * 1025)]]
    events = decode(form, fields, *[{"x": 1}] * 6, headers=[*bad, [("device", b"")]])
    assert events.streams == [""]
    assert why(events) == [
        *[("header_missing", "the record has no header 'device', which names the stream (input.stream)")] * 2,
        ("header_missing", "header 'device', which names the stream (input.stream), has no value"),
        ("not_utf8", "header 'device' is not UTF-8: byte 0 is 0xff (input.stream_format: hex)"),
        ("too_large", "the stream's name is longer than 1024 bytes"),
    ]
    command: Headers = [("device", b"d3"), ("worker-command", b"reset")]
    events = decode(form, fields, None, b"", headers=[[("device", b"d3")], command], keys=[b"k", b"k"])
    assert (events.streams, events.kinds.tolist()) == (["d3", "d3"], [Kind.TOMBSTONE, Kind.RESET])


@FORMS
def test_a_field_of_the_key_names_the_stream(form: str) -> None:
    fields = InputFields(1, ("x",), stream="key:payload.id")
    keys: list[Any] = [
        b'{"payload": {"id": 7}}',
        b'{"payload.id": "d", "payload": {"id": 8}}',
        b' {"payload":{"id":""}}',
    ]
    events = decode(form, fields, *[{"x": 1}] * 3, keys=keys)
    assert (events.streams, why(events)) == (["7", "d", ""], [])
    events = decode(form, fields, None, b"", headers=[None, [("worker-command", b"reset")]], keys=keys[:2])
    assert (events.streams, events.kinds.tolist()) == (["7", "d"], [Kind.TOMBSTONE, Kind.RESET])
    bad = [None, b"\xff", b"7", b"{", b"{}", b'{"payload": {"id": 1.5}}', b'{"payload": {"id": %b}}' % (b"9" * 5000)]
    events = decode(form, fields, *[{"x": 1}] * len(bad), keys=bad)
    assert [error for error, _ in why(events)] == [
        "no_key", "not_utf8", "field_missing", "not_json", "field_missing", "bad_field", "too_large",
    ]  # fmt: skip
    assert [reason for _, reason in why(events)][1:6] == [
        "the key is not UTF-8: byte 0 is 0xff",
        "field 'payload.id' of the key (input.stream) is missing",
        "the key is not JSON: Input data was truncated",
        "field 'payload.id' of the key (input.stream) is missing",
        "field 'payload.id' of the key (input.stream) is not a string or an integer",
    ]


def test_behind_key_all_is_a_path() -> None:
    """``value:`` is part of a name there, also where the object has the field without it."""
    keys = [b'{"value:id": "right", "id": "wrong"}', b'{"value:a": {"b": "inside"}, "a": {"b": "wrong"}}']
    events = decode("json", InputFields(1, ("x",), stream="key:value:id"), {"x": 1}, None, keys=keys[:1] * 2)
    assert (events.streams, why(events)) == (["right"] * 2, [])
    assert decode("json", InputFields(1, ("x",), stream="key:value:a.b"), {"x": 1}, keys=keys[1:]).streams == ["inside"]
    ((error, reason),) = why(
        decode("json", InputFields(1, ("x",), stream="key:value:x"), {"x": 1}, keys=[b'{"x": "k"}'])
    )
    assert (error, reason) == ("field_missing", "field 'value:x' of the key (input.stream) is missing")
    assert decode("json", InputFields(1, ("x",), stream="key:key"), {"x": 1}, keys=[b'{"key": "k"}']).streams == ["k"]


SET_STATE: Headers = [("worker-command", b"set-state")]
RESET: Headers = [("worker-command", b"reset")]
STATES = {"sum": {"h": [4.5]}}


@FORMS
def test_commands_where_a_field_names_the_stream(form: str) -> None:
    """The value's field as far as there is one, read in the format, and in MessagePack JSON, too; else the key."""
    fields = InputFields(1, ("x",), stream="d.id")
    values: list[Any] = [
        {"d": {"id": "dev"}, "states": STATES}, {"d.id": 7, "states": STATES}, {"states": STATES},
        json.dumps({"d": {"id": "json"}, "states": STATES}).encode(), {"d": {"id": "dev"}}, {"e": 1}, b"", None, None,
    ]  # fmt: skip
    headers = [*[SET_STATE] * 4, *[RESET] * 4, None]
    events = decode(form, fields, *values, headers=headers)
    assert why(events) == []
    assert events.streams == ["dev", "7", "k", "json", "dev", "k", "k", "k", "k"]
    assert [payload.tolist() for payload in events.payloads.values()] == [[4.5]] * 4
    bad: list[Any] = [{"d": {"id": 1.5}}, b"\xc1", {"d": {"id": None}, "states": STATES}]
    events = decode(form, fields, *bad, headers=[RESET, RESET, SET_STATE])
    assert (len(events), [error for error, _ in why(events)][::2]) == (0, ["bad_field", "bad_field"])
    assert decode(form, fields, None, keys=[None]).refusals[0].reason == (
        "the record has no key, and the key names the stream of a record without field 'd.id' (input.stream)"
    )


@FORMS
def test_a_reset_needs_no_value(form: str) -> None:
    """A note beside it is passed over, and what may be a damaged object, which names another stream, is not."""
    fields = InputFields(1, ("x",), stream="d.id")
    notes: list[Any] = [b"please reset", "größer".encode(), b" ", b'"torn', b"[1", b"NaN", b"1 2"]
    events = decode(form, fields, *notes, headers=[RESET] * len(notes))
    assert (why(events), events.streams, set(events.kinds.tolist())) == ([], ["k"] * len(notes), {Kind.RESET})
    torn: list[Any] = [b'{"d": {"id": "o"}', b' \n{"d', b'\xef\xbb\xbf{"d"', b"\xff", b'\0\0\0\0\x01{"d": {"id": "o"}}']
    if form == "msgpack":
        torn += [packed(form, {"d": {"id": "other"}})[:-1], b"\xde\x00\x01\xa1d"]
    events = decode(form, fields, *torn, headers=[RESET] * len(torn))
    assert (len(events), len(events.refusals)) == (0, len(torn))
    events = decode(form, fields, b"note", b"note", headers=[SET_STATE, None])
    assert (len(events), len(events.refusals)) == (0, 2)


@FORMS
def test_an_event_in_which_a_field_that_nobody_reads_is_odd_counts(form: str) -> None:
    pipeline = sums_pipeline(form=form, id="run")
    pipeline.engine.table.open(IN)
    nan = float("nan")
    rows = [
        (b"k", packed(form, {"x": 1, "run": run, "y": {"z": [nan]}})) for run in ("A" * 1024, "A" * 1025, "\1" * 171)
    ]
    (outcome,) = pipeline.turn([batch(IN, rows)])
    assert [refusal[:3] for refusal in outcome.refusals] == [
        (1, "too_large", "sequence.id has 1025 bytes in JSON, above 1024"),
        (2, "too_large", "sequence.id has 1026 bytes in JSON, above 1024"),
    ]
    assert [len(json.loads(value or b"")["sequence"]) for value in outcome.outputs.values] == [1024]


def configured(folder: File, **keys: Any) -> Config:
    return load(folder, with_keys(**keys))


@pytest.mark.parametrize(
    ("keys", "stream", "time"),
    [
        ({"input__stream": "header:h"}, "the record's header 'h'", "the record's own timestamp; a field of that name"),
        (
            {"input__stream": "key:payload.id", "input__time": "ts", "input__time_unit": "us"},
            "field 'payload.id' (or else 'id' inside 'payload') of the record's key, which is JSON",
            "field 'ts' of the value, in microseconds since the epoch or ISO 8601",
        ),
        ({"input__stream": "key:value:id"}, "field 'value:id' of the record's key, which is JSON", "the record's own"),
        (
            {"input__stream": "value:key", "input__time": "value:timestamp"},
            "field 'key' of the value",
            "field 'timestamp' of the value, in milliseconds since the epoch or ISO 8601",
        ),
        ({"input__stream": r"a\.b"}, "field 'a.b' of the value", "the record's own timestamp; a field of that name "),
        ({"input__format": "float32"}, "the record's key", "the record's own timestamp"),
    ],
)
def test_it_is_said_where_name_and_time_come_from(tmp_path: File, keys: Any, stream: str, time: str) -> None:
    found = readings(configured(tmp_path, **keys))
    assert found.stream == stream
    assert found.time.startswith(time)


def test_it_is_said_where_a_word_may_be_meant_otherwise(tmp_path: File) -> None:
    assert list(warnings(configured(tmp_path))) == []
    assert list(warnings(configured(tmp_path, input__time="timestamp", input__stream="value:key"))) == [
        "input.time: timestamp means the record's own timestamp, even where the value has a field 'timestamp' (that is "
        "value:timestamp)"
    ]
    assert list(warnings(configured(tmp_path, input__features=["t", "t.max", "u"]))) == [
        "input.features: 't.max' can only be a field of just that name, as 't' (input.features) is not an object"
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"input__time": "header:t"},
            "input.time: takes a field of the value, and 'header:t' is not one (write value:header:t for",
        ),
        (
            {"input__features": ["key:a", "b", "c"]},
            "input.features: takes a field of the value, and 'key:a' is not one (write",
        ),
        ({"sequence__id": "key:run"}, "sequence.id: takes a field of the value, and 'key:run' is not one"),
        (
            {"input__stream": "header:"},
            "input.stream: 'header:' names nothing; write header:NAME, or \"value:header:\" for",
        ),
        ({"input__time_unit": "s"}, "input.time_unit: s is for a field, but input.time is timestamp"),
        ({"input__time_unit": "m"}, "input.time_unit: 'm' is"),
        ({"input__format": "float32", "input__stream": "d"}, "input.stream: there is no field 'd' in a value of"),
        ({"input__stream": ""}, 'input.stream: should not be empty (write "value:" for a field whose name is empty'),
        ({"input__time": "\ud800"}, "input.time: "),
    ],
)
def test_names_that_can_not_be_meant(tmp_path: File, keys: Any, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configured(tmp_path, **keys)
    assert told in str(refused.value)


FIELD_KEYS = ["input.features", "input.features.0", "input.features.x", "input.stream", "input.time", "sequence.id",
              "sequence.start", "sequence.end"]  # fmt: skip
ADVICE = re.compile(r"(?:write|or) ((?:\"value:|value:).*?) for (?:such a|a) field")


def with_field(folder: File, key: str, written: str) -> Config:
    """One key names a field as it is written there; the others are as by default."""
    section, last, *item = key.split(".")
    keys = {"features": "f"}
    if section == "input":
        keys[last] = {"": written, "0": f"[{written}, o]", "x": f"{{x: {written}, y: o}}"}["".join(item)]
    given = ", ".join(f"{name}: {text}" for name, text in keys.items())
    sequence = f"sequence: {{{last}: {written}}}\n" if section == "sequence" else ""
    return load(folder, f"input: {{topic: t, {given}}}\noutput: {{topic: p}}\nmodel: {{path: m.keras}}\n{sequence}")


@pytest.mark.parametrize("key", FIELD_KEYS)
@pytest.mark.parametrize("name", ["", " ", "\n", "header:", "key:", "ax,ay", "{a: b}", "- a\n- b", "a b", "😀 ü"])
def test_what_a_refusal_says_to_write_names_that_field(tmp_path: File, key: str, name: str) -> None:
    """As the file spells it, quotes and all; and the field is read from records."""
    try:
        config = with_field(tmp_path, key, json.dumps(name))
    except ConfigError as refused:
        (told,) = ADVICE.findall(str(refused))
        config = with_field(tmp_path, key, told)
    else:
        assert name.strip()
        assert not name.endswith(":")
    check_fields(config)
    given, sequence = config.input, config.sequence
    names = field_names(given.features or ())
    fields = InputFields(len(names), names, given.stream, given.time, sequence.id, sequence.start, sequence.end)
    others = {"f": 1, "o": 1}
    events = decode("json", fields, {**others, name: 1}, others)
    assert events.records.tolist()[:1] == [0]
    if key in ("sequence.start", "sequence.end"):
        flags = events.starts if events.ends is None else events.ends
        assert flags is not None
        assert flags.tolist() == [True, False]
    else:
        assert [error for error, _ in why(events)] == ["field_missing"]


def test_names_are_the_same_in_every_spelling_of_yaml(tmp_path: File) -> None:
    text = (
        'input: {topic: t, features: ["\\"DB1\\"", "\\ud83d\\ude00", "a\\\\b"],\n'
        '        stream: "header:\\u00fc", time: "a\\tb"}\n'
        "output: {topic: p}\nmodel: {path: m.keras}\n"
    )
    given = load(tmp_path, text).input
    assert given.features == ('"DB1"', "😀", "a\\b")
    assert (given.stream, given.time) == ("header:ü", "a\tb")
