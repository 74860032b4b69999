"""Sums of features: added piece by piece they are those of the whole, also far from zero."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.records.arrays import FloatArray
from worker.records.feature_sums import FeatureSums
from worker.records.ranges import Ranges

EXPECTED = Ranges(np.array([-1.0, 0.0]), np.array([1.0, 0.0]))


@given(
    st.lists(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=5), min_size=1, max_size=5),
    st.sampled_from([0.0, 1e9, 1.7e12]),
)
def test_pieces_add_up_to_the_whole(pieces: list[list[float]], far: float) -> None:
    vectors = [np.array([[far + number, number] for number in piece]) for piece in pieces]
    found = reduce(FeatureSums.joined, (FeatureSums.of(piece, EXPECTED) for piece in vectors))
    whole = np.concatenate(vectors)
    assert found.events == found.judged == len(whole)
    np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.spread, whole.std(axis=0), rtol=1e-6, atol=1e-6 + far * 1e-15)
    beyond = [
        int(((column < low) | (column > high)).sum()) for column, low, high in zip(whole.T, *_ends(), strict=True)
    ]
    assert found.outside.tolist() == beyond
    assert found.outside_ratio is not None
    assert found.outside_ratio.tolist() == [count / len(whole) for count in beyond]


def _ends() -> tuple[list[float], list[float]]:
    return EXPECTED.low.tolist(), EXPECTED.high.tolist()


def test_events_that_nobody_judged_are_not_inside() -> None:
    vectors = np.array([[5.0, 5.0]])
    unjudged, judged = FeatureSums.of(vectors, None), FeatureSums.of(vectors, EXPECTED)
    assert unjudged.outside_ratio is None
    ratio = unjudged.joined(judged).outside_ratio
    assert ratio is not None
    assert ratio.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_range_holds_the_events_that_it_was_made_from_and_no_others(dtype: type) -> None:
    vectors: FloatArray = np.array([[0.1, 1], [0.3, 1], [0.2, 1]], dtype)
    ranges = Ranges.nothing(2).with_(vectors[:1]).with_(vectors[1:])
    assert ranges.outside(vectors).tolist() == [0, 0]
    beyond = np.stack([np.nextafter(vectors[0], dtype(-9)), np.nextafter(vectors[1], dtype(9))])
    assert ranges.outside(beyond).tolist() == [2, 2]
    assert ranges.with_(np.empty((0, 2))).low.tolist() == ranges.low.tolist()
    assert Ranges.nothing(2).outside(vectors).tolist() == [3, 3]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("end", [0.1, -0.1, 0.3, 0.7, 1e-9, 123456.789, 1e300])
def test_a_number_at_the_end_of_a_range_is_in_it_as_whatever_type(end: float, dtype: type) -> None:
    """0.1 as float32 is above 0.1, 0.7 is below."""
    ranges = Ranges(np.array([end]), np.array([end]))
    with np.errstate(over="ignore"):
        vectors: FloatArray = np.array([[end]]).astype(dtype)
    assert ranges.outside(vectors).tolist() == [0]
    assert FeatureSums.of(vectors, ranges).outside.tolist() == [0]
    if np.isfinite(vectors).all():
        beyond = np.concatenate([np.nextafter(vectors, dtype(np.inf)), np.nextafter(vectors, dtype(-np.inf))])
        assert ranges.outside(beyond).tolist() == [2]


def test_whole_numbers_are_compared_as_they_are() -> None:
    ranges = Ranges(np.array([0.5]), np.array([2.5]))
    assert ranges.outside(np.array([[0], [1], [2], [3]])).tolist() == [2]


def test_numbers_that_are_all_the_same_have_no_spread_at_all() -> None:
    vectors = np.full((1000, 1), 0.1, np.float32)
    whole = FeatureSums.of(vectors, None).joined(FeatureSums.of(vectors[:7], None))
    assert whole.spread.tolist() == [0]


def test_the_greatest_numbers_that_there_are_do_no_harm() -> None:
    vectors = np.array([[1.7e308], [-1.7e308], [0.0]])
    whole = FeatureSums.of(vectors, None).joined(FeatureSums.of(vectors, None))
    assert whole.events == 6
    assert not np.isfinite(whole.spread).any()
