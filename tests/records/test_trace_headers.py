"""Which headers a trace goes through by, and that nothing is made of records without any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker.records.carried_headers import TRACES, CarriedHeaders
from worker.records.ownership import Partition
from worker.records.record_batch import Headers, NotUtf8, RecordBatch
from worker.records.trace_headers import TRACE_BYTES_LIMIT, trace_headers

PARENT = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
STATE = ("tracestate", b"vendor=1")


def batch(*headers: Headers | None) -> RecordBatch:
    count = len(headers)
    return RecordBatch(
        Partition("in", 0), count, list(range(count)), [0] * count, [None] * count, [None] * count, list(headers)
    )


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (None, ()),
        ([], ()),
        ([PARENT], (PARENT,)),
        ([STATE, ("other", b"1"), PARENT], (STATE, PARENT)),
        ([("traceparent", b"first"), PARENT], (PARENT,)),
        ([PARENT, ("traceparent", None)], ()),
        ([("traceparent", b""), STATE], (STATE,)),
        ([("Traceparent", b"1"), (NotUtf8("\\xff"), b"1")], ()),
        ([PARENT, ("tracestate", b"s" * TRACE_BYTES_LIMIT)], (PARENT, ("tracestate", b"s" * TRACE_BYTES_LIMIT))),
        ([PARENT, ("tracestate", b"s" * (TRACE_BYTES_LIMIT + 1))], (PARENT,)),
    ],
)
def test_the_last_of_each_name_is_carried_if_it_is_not_too_long(headers: Any, found: Headers) -> None:
    assert trace_headers(headers) == found


def test_each_message_has_those_of_its_record() -> None:
    records = batch([PARENT, ("other", b"1")], None, [("other", b"1")], [STATE])
    assert TRACES.of_all(records, np.array([0, 0, 1, 2, 3])) == [(PARENT,), (PARENT,), (), (), (STATE,)]


@pytest.mark.parametrize(
    ("headers", "records"),
    [((None, None), [0, 1]), (([], None), [0, 1]), (([("other", b"1")], None), [0, 1]), (([PARENT], None), [1]),
     (([PARENT],), [])],
)  # fmt: skip
def test_messages_of_records_without_any_have_no_headers_at_all(headers: Any, records: list[int]) -> None:
    assert TRACES.of_all(batch(*headers), np.array(records, np.int64)) is None


def test_wanted_headers_go_before_those_of_the_trace() -> None:
    headers = [("site", b"1"), PARENT, ("unit", None), ("site", b"2"), ("traceparent", b"")]
    records = batch(headers, [("other", b"1")])
    both = np.array([0, 1])
    assert CarriedHeaders(frozenset(["site", "traceparent"])).of_all(records, both) == [
        (("site", b"1"), ("site", b"2")),
        (),
    ]
    assert CarriedHeaders(None).of_all(records, both) == [
        (("site", b"1"), ("unit", None), ("site", b"2")),
        (("other", b"1"),),
    ]
    assert CarriedHeaders(None).of_all(batch([STATE, ("site", b"1"), PARENT]), both[:1]) == [
        (("site", b"1"), STATE, PARENT)
    ]
