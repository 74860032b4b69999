"""Event times of a field: any unit, to the millisecond, and never a century off in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import examples
from tests.sums import sums_pipeline
from worker.codecs.times import APART_MS_LIMIT, UNITS, EventTimes
from worker.codecs.unusable import UnusableError
from worker.engine.boundaries import BoundaryRules
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

IN = Partition("in", 0)
NOW = 1_720_474_000_123  # 8 July 2024


@pytest.mark.parametrize(
    ("unit", "given", "ms"),
    [
        ("s", 1720474000, 1720474000000),
        ("s", 1720474000.1234, 1720474000123),
        ("s", 0, 0),
        ("ms", 1720474000123, NOW),
        ("ms", 1720474000122.6, NOW),
        ("us", 1720474000123456, NOW),
        ("us", 1720474000122999.0, NOW),
        ("ns", 1720474000123456789, NOW),
        ("ns", 1720474000122999999, NOW),
        ("ns", 1.720474000123e18, NOW),
        ("s", "2024-07-08T21:26:40.123Z", NOW),
        ("ns", "2024-07-08T23:26:40.123+02:00", NOW),
        ("ms", "2024-07-08T21:26:40.123456789", NOW),
        ("ms", "20240708", 1720396800000),
        ("ms", "2024-W28-1", 1720396800000),
        ("ms", "2024-190", 1720396800000),
        ("ms", "2024190", 1720396800000),
        ("ms", "2024190T212640.123Z", NOW),
        ("ms", "2024-190T23:26:40.123+02:00", NOW),
        ("ms", "2024-366 24:00", 1735689600000),
        ("ms", "2024-07-08T24:00:00Z", 1720483200000),
        ("ms", "2024-07-08T24:00+02:00", 1720476000000),
        ("ms", "20240708T240000.000", 1720483200000),
        ("ms", "2016-12-31T23:59:60Z", 1483228800000),
        ("ms", "2016-12-31t23:59:60.250-00:00", 1483228800250),
        ("ms", "20161231T235960", 1483228800000),
    ],
)
def test_times_of_every_unit(unit: str, given: Any, ms: int) -> None:
    """One by one and all at once; with and without a timestamp of the record's own to compare with."""
    times = EventTimes(unit)
    for timestamp in (-1, ms):
        assert times.of(given, timestamp) == ms
        whole = times.of_all([given, given], [timestamp] * 2)
        assert whole is not None
        assert (whole.tolist(), whole.dtype) == ([ms] * 2, np.dtype(np.int64))


def reason(given: Any, timestamp: int = NOW, unit: str = "ms") -> str:
    times = EventTimes(unit)
    assert times.of_all([given], [timestamp]) is None
    with pytest.raises(UnusableError) as refused:
        times.of(given, timestamp)
    assert refused.value.error == "bad_time"
    return refused.value.reason


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("meant", UNITS)
@pytest.mark.parametrize("kind", [int, float])
def test_a_number_in_another_unit_is_refused_and_the_unit_named(unit: str, meant: str, kind: type) -> None:
    factor, divisor = UNITS[meant]
    given = kind(NOW * divisor // factor)
    if unit == meant:
        assert abs(EventTimes(unit).of(given, NOW) - NOW) < 1000
        return
    names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    told = f"in {names[meant]} it would be 2024-07-08: set input.time_unit: {meant}"
    assert reason(given, unit=unit).endswith(told)


def test_the_reason_says_what_it_was_taken_for() -> None:
    assert reason(1720474000) == (
        "1720474000 (input.time) is 1970-01-20 in milliseconds, more than ten years from the record's own timestamp, "
        "2024-07-08; in seconds it would be 2024-07-08: set input.time_unit: s"
    )
    assert reason("1924-07-08T00:00:00Z") == "1924-07-08T00:00:00Z (input.time) is not a time from 1970 on"
    assert reason("2035-01-01") == (
        "2035-01-01 (input.time) is 2035-01-01, more than ten years from the record's own timestamp, 2024-07-08"
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (-1, "-1 (input.time) is not a time in milliseconds since the epoch"),
        (2**53 + 1, "is not a time in milliseconds since the epoch"),
        (2**64, "is not a time in milliseconds since the epoch"),
        (10**400, "an integer of 401 digits (input.time) is not a time"),
        (10**5000, "an integer of thousands of digits (input.time) is not a time"),
        (-0.6, "is not a time in milliseconds since the epoch"),
        (1e300, "is not a time in milliseconds since the epoch"),
        (math.nan, "nan (input.time) is not a time"),
        (math.inf, "inf (input.time) is not a time"),
        ("0001-01-01T00:00:00+23:59", "is not a time from 1970 on"),
        ("9999-12-31T23:59:59-23:59", "is after the year 9999, more than ten years from"),
        ("1720474000123", "'1720474000123' (input.time) is a number in text, not an ISO 8601 time"),
        ("1712010112345", "is a number in text"),  # or the twelfth hour of a day in 1712
        ("1720474100.5", "'1720474100.5' (input.time) is a number in text, not an ISO 8601 time"),
        ("198601011015300.5", "is a number in text"),  # or the first hour of a day in 1986
        ("1.7204741e9", "is a number in text"),
        ("-5", "is a number in text"),
        ("2024-07-08T24:00:01Z", "is not a time like 2024-07-08T12:00:00Z"),
        ("2024-07-08T24:30", "is not a time like"),
        ("2024-07-08T12:00:61Z", "is not a time like"),
        ("2024-07-08T12:60", "is not a time like"),
        ("2023-366", "is not a time like"),
        ("2024-000", "is not a time like"),
        ("0001-000", "is not a time like"),
        ("0000-001", "is not a time like"),
        ("9999-366", "is not a time like"),
        ("9999-365T24:00", "is after the year 9999"),
        ("2024-07", "is not a time like"),
        ("1720474", "is not a time like"),  # nor the 474th day of 1720
        ("yesterday", "'yesterday' (input.time) is not a time like 2024-07-08T12:00:00Z"),
        ("", "'' (input.time) is not a time like 2024-07-08T12:00:00Z"),
        ("x" * 10_000, "…' (input.time) is not a time like 2024-07-08T12:00:00Z"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_no_time(given: Any, told: str) -> None:
    assert told in reason(given)
    assert len(reason(given)) < 250


def test_ten_years_are_the_limit_and_a_record_without_a_timestamp_has_none() -> None:
    times = EventTimes("ms")
    for ms in (NOW - APART_MS_LIMIT, NOW + APART_MS_LIMIT, 0):
        assert times.of(ms, NOW if ms else -1) == ms
        assert times.of_all([ms], [NOW if ms else -1]) is not None
    assert "set input.time_unit" not in reason(NOW + APART_MS_LIMIT + 1)
    assert "more than ten years" in reason(NOW - APART_MS_LIMIT - 1)


GIVEN = st.one_of(
    st.integers(-(10**3), 2**65),
    st.integers(1_600_000_000, 1_800_000_000),
    st.floats(),
    st.floats(1e9, 1e19),
    st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)).map(datetime.isoformat),
    st.sampled_from(["", "2024", "17204740", "1720474000", "2024-07-08T21:26:40Z", "2024-190", "2024-07-08T24:00"]),
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(GIVEN, min_size=1, max_size=4), st.sampled_from(list(UNITS)), st.sampled_from([-1, 0, NOW]))
def test_all_at_once_is_the_same_as_one_by_one(given: list[Any], unit: str, timestamp: int) -> None:
    times = EventTimes(unit)
    one_by_one: list[int] | None = []
    try:
        one_by_one = [times.of(each, timestamp) for each in given]
    except UnusableError:
        one_by_one = None
    whole = times.of_all(given, [timestamp] * len(given))
    if whole is not None:
        assert whole.tolist() == one_by_one
    # Whatever is usable and of one kind is read at once, but for nanoseconds at the end of 64 bits.
    if one_by_one is not None and len(set(map(type, given))) == 1 and max(one_by_one) < 2**43:
        assert whole is not None


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_a_gap_in_seconds_is_seen(form: str) -> None:
    pipeline = sums_pipeline(BoundaryRules(gap_ms=30_000), form=form, time="ts", time_unit="s")
    pipeline.engine.table.open(IN)
    encode: Callable[[object], bytes] = (
        msgspec.msgpack.encode if form == "msgpack" else lambda value: json.dumps(value).encode()
    )
    at = [1720474000, 1720474010.5, 1720474110, 1720474120000]
    values: list[bytes | None] = [encode({"x": 1, "ts": ts}) for ts in at]
    batch = RecordBatch(IN, 4, [0, 1, 2, 3], [NOW] * 4, [b"k"] * 4, values, [None] * 4)
    (outcome,) = pipeline.turn([batch])
    found = [json.loads(value or b"") for value in outcome.outputs.values]
    assert [(each["step"], each["reset"], each["time"]) for each in found] == [
        (1, "new", 1720474000000), (2, None, 1720474010500), (1, "gap", 1720474110000),
    ]  # fmt: skip
    assert [(refusal.record, refusal.error) for refusal in outcome.refusals] == [(3, "bad_time")]
