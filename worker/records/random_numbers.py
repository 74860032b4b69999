"""Random numbers of which each is a function of its number: whoever asks, in whatever order, gets the same.

The rooms engine and model both draw items with them and see no other room together. Nothing here keeps a state, and
nothing is random but by name.

Philox4x32-10: Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011). numpy's own Philox is
another one, of 64-bit words, and makes one object per stream.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.records.arrays import FloatArray, IntArray

KeyArray: TypeAlias = NDArray[np.uint32]
Words: TypeAlias = NDArray[np.uint64]  # each holds 32 bits

KEY_WORDS = 4
ROUNDS = 10
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # golden ratio and √3 - 1
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


def stream_key(seed: int, stream: bytes) -> KeyArray:
    """(4,) the key of one stream's random numbers: two words of Philox' key and the upper two of its counter."""
    digest = blake2b(b"%d:%b" % (seed, stream), digest_size=4 * KEY_WORDS).digest()
    return np.frombuffer(digest, "<u4").astype(np.uint32)


def uniforms(keys: KeyArray, first: IntArray, count: int) -> FloatArray:
    """(count, n) float64, from 0 to below 1: the numbers ``first[i]`` and following of each key ``keys[i]`` (n, 4).

    ``first`` (n,) is 0 or more.
    """
    numbers = (np.arange(count)[:, np.newaxis] + np.asarray(first, np.int64)).astype(np.uint64)
    words = np.asarray(keys).astype(np.uint64).reshape(-1, KEY_WORDS)
    counter = (numbers & LOW, numbers >> SHIFT, words[:, 2], words[:, 3])
    one, two, _, _ = philox(counter, (words[:, 0], words[:, 1]))
    # 53 bits, as many as a float64 holds: 27 of the first word, 26 of the second.
    whole = (one >> np.uint64(5)) * np.uint64(1 << 26) + (two >> np.uint64(6))
    return whole.astype(np.float64) * 2.0**-53


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 of arrays that fit each other: words of the counter, words of the key → four random words."""
    (a, b, c, d), (left, right) = counter, key
    for _ in range(ROUNDS):
        one, two = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (two >> SHIFT) ^ b ^ left, two & LOW, (one >> SHIFT) ^ d ^ right, one & LOW
        left, right = (left + KEY_STEPS[0]) & LOW, (right + KEY_STEPS[1]) & LOW
    return a, b, c, d
