"""Lines of the log: nobody who writes a topic writes them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.said import said
from tests.sums import batch, sums_pipeline
from worker.codecs.times import EventTimes
from worker.codecs.unusable import REASON_CHARACTERS_LIMIT, UnusableError, in_one_line
from worker.errors import printable
from worker.logs import LINES_OF_A_KIND, REPEAT_INTERVAL_S, Repeats, _Json, _Text, configure_logs
from worker.records.log_fields import FIELDS, LISTED_LIMIT, about, about_all
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


def test_a_line_of_json_says_what_it_is_about_in_fields_of_their_own() -> None:
    line = record("record refused, %s offset %d", IN, 7)
    vars(line).update(about(IN, 7, key="k", error="not_json", stream=None), unknown="left out")
    told = json.loads(_Json().format(line))
    assert list(told) == ["time", "level", "logger", "message", "topic", "partition", "offset", "key", "error"]
    assert told["message"] == "record refused, in/0 offset 7"
    assert (told["topic"], told["partition"], told["offset"], told["key"]) == ("in", 0, 7, "k")
    assert _Text().format(line).endswith(" warning record refused, in/0 offset 7")


def test_a_line_about_many_partitions_lists_so_many_at_most() -> None:
    partitions = [Partition("in", number) for number in range(LISTED_LIMIT + 5)]
    listed = about_all(partitions)["partitions"]
    assert isinstance(listed, Sequence)
    assert (len(listed), listed[0], listed[-1]) == (LISTED_LIMIT, "in/0", f"in/{LISTED_LIMIT - 1}")


def test_no_field_hides_one_of_every_line() -> None:
    assert not set(FIELDS) & {*vars(record("")), "message", "asctime", "time", "level", "logger", "exception"}


def test_half_a_surrogate_pair_is_escaped_in_json() -> None:
    line = record("%s", "\ud800")
    line.stream, line.offset = "\udfff", 7
    told = json.loads(_Json().format(line))
    assert (told["message"], told["stream"]) == ("\\ud800", "\\udfff")


def at(second: float, name: str, message: str, *values: object) -> logging.LogRecord:
    line = logging.LogRecord(name, logging.WARNING, "", 0, message, values, None)
    line.created = second
    return line


def test_of_our_own_lines_so_many_of_a_kind_are_said_in_a_minute_and_the_next_one_counts_the_others() -> None:
    repeats = Repeats()
    said = [repeats.filter(at(1.0, "worker.recovery", "checkpoint skipped: %s", n)) for n in range(LINES_OF_A_KIND + 7)]
    assert said == [True] * LINES_OF_A_KIND + [False] * 7
    assert repeats.filter(at(2.0, "worker.recovery", "another kind"))
    later = at(1.0 + REPEAT_INTERVAL_S, "worker.recovery", "checkpoint skipped: %s", "100 %")
    assert repeats.filter(later)
    assert later.getMessage() == "checkpoint skipped: 100 % (and 7 more of this kind)"
    assert json.loads(_Json().format(later))["kept_back"] == 7
    last = at(2.0 + 2 * REPEAT_INTERVAL_S, "worker.recovery", "checkpoint skipped: %s", 1)
    assert repeats.filter(last)
    assert last.getMessage() == "checkpoint skipped: 1"


def test_a_clock_that_is_set_back_silences_nobody() -> None:
    repeats = Repeats()
    assert [repeats.filter(at(second, "kafka", "away")) for second in (1000.0, 1001.0, 5.0, 6.0)] == [
        True, False, True, False,
    ]  # fmt: skip


def test_a_traceback_is_a_line_of_json_where_the_others_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    configure_logs("json", "info")
    error = ValueError(FORGED)
    sys.excepthook(ValueError, error, None)
    line, end = capsys.readouterr().err.split("\n")
    assert end == ""
    told = json.loads(line)
    assert (told["level"], told["message"]) == ("critical", "the worker has met a bug and ends")
    assert told["exception"] == f"ValueError: {FORGED}"
    configure_logs("text", "info")
    assert sys.excepthook is sys.__excepthook__


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


def test_what_others_say_is_not_the_workers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("worker", "kafka.cluster", "worker.loop", "workers"):
        logging.getLogger(name).info("said by %s", name)
    assert said(caplog) == ["said by worker", "said by worker.loop"]
