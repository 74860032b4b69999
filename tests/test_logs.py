"""Lines of the log: nobody who writes a topic writes them."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import msgspec
import pytest

from tests.sums import batch, sums_pipeline
from worker.codecs.times import EventTimes
from worker.codecs.unusable import REASON_CHARACTERS_LIMIT, UnusableError, in_one_line
from worker.errors import printable
from worker.logs import _Json, _Text
from worker.records.ownership import Partition
from worker.records.record_batch import NotUtf8

FORGED = "x\n2026-01-01T00:00:00.000Z error   forged \x1b[31m\r\u2028\u202e\x00\x85"
IN = Partition("in", 0)


def record(message: str, *values: object, error: BaseException | None = None) -> logging.LogRecord:
    told = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("worker", logging.WARNING, "", 0, message, values, told)


@pytest.mark.parametrize("message", ["record refused: %s", "%s: record refused"])
def test_a_record_of_the_log_is_one_line_whatever_it_quotes(message: str) -> None:
    line = _Text().format(record(message, FORGED))
    assert line.isprintable()
    assert "x\\n2026-01-01T00:00:00.000Z error   forged \\x1b[31m\\r\\u2028\\u202e\\x00\\x85" in line
    assert json.loads(_Json().format(record(message, FORGED)))["message"] == message.replace("%s", FORGED)
    assert _Text().format(record("größer, 大きい 😀")).endswith("Z warning größer, 大きい 😀")


def test_the_lines_of_a_traceback_are_none_of_the_logs() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        text = _Text().format(record("a request was not answered", error=sys.exc_info()[1]))
    first, *lines = text.split("\n")
    assert first.endswith("warning a request was not answered")
    assert lines[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in lines)


def reasons(fields: dict[str, Any], form: str, value: Any, key: bytes = b"k", headers: Any = None) -> list[str]:
    pipeline = sums_pipeline(form=form, **fields)
    pipeline.engine.table.open(IN)
    encode = msgspec.msgpack.encode if form == "msgpack" else msgspec.json.encode
    raw = value if isinstance(value, bytes) else encode(value)
    (outcome,) = pipeline.turn([batch(IN, [(key, raw, 0, headers)])])
    written = [dict(letter)["rnnw.reason"] for letter in outcome.dead.headers or []]
    assert [(reason or b"").decode() for reason in written] == [refusal.reason for refusal in outcome.refusals]
    return [refusal.reason for refusal in outcome.refusals]


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("fields", "value", "headers"),
    [
        ({}, {"x": 1}, [("worker-command", FORGED.encode())]),
        ({}, {"x": 1}, [(NotUtf8(FORGED), b"")]),
        ({"time": "t"}, {"x": 1, "t": FORGED}, None),
        ({"time": "t"}, {"x": 1, "t": "5\n6"}, None),
        ({}, {"states": {FORGED: {"h": [1]}}}, [("worker-command", b"set-state")]),
        ({}, {"states": {"sum": {FORGED: [1]}}}, [("worker-command", b"set-state")]),
        ({}, {"states": {"sum": {"h": [1]}, FORGED: {}}}, [("worker-command", b"set-state")]),
        ({"stream": "d"}, {"x": 1, "d": FORGED + "\0"}, None),
        ({"stream": "header:h"}, {"x": 1}, [("h", b"\n\xff")]),
        ({"end": "e"}, {"x": 1, "e": FORGED}, None),
        ({}, FORGED.encode(), None),
        ({}, b"\x1f\x8b" + FORGED.encode(), None),
    ],
)
def test_a_reason_is_one_printable_line_whatever_the_record(form: str, fields: Any, value: Any, headers: Any) -> None:
    (reason,) = reasons(fields, form, value, headers=headers)
    assert reason.isprintable()
    assert len(reason) <= REASON_CHARACTERS_LIMIT


def test_escaping_does_not_make_a_reason_too_long_or_another_one_when_done_twice() -> None:
    assert len(UnusableError("code", "\0" * 1_000_000).reason) == REASON_CHARACTERS_LIMIT
    assert in_one_line(in_one_line(FORGED)) == in_one_line(FORGED) == printable(FORGED)
    with pytest.raises(UnusableError) as refused:
        EventTimes("ms").of("\0" * 10_000, 0)
    assert len(refused.value.reason) < 150
