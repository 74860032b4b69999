"""What tasks that generate need from a model. The room ``model`` implements it, and tests do with a few lines of numpy.

A row is one stream; its result depends neither on the rows around it nor on its place, to the last bit, and many steps
in one call give the same bits as one call for each.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from worker.records.arrays import BoolArray, FloatArray, IntArray
from worker.records.states import StateLayout
from worker.records.writing import Writing, Written


class TextDecoder(Protocol):
    """Items → probabilities of the next item. ``top_k`` and ``top_p`` are its own."""

    units: int  # items of the vocabulary
    state_width: int
    dtype: type[np.floating[Any]]  # of the probabilities that it answers
    stop: int  # id of the item that ends a text; NO_STOP where there is none

    def write(self, writing: Writing) -> Written:
        """Feed and draw. Nothing given is changed."""

    def step(self, tokens: IntArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One step: ids (n,), packed (n, state_width) → probabilities (n, units), packed after. For beams."""


class GeneratingModel(TextDecoder, Protocol):
    """Task generate: the stream's state is the decoder's own. A new stream's packed row is ``layout.initial``."""

    layout: StateLayout


class SourceEncoder(Protocol):
    """Task seq2seq: the items of a source → the first states of the decoder, packed.

    ``reads_whole``: it needs the source as a whole; then ``layout`` is empty, the items are kept, and only ``whole`` is
    called. Otherwise only ``feed`` is.
    """

    layout: StateLayout  # of the stream's states
    reads_whole: bool
    units: int  # numbers of its answer: state_width of the decoder
    features: int  # numbers of one item: 1 for ids

    def feed(
        self, items: FloatArray, active: BoolArray, packed: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray]:
        """items (steps, n, features), active (steps, n), packed (n, width) → the answer after the last active step of
        each row (n, units), packed after, finite (n,). Each row has one active step at least, and those come first.
        """

    def whole(self, items: FloatArray) -> FloatArray:
        """A source (steps, features), one step at least → (units,); it may hold numbers that are not finite."""


class EncoderDecoderModel(Protocol):
    """Task seq2seq. Decoding begins by feeding ``start`` to the decoder, from the encoder's answer."""

    start: int

    @property
    def encoder(self) -> SourceEncoder:
        """What reads sources."""

    @property
    def decoder(self) -> TextDecoder:
        """What writes texts."""
