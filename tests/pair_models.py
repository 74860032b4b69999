"""Encoder-decoder models as people train them: [source, target] → y under teacher forcing; small, random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models import shaken
from tests.remedies import ToldCell
from worker.model.backend import keras

L = keras.layers
V, W = 5, 6  # items of the source, of the target
U = 4


def one_hot(length: int | None = None, written: int | None = None, batch: int | None = None) -> tuple[Any, Any]:
    return keras.Input(batch_shape=(batch, length, V)), keras.Input(batch_shape=(batch, written, W))


def ids() -> tuple[Any, Any]:
    return keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")


def ending(y: Any, *inputs: Any) -> Any:
    return shaken(keras.Model(list(inputs), L.Dense(W, activation="softmax", name="probabilities")(y)))


def lstm(length: int | None = None, written: int | None = None, batch: int | None = None, **layer: Any) -> Any:
    """The character-level model of Keras' tutorial."""
    source, target = one_hot(length, written, batch)
    _, h, c = L.LSTM(U, return_state=True, name="encoder", **layer)(source)
    y, _, _ = L.LSTM(U, return_sequences=True, return_state=True, name="decoder", **layer)(target, initial_state=[h, c])
    return ending(y, source, target)


def gru() -> Any:
    source, target = one_hot()
    h = L.GRU(U, name="encoder")(source)
    return ending(L.GRU(U, return_sequences=True, name="decoder")(target, initial_state=h), source, target)


def target_first() -> Any:
    source, target = one_hot()
    h = L.GRU(U, name="encoder")(source)
    return ending(L.GRU(U, return_sequences=True, name="decoder")(target, initial_state=h), target, source)


def two_layers() -> Any:
    source, target = one_hot()
    x, h1, c1 = L.LSTM(U, return_sequences=True, return_state=True)(source)
    _, h2, c2 = L.LSTM(3, return_state=True)(x)
    y = L.LSTM(U, return_sequences=True)(target, initial_state=[h1, c1])
    return ending(L.LSTM(3, return_sequences=True)(y, initial_state=[h2, c2]), source, target)


def projected() -> Any:
    """A decoder of another size; h and c of the encoder are joined by Dense layers."""
    source, target = one_hot()
    _, h, c = L.LSTM(U, return_state=True)(source)
    both = L.Concatenate()([h, c])
    first = [L.Dense(7, activation="tanh")(both), L.Dense(7)(L.Add()([h, c]))]
    return ending(L.LSTM(7, return_sequences=True)(target, initial_state=first), source, target)


def begins_at_zero() -> Any:
    """Its second layer is given nothing of the source."""
    source, target = one_hot()
    y = L.GRU(U, return_sequences=True)(target, initial_state=L.GRU(U)(source))
    return ending(L.LSTM(3, return_sequences=True)(y), source, target)


def bidirectional() -> Any:
    source, target = ids()
    x = L.Embedding(V, 3)(source)
    _, fh, fc, bh, bc = L.Bidirectional(L.LSTM(U, return_state=True), name="both_ways")(x)
    first = [L.Concatenate()([fh, bh]), L.Concatenate()([fc, bc])]
    y = L.LSTM(2 * U, return_sequences=True)(L.Embedding(W, 3)(target), initial_state=first)
    return ending(y, source, target)


def backwards() -> Any:
    source, target = one_hot()
    h = L.GRU(U, go_backwards=True)(source)
    return ending(L.GRU(U, return_sequences=True)(target, initial_state=h), source, target)


def words(mask_zero: bool = False) -> Any:
    source, target = ids()
    _, h, c = L.LSTM(U, return_state=True)(L.Embedding(V, 3, mask_zero=mask_zero)(source))
    y = L.LSTM(U, return_sequences=True)(L.Embedding(W, 3, mask_zero=mask_zero)(target), initial_state=[h, c])
    return ending(L.LSTM(3, return_sequences=True)(y), source, target)


def shared_embedding() -> Any:
    source, target = ids()
    embedding = L.Embedding(W, 3, name="words")
    h = L.GRU(U)(embedding(source))
    return ending(L.GRU(U, return_sequences=True)(embedding(target), initial_state=h), source, target)


def masked_vectors() -> Any:
    source, target = one_hot()
    h = L.GRU(U)(L.Masking()(source))
    y = L.GRU(U, return_sequences=True)(L.Masking()(target), initial_state=h)
    return ending(L.SimpleRNN(3, return_sequences=True)(y), source, target)


def context() -> Any:
    """The encoder's last state beside every item of the target, and where the decoder begins."""
    source, target = one_hot(written=5)
    h = L.GRU(U)(source)
    x = L.Concatenate()([target, L.RepeatVector(5)(h)])
    return ending(L.GRU(U, return_sequences=True)(x, initial_state=h), source, target)


def context_only() -> Any:
    source, target = one_hot(written=5)
    x = L.Concatenate()([target, L.RepeatVector(5)(L.GRU(U)(source))])
    return ending(L.GRU(U, return_sequences=True)(x), source, target)


def cells() -> Any:
    source, target = one_hot()
    _, *states = L.RNN([L.GRUCell(U), L.GRUCell(3)], return_state=True)(source)
    y = L.RNN([L.GRUCell(U), L.GRUCell(3)], return_sequences=True)(target, initial_state=states)
    return ending(y, source, target)


def nested() -> Any:
    """Encoder and decoder are models of their own."""
    source, target = one_hot()
    encoder = keras.Model(source, L.LSTM(U, return_state=True)(source)[1:], name="reader")
    states = [keras.Input((U,)), keras.Input((U,))]
    y = L.LSTM(U, return_sequences=True)(target, initial_state=states)
    decoder = keras.Model([target, *states], L.TimeDistributed(L.Dense(W, activation="softmax"))(y), name="writer")
    inputs = one_hot()
    return shaken(keras.Model(list(inputs), decoder([inputs[1], *encoder(inputs[0])])))


def last_only() -> Any:
    """It answers after the last item of the target alone."""
    source, target = one_hot()
    return ending(L.GRU(U)(target, initial_state=L.GRU(U)(source)), source, target)


def convolved() -> Any:
    source, target = one_hot()
    h = L.GRU(U)(L.Conv1D(3, 3, padding="causal")(source))
    return ending(L.GRU(U, return_sequences=True)(target, initial_state=h), source, target)


def convolved_both_ways() -> Any:
    source, target = one_hot()
    h = L.GRU(U)(L.Conv1D(3, 3, padding="same")(source))
    return ending(L.GRU(U, return_sequences=True)(target, initial_state=h), source, target)


def both_ways_of(**layer: Any) -> Any:
    source, target = one_hot(length=5, batch=2 if layer.get("stateful") else None)
    h = L.Bidirectional(L.GRU(2, **layer))(L.Bidirectional(L.GRU(2, return_sequences=True, **layer))(source))
    return ending(L.GRU(U, return_sequences=True)(target, initial_state=h), source, target)


def told_its_mask() -> Any:
    """Keras 3 hands no mask to a layer that is given a state, so it is given that, too."""
    source, target = ids()
    embedding = L.Embedding(W, 3, mask_zero=True)
    h = L.GRU(U)(L.Embedding(V, 3)(source))
    y = L.GRU(U, return_sequences=True)(embedding(target), initial_state=h, mask=embedding.compute_mask(target))
    return ending(y, source, target)


def own_cell() -> Any:
    """What such a cell answered before a masked step is no state of its own."""
    source, target = keras.Input((None, V)), keras.Input((None,), dtype="int32")
    y = L.GRU(U, return_sequences=True)(L.Embedding(W, 3, mask_zero=True)(target), initial_state=L.GRU(U)(source))
    return ending(L.RNN(ToldCell(U), return_sequences=True)(y), source, target)


def along_the_target(layer: Any, **embedding: Any) -> Any:
    """Its decoder has a layer behind the recurrent one that looks at the items before, too."""
    source, target = ids()
    h = L.GRU(U)(L.Embedding(V, 3)(source))
    x = L.Embedding(W, 3, name="written", **embedding)(target)
    return ending(layer(L.GRU(U, return_sequences=True)(x, initial_state=h)), source, target)


def convolved_target() -> Any:
    source, target = one_hot()
    h = L.GRU(U)(source)
    x = L.Conv1D(3, 3, padding="causal", name="culprit")(target)
    return ending(L.GRU(U, return_sequences=True)(x, initial_state=h), source, target)


def spread(dense: Any, of_context: Any) -> Any:
    """A gate of the source at every step of the target."""
    source, target = one_hot()
    h = L.GRU(U)(source)
    y = L.GRU(U, return_sequences=True)(target, initial_state=h)
    return ending(L.Multiply()([y, of_context(dense(h))]), source, target)


def one_hot_inside(make: Any) -> Any:
    """It takes ids and makes the vectors itself."""
    source, target = ids()
    h = L.GRU(U)(make(source, V))
    return ending(L.GRU(U, return_sequences=True)(make(target, W), initial_state=h), source, target)


def encoded(items: Any, count: int) -> Any:
    return L.CategoryEncoding(count, output_mode="one_hot")(keras.ops.expand_dims(items, -1))


def mean_of_steps() -> Any:
    """The mean of no step, to a source of masked items alone, is no number."""
    source, target = ids()
    x = L.GRU(U, return_sequences=True)(L.Embedding(V, 3, mask_zero=True)(source))
    h = L.GlobalAveragePooling1D()(x)
    return ending(L.GRU(U, return_sequences=True)(L.Embedding(W, 3)(target), initial_state=h), source, target)


def named() -> Any:
    source, target = one_hot()
    h = L.GRU(U)(source)
    y = L.Dense(W, activation="softmax")(L.GRU(U, return_sequences=True)(target, initial_state=h))
    return shaken(keras.Model({"written": target, "read": source}, y))


PAIRS: dict[str, Callable[[], Any]] = {
    "convolved target": convolved_target,
    "sums of the target": lambda: along_the_target(lambda y: keras.ops.cumsum(y, axis=1)),
    "means of the target": lambda: along_the_target(
        lambda y: L.AveragePooling1D(2, strides=1)(L.ZeroPadding1D((1, 0))(y))
    ),
    "mean of the target": lambda: along_the_target(L.GlobalAveragePooling1D()),
    "mean of steps": mean_of_steps,
    "spread": lambda: spread(L.Dense(U, activation="sigmoid"), L.Reshape((1, U))),
    "spread by an operation": lambda: spread(L.Dense(U), lambda h: keras.ops.expand_dims(h, 1)),
    "one-hot inside": lambda: one_hot_inside(keras.ops.one_hot),
    "one-hot inside, by a layer": lambda: one_hot_inside(encoded),
    "lstm": lstm,
    "gru": gru,
    "target first": target_first,
    "two layers": two_layers,
    "projected": projected,
    "begins at zero": begins_at_zero,
    "bidirectional": bidirectional,
    "backwards": backwards,
    "words": words,
    "words, mask_zero": lambda: words(mask_zero=True),
    "shared embedding": shared_embedding,
    "masked vectors": masked_vectors,
    "context": context,
    "context only": context_only,
    "cells": cells,
    "nested": nested,
    "last only": last_only,
    "convolved": convolved,
    "convolved both ways": convolved_both_ways,
    "both ways, unrolled": lambda: both_ways_of(unroll=True),
    "both ways, stateful": lambda: both_ways_of(stateful=True),
    "told its mask": told_its_mask,
    "inputs by name": named,
    "fixed batch and lengths": lambda: lstm(length=7, written=4, batch=3),
    "stateful": lambda: lstm(length=7, written=4, batch=3, stateful=True),
}
WHOLE = {"bidirectional", "both ways, unrolled", "both ways, stateful", "backwards"}
