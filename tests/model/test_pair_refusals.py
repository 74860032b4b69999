"""Models from which no encoder and decoder can be had: refused by name, and every advice in a refusal works."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.models import shaken
from tests.pair_models import (
    U,
    V,
    W,
    along_the_target,
    context,
    convolved_target,
    ending,
    gru,
    last_only,
    lstm,
    one_hot,
    two_layers,
    words,
)
from tests.refusals import sentences
from worker import EncoderDecoder, GenerativeModel, ModelRefusedError
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.pair.opening import foreign_refused

pytestmark = pytest.mark.zoo

L, ops = keras.layers, keras.ops
TOLERANCE = 1e-5
Make = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """``layer`` and ``why``: part of the refusal. ``followed``: the model once its advice is followed."""

    model: Make
    layer: str
    why: str
    followed: Make


def pair(make: Make, **given: Any) -> Make:
    return lambda: EncoderDecoder(make(), **given)


def spoilt(*layers: Make) -> Make:
    """A model that writes, after a training that has gone wrong."""

    def make() -> Any:
        model = keras.Sequential([keras.Input((None, V)), *(layer() for layer in layers)])
        model.layers[0].set_weights([np.full(weight.shape, np.nan) for weight in model.layers[0].get_weights()])
        return GenerativeModel(model)

    return make


def attention(kind: Any) -> Any:
    source, target = one_hot()
    x, h, c = L.LSTM(U, return_sequences=True, return_state=True)(source)
    y = L.LSTM(U, return_sequences=True)(target, initial_state=[h, c])
    return ending(L.Concatenate()([y, kind(y, x)]), source, target)


def luong(y: Any, x: Any) -> Any:
    scores = L.Softmax()(L.Dot(axes=2, name="culprit")([y, x]))
    return L.Dot(axes=(2, 1))([scores, x])


def repeated() -> Any:
    source, h = keras.Input((None, V)), L.GRU(U)
    y = L.LSTM(U, return_sequences=True)(L.RepeatVector(5, name="culprit")(h(source)))
    return shaken(keras.Model(source, L.Dense(W, activation="softmax")(y)))


def three_inputs(joined: bool) -> Any:
    source, target = one_hot()
    place = keras.Input((None, 1))
    x = keras.Input((None, V + 1)) if joined else L.Concatenate()([source, place])
    y = L.GRU(U, return_sequences=True)(target, initial_state=L.GRU(U)(x))
    return ending(y, *([x] if joined else [source, place]), target)


def two_outputs() -> Any:
    source, target = one_hot()
    h = L.GRU(U)(source)
    y = L.Dense(W, activation="softmax")(L.GRU(U, return_sequences=True)(target, initial_state=h))
    return keras.Model([source, target], [y, L.Dense(2)(h)])


def one_of_two() -> Any:
    model = two_outputs()
    return keras.Model(model.inputs, model.outputs[0])


def apart() -> Any:
    """The target is written without the source."""
    source, target = one_hot(5, 5)
    return ending(
        L.Multiply()([L.GRU(U, return_sequences=True)(target), L.GRU(U, return_sequences=True)(source)]), source, target
    )


def begins_with(states: Callable[[Any], Any]) -> Any:
    source, target = one_hot()
    return ending(L.GRU(U, return_sequences=True)(target, initial_state=states(source)), source, target)


def flattened() -> Any:
    source, target = one_hot(length=6)
    h = L.Dense(U)(L.Flatten(name="culprit")(source))
    return ending(L.GRU(U, return_sequences=True)(target, initial_state=h), source, target)


def begins_late() -> Any:
    source, target = one_hot()
    y, h = L.GRU(U, return_sequences=True, return_state=True)(target, initial_state=L.GRU(U)(source))
    return ending(L.GRU(U, return_sequences=True, name="culprit")(y, initial_state=h), source, target)


def ids_beside_each_item() -> Any:
    source, target = keras.Input((5,), dtype="int32"), keras.Input((5, W))
    h = L.GRU(U)(L.Embedding(V, 3)(source))
    x = L.Concatenate()([target, L.RepeatVector(5)(ops.cast(source, "float32"))])
    return ending(L.GRU(U, return_sequences=True)(x, initial_state=h), source, target)


def drawn(training: bool | None) -> Any:
    source, target = one_hot()
    x = L.Dropout(0.5, name="culprit")(source, training=training)
    h = L.Bidirectional(L.GRU(2))(x)
    return ending(L.GRU(U, return_sequences=True)(target, initial_state=h), source, target)


def two(encoder: Make, decoder: Make) -> Make:
    return lambda: EncoderDecoder(encoder(), decoder(), names=("enc.keras", "dec.keras"))


def encoder(units: int = U, outputs: int = 3, inputs: int = 1) -> Any:
    sources = [keras.Input((None, V)) for _ in range(inputs)]
    x = sources[0] if inputs == 1 else L.Concatenate()(sources)
    return shaken(keras.Model(sources, L.LSTM(units, return_state=True)(x)[3 - outputs :]))


def decoder(
    swapped: bool = False, begun: bool = True, dense: bool = False, states: int = 2, twice: bool = False
) -> Any:
    x, h, c = keras.Input((1, W)), keras.Input((U,), name="h"), keras.Input((U,), name="c")
    first = [L.Dense(U)(h), c] if dense else [h, c]
    y, h2, c2 = L.LSTM(U, return_sequences=True, return_state=True, name="culprit")(x, initial_state=first)
    if twice:
        y = L.LSTM(U, return_sequences=True, name="second")(y, initial_state=first)
    if not begun:
        y = L.GRU(3, return_sequences=True, name="second")(y)
    after = ([c2, h2] if swapped else [h2, c2])[:states]
    return shaken(keras.Model([x, h, c], [L.Dense(W, activation="softmax")(y), *after]))


def convolving() -> Any:
    x, h = keras.Input((None, W)), keras.Input((U,))
    y = L.Conv1D(3, 3, padding="causal", name="culprit")(x)
    y, after = L.GRU(U, return_sequences=True, return_state=True)(y, initial_state=h)
    return shaken(keras.Model([x, h], [L.Dense(W, activation="softmax")(y), after]))


def convolved() -> Any:
    return EncoderDecoder(convolved_target())


def masked_mean(start: int) -> Any:
    """Keras has no mean of a target of which no item counts."""
    return EncoderDecoder(along_the_target(L.GlobalAveragePooling1D(), mask_zero=True), start=start)


def told_in_files(start: int) -> Any:
    x, h = keras.Input((None,), dtype="int32"), keras.Input((U,))
    embedding = L.Embedding(W, 3, mask_zero=True, name="embedding")
    layer = L.GRU(U, return_sequences=True, return_state=True)
    y, after = layer(embedding(x), initial_state=h, mask=embedding.compute_mask(x))
    given = shaken(keras.Model([x, h], [L.Dense(W, activation="softmax")(y), after]))
    return EncoderDecoder(encoder(outputs=1), given, start=start)


def alone() -> Any:
    x = keras.Input((1, W))
    return keras.Model(x, L.Dense(W, activation="softmax")(L.LSTM(U, return_sequences=True)(x)))


def writes(*layers: Any, shape: tuple[int | None, ...] = (None, V), dtype: str = "float32") -> Make:
    return lambda: GenerativeModel(
        shaken(keras.Sequential([keras.Input(shape, dtype=dtype), *(layer() for layer in layers)]))
    )


def ends(units: int = V, activation: str = "softmax") -> Any:
    return lambda: L.Dense(units, activation=activation, name="culprit")


def two_to_write(inputs: int, outputs: int) -> Any:
    given = [keras.Input((None, V), name="x"), keras.Input((2,))][:inputs]
    x = given[0] if inputs == 1 else L.Concatenate()([given[0], L.RepeatVector(5)(given[1])])
    y = L.Dense(V, activation="softmax")(L.GRU(U)(x))
    return GenerativeModel(shaken(keras.Model(given, [y, y][:outputs])))


def two_inputs_to_write() -> Any:
    x, z = keras.Input((5, V)), keras.Input((2,))
    y = L.GRU(U)(L.Concatenate()([x, L.RepeatVector(5)(z)]))
    return GenerativeModel(shaken(keras.Model([x, z], L.Dense(V, activation="softmax")(y))))


LOOKS = "looks at every step of the source while the target is written"


def normalized(layer: Any, of_source: bool = False, steps: int = 6) -> Any:
    """A pair of fixed lengths, as they are trained on padded sequences."""
    source, target = keras.Input((steps, V)), keras.Input((steps, W))
    h = L.GRU(U)(layer(source) if of_source else source)
    y = L.GRU(U, return_sequences=True)(target, initial_state=h)
    return ending(y if of_source else layer(y), source, target)


def two_files(
    names: tuple[str | None, str | None] = (None, None), swapped: bool = False, second: Any = None, batch: Any = None
) -> Make:
    """A decoder of one step whose name is that of a streaming form, whatever it does."""

    def make() -> EncoderDecoder:
        _, *states = L.LSTM(U, return_state=True)(source := keras.Input((None, V)))
        x = keras.Input(batch_shape=(batch, 1, W))
        h, c = (keras.Input(batch_shape=(batch, U), name=name) for name in names)
        y, *after = L.LSTM(U, return_sequences=True, return_state=True, name="lstm")(x, initial_state=[h, c])
        y = L.Dense(W, activation="softmax")(second(y) if second else y)
        decoder = shaken(keras.Model([x, h, c], [y, *(after[::-1] if swapped else after)], name="decoder_step"))
        return EncoderDecoder(shaken(keras.Model(source, states)), decoder)

    return make


LIKE_OURS = ("lstm.h", "lstm.c")
NOT_AFTER = "state 1 of the decoder begins with this input, and its output 2 is not that state after the step"
AT_ZERO = "it begins at zero in each step"


REFUSED = {
    "LayerNormalization over the target": Refused(
        pair(lambda: normalized(L.LayerNormalization(axis=[1, 2], name="culprit"))),
        "culprit",
        "axis=[1, 2] includes time",
        pair(lambda: normalized(L.LayerNormalization())),
    ),
    "LayerNormalization over the source": Refused(
        pair(lambda: normalized(L.LayerNormalization(axis=[1, 2], name="culprit"), True)),
        "culprit",
        "axis=[1, 2] includes time",
        pair(lambda: normalized(L.LayerNormalization(), True)),
    ),
    "BatchNormalization over the target": Refused(
        pair(lambda: normalized(L.BatchNormalization(axis=1, name="culprit"))),
        "culprit",
        "axis=1 includes time",
        pair(lambda: normalized(L.BatchNormalization())),
    ),
    "BatchNormalization over the source": Refused(
        pair(lambda: normalized(L.BatchNormalization(axis=-2, name="culprit"), True)),
        "culprit",
        "axis=-2 includes time",
        pair(lambda: normalized(L.BatchNormalization(), True)),
    ),
    "a step with its states in another order": Refused(two_files(swapped=True), "keras_tensor", NOT_AFTER, two_files()),
    "one with names like ours": Refused(two_files(LIKE_OURS, True), "lstm.h", NOT_AFTER, two_files(LIKE_OURS)),
    "a step with a layer at zero": Refused(
        two_files(second=lambda y: L.GRU(3, return_sequences=True, name="culprit")(y)), "culprit", AT_ZERO, two_files()
    ),
    "a layer at zero and names like ours": Refused(
        two_files(LIKE_OURS, second=lambda y: L.GRU(3, return_sequences=True, name="culprit")(y)),
        "culprit",
        AT_ZERO,
        two_files(LIKE_OURS),
    ),
    "a layer that remembers": Refused(
        two_files(second=lambda y: L.GRU(3, return_sequences=True, stateful=True, name="culprit")(y), batch=1),
        "culprit",
        AT_ZERO,
        two_files(batch=1),
    ),
    "Attention": Refused(
        pair(lambda: attention(lambda y, x: L.Attention(name="culprit")([y, x]))),
        "culprit",
        f"Attention {LOOKS}",
        pair(lstm),
    ),
    "AdditiveAttention": Refused(
        pair(lambda: attention(lambda y, x: L.AdditiveAttention(name="culprit")([y, x]))), "culprit", LOOKS, pair(lstm)
    ),
    "MultiHeadAttention": Refused(
        pair(lambda: attention(lambda y, x: L.MultiHeadAttention(2, 3, name="culprit")(y, x))),
        "culprit",
        LOOKS,
        pair(lstm),
    ),
    "attention by Dot": Refused(pair(lambda: attention(luong)), "culprit", LOOKS, pair(lstm)),
    "one input": Refused(pair(repeated), "culprit", "the model has one input", pair(context)),
    "three inputs": Refused(
        pair(lambda: three_inputs(False)), "functional", "it has 3 inputs (", pair(lambda: three_inputs(True))
    ),
    "two outputs": Refused(pair(two_outputs), "functional", "it has 2 outputs", pair(one_of_two)),
    "apart": Refused(pair(apart), "multiply", LOOKS, pair(gru)),
    "begins with an array": Refused(
        pair(lambda: begins_with(lambda x: ops.ones((1, U)))), "gru", "an array that is part of the graph", pair(gru)
    ),
    "begins with other shapes": Refused(
        pair(lambda: begins_with(L.GRU(U + 1))), "gru", "it is given 1 initial state [(5,)] and has 1 [(4,)]", pair(gru)
    ),
    "begins late": Refused(pair(begins_late), "culprit", "its initial state depends on the target", pair(two_layers)),
    "ids beside each item": Refused(
        pair(ids_beside_each_item), "", "the decoder takes what the encoder gives of each item", pair(context)
    ),
    "drawn at random": Refused(
        pair(lambda: drawn(True)), "culprit", "its output is drawn at random", pair(lambda: drawn(None))
    ),
    "nothing of the source": Refused(
        pair(lambda: begins_with(lambda x: None)), "functional", "nothing in it begins with", pair(gru)
    ),
    "vocabulary": Refused(
        pair(lstm, target_vocabulary=list("abc")),
        "",
        "the target vocabulary has 3 items, the decoder answers 6",
        pair(lstm, target_vocabulary=list("abcdef")),
    ),
    "source vocabulary": Refused(
        pair(lstm, source_vocabulary=list("abc")),
        "",
        "the source vocabulary has 3 items, the encoder takes vectors of 5 numbers",
        pair(lstm, source_vocabulary=list("abcde")),
    ),
    "source ids": Refused(
        pair(words, source_vocabulary=list("abcdef")),
        "",
        "the source vocabulary has 6 items, the encoder takes 5 ids (its Embedding)",
        pair(words, source_vocabulary=list("abcde")),
    ),
    "encoder of two inputs": Refused(
        two(lambda: encoder(inputs=2), decoder), "", "the encoder has 2 inputs", two(encoder, decoder)
    ),
    "too few outputs": Refused(
        two(lambda: encoder(outputs=1), decoder),
        "",
        "enc.keras answers 1 output, and dec.keras takes 2 states",
        two(lambda: encoder(outputs=2), decoder),
    ),
    "states of other shapes": Refused(
        two(lambda: encoder(units=3), decoder),
        "",
        "the last outputs of enc.keras are not the states of dec.keras: state 1 is (3,) there and (4,) ('h') here, "
        "state 2 is (3,) there and (4,) ('c') here",
        two(encoder, decoder),
    ),
    "decoder without states": Refused(two(encoder, alone), "", "dec.keras has one input", two(encoder, decoder)),
    "state not answered": Refused(
        two(encoder, lambda: decoder(states=1)),
        "functional",
        "the decoder takes 2 states beside its items and gives 1 beside its probabilities",
        two(encoder, decoder),
    ),
    "states swapped": Refused(
        two(encoder, lambda: decoder(swapped=True)),
        "h",
        "state 1 of the decoder begins with this input, and its output 2 is not that state after the step",
        two(encoder, decoder),
    ),
    "state of two layers": Refused(
        two(encoder, lambda: decoder(twice=True)), "second", "is that of another layer, too", two(encoder, decoder)
    ),
    "a layer in between": Refused(
        two(encoder, lambda: decoder(dense=True)), "culprit", "is not an input of the decoder", two(encoder, decoder)
    ),
    "a layer that begins at zero": Refused(
        two(encoder, lambda: decoder(begun=False)), "second", "it begins at zero in each step", two(encoder, decoder)
    ),
    "a source that is flattened": Refused(
        pair(flattened), "culprit", "Flatten joins all steps of the window", pair(lambda: begins_with(L.GRU(U)))
    ),
    "a convolution in a file": Refused(two(encoder, convolving), "culprit", "it looks at the items before", convolved),
    "start is masked": Refused(
        lambda: masked_mean(0).check_parity(TOLERANCE, 2, 4),
        "written",
        "start is item 0, which it masks (mask_zero=True)",
        lambda: masked_mean(1),
    ),
    "start is masked, two files": Refused(
        lambda: told_in_files(0).check_parity(TOLERANCE, 2, 4),
        "embedding",
        "start is item 0, which it masks (mask_zero=True)",
        lambda: told_in_files(1),
    ),
    "writes with two inputs": Refused(two_inputs_to_write, "", "it has 2 inputs", writes(lambda: L.GRU(U), ends())),
    "writes two outputs": Refused(
        lambda: two_to_write(1, 2), "", "its outputs after a step", lambda: two_to_write(1, 1)
    ),
    "writes no probabilities": Refused(
        writes(lambda: L.GRU(U), ends(activation="sigmoid")),
        "culprit",
        "neither probabilities of the items nor logits",
        writes(lambda: L.GRU(U), ends(activation="linear")),
    ),
    "weights of NaN": Refused(
        spoilt(lambda: L.GRU(U), ends()), "culprit", "its weights hold NaN", writes(lambda: L.GRU(U), ends())
    ),
    "writes more than it reads": Refused(
        writes(lambda: L.GRU(U), ends(V + 1)), "", "it takes 5 numbers per step", writes(lambda: L.GRU(U), ends())
    ),
    "writes, and waits for several items": Refused(
        writes(lambda: L.Conv1D(V, 2), lambda: L.GRU(U), ends()),
        "",
        "fewer steps than there are items",
        writes(lambda: L.Conv1D(V, 2, padding="causal"), lambda: L.GRU(U), ends()),
    ),
    "writes what its Embedding does not know": Refused(
        writes(lambda: L.Embedding(V - 1, 3), lambda: L.GRU(U), ends(), shape=(None,), dtype="int32"),
        "",
        "its Embedding knows 4 items",
        writes(lambda: L.Embedding(V, 3), lambda: L.GRU(U), ends(), shape=(None,), dtype="int32"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(name: str) -> None:
    case = REFUSED[name]
    with pytest.raises(ModelRefusedError) as refusal:
        case.model()
    assert refusal.value.layer.startswith(case.layer), refusal.value
    assert case.why in str(refusal.value)
    assert refusal.value.instead
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", REFUSED)
def test_advice_that_is_followed(name: str) -> None:
    assert REFUSED[name].followed().check_parity(TOLERANCE, sequences=2, steps=4)


def test_no_advice_is_left_out() -> None:
    given = []
    for case in REFUSED.values():
        with pytest.raises(ModelRefusedError) as refusal:
            case.model()
        given.append(refusal.value.instead)
    untried = {
        text: at for text, at in sentences(of_texts=True).items() if not any(re.fullmatch(text, g) for g in given)
    }
    assert not untried


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Exception encountered when calling GRU.call().\n\n\x1b[1mInput tensor enters the loop\x1b[0m\n\nArguments",
            "the model can't be run item by item: Keras ends in GRU with 'Input tensor enters the loop'",
        ),
        (
            "Shapes must be known. Received: variable path='functional/norm/gamma'",
            "layer 'norm': the model can't be run item by item: Keras ends with 'Shapes must be known. Received: "
            "variable path='functional/norm/gamma''",
        ),
    ],
)
def test_what_keras_alone_complains_of_is_one_line(said: str, told: str) -> None:
    with pytest.raises(WorkerError) as refusal, foreign_refused():
        raise ValueError(said)
    assert str(refusal.value) == told


def test_the_trained_model_stays_as_it_is() -> None:
    trained = last_only()
    before, nodes = trained.get_weights(), [len(layer._inbound_nodes) for layer in trained.layers]
    EncoderDecoder(trained).parity(1, 2)
    assert all(np.array_equal(one, other) for one, other in zip(before, trained.get_weights(), strict=True))
    assert nodes == [len(layer._inbound_nodes) for layer in trained.layers]
