"""What users ask of a model that writes → the Writing of its decoder, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from worker.errors import counted
from worker.records.arrays import FloatArray, IntArray, is_whole
from worker.records.random_numbers import stream_key, uniforms
from worker.records.vocabulary import Vocabulary
from worker.records.writing import Writing


@dataclass(frozen=True, slots=True)
class TextStates:
    """What ``GenerativeModel.generate`` takes and returns: all that it needs to write on. Nothing in it is changed."""

    states: list[FloatArray]  # one array (batch, *shape) per entry of ``GenerativeModel.states``
    output: FloatArray  # (batch, units) probabilities of the next item; NaN before the first item
    drawn: IntArray  # (batch,) items drawn so far, which number the random numbers


@dataclass(frozen=True, slots=True)
class Chance:
    """Whose random numbers: the n-th that a stream draws is a function of the seed, its name and n."""

    seed: int
    streams: Sequence[str]
    drawn: IntArray  # (n,) how many each has drawn before


def stop_id(stop: str | int, vocabulary: Vocabulary | None, units: int) -> int:
    """Raises ValueError for an item that isn't there."""
    if isinstance(stop, str):
        if vocabulary is None:
            raise ValueError(f"stop is {stop!r}: without a vocabulary it must be an id")
        return vocabulary.id(stop)
    return int(ids_of([stop], units, "stop")[0])


def texts_of(given: object) -> list[str]:
    """A text or several, as users give them → a list. Raises ValueError for anything else."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        raise ValueError(f"text: wanted a str, or a list of them, given {type(given).__name__}")
    texts = list(given)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {number}: wanted a str, given {type(text).__name__}")
    return texts


def ids_of(given: ArrayLike, units: int, what: str) -> IntArray:
    """Ids as users give them → (n,). Raises ValueError for what is no list of ids below ``units``."""
    array = np.asarray(given)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        raise ValueError(f"{what}: wanted ids, given {array.dtype} of shape {array.shape}")
    bad = array[(array < 0) | (array >= units)] if len(array) else array
    if len(bad):
        raise ValueError(f"{what}: its ids must be from 0 to {units - 1}, one is {bad[0]}")
    return array.astype(np.int64)


def writing_of(
    prompts: Sequence[IntArray],
    length: int,
    packed: FloatArray,
    output: ArrayLike,
    temperature: ArrayLike,
    chance: Chance,
    units: int,
) -> Writing:
    """Each row is fed its prompt and then draws ``length`` items. Raises ValueError as ``generate_tokens`` says."""
    rows = len(prompts)
    if not is_whole(length) or length < 0:
        raise ValueError(f"length is {length!r}: a whole number, at least 0")
    if not is_whole(chance.seed):
        raise ValueError(f"seed is {chance.seed!r}: a whole number")
    outputs, drawn = np.asarray(output), np.asarray(chance.drawn)
    if outputs.shape != (rows, units) or drawn.shape != (rows,):
        wanted = f"output {(rows, units)} and drawn {(rows,)}"
        raise ValueError(f"states: wanted {wanted}, given {outputs.shape} and {drawn.shape}")
    if len(chance.streams) != rows:
        raise ValueError(f"streams: {counted(len(chance.streams), 'name')} for {counted(rows, 'stream')}")
    feeds = np.array([len(prompt) for prompt in prompts], np.int64)
    empty = (feeds == 0) & ~np.isfinite(outputs).all(axis=1)
    if length and empty.any():
        name = chance.streams[int(np.argmax(empty))]
        raise ValueError(f"stream {name} has nothing to begin with: no items, and it has seen none yet")
    steps = int(feeds.max(initial=0)) + length
    feed, numbers = np.zeros((steps, rows), np.int64), np.zeros((steps, rows))
    keys = [stream_key(chance.seed, name.encode()) for name in chance.streams]
    fresh = uniforms(np.array(keys), drawn, length) if rows else np.zeros((length, 0))
    for row, prompt in enumerate(prompts):
        feed[: len(prompt), row] = prompt
        numbers[len(prompt) : len(prompt) + length, row] = fresh[:, row]
    return Writing(packed, outputs, feed, feeds, np.full(rows, length), numbers, _temperatures(temperature, rows))


def _temperatures(given: ArrayLike, rows: int) -> FloatArray:
    array = np.asarray(given, None if isinstance(given, np.ndarray) else object)
    if not all(isinstance(one, Real) and not isinstance(one, bool | np.bool_) for one in array.flat):
        raise ValueError(f"temperature is {given!r}: a number, at least 0, or one per stream")
    array = array.astype(np.float64)
    if array.shape not in ((), (rows,)):
        raise ValueError(f"temperature: wanted one, or one per stream {(rows,)}, given {array.shape}")
    if not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError(f"temperature is {array.min()}: a number, at least 0")
    return np.broadcast_to(array, (rows,))
