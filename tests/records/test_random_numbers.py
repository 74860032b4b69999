"""Philox4x32-10 against the published answers, and what our numbers are made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker.records.random_numbers import philox, stream_key, uniforms

# kat_vectors of Random123 (https://github.com/DEShawResearch/random123): counter, key, answer
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> tuple[Any, ...]:
    return tuple(np.array([int(word, 16)], np.uint64) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_published_answers(counter: str, key: str, answer: str) -> None:
    assert [int(word[0]) for word in philox(words(counter), words(key))] == [int(word, 16) for word in answer.split()]


def test_a_number_is_made_of_the_first_53_bits_of_its_two_words() -> None:
    zero = uniforms(np.zeros((1, 4), np.uint32), np.zeros(1, np.int64), 1)
    assert zero.tolist() == [[((0x6627E8D5 >> 5) * 2**26 + (0xE169C58D >> 6)) / 2**53]]


def test_each_number_is_the_same_whoever_asks() -> None:
    keys = np.array([stream_key(0, b"a"), stream_key(0, b"b"), stream_key(1, b"a")])
    together = uniforms(keys, np.array([0, 5, 2**33]), 40)
    assert together.shape == (40, 3)
    for row, first in enumerate((0, 5, 2**33)):
        for begin, count in ((0, 40), (0, 1), (13, 7)):
            alone = uniforms(keys[row : row + 1], np.array([first + begin]), count)
            assert alone[:, 0].tolist() == together[begin : begin + count, row].tolist()


def test_keys_differ_by_seed_and_stream() -> None:
    keys = [stream_key(seed, stream).tolist() for seed in (0, 1, -1, 10**30) for stream in (b"", b"a", b"1:a", b"ab")]
    assert len({tuple(key) for key in keys}) == 16
    assert stream_key(1, b"1:a").tolist() != stream_key(11, b"a").tolist()
    # fixed for good: another key is another text of every stream after an update
    assert stream_key(0, b"a").tolist() == [536555549, 4101927702, 3225482443, 2574152549]


def test_they_are_spread_evenly() -> None:
    keys = np.array([stream_key(3, b"%d" % number) for number in range(100)])
    drawn = uniforms(keys, np.zeros(100, np.int64), 1000)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts, _ = np.histogram(drawn, 10, (0, 1))
    assert np.abs(counts - 10_000).max() < 500  # five standard deviations
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.15
    assert abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 0.02
