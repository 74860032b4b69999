"""Models that write, as people train them: the same text carried and by the growing window, alone and in a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker import GenerativeModel, ModelRefusedError
from worker.errors import StateShapeError, WorkerError
from worker.model.backend import keras
from worker.model.prompts import TextStates
from worker.model.proof.flexible import flexible_copy
from worker.records.vocabulary import UnknownItemError, Vocabulary, VocabularyError

L = keras.layers
ITEMS = list("abcdefgh \n.")
V = len(ITEMS)
SEED = 2  # with which all of these models write more than a letter or two


def sequence(*layers: Any, **given: Any) -> Any:
    """Random weights so large that the likeliest item changes from step to step, and no bias that one item wins by."""
    model = keras.Sequential([keras.Input(**given), *layers])
    rng = np.random.default_rng(SEED)
    model.set_weights([rng.normal(scale=1.5 * (len(w.shape) > 1), size=w.shape) for w in model.weights])
    return model


def one_hot(length: int | None = 40) -> Any:
    return sequence(L.LSTM(12), L.Dense(V, activation="softmax"), shape=(length, V))


def words(cell: Any = L.LSTM, **stateful: Any) -> Any:
    """As the tutorials train it: 64 sequences at once, an answer after each step."""
    return sequence(
        L.Embedding(V, 6),
        cell(9, return_sequences=True, **stateful),
        L.TimeDistributed(L.Dense(V, activation="softmax")),
        batch_shape=(64, 40 if stateful else None),
    )


MODELS: dict[str, Callable[[], Any]] = {
    "one-hot, 40 steps, one answer": one_hot,
    "one-hot, any length": lambda: one_hot(None),
    "ids, batch 64": words,
    "ids, batch 64, GRU": lambda: words(L.GRU),
    "ids, stateful": lambda: words(stateful=True),
    "two layers": lambda: sequence(
        L.LSTM(8, return_sequences=True),
        L.Dropout(0.2),
        L.GRU(7, return_sequences=True),
        L.Dense(V),
        L.Activation("softmax"),
        shape=(40, V),
    ),
    "logits": lambda: sequence(L.Embedding(V + 3, 6), L.GRU(9), L.Dense(V), shape=(None,)),
    "ids, 0 is masked": lambda: sequence(
        L.Embedding(V, 6, mask_zero=True), L.LSTM(9), L.Dense(V, activation="softmax"), shape=(None,)
    ),
    "whole numbers": lambda: sequence(
        L.Embedding(V, 6), L.SimpleRNN(9), L.Dense(V, activation="softmax"), shape=(None,), dtype="int32"
    ),
}


@pytest.fixture(scope="module")
def model() -> GenerativeModel:
    """One for the tests that are not about the kind of model."""
    generative = GenerativeModel(one_hot(), ITEMS)
    assert generative.warm_up(200)
    return generative


def by_the_growing_window(model: GenerativeModel, trained: Any, text: str, length: int) -> str:
    """At temperature 0, by the trained model on the whole text, again for each item."""
    assert model.vocabulary is not None
    copy = flexible_copy(trained, model.streaming.inputs)
    for _ in range(length):
        ids = model.vocabulary.ids(text)[np.newaxis]
        answer = np.asarray(copy([np.eye(V)[ids] if model.one_hot else ids]))
        text += ITEMS[int(np.argmax(answer.reshape(-1, V)[-1]))]
    return text[-length:]


@pytest.mark.parametrize("name", MODELS)
def test_the_likeliest_text_is_that_of_the_growing_window(name: str) -> None:
    trained = MODELS[name]()
    model = GenerativeModel(trained, ITEMS)
    assert model.one_hot is ("one-hot" in name or name == "two layers")
    assert model.logits is (name == "logits")
    text, _ = model.generate("bad cab", 30, temperature=0)
    assert text == by_the_growing_window(model, trained, "bad cab", 30)
    assert len(set(text)) > 2
    assert model.check_parity(1e-4, sequences=3, steps=12).within(1e-4)


@pytest.mark.parametrize("name", ["one-hot, 40 steps, one answer", "ids, stateful", "logits"])
def test_a_text_is_the_same_alone_in_any_batch_and_in_any_calls(name: str) -> None:
    model = GenerativeModel(MODELS[name](), ITEMS)
    assert model.warm_up(128)
    prompts = ["abc"[: 1 + row % 3] * (1 + row % 4) for row in range(100)]
    temperatures = np.tile([0.0, 1.0, 0.6, 1.5], 25)
    texts, states = model.generate(prompts, 20, temperature=temperatures, seed=3)
    assert len(set(texts)) > 50
    five, _ = model.generate(prompts[:5], 20, temperature=temperatures[:5], seed=3)
    assert five == texts[:5]
    for row in (0, 1, 42, 99):
        alone, after = model.generate(prompts[row], 20, temperature=temperatures[row], seed=3, streams=[str(row)])
        assert alone == texts[row]
        np.testing.assert_array_equal(after.output[0], states.output[row])
        written, step = "", None
        for count in range(20):
            item, step = model.generate(
                "" if count else prompts[row], 1, step, temperature=temperatures[row], seed=3, streams=[str(row)]
            )
            written += item
        assert written == texts[row]
        assert step is not None
        for given, wanted in zip(step.states, states.states, strict=True):
            np.testing.assert_array_equal(given[0], wanted[row])
        assert step.drawn.tolist() == [20]


def test_seeds_and_streams_write_other_texts(model: GenerativeModel) -> None:
    texts, _ = model.generate(["a"] * 20, 40)
    others, _ = model.generate(["a"] * 20, 40, seed=1)
    assert len({*texts, *others}) == 40
    again, _ = model.generate(["a"] * 20, 40)
    assert again == texts


def test_states_are_arguments_and_stay_as_they_are(model: GenerativeModel) -> None:
    first, states = model.generate("abc", 10)
    kept = [array.copy() for array in (*states.states, states.output, states.drawn)]
    more, after = model.generate("", 10, states)
    assert model.generate("", 10, states)[0] == more
    for array, wanted in zip((*states.states, states.output, states.drawn), kept, strict=True):
        np.testing.assert_array_equal(array, wanted)
    assert model.generate("abc", 20)[0] == first + more
    assert (states.drawn.tolist(), after.drawn.tolist()) == ([10], [20])
    primed, fed = model.generate("abc", 0)
    assert primed == ""
    assert model.generate("", 20, fed)[0] == first + more


def test_a_stop_item_ends_a_text_and_is_not_part_of_it(model: GenerativeModel) -> None:
    texts, _ = model.generate(["a"] * 50, 30)
    stopping = GenerativeModel(one_hot(), ITEMS, stop=".")
    stopped, states = stopping.generate(["a"] * 50, 30)
    assert stopping.stop == ITEMS.index(".")
    assert stopped == [text.partition(".")[0] for text in texts]
    assert states.drawn.tolist() == [len(text.partition(".")[0]) + ("." in text) for text in texts]
    assert 5 < sum("." in text for text in texts) < 50
    ended = GenerativeModel(one_hot(), stop=ITEMS.index("."))
    tokens, _ = ended.generate_tokens([[0]] * 50, 30)
    assert ["".join(ITEMS[token] for token in row) for row in tokens] == stopped


def test_limits_leave_the_likelier_items() -> None:
    trained = one_hot()
    likeliest, _ = GenerativeModel(trained, ITEMS).generate("abc", 30, temperature=0)
    for limits in ({"top_k": 1}, {"top_p": 1e-9}):
        assert GenerativeModel(trained, ITEMS, **limits).generate("abc", 30)[0] == likeliest
    few = GenerativeModel(trained, ITEMS, top_k=2)
    texts, _ = few.generate(["a"] * 40, 1)
    y, _ = few.step(np.zeros(1, np.int64), few.initial_row[np.newaxis])
    assert {*texts} == {ITEMS[item] for item in np.argsort(-y[0])[:2]}


def test_ids_without_a_vocabulary(model: GenerativeModel) -> None:
    bare = GenerativeModel(one_hot())
    tokens, states = bare.generate_tokens([[0, 1], np.array([2])], 5, temperature=0)
    texts, _ = model.generate(["ab", "c"], 5, temperature=0)
    assert ["".join(ITEMS[token] for token in row) for row in tokens] == texts
    assert bare.generate_tokens([[], []], 0, states)[0] == [[], []]
    assert bare.generate_tokens([], 5)[0] == []
    with pytest.raises(ValueError, match="no vocabulary: give it one, or use generate_tokens"):
        bare.generate("ab", 5)


def test_words_are_joined_by_a_space() -> None:
    items = ["the", "cat", "sat", "on", "mat", "a", "dog", "ran", "to", "it", "<end>"]
    model = GenerativeModel(words(), items, stop="<end>")
    text, _ = model.generate("the  cat", 5)
    tokens, _ = model.generate_tokens([[0, 1]], 5)
    assert text == " ".join(items[token] for token in tokens[0])


def test_unknown_items_by_policy(model: GenerativeModel) -> None:
    with pytest.raises(UnknownItemError) as caught:
        model.generate("abXc", 5)
    assert (caught.value.item, caught.value.position) == ("X", 2)
    assert model.generate("abXc", 5, unknown="skip")[0] == model.generate("abc", 5)[0]
    assert model.generate("abXc", 5, unknown=" ")[0] == model.generate("ab c", 5)[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.generate("", 5), "stream 0 has nothing to begin with: no items, and it has seen none yet"),
        (lambda model: model.generate("a", -1), "length is -1: a whole number, at least 0"),
        (lambda model: model.generate("a", 2.5), "length is 2.5: a whole number, at least 0"),
        (lambda model: model.generate("a", "3"), "length is '3': a whole number, at least 0"),
        (lambda model: model.generate("a", True), "length is True: a whole number, at least 0"),
        (lambda model: model.generate(5, 1), "text: wanted a str, or a list of them, given int"),
        (lambda model: model.generate(b"ab", 1), "text: wanted a str, or a list of them, given bytes"),
        (lambda model: model.generate(["a", 5], 1), "text 1: wanted a str, given int"),
        (lambda model: model.generate("a", 1, seed=1.5), "seed is 1.5: a whole number"),
        (lambda model: model.generate("a", 1, temperature="x"), "temperature is 'x': a number, at least 0, or one per"),
        (lambda model: model.generate("a", 1, temperature=["1"]), "temperature is ['1']: a number, at least 0, or one"),
        (lambda model: model.generate("a", 1, temperature=None), "temperature is None: a number, at least 0, or one"),
        (lambda model: model.generate("a", 1, temperature=-0.5), "temperature is -0.5: a number, at least 0"),
        (lambda model: model.generate("a", 1, temperature=[1, 1]), "temperature: wanted one, or one per stream"),
        (lambda model: model.generate("a", 1, streams=["x", "y"]), "streams: 2 names for 1 stream"),
        (lambda model: model.generate_tokens([[V]], 1), "prompt 0: its ids must be from 0 to 10, one is 11"),
        (lambda model: model.generate_tokens([[0], [-1]], 1), "prompt 1: its ids must be from 0 to 10, one is -1"),
        (lambda model: model.generate_tokens([[0.5]], 1), "prompt 0: wanted ids, given float64"),
        (lambda model: model.generate(["a"], 1, two_output_rows(model)), "states: wanted output (1, 11)"),
    ],
)
def test_what_is_asked_wrongly_is_refused(model: GenerativeModel, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call(model)
    assert str(caught.value).startswith(message)


def test_numbers_may_be_numpys(model: GenerativeModel) -> None:
    wanted = model.generate(["a", "b"], 5, temperature=[0, 0.5], seed=3)[0]
    given: dict[str, Any] = {"temperature": np.array([0, 0.5], np.float32), "seed": np.int32(3), "length": np.int64(5)}
    assert model.generate(["a", "b"], **given)[0] == wanted


def two_output_rows(model: GenerativeModel) -> TextStates:
    return TextStates(model.zero_states(1).states, model.zero_states(2).output, np.zeros(1, np.int64))


def test_states_of_another_model_or_batch_are_refused(model: GenerativeModel) -> None:
    with pytest.raises(StateShapeError, match=r"wanted h \(1, 12\), given \(2, 12\)"):
        model.generate("a", 1, model.zero_states(2))


def refusal(trained: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(ModelRefusedError) as caught:
        GenerativeModel(trained, *given, **more)
    return str(caught.value)


def test_models_that_do_not_write_are_refused() -> None:
    dense = L.Dense(V, activation="softmax")
    said = refusal(sequence(L.LSTM(4), L.Dense(V + 1, activation="softmax"), shape=(None, V)))
    assert "it takes 11 numbers per step and answers 12" in said
    said = refusal(sequence(L.Embedding(V - 1, 4), L.LSTM(4), dense, shape=(None,)))
    assert "its Embedding knows 10 items, and it answers 11" in said
    said = refusal(sequence(L.LSTM(4), L.Dense(V, activation="sigmoid"), shape=(None, V)))
    assert "its answers (sigmoid) are neither probabilities of the items nor logits" in said
    assert "let it end in Dense(items, activation='softmax')" in said
    assert "its answers (tanh) are neither" in refusal(sequence(L.LSTM(V), shape=(None, V)))
    assert "neither probabilities" in refusal(sequence(L.LSTM(4), L.Dense(V), L.ReLU(), shape=(None, V)))
    said = refusal(sequence(L.LSTM(4), L.Dense(2 * V), L.Reshape((2, V)), shape=(None, V)))
    assert "its outputs after a step have the shapes (2, 11)" in said
    a, b = keras.Input((None, V)), keras.Input((None, V))
    two = keras.Model([a, b], L.Dense(2 * V)(L.LSTM(4)(L.Concatenate()([a, b]))))
    assert "it has 2 inputs" in refusal(two)


def test_weights_that_are_not_numbers_are_told() -> None:
    for trained in (one_hot(), sequence(L.LSTM(4), L.Dense(V), shape=(None, V))):
        weights = trained.get_weights()
        weights[-1][3] = np.nan
        trained.set_weights(weights)
        said = refusal(trained)
        assert "it answers NaN, because its weights hold NaN (" in said
        assert "/bias)" in said


def test_answers_of_half_precision_are_probabilities() -> None:
    layers = L.Embedding(1000, 6, dtype="mixed_bfloat16"), L.GRU(9, dtype="mixed_bfloat16")
    trained = sequence(*layers, L.Dense(1000, "softmax", dtype="mixed_bfloat16"), shape=(None,))
    model = GenerativeModel(trained)
    assert not model.logits
    assert len(model.generate_tokens([[5]], 7)[0][0]) == 7


def test_vocabularies_that_do_not_fit_are_refused() -> None:
    assert "the vocabulary has 12 items, the model answers 11" in refusal(one_hot(), [*ITEMS, "x"])
    with pytest.raises(VocabularyError, match="the vocabulary has the item 'a' twice: 0 and 10"):
        GenerativeModel(one_hot(), [*ITEMS[:-1], "a"])
    with pytest.raises(VocabularyError, match="'x' is none of the vocabulary's 11 items"):
        GenerativeModel(one_hot(), Vocabulary(ITEMS), stop="x")
    with pytest.raises(ValueError, match="stop: its ids must be from 0 to 10, one is 11"):
        GenerativeModel(one_hot(), stop=11)
    with pytest.raises(ValueError, match="stop is 'x': without a vocabulary it must be an id"):
        GenerativeModel(one_hot(), stop="x")


def test_a_vocabulary_is_ordered_by_ids(model: GenerativeModel) -> None:
    by_item = {item: ITEMS.index(item) for item in sorted(ITEMS)}
    for given in (by_item, {number: item for item, number in by_item.items()}):
        assert GenerativeModel(one_hot(), given).generate("abc", 20)[0] == model.generate("abc", 20)[0]
    with pytest.raises(VocabularyError, match="a set, which has no order"):
        GenerativeModel(one_hot(), set(ITEMS))


def test_a_file_is_loaded_and_named_by_its_hash(tmp_path: Path, model: GenerativeModel) -> None:
    path = tmp_path / "verses.keras"
    one_hot().save(path)
    loaded = GenerativeModel.load(path, ITEMS)
    assert loaded.generate("abc", 20)[0] == model.generate("abc", 20)[0]
    assert loaded.sha256 is not None
    assert GenerativeModel.load(path, sha256=loaded.sha256).vocabulary is None
    with pytest.raises(WorkerError, match="its SHA-256 is"):
        GenerativeModel.load(path, sha256="0" * 64)


def test_numbers_that_are_not_finite_are_an_error(model: GenerativeModel) -> None:
    states = model.zero_states(2)
    states.states[0][1] = np.nan
    with pytest.raises(WorkerError, match="stream 1: the model answers no finite numbers"):
        model.generate(["a", "b"], 3, states)


def test_a_wrong_step_is_found_by_the_proof(model: GenerativeModel) -> None:
    """The greedy part of it alone: a decoder that feeds another item than it draws."""
    broken = GenerativeModel(one_hot(), ITEMS)
    answer = broken._decoder._answer
    broken._decoder._answer = lambda items, packed: answer((items + 1) % V, packed)  # type: ignore[method-assign]
    assert broken.streaming.parity().max_abs_difference < 1e-5
    found = broken.parity()
    assert found.max_abs_difference > 0.01
    assert "at temperature 0, against the window" in found.where
    with pytest.raises(WorkerError, match="parity: the streamed model differs"):
        broken.check_parity(1e-4)
