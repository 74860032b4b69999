"""EncoderDecoder: one trained model or two files; what Python users and the engine get of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pair_models import PAIRS, L, U, V, W, bidirectional, context, ending, lstm, two_layers, words
from worker import EncoderDecoder, ModelRefusedError, StateShapeError
from worker.engine.text_models import EncoderDecoderModel
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.records.vocabulary import UnknownItemError, VocabularyError

TOLERANCE = 1e-5
SOURCE, TARGET = list("abcde"), list("uvwxy<")


def as_the_engine_sees_it(model: EncoderDecoder) -> EncoderDecoderModel:
    return model


@pytest.fixture(scope="module")
def trained() -> Any:
    return lstm()


@pytest.fixture(scope="module")
def model(trained: Any) -> EncoderDecoder:
    return EncoderDecoder(
        trained, start="<", stop="u", source_vocabulary=SOURCE, target_vocabulary=TARGET, max_length=7
    )


def by_hand(trained: Any, source: list[int], start: int, stop: int, length: int) -> list[int]:
    """The likeliest items, each found by running the whole trained model on all items before."""
    x, ids = np.eye(V, dtype="float32")[source][np.newaxis], [start]
    while len(ids) <= length and ids[-1] != stop:
        y = trained.predict([x, np.eye(W, dtype="float32")[ids][np.newaxis]], verbose=0)
        ids.append(int(y[0, -1].argmax()))
    return [item for item in ids[1:] if item != stop]


def test_texts_are_those_of_the_trained_model(trained: Any, model: EncoderDecoder) -> None:
    sources = [[0, 1, 2], [4], [3, 3, 1, 0, 2]]
    wanted = [by_hand(trained, source, 5, 0, 7) for source in sources]
    assert model.decode(model.encode(sources)) == wanted
    texts = ["".join(SOURCE[item] for item in source) for source in sources]
    assert model.translate(texts) == ["".join(TARGET[item] for item in text) for text in wanted]
    assert model.translate("abc") == model.translate(["abc"])[0]


def test_states_are_explicit(model: EncoderDecoder) -> None:
    states = model.encode(["abc", "e"])
    assert [(spec.layer, spec.name, spec.shape) for spec in model.states] == [
        ("decoder", "h", (U,)),
        ("decoder", "c", (U,)),
    ]
    assert [array.shape for array in states] == [(2, U), (2, U)]
    p, after = model.step([5, 1], states)
    assert p.shape == (2, W)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=TOLERANCE)
    again, _ = model.step([5, 1], {"decoder": {"h": states[0], "c": states[1]}})
    np.testing.assert_array_equal(p, again)
    assert not np.array_equal(after[0], states[0])


def test_sources_may_be_text_ids_or_vectors(model: EncoderDecoder) -> None:
    vectors = np.eye(V)[[[0, 1, 2]]]
    for given in (["abc"], [[0, 1, 2]], np.array([[0, 1, 2]]), vectors):
        np.testing.assert_array_equal(model.encode(given)[0], model.encode(["abc"])[0])


def test_random_texts_depend_on_seed_and_stream_alone(model: EncoderDecoder) -> None:
    states = model.encode(["abc", "e", "dd"])
    texts = model.decode(states, temperature=1.0, seed=3, streams=["one", "two", "three"])
    alone = model.decode([array[1:2] for array in states], temperature=1.0, seed=3, streams=["two"])
    assert texts[1] == alone[0]
    assert len({tuple(model.decode(states, temperature=1.0, seed=seed)[0]) for seed in range(8)}) > 1


@pytest.mark.parametrize("name", ["lstm", "words, mask_zero", "bidirectional", "context", "two layers"])
def test_the_encoder_is_fed_as_the_engine_does(name: str) -> None:
    """Items come in parts and rows end before others: the same states as for the whole source at once."""
    made = EncoderDecoder(PAIRS[name](), start=0)
    encoder = as_the_engine_sees_it(made).encoder
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, V, length) for length in (5, 2, 4)]
    wanted = made.encode(sources)
    assert encoder.units == made.decoder.state_width == sum(array.shape[1] for array in wanted)
    items = [made.encoder.vectors(source[:, np.newaxis].astype(float)) for source in sources]
    assert encoder.features == items[0].shape[1]
    if encoder.reads_whole:
        answers = np.array([encoder.whole(item) for item in items])
    else:
        packed = np.tile(encoder.layout.initial, (3, 1))
        answers = np.zeros((3, encoder.units))
        for rows, begin, end in (([0, 1, 2], 0, 2), ([0, 2], 2, 4), ([0], 4, 5)):
            piece = np.stack([items[row][begin:end] for row in rows], axis=1)
            active = np.ones(piece.shape[:2], np.bool_)
            answers[rows], packed[rows], finite = encoder.feed(piece, active, packed[rows])
            assert finite.all()
    np.testing.assert_array_equal(answers, np.concatenate(wanted, axis=1))


def test_ids_become_the_vectors_that_the_encoder_takes(model: EncoderDecoder) -> None:
    encoder = as_the_engine_sees_it(model).encoder
    assert encoder.features == 1
    packed = np.tile(encoder.layout.initial, (1, 1))
    answers, _, _ = encoder.feed(np.array([[[0.0]], [[2.0]]]), np.ones((2, 1), np.bool_), packed)
    np.testing.assert_array_equal(answers, np.concatenate(model.encode(["ac"]), axis=1))


def test_a_source_of_numbers_that_are_not_finite_is_told(model: EncoderDecoder) -> None:
    items = np.zeros((2, 2, V))
    items[1, 1, 0] = np.nan
    packed = np.tile(model.encoder.layout.initial, (2, 1))
    assert model.encoder.feed(items, np.ones((2, 2), np.bool_), packed)[2].tolist() == [True, False]


@pytest.mark.zoo
@pytest.mark.parametrize("name", PAIRS)
def test_the_pair_as_two_files_works_the_same(name: str, tmp_path: Path) -> None:
    made = EncoderDecoder(PAIRS[name](), start=0, stop=1, max_length=5)
    suffix = "h5" if name in ("lstm", "gru", "words") else "keras"
    encoder, decoder = tmp_path / f"encoder.{suffix}", tmp_path / f"decoder.{suffix}"
    for part, path in zip(made.to_keras(), (encoder, decoder), strict=True):
        part.save(path)
    loaded = EncoderDecoder.load(encoder=encoder, decoder=decoder, start=0, stop=1, max_length=5)
    assert [spec.shape for spec in loaded.states] == [spec.shape for spec in made.states]
    assert loaded.encoder.reads_whole == made.encoder.reads_whole
    sources = [np.random.default_rng(1).integers(0, V, length) for length in (3, 6)]
    for one, other in zip(loaded.encode(sources), made.encode(sources), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)
    assert loaded.decode(loaded.encode(sources)) == made.decode(made.encode(sources))
    assert loaded.check_parity(TOLERANCE, sequences=2, steps=4).steps == 4


@pytest.mark.parametrize("name", ["lstm", "bidirectional", "nested", "fixed batch and lengths"])
def test_parity(name: str) -> None:
    assert EncoderDecoder(PAIRS[name]()).check_parity(TOLERANCE, sequences=2, steps=5).sequences == 2


def test_parity_finds_a_difference() -> None:
    """Of a model whose weights have been changed since."""
    trained = lstm()
    made = EncoderDecoder(trained)
    trained.set_weights([2 * weight for weight in trained.get_weights()])
    assert not made.parity(2, 4).within(TOLERANCE)
    with pytest.raises(WorkerError, match="parity: the streamed model differs from the trained one by"):
        made.check_parity(TOLERANCE, sequences=2, steps=4)


def test_files_are_named_by_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "train.keras"
    lstm().save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert EncoderDecoder.load(path, sha256=digest).sha256 == digest
    with pytest.raises(WorkerError, match="its SHA-256 is"):
        EncoderDecoder.load(path, sha256="0" * 64)
    pair = EncoderDecoder.load(path).to_keras()
    paths = [tmp_path / "e.keras", tmp_path / "d.keras"]
    digests = ""
    for part, each in zip(pair, paths, strict=True):
        part.save(each)
        digests += hashlib.sha256(each.read_bytes()).hexdigest()
    both = hashlib.sha256(digests.encode()).hexdigest()
    assert EncoderDecoder.load(encoder=paths[0], decoder=paths[1], sha256=both).sha256 == both
    urls = [each.as_uri() for each in paths]
    assert EncoderDecoder.load(encoder=f"{urls[0]}#{digests[:64]}", decoder=urls[1], sha256=both).sha256 == both
    with pytest.raises(WorkerError, match=rf"d\.keras: its SHA-256 is {digests[64:]}"):
        EncoderDecoder.load(encoder=urls[0], decoder=f"{urls[1]}#{digests[:64]}")
    with pytest.raises(WorkerError, match=r"models .*e\.keras, .*d\.keras: the SHA-256 of both is"):
        EncoderDecoder.load(encoder=paths[0], decoder=paths[1], sha256=digest)
    for encoder, decoder in ((None, None), (paths[0], None), (None, paths[1])):
        with pytest.raises(ValueError, match="one path, or encoder= and decoder="):
            EncoderDecoder.load(encoder=encoder, decoder=decoder)


@pytest.mark.parametrize("name", ["told its mask", "words, mask_zero", "convolved target", "mean of the target"])
def test_a_text_begins_as_the_trained_model_begins_it(name: str) -> None:
    """Also with a start item that is masked: to such a beginning Keras answers zeros."""
    trained = PAIRS[name]()
    made = EncoderDecoder(trained, start=0)
    source, target = np.array([[1, 2, 4]]), [0, 3, 0, 2]
    vectors = [np.eye(V)[source], np.eye(W)[target][np.newaxis]] if made.one_hot else [source, np.array([target])]
    states = made.encode(source)
    for step, item in enumerate(target):
        wanted = trained([vectors[0], vectors[1][:, : step + 1]], training=False)
        p, states = made.step([item], states)
        np.testing.assert_allclose(p, np.reshape(wanted, (-1, W))[-1:], atol=TOLERANCE)
    assert made.check_parity(TOLERANCE, sequences=2, steps=5)


def test_warm_up_finds_rows_that_do_not_depend_on_each_other(model: EncoderDecoder) -> None:
    assert model.warm_up(60)
    states = model.encode(["abc"] * 60)
    assert len({tuple(text) for text in model.decode(states)}) == 1


def test_summary_says_what_became_of_each_layer() -> None:
    assert EncoderDecoder(lstm()).summary().splitlines()[0].split()[:2] == ["encoder", "LSTM"]
    lines = EncoderDecoder(bidirectional()).summary().splitlines()
    assert lines[0].startswith("the encoder reads a source as a whole: layer 'both_ways': Bidirectional:")
    assert EncoderDecoder(two_layers()).trained.window is None
    assert EncoderDecoder(lstm(length=7, written=4, batch=3)).trained.window == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": 6}, "start: its ids must be from 0 to 5, one is 6"),
        ({"stop": -1}, "stop: its ids must be from 0 to 5, one is -1"),
        ({"start": "<"}, "start is '<': without a target vocabulary it must be an id"),
        ({"start": "z", "target_vocabulary": TARGET}, "'z' is none of the vocabulary's 6 items"),
        ({"target_vocabulary": ["a", "a"]}, "twice"),
        ({"top_p": 0.0}, "top_p is 0.0"),
    ],
)
def test_items_that_cant_be_are_refused(trained: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        EncoderDecoder(trained, **given)
    assert isinstance(error.value, VocabularyError) == ("vocabulary's" in message or message == "twice")


def test_an_embedding_may_know_a_start_item_that_is_never_written() -> None:
    made = EncoderDecoder(words(), start=5, stop=5)
    assert made.start == made.stop == 5


def test_what_is_asked_wrongly_is_refused(model: EncoderDecoder, trained: Any) -> None:
    states = model.encode(["abc"])
    with pytest.raises(StateShapeError, match=r"decoder.*wanted h \(1, 4\), given \(1, 3\)"):
        model.step([1], [np.zeros((1, 3)), np.zeros((1, 4))])
    with pytest.raises(StateShapeError, match="wanted 2 states"):
        model.decode(states[:1])
    with pytest.raises(ValueError, match="tokens: its ids must be from 0 to 5"):
        model.step([6], states)
    with pytest.raises(UnknownItemError):
        model.encode(["abz"])
    with pytest.raises(ValueError, match="source 1 is empty"):
        model.encode(["a", ""])
    with pytest.raises(ValueError, match="source 0: its ids must be whole numbers from 0 to 4"):
        model.encode([[5]])
    with pytest.raises(ValueError, match=r"source 0: wanted vectors \('time', 5\), given \(2, 4\)"):
        model.encode([np.zeros((2, 4))])
    with pytest.raises(ValueError, match="wanted a list of them"):
        model.encode("abc")
    plain = EncoderDecoder(trained)
    with pytest.raises(ValueError, match="start: not given"):
        plain.decode(states)
    with pytest.raises(ValueError, match="no target vocabulary"):
        plain.translate("abc")
    with pytest.raises(ValueError, match="source 0 is text: without a source vocabulary"):
        plain.encode(["abc"])


def test_vocabularies_are_ordered_by_ids(trained: Any, model: EncoderDecoder) -> None:
    target = {item: TARGET.index(item) for item in sorted(TARGET)}
    given: dict[str, Any] = {"source_vocabulary": dict(enumerate(SOURCE)), "target_vocabulary": target}
    made = EncoderDecoder(trained, start="<", stop="u", max_length=7, **given)
    assert made.translate(["abc", "e"]) == model.translate(["abc", "e"])
    for name in given:
        with pytest.raises(VocabularyError, match="a set, which has no order"):
            EncoderDecoder(trained, **(given | {name: {*given[name]}}))


def test_ids_and_numbers_are_told_apart() -> None:
    """Whether each is an item of its own or lies in a vector of one number."""
    source, target = keras.Input((None, 1), dtype="int32"), keras.Input((None,), dtype="int32")
    h = L.GRU(U)(L.Reshape((-1, 3))(L.Embedding(V, 3)(source)))
    y = L.GRU(U, return_sequences=True)(L.Embedding(W, 3)(target), initial_state=h)
    embedded = EncoderDecoder(ending(y, source, target))
    np.testing.assert_array_equal(embedded.encode([[1, 2]])[0], embedded.encode([[[1], [2]]])[0])
    for made in (
        embedded,
        *(EncoderDecoder(PAIRS[name]()) for name in ("one-hot inside", "one-hot inside, by a layer")),
    ):
        assert (made.encoder.part.ids, made.encoder.part.width) == (V, 1)
        for wrong in ([V], [1.5], [[V], [2]], [[1.5]], [-1]):
            with pytest.raises(ValueError, match="source 0: its ids must be whole numbers from 0 to 4"):
                made.encode([wrong])
    source, target = keras.Input((None, 1)), keras.Input((None,), dtype="int32")
    y = L.GRU(U, return_sequences=True)(L.Embedding(W, 3)(target), initial_state=L.GRU(U)(source))
    numbers = EncoderDecoder(ending(y, source, target))
    assert numbers.encode([[[0.5], [0.7]]])[0].shape == (1, U)
    for wrong in ([0.5, 0.7], [0, 0]):
        with pytest.raises(ValueError, match=r"source 0: wanted vectors \('time', 1\), given \(2,\)"):
            numbers.encode([wrong])


def test_weights_that_are_not_numbers_are_told() -> None:
    for number in (-1, 0):
        broken = lstm()
        weights = broken.get_weights()
        weights[number].flat[0] = np.nan
        broken.set_weights(weights)
        with pytest.raises(ModelRefusedError, match="its weights hold NaN"):
            EncoderDecoder(broken, start=5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.translate(5), "text: wanted a str, or a list of them, given int"),
        (lambda model: model.translate("ab", 2.5), "length is 2.5: a whole number, at least 0"),
        (lambda model: model.translate("ab", temperature="x"), "temperature is 'x': a number, at least 0"),
    ],
)
def test_arguments_of_other_types_are_told(model: EncoderDecoder, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call(model)
    assert str(caught.value).startswith(message)


def test_no_source_no_states(model: EncoderDecoder) -> None:
    assert [array.shape for array in model.encode([])] == [(0, U), (0, U)]
    assert model.decode(model.encode([])) == []


def test_more_target_items_than_the_model_answers() -> None:
    with pytest.raises(ModelRefusedError, match="the target vocabulary has 7 items, the decoder answers 6"):
        EncoderDecoder(context(), target_vocabulary=list("abcdefg"))
