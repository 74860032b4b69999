"""The file of ranges: what is written is read; whatever else is there is refused in one line."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.codecs.ranges import RangesError, decode_ranges, encode_ranges
from worker.records.ranges import Ranges

numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.tuples(numbers, numbers)))
def test_what_is_written_is_read(given_: dict[str, tuple[float, float]]) -> None:
    ranges = Ranges(*(np.array([end(pair) for pair in given_.values()]) for end in (min, max)))
    content = encode_ranges(ranges, list(given_), 7, "0f" * 32)
    json.loads(content)
    back = list(reversed(given_))
    found = decode_ranges(content, back)
    assert found.low.tolist() == [min(given_[name]) for name in back]
    assert found.high.tolist() == [max(given_[name]) for name in back]


def test_numbers_of_float32_come_back_to_the_last_bit() -> None:
    low = np.array([0.1], np.float32)
    assert decode_ranges(encode_ranges(Ranges(low, low), ["x"], 1, None), ["x"]).low.tolist() == low.tolist()


def text(features: object = {"x": {"low": 0, "high": 1}}, **more: object) -> bytes:
    return json.dumps({"version": 1, "features": features, **more}).encode()


def test_a_file_written_by_hand_needs_no_more_than_ranges() -> None:
    assert decode_ranges(text(), ["x"]).high.tolist() == [1]


@pytest.mark.parametrize(
    ("content", "names", "line"),
    [
        (b"", ["x"], "is not a file of ranges (Input data was truncated)"),
        (b"\xff", ["x"], "is not a file of ranges ("),
        (b"[" * 100_000, ["x"], "is not a file of ranges ("),
        (text(version=2), ["x"], "is not a file of ranges (Invalid enum value 2 - at `$.version`)"),
        (text({"x": {"low": 0}}), ["x"], "is not a file of ranges (Object missing required field `high`"),
        (text({"x": {"low": 0, "hi": 1, "high": 1}}), ["x"], "is not a file of ranges (Object contains unknown field"),
        (text({"x": {"low": math.nan, "high": 1}}), ["x"], "is not a file of ranges ("),
        (text({"x": {"low": 0, "high": math.inf}}), ["x"], "is not a file of ranges ("),
        (text(), ["x", "y"], "has ranges for 'x', but the features are 'x', 'y'"),
        (text({}), ["y"], "has ranges for none, but the features are 'y'"),
        (
            text({f"x[{number}]": {"low": 0, "high": 1} for number in range(7)}),
            ["\x1b\n" + 60 * "y"],
            "has ranges for 'x[0]', 'x[1]', 'x[2]', 'x[3]', 'x[4]' and 2 more, but the features are "
            rf"'\x1b\n{38 * 'y'}'",
        ),
        (text({"x": {"low": 2, "high": 1}}), ["x"], "has a range for 'x' whose low, 2, is above its high"),
    ],
)
def test_what_is_no_file_of_these_ranges(content: bytes, names: list[str], line: str) -> None:
    with pytest.raises(RangesError) as refused:
        decode_ranges(content, names)
    assert str(refused.value).startswith(line)
    assert str(refused.value).isprintable()
