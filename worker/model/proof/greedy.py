"""The proof for models that write: the likeliest text with the state carried is that of the growing window."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.model.decoding import PackedDecoder
from worker.model.explicit import ExplicitModel
from worker.model.item_ports import vectors_of_ids
from worker.model.proof.flexible import flexible_copy
from worker.model.proof.prefixes import Prefixes
from worker.records.arrays import FloatArray, IntArray
from worker.records.writing import Writing


def carried_against_window(
    original: Any, explicit: ExplicitModel, decoder: PackedDecoder, sequences: int, items: int, seed: int
) -> tuple[float, str]:
    """Texts that the decoder writes at temperature 0 against the trained model on each text from its beginning.

    Each begins with a random item. Returns by how much the trained model finds its own choice of the next item likelier
    than the one that was written, at most, and where: 0 where it writes the same texts.
    """
    texts = likeliest(decoder, np.random.default_rng(seed).integers(0, decoder.units, sequences), items)
    vectors = vectors_of_ids(texts.T, decoder.units, decoder.one_hot)
    answers = Prefixes(flexible_copy(original, explicit.inputs), explicit, vectors).answers(vectors)[:, :-1]
    wanted = probabilities(answers) if decoder.logits else answers.astype(np.float64)
    written = np.take_along_axis(wanted, texts.T[:, 1:, np.newaxis], axis=2)[..., 0]
    behind = wanted.max(axis=2) - written
    sequence, item = np.unravel_index(int(np.argmax(np.where(np.isnan(behind), np.inf, behind))), behind.shape)
    return float(behind[sequence, item]), f"text {sequence}, item {item + 1} at temperature 0, against the window"


def likeliest(decoder: PackedDecoder, first: IntArray, items: int) -> IntArray:
    """(1 + items, n) ids: the items given first (n,), and those drawn after them at temperature 0, no stop item."""
    rows = len(first)
    feed = np.zeros((1 + items, rows), np.int64)
    feed[0] = first
    writing = Writing(
        packed=np.broadcast_to(decoder.packed.layout.initial, (rows, decoder.state_width)),
        outputs=np.full((rows, decoder.units), np.nan),
        feed=feed,
        feeds=np.ones(rows, np.int64),
        draws=np.full(rows, items),
        uniforms=np.zeros(feed.shape),
        temperatures=np.zeros(rows),
    )
    return np.concatenate([feed[:1], decoder.without_stop().write(writing).tokens[1:]])


def probabilities(logits: FloatArray) -> FloatArray:
    """logits (…, units) → float64 probabilities."""
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))
